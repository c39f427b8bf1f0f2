#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| patchfleet_agent::properties::model_answer(bytes));
