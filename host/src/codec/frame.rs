//! What every encoded value begins with.
//!
//! ```text
//! +------+---------+--------+-------+------------------+--------------+----------------------------------------+
//! | 0xC1 | version | format | flags | id of the key,   | nonce,       | body; if compressed, its size, 4 LE,   |
//! |      | 1 byte  | 1 byte | 1     | 4 LE, encrypted  | 12, likewise | and an LZ4 block; if encrypted, + tag  |
//! +------+---------+--------+-------+------------------+--------------+----------------------------------------+
//! ```
//!
//! 0xC1 is in no UTF-8 text, and the one byte that MessagePack never uses: foreign bytes are told at a glance. There is
//! no checksum: what lies in a store has that of its [envelope](tideover_core::envelope), and what is encrypted, a tag.

use super::{CodecError, Format};

const MAGIC: u8 = 0xC1;
const VERSION: u8 = 1;
const COMPRESSED: u8 = 1;
const ENCRYPTED: u8 = 2;

const KEY_ID_BYTES: usize = 4;
pub(super) const NONCE_BYTES: usize = 12;

/// Where the body of a plain frame begins.
pub(super) const PLAIN_HEADER: usize = 4;
/// Where the body of an encrypted frame begins.
#[cfg(feature = "encryption")]
pub(super) const SEALED_HEADER: usize = PLAIN_HEADER + KEY_ID_BYTES + NONCE_BYTES;

/// A frame in its parts.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) format: Format,
    pub(super) compressed: bool,
    pub(super) sealed: Option<Sealed>,
    /// What the body begins behind.
    #[cfg_attr(not(feature = "encryption"), expect(dead_code, reason = "it is bound to what is encrypted"))]
    pub(super) header: &'a [u8],
    pub(super) body: &'a [u8],
}

/// How a frame is encrypted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sealed {
    pub(super) key_id: u32,
    pub(super) nonce: [u8; NONCE_BYTES],
}

impl<'a> Frame<'a> {
    /// # Errors
    ///
    /// For everything that does not begin with a header of this version.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, CodecError> {
        let (format, flags, rest) = match bytes {
            [MAGIC, VERSION, format, flags, rest @ ..] => (*format, *flags, rest),
            [MAGIC, version, ..] if *version != VERSION => return Err(CodecError::Version(*version)),
            [MAGIC, ..] => return Err(CodecError::Truncated),
            _ => return Err(CodecError::Foreign),
        };
        let known = Format::ALL.into_iter().find(|known| known.id() == format);
        let format = known.ok_or(CodecError::UnknownFormat(format))?;
        if flags & !(COMPRESSED | ENCRYPTED) != 0 {
            return Err(CodecError::UnknownFlags(flags));
        }
        let (sealed, body) = match flags & ENCRYPTED {
            0 => (None, rest),
            _ => {
                let (key_id, rest) = rest.split_first_chunk().ok_or(CodecError::Truncated)?;
                let (nonce, body) = rest.split_first_chunk().ok_or(CodecError::Truncated)?;
                (Some(Sealed { key_id: u32::from_le_bytes(*key_id), nonce: *nonce }), body)
            }
        };
        let header = &bytes[..bytes.len() - body.len()];
        Ok(Self { format, compressed: flags & COMPRESSED != 0, sealed, header, body })
    }
}

/// Writes the header over the first bytes of `frame`, which are kept free for it.
pub(super) fn write_header(frame: &mut [u8], format: Format, compressed: bool, sealed: Option<Sealed>) {
    let flags = if compressed { COMPRESSED } else { 0 } | if sealed.is_some() { ENCRYPTED } else { 0 };
    frame[..PLAIN_HEADER].copy_from_slice(&[MAGIC, VERSION, format.id(), flags]);
    if let Some(Sealed { key_id, nonce }) = sealed {
        let (id, rest) = frame[PLAIN_HEADER..].split_at_mut(KEY_ID_BYTES);
        id.copy_from_slice(&key_id.to_le_bytes());
        rest[..NONCE_BYTES].copy_from_slice(&nonce);
    }
}
