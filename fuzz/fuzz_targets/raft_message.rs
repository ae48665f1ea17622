#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    howdah_fuzz_properties::raft_message(bytes);
});
