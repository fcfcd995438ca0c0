//! Bytes and their tags as snapshots hold them: one format for every type of value that is bytes, so that what one build
//! has saved, another restores.

use alloc::vec::Vec;
use core::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

use super::Tag;

/// Writes a value.
///
/// # Errors
///
/// That of the serializer.
pub fn serialize<S: Serializer>(bytes: &[u8], tags: &[Tag], to: S) -> Result<S::Ok, S::Error> {
    (Raw(bytes), tags).serialize(to)
}

/// Reads a value.
///
/// # Errors
///
/// That of the deserializer.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<(Vec<u8>, Vec<Tag>), D::Error> {
    <(Owned, Vec<Tag>)>::deserialize(from).map(|(Owned(bytes), tags)| (bytes, tags))
}

/// Written in one piece instead of byte by byte.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(self.0)
    }
}

struct Owned(Vec<u8>);

impl<'de> Deserialize<'de> for Owned {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_byte_buf(Read).map(Self)
    }
}

struct Read;

impl Visitor<'_> for Read {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }
}
