//! Any bytes as a plain dump: no panic, and never more than the limits allow.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runbook_dump::{Limits, SqlReader};

fuzz_target!(|bytes: &[u8]| {
    let mut reader = SqlReader::new(bytes, Limits { rows_bytes: 64, ..Limits::default() });
    while let Ok(Some(_)) = reader.next_event() {}
});
