//! See README.md.
#![no_main]

#[allow(dead_code, reason = "each fuzzer calls one of them")]
#[path = "../../collectors/tests/fuzz/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::packet(data));
