#![no_main]
//! See `rules::path`.

#[allow(dead_code)]
#[path = "../rules.rs"]
mod rules;

libfuzzer_sys::fuzz_target!(|data: &[u8]| rules::path(data));
