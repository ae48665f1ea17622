#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    howdah_fuzz_properties::server_words(bytes);
});
