//! What bytes of ours begin with, wherever they are kept: two letters, a version, and a checksum of what follows.
//!
//! ```text
//! +---------+---------+-----------------+--------------+
//! | letters | version | CRC-32 of what  | what follows |
//! | 2 bytes | 1 byte  | follows, 4 LE   |              |
//! +---------+---------+-----------------+--------------+
//! ```

/// Bytes before what follows.
pub(crate) const PREFIX: usize = 2 + 1 + 4;

/// One kind of bytes, in the version that this build writes and reads.
pub(crate) struct Seal {
    pub(crate) letters: [u8; 2],
    pub(crate) version: u8,
}

/// Why bytes do not bear the seal.
pub(crate) enum Unsealed {
    /// They do not begin with the letters.
    Foreign,
    /// A version that this build does not know.
    Version(u8),
    /// The checksum does not fit: truncated or altered.
    Checksum,
}

impl Seal {
    /// The prefix with room for the checksum: what [`Seal::close`] completes.
    #[cfg(feature = "alloc")]
    pub(crate) const fn prefix(&self) -> [u8; PREFIX] {
        let [one, two] = self.letters;
        [one, two, self.version, 0, 0, 0, 0]
    }

    /// Writes the checksum of what follows the prefix.
    #[cfg(feature = "alloc")]
    pub(crate) fn close(bytes: &mut [u8]) {
        if let Some((prefix, rest)) = bytes.split_at_mut_checked(PREFIX) {
            prefix[3..].copy_from_slice(&crc32fast::hash(rest).to_le_bytes());
        }
    }

    /// What follows the prefix, if it bears this seal.
    pub(crate) fn open<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], Unsealed> {
        let (prefix, rest) = bytes.split_at_checked(PREFIX).ok_or(Unsealed::Foreign)?;
        let (letters, version, checksum) = (&prefix[..2], prefix[2], &prefix[3..]);
        if letters != self.letters {
            return Err(Unsealed::Foreign);
        }
        if version != self.version {
            return Err(Unsealed::Version(version));
        }
        if checksum != crc32fast::hash(rest).to_le_bytes() {
            return Err(Unsealed::Checksum);
        }
        Ok(rest)
    }
}
