//! The formats: how each writes and reads a value within limits, and what of its errors may be said aloud.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::CodecError;
use super::bounded::Limits;
use super::raw::{RawReader, RawWriter};

/// Where the feature is off.
#[cfg(not(feature = "messagepack"))]
pub(super) const NO_MESSAGE_PACK: CodecError = CodecError::Disabled { what: "MessagePack", feature: "messagepack" };

/// What a value is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Format {
    /// JSON: text that people and every language read.
    #[default]
    Json,
    /// MessagePack with the names of fields: JSON in binary, which also knows bytes and every float.
    MessagePack,
    /// postcard: the smallest and fastest. It writes no names, so only the very same type reads it back.
    Postcard,
    /// Bytes and text as they are, and nothing else.
    Raw,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::Json, Self::MessagePack, Self::Postcard, Self::Raw];

    /// Its name in configurations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::MessagePack => "messagepack",
            Self::Postcard => "postcard",
            Self::Raw => "raw",
        }
    }

    pub(super) fn names() -> String {
        Self::ALL.map(|format| format!("`{}`", format.name())).join(", ")
    }

    /// Its number in frames: never to be given to another.
    pub(super) const fn id(self) -> u8 {
        match self {
            Self::Json => 1,
            Self::MessagePack => 2,
            Self::Postcard => 3,
            Self::Raw => 4,
        }
    }

    /// Whether types write themselves as text where they have the choice.
    pub(super) const fn is_human_readable(self) -> bool {
        matches!(self, Self::Json | Self::Raw)
    }

    /// Appends `value` to `bytes`.
    pub(super) fn write<V: Serialize>(self, value: &V, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        let written = match self {
            Self::Json => serde_json::to_writer(bytes, value).map_err(json_reason),
            #[cfg(feature = "messagepack")]
            Self::MessagePack => value
                .serialize(&mut rmp_serde::Serializer::new(bytes).with_struct_map())
                .map_err(message_pack::not_written),
            #[cfg(not(feature = "messagepack"))]
            Self::MessagePack => return Err(NO_MESSAGE_PACK),
            Self::Postcard => postcard::to_extend(value, std::mem::take(bytes))
                .map(|written| *bytes = written)
                .map_err(postcard_reason),
            Self::Raw => value.serialize(&mut RawWriter::new(bytes)).map_err(|error| error.to_string()),
        };
        written.map_err(|reason| CodecError::Unwritable { of: std::any::type_name::<V>(), format: self, reason })
    }

    /// The value that `bytes` are, all of them.
    pub(super) fn read<V: DeserializeOwned>(self, bytes: &[u8]) -> Result<V, CodecError> {
        let limits = Limits::for_bytes(bytes.len());
        let read = match self {
            Self::Json => read_json(bytes, &limits),
            #[cfg(feature = "messagepack")]
            Self::MessagePack => message_pack::read(bytes, &limits),
            #[cfg(not(feature = "messagepack"))]
            Self::MessagePack => return Err(NO_MESSAGE_PACK),
            Self::Postcard => read_postcard(bytes, &limits),
            Self::Raw => V::deserialize(limits.around(RawReader::new(bytes))).map_err(|error| error.to_string()),
        };
        read.map_err(|reason| {
            let unreadable = CodecError::Unreadable { of: std::any::type_name::<V>(), format: self, reason };
            limits.hit().unwrap_or(unreadable)
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn read_json<V: DeserializeOwned>(bytes: &[u8], limits: &Limits) -> Result<V, String> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = V::deserialize(limits.around(&mut json)).map_err(json_reason)?;
    json.end().map_err(json_reason)?;
    Ok(value)
}

/// serde_json quotes what it did not expect.
fn json_reason(error: serde_json::Error) -> String {
    use serde_json::error::Category;
    let what = match error.classify() {
        Category::Io => "it could not be written",
        Category::Syntax => "broken JSON",
        Category::Data => "not what the type expects",
        Category::Eof => "it ends too early",
    };
    match error.line() {
        0 => what.to_owned(),
        line => format!("{what}, at line {line} column {}", error.column()),
    }
}

fn read_postcard<V: DeserializeOwned>(bytes: &[u8], limits: &Limits) -> Result<V, String> {
    let mut postcard = postcard::Deserializer::from_bytes(bytes);
    let value = V::deserialize(limits.around(&mut postcard)).map_err(postcard_reason)?;
    match postcard.finalize() {
        Ok([]) => Ok(value),
        Ok(rest) => Err(left_over(rest)),
        Err(error) => Err(postcard_reason(error)),
    }
}

/// postcard's own words quote nothing, but are for its authors.
fn postcard_reason(error: postcard::Error) -> String {
    use postcard::Error::{
        DeserializeUnexpectedEnd, SerdeDeCustom, SerdeSerCustom, SerializeSeqLengthUnknown, WontImplement,
    };
    match error {
        DeserializeUnexpectedEnd => "it ends too early",
        SerdeDeCustom => "not what the type expects",
        SerdeSerCustom => "the type refuses",
        SerializeSeqLengthUnknown => "how many elements or fields there are has to be known before (`flatten`)",
        WontImplement => "the type asks what comes next, which is not written (`untagged`, `flatten`, `tag`)",
        _ => "broken bytes",
    }
    .to_owned()
}

fn left_over(rest: &[u8]) -> String {
    format!("{} bytes are left over", rest.len())
}

#[cfg(feature = "messagepack")]
mod message_pack {
    use rmp_serde::{decode, encode};
    use serde::de::DeserializeOwned;

    use super::{Limits, left_over};

    pub(super) fn read<V: DeserializeOwned>(mut bytes: &[u8], limits: &Limits) -> Result<V, String> {
        let mut reader = rmp_serde::Deserializer::new(&mut bytes);
        let value = V::deserialize(limits.around(&mut reader)).map_err(not_read)?;
        if bytes.is_empty() { Ok(value) } else { Err(left_over(bytes)) }
    }

    fn not_read(error: decode::Error) -> String {
        match error {
            decode::Error::InvalidMarkerRead(_) | decode::Error::InvalidDataRead(_) => "it ends too early",
            decode::Error::Utf8Error(_) => "text that is no UTF-8",
            decode::Error::DepthLimitExceeded => "nested too deeply",
            _ => "not what the type expects",
        }
        .to_owned()
    }

    pub(super) fn not_written(error: encode::Error) -> String {
        match error {
            encode::Error::UnknownLength => "how many elements there are has to be known before",
            encode::Error::DepthLimitExceeded => "nested too deeply",
            _ => "the type refuses",
        }
        .to_owned()
    }
}
