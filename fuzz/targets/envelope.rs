//! Bytes found in a store: whatever they are, they are refused with a reason, or are an entry that lies in them, or a
//! tombstone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tideover_core::{Entry, Tag, Value, WallTime, envelope};

#[derive(Clone)]
struct Tagged<'a>(&'a [u8], Vec<Tag>);

impl AsRef<[u8]> for Tagged<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}

impl Value for Tagged<'_> {
    fn tags(&self) -> &[Tag] {
        &self.1
    }
}

fuzz_target!(|bytes: &[u8]| {
    let now = WallTime::from_unix_millis(1_700_000_000_000);
    let _as_it_is = (envelope::decode(bytes, now), envelope::stamp_of(bytes));
    // Behind a checksum that fits, so that more than the checksum is tried.
    let sealed = [&b"to\x02"[..], &crc32fast::hash(bytes).to_le_bytes(), bytes].concat();
    let Ok(opened) = envelope::decode(&sealed, now) else { return };
    assert_eq!(envelope::stamp_of(&sealed), Some(opened.stamp));
    let Some(entry) = opened.entry.clone() else {
        return assert_eq!(envelope::tombstone(&opened.stamp), sealed);
    };
    assert!(entry.value.len() <= bytes.len());
    let tagged: Entry<Tagged<'_>> = entry.map(|value| Tagged(value, opened.tags.collect()));
    let again = envelope::encode(&tagged, &opened.stamp, now);
    let again = envelope::decode(&again, now).expect("what was encoded is decoded");
    let windows = again.entry.as_ref().map(|entry| (entry.value, entry.windows));
    assert_eq!(windows, Some((tagged.value.0, tagged.windows)));
    assert!(again.stamp == opened.stamp && again.tags.eq(tagged.value.1.iter().copied()));
});
