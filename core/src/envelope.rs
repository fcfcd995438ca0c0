//! How an entry lies in a shared store.
//!
//! ```text
//! +---------+---------+-----------------+-----------+------+--------------------+-------+-------------------+
//! | 't' 'o' | version | CRC-32 of what  | stamp     | kind | header (postcard): | tags, | value, as it is   |
//! | 2 bytes | 1 byte  | follows, 4 LE   | 32 bytes  | 1    | codec, windows, .. | 8 BE  | to the end        |
//! +---------+---------+-----------------+-----------+------+--------------------+-------+-------------------+
//! ```
//!
//! The [stamp](crate::stamp) is where a store can compare it without reading the rest. A tombstone, which a removal
//! leaves, ends after its kind. The time of creation is civil time, so an age crosses processes; a clock that is behind
//! makes an entry look new, never of negative age. Any other bytes are refused with a reason (law 11): decoding
//! allocates nothing and cannot panic.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::entry::{Entry, Windows};
use crate::seal::{PREFIX, Seal, Unsealed};
use crate::stamp::{STAMP_BYTES, Stamp};
use crate::time::WallTime;
#[cfg(feature = "alloc")]
use crate::value::Value;
use crate::value::{TAGS_MAX, Tag};

const SEAL: Seal = Seal { letters: *b"to", version: 2 };
/// How the value is written: raw bytes is all there is so far.
const CODEC_RAW: u8 = 0;
const KIND_VALUE: u8 = 0;
const KIND_TOMBSTONE: u8 = 1;

/// How long a tombstone is: its prefix, stamp and kind.
pub const TOMBSTONE_BYTES: usize = PREFIX + STAMP_BYTES + 1;

const TAG_BYTES: usize = 8;

#[derive(Serialize, Deserialize)]
struct Header {
    codec: u8,
    created_unix_millis: u64,
    windows: Windows,
    tags: u8,
}

/// What an envelope holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened<'a> {
    /// How it got there.
    pub stamp: Stamp,
    /// The entry at its present age, the value a part of the envelope's bytes; `None` in a tombstone.
    pub entry: Option<Entry<&'a [u8]>>,
    /// The tags of the value.
    pub tags: Tags<'a>,
}

/// The tags in an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tags<'a>(&'a [u8]);

impl Iterator for Tags<'_> {
    type Item = Tag;

    fn next(&mut self) -> Option<Tag> {
        let (tag, rest) = self.0.split_first_chunk::<TAG_BYTES>()?;
        self.0 = rest;
        Some(Tag(u64::from_be_bytes(*tag)))
    }
}

/// Why bytes are no envelope of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvelopeError {
    /// They do not begin as an envelope does: something else wrote this key.
    Foreign,
    /// A version that this build does not know.
    Version(u8),
    /// The checksum does not fit: truncated or altered.
    Checksum,
    /// The header cannot be read.
    Header,
    /// A codec that this build does not know.
    Codec(u8),
}

impl core::fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Foreign => f.write_str("not an envelope"),
            Self::Version(version) => write!(f, "unknown envelope version {version}"),
            Self::Checksum => f.write_str("checksum mismatch"),
            Self::Header => f.write_str("unreadable envelope header"),
            Self::Codec(codec) => write!(f, "unknown codec {codec}"),
        }
    }
}

impl core::error::Error for EnvelopeError {}

impl From<Unsealed> for EnvelopeError {
    fn from(unsealed: Unsealed) -> Self {
        match unsealed {
            Unsealed::Foreign => Self::Foreign,
            Unsealed::Version(version) => Self::Version(version),
            Unsealed::Checksum => Self::Checksum,
        }
    }
}

/// The bytes to write for `entry` at the civil time `now`. Of more than [`TAGS_MAX`] tags the first are written.
///
/// ```
/// use core::time::Duration;
/// use tideover_core::stamp::Stamp;
/// use tideover_core::{Entry, WallTime, Windows, envelope};
///
/// let entry = Entry { age: Duration::from_secs(2), ..Entry::new("hello", Windows::FOREVER) };
/// let noon = WallTime::from_unix_millis(1_000_000);
/// let bytes = envelope::encode(&entry, &Stamp::default(), noon);
/// let opened = envelope::decode(&bytes, WallTime::from_unix_millis(1_003_000)).unwrap();
/// let read = opened.entry.unwrap();
/// assert_eq!((read.value, read.age), (&b"hello"[..], Duration::from_secs(5)));
/// ```
#[cfg(feature = "alloc")]
pub fn encode<V: Value + AsRef<[u8]>>(entry: &Entry<V>, stamp: &Stamp, now: WallTime) -> Vec<u8> {
    let created_unix_millis = now.before(entry.age).as_unix_millis();
    let (value, tags) = (entry.value.as_ref(), entry.value.tags());
    let tags = &tags[..tags.len().min(TAGS_MAX)];
    let header = Header { codec: CODEC_RAW, created_unix_millis, windows: entry.windows, tags: tags.len() as u8 };
    let mut bytes = begin(stamp, KIND_VALUE, 48 + tags.len() * TAG_BYTES + value.len());
    // Writing integers into a growing vector cannot fail; were it to, the envelope would decode as `Header`.
    bytes = postcard::to_extend(&header, bytes).unwrap_or_default();
    tags.iter().for_each(|tag| bytes.extend_from_slice(&tag.0.to_be_bytes()));
    bytes.extend_from_slice(value);
    Seal::close(&mut bytes);
    bytes
}

/// The bytes to leave in place of a value that is removed.
#[cfg(feature = "alloc")]
#[must_use]
pub fn tombstone(stamp: &Stamp) -> Vec<u8> {
    let mut bytes = begin(stamp, KIND_TOMBSTONE, 0);
    Seal::close(&mut bytes);
    bytes
}

#[cfg(feature = "alloc")]
fn begin(stamp: &Stamp, kind: u8, more: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PREFIX + STAMP_BYTES + 1 + more);
    bytes.extend_from_slice(&SEAL.prefix());
    bytes.extend_from_slice(&stamp.to_bytes());
    bytes.push(kind);
    bytes
}

/// What is in `bytes`, its entry at the age it has at the civil time `now`.
///
/// # Errors
///
/// [`EnvelopeError`] for every sequence of bytes that [`encode`] and [`tombstone`] do not write.
pub fn decode(bytes: &[u8], now: WallTime) -> Result<Opened<'_>, EnvelopeError> {
    let (stamp, rest) = SEAL.open(bytes)?.split_first_chunk::<STAMP_BYTES>().ok_or(EnvelopeError::Header)?;
    let stamp = Stamp::from_bytes(stamp);
    let rest = match rest {
        [KIND_TOMBSTONE] => return Ok(Opened { stamp, entry: None, tags: Tags::default() }),
        [KIND_VALUE, rest @ ..] => rest,
        _ => return Err(EnvelopeError::Header),
    };
    let (header, rest) = postcard::take_from_bytes::<Header>(rest).map_err(|_| EnvelopeError::Header)?;
    if header.codec != CODEC_RAW {
        return Err(EnvelopeError::Codec(header.codec));
    }
    let tags = usize::from(header.tags);
    let parts = if tags > TAGS_MAX { None } else { rest.split_at_checked(tags * TAG_BYTES) };
    let (tags, value) = parts.ok_or(EnvelopeError::Header)?;
    let age = now.since(WallTime::from_unix_millis(header.created_unix_millis));
    Ok(Opened { stamp, entry: Some(Entry { age, ..Entry::new(value, header.windows) }), tags: Tags(tags) })
}

/// The stamp of an envelope, for a store that compares it: read without a look at the rest, and `None` for what is no
/// envelope of this version.
#[must_use]
pub fn stamp_of(bytes: &[u8]) -> Option<Stamp> {
    let [one, two, version, _, _, _, _, rest @ ..] = bytes else { return None };
    let ours = [*one, *two] == SEAL.letters && *version == SEAL.version;
    rest.first_chunk::<STAMP_BYTES>().filter(|_| ours).map(Stamp::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::Version;
    use core::time::Duration;

    const NOON: WallTime = WallTime::from_unix_millis(1_700_000_000_000);
    const STAMP: Stamp = Stamp { version: Version { writer: 77, number: 3 }, changed_at: NOON, born: 12 };

    #[derive(Clone)]
    struct Tagged(&'static [u8], &'static [Tag]);

    impl AsRef<[u8]> for Tagged {
        fn as_ref(&self) -> &[u8] {
            self.0
        }
    }

    impl Value for Tagged {
        fn tags(&self) -> &[Tag] {
            self.1
        }
    }

    fn sample() -> Vec<u8> {
        let windows = Windows { ttl: Some(Duration::from_secs(60)), ..Windows::FOREVER };
        let value = Tagged(b"value", &[Tag(1), Tag(u64::MAX)]);
        encode(&Entry { age: Duration::from_secs(3), ..Entry::new(value, windows) }, &STAMP, NOON)
    }

    #[test]
    fn everything_is_read_back_as_written() {
        let bytes = sample();
        let opened = decode(&bytes, NOON).expect("an envelope");
        let entry = opened.entry.expect("a value");
        assert_eq!((entry.value, entry.age, opened.stamp), (&b"value"[..], Duration::from_secs(3), STAMP));
        assert!(opened.tags.eq([Tag(1), Tag(u64::MAX)]));
        assert_eq!(stamp_of(&bytes), Some(STAMP));
    }

    #[test]
    fn a_tombstone_has_a_stamp_and_nothing_else() {
        let bytes = tombstone(&STAMP);
        let opened = decode(&bytes, NOON).expect("an envelope");
        assert_eq!((opened.entry, opened.stamp, stamp_of(&bytes)), (None, STAMP, Some(STAMP)));
        let mut longer = bytes.clone();
        longer.push(0);
        Seal::close(&mut longer);
        assert_eq!(decode(&longer, NOON), Err(EnvelopeError::Header));
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_refused() {
        for bytes in [sample(), tombstone(&STAMP)] {
            for length in 0..bytes.len() {
                assert!(decode(&bytes[..length], NOON).is_err(), "cut at {length}");
                assert!(length >= PREFIX + STAMP_BYTES || stamp_of(&bytes[..length]).is_none());
            }
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(decode(&flipped, NOON).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn foreign_and_future_bytes_are_told_apart() {
        let mut future = sample();
        future[2] = 9;
        assert_eq!(decode(&future, NOON), Err(EnvelopeError::Version(9)));
        assert_eq!(decode(b"{\"json\": true}", NOON), Err(EnvelopeError::Foreign));
        assert_eq!(decode(b"", NOON), Err(EnvelopeError::Foreign));
        assert_eq!([&future[..], b"{\"json\": true}", b""].map(stamp_of), [None; 3]);
    }

    #[test]
    fn random_bytes_behind_a_valid_checksum_do_not_panic() {
        let mut entropy = crate::entropy::Entropy::from_seed(3);
        for _ in 0..20_000 {
            let rest: Vec<u8> = (0..entropy.bits() % 120).map(|_| entropy.bits() as u8 % 16).collect();
            let mut bytes = [&SEAL.prefix()[..3], &crc32fast::hash(&rest).to_le_bytes()].concat();
            bytes.extend_from_slice(&rest);
            let _any = decode(&bytes, NOON);
        }
    }

    #[test]
    fn a_clock_that_is_behind_makes_nothing_older_or_younger_than_new() {
        let bytes = sample();
        let opened = decode(&bytes, WallTime::from_unix_millis(0)).expect("an envelope");
        assert_eq!(opened.entry.map(|entry| entry.age), Some(Duration::ZERO));
    }
}
