//! How an entry lies in a shared store.
//!
//! ```text
//! +---------+---------+-----------------+----------------------------+-------------------+
//! | 't' 'o' | version | CRC-32 of what  | header (postcard):         | value, as it is   |
//! | 2 bytes | 1 byte  | follows, 4 LE   | codec, created, windows    | to the end        |
//! +---------+---------+-----------------+----------------------------+-------------------+
//! ```
//!
//! The time of creation is civil time, so an age crosses processes; a clock that is behind makes an entry look new,
//! never of negative age. Any other bytes are refused with a reason (law 11): decoding allocates nothing and cannot
//! panic.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::entry::{Entry, Windows};
#[cfg(feature = "alloc")]
use crate::seal::PREFIX;
use crate::seal::{Seal, Unsealed};
use crate::time::WallTime;

const SEAL: Seal = Seal { letters: *b"to", version: 1 };
/// How the value is written: raw bytes is all there is so far.
const CODEC_RAW: u8 = 0;

#[derive(Serialize, Deserialize)]
struct Header {
    codec: u8,
    created_unix_millis: u64,
    windows: Windows,
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

/// The bytes to write for `entry` at the civil time `now`.
///
/// ```
/// use core::time::Duration;
/// use tideover_core::{Entry, WallTime, Windows, envelope};
///
/// let entry = Entry { age: Duration::from_secs(2), ..Entry::new(b"hello", Windows::FOREVER) };
/// let noon = WallTime::from_unix_millis(1_000_000);
/// let bytes = envelope::encode(&entry, noon);
/// let read = envelope::decode(&bytes, WallTime::from_unix_millis(1_003_000)).unwrap();
/// assert_eq!((read.value, read.age), (&b"hello"[..], Duration::from_secs(5)));
/// ```
#[cfg(feature = "alloc")]
pub fn encode<V: AsRef<[u8]>>(entry: &Entry<V>, now: WallTime) -> Vec<u8> {
    let created_unix_millis = now.before(entry.age).as_unix_millis();
    let header = Header { codec: CODEC_RAW, created_unix_millis, windows: entry.windows };
    let value = entry.value.as_ref();
    let mut bytes = Vec::with_capacity(PREFIX + 48 + value.len());
    bytes.extend_from_slice(&SEAL.prefix());
    // Writing integers into a growing vector cannot fail; were it to, the envelope would decode as `Header`.
    bytes = postcard::to_extend(&header, bytes).unwrap_or_default();
    bytes.extend_from_slice(value);
    Seal::close(&mut bytes);
    bytes
}

/// The entry in `bytes` at the age it has at the civil time `now`; the value is a part of `bytes`.
///
/// # Errors
///
/// [`EnvelopeError`] for every other sequence of bytes.
pub fn decode(bytes: &[u8], now: WallTime) -> Result<Entry<&[u8]>, EnvelopeError> {
    let rest = SEAL.open(bytes)?;
    let (header, value) = postcard::take_from_bytes::<Header>(rest).map_err(|_| EnvelopeError::Header)?;
    if header.codec != CODEC_RAW {
        return Err(EnvelopeError::Codec(header.codec));
    }
    let age = now.since(WallTime::from_unix_millis(header.created_unix_millis));
    Ok(Entry { age, ..Entry::new(value, header.windows) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    const NOON: WallTime = WallTime::from_unix_millis(1_700_000_000_000);

    fn sample() -> Vec<u8> {
        let windows = Windows { ttl: Some(Duration::from_secs(60)), ..Windows::FOREVER };
        encode(&Entry { age: Duration::from_secs(3), ..Entry::new(b"value".to_vec(), windows) }, NOON)
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_refused() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length], NOON).is_err(), "cut at {length}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped, NOON).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn foreign_and_future_bytes_are_told_apart() {
        let mut future = sample();
        future[2] = 9;
        assert_eq!(decode(&future, NOON), Err(EnvelopeError::Version(9)));
        assert_eq!(decode(b"{\"json\": true}", NOON), Err(EnvelopeError::Foreign));
        assert_eq!(decode(b"", NOON), Err(EnvelopeError::Foreign));
    }

    #[test]
    fn random_bytes_behind_a_valid_checksum_do_not_panic() {
        let mut entropy = crate::entropy::Entropy::from_seed(3);
        for _ in 0..20_000 {
            let rest: Vec<u8> = (0..entropy.bits() % 40).map(|_| entropy.bits() as u8).collect();
            let mut bytes = [&SEAL.prefix()[..3], &crc32fast::hash(&rest).to_le_bytes()].concat();
            bytes.extend_from_slice(&rest);
            let _any = decode(&bytes, NOON);
        }
    }

    #[test]
    fn a_clock_that_is_behind_makes_nothing_older_or_younger_than_new() {
        let bytes = sample();
        let entry = decode(&bytes, WallTime::from_unix_millis(0)).expect("an envelope");
        assert_eq!(entry.age, Duration::ZERO);
    }
}
