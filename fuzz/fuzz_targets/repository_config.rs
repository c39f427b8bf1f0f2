#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| patchfleet_agent::properties::repository_config(text));
