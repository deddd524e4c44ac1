#![no_main]
//! See `rules::value`.

#[allow(dead_code)]
#[path = "../rules.rs"]
mod rules;

libfuzzer_sys::fuzz_target!(|data: &[u8]| rules::value(data));
