//! Bytes found in a store: whatever they are, they are refused with a reason or are an entry that lies in them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tideover_core::{WallTime, envelope};

fuzz_target!(|bytes: &[u8]| {
    let now = WallTime::from_unix_millis(1_700_000_000_000);
    let _as_it_is = envelope::decode(bytes, now);
    // Behind a checksum that fits, so that more than the checksum is tried.
    let sealed = [&b"to\x01"[..], &crc32fast::hash(bytes).to_le_bytes(), bytes].concat();
    if let Ok(entry) = envelope::decode(&sealed, now) {
        assert!(entry.value.len() <= bytes.len());
        let again = envelope::encode(&entry, now);
        let entry_again = envelope::decode(&again, now).expect("what was encoded is decoded");
        assert_eq!((entry_again.value, entry_again.windows), (entry.value, entry.windows));
    }
});
