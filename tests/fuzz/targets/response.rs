#![no_main]
//! See `rules::response`.

#[allow(dead_code)]
#[path = "../relay_rules.rs"]
mod rules;

libfuzzer_sys::fuzz_target!(|data: &[u8]| rules::response(data));
