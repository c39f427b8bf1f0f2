#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| patchfleet_agent::properties::test_output(text));
