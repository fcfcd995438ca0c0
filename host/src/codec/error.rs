//! Why a value could not be written or read. No key and no value is ever quoted: of what a format has to say, places and
//! kinds are kept, and what a type's own implementation of serde says is dropped.

use super::Format;

/// Why a value could not be written by its codec, or what was found could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The format has no way to write such a value.
    #[error("`{of}` cannot be written as {format}: {reason}")]
    Unwritable {
        /// The type of the value.
        of: &'static str,
        /// The format that was to write it.
        format: Format,
        /// Why not, without a word of the value.
        reason: String,
    },
    /// What was written would not be read back as the same value, so nothing was kept: another format does better, or
    /// the type reads other things than it writes. See [exactness](crate::codec#exactness).
    #[error("`{of}` is not kept exactly by {format}: {reason}")]
    Inexact {
        /// The type of the value.
        of: &'static str,
        /// The format that was to write it.
        format: Format,
        /// What is wrong, without a word of the value.
        reason: String,
    },
    /// The type's own code refused to serialize this value.
    #[error("`{of}` refuses to be serialized")]
    Unserializable {
        /// The type of the value.
        of: &'static str,
    },
    /// The bytes are none that a codec has written.
    #[error("the bytes were not written by a codec")]
    Foreign,
    /// The bytes end too early.
    #[error("the frame is truncated")]
    Truncated,
    /// A later version of this crate has written them.
    #[error("unknown version {0} of the frame")]
    Version(u8),
    /// A format that this version does not know.
    #[error("unknown format {0}")]
    UnknownFormat(u8),
    /// Flags that this version does not know.
    #[error("unknown flags {0:#04x}")]
    UnknownFlags(u8),
    /// This build lacks what it takes.
    #[error("this build does not know {what}: the feature `{feature}` of tideover is off")]
    Disabled {
        /// What it does not know.
        what: &'static str,
        /// The feature of the crate that knows it.
        feature: &'static str,
    },
    /// The bytes are no such value: another type's, those of an older version of the type, or broken ones.
    #[error("no `{of}` can be read from this {format}: {reason}")]
    Unreadable {
        /// The type that was wanted.
        of: &'static str,
        /// The format of the bytes.
        format: Format,
        /// What is wrong and where, without a word of the value.
        reason: String,
    },
    /// More values lie inside each other than are allowed.
    #[error("values lie inside each other more than {max} levels deep")]
    TooDeep {
        /// How many may.
        max: u32,
    },
    /// More elements than their bytes can hold: a sequence of nothings.
    #[error("more than {max} elements")]
    TooManyElements {
        /// How many there may be.
        max: usize,
    },
    /// It would be too large once it is decompressed.
    #[error("{bytes} bytes once decompressed, {max} are allowed")]
    TooLarge {
        /// How large.
        bytes: usize,
        /// The limit; see [`Codec::decompressed_max`](super::Codec::decompressed_max).
        max: usize,
    },
    /// What was compressed cannot be decompressed.
    #[error("the compressed bytes are broken")]
    Decompression,
    /// The frame is not encrypted, but this codec reads what is encrypted only: else who can write to the store could put
    /// plain text in the place of what is encrypted.
    #[error("the value is not encrypted, which this codec insists on")]
    NotEncrypted,
    /// The frame is encrypted, and this codec has no keys.
    #[error("the value is encrypted under the key {key_id}, and this codec has no keys")]
    Encrypted {
        /// Which key it takes.
        key_id: u32,
    },
    /// The frame is encrypted under a key that this codec does not have.
    #[error("the value is encrypted under the key {key_id}, which this codec does not have")]
    UnknownKey {
        /// Which key it takes.
        key_id: u32,
    },
    /// The frame was altered, moved from another cache key, or encrypted with other key material of that id.
    #[error("the encrypted value was altered, belongs to another key, or the key material of its key id differs")]
    Tampered,
    /// The value could not be encrypted: the system has no randomness to give, or it is larger than 64 GiB.
    #[error("the value could not be encrypted")]
    NotEncryptable,
    /// No codec has that name.
    #[error("no codec is named {name:?}; there are {}", Format::names())]
    UnknownName {
        /// The name, as it was configured.
        name: String,
    },
}
