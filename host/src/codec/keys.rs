//! AES-256-GCM under keys with numbers: the first one encrypts, all of them decrypt.
//!
//! It knows nothing of what it encrypts. Where keys come from and when they change is the operator's business.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

use super::frame::{Frame, NONCE_BYTES, SEALED_HEADER, Sealed};
use super::{CodecError, Format, frame};

/// Length of the material of a key.
const KEY_BYTES: usize = 32;

/// Keys that values are encrypted with before they reach memory, a store or a snapshot; see
/// [`Codec::encrypted`](super::Codec::encrypted). Cheap to clone. `Debug` shows their numbers only.
///
/// To change the key, put the new one first and keep the old one for as long as what it encrypted may live:
/// every process has to know a key before the first one encrypts with it, so it is added behind the old one first.
///
/// ```
/// use tideover::codec::{Codec, Keys};
///
/// let old = Keys::new(1, [7; 32])?;
/// let (frame, _) = Codec::json().encrypted(old).encode("card:7", &"4111 1111".to_owned()).expect("it is kept");
/// assert!(!frame.windows(4).any(|part| part == b"4111"));
///
/// let rotated = Keys::new(2, [8; 32])?.and(1, [7; 32])?;
/// let codec = Codec::json().encrypted(rotated);
/// assert_eq!(codec.decode::<String>("card:7", &frame).as_deref(), Ok("4111 1111"));
/// assert!(codec.decode::<String>("card:8", &frame).is_err(), "it belongs to another key of the cache");
/// # Ok::<(), tideover::codec::KeysError>(())
/// ```
///
/// # Limits
///
/// Each value gets a nonce of 96 random bits, so that a key should not encrypt more than 2³² values, by all processes
/// together (NIST SP 800-38D, section 8.3): at a thousand writes a second, fifty days. Nothing counts them. The
/// material stays in the memory of the process while the keys are in use, and is not erased after it.
#[derive(Clone)]
pub struct Keys {
    /// Never empty; the first one encrypts.
    ring: Arc<[Key]>,
}

#[derive(Clone)]
struct Key {
    id: u32,
    /// Shared, since the key itself is not to be cloned.
    key: Arc<LessSafeKey>,
}

/// Why keys cannot be. The material is never quoted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// A key of AES-256 has 32 bytes.
    #[error("the key {id} has {bytes} bytes, AES-256 takes {KEY_BYTES}")]
    Length {
        /// The number of the key.
        id: u32,
        /// How many bytes it has.
        bytes: usize,
    },
    /// Two keys have the same number.
    #[error("two keys have the number {id}")]
    Duplicate {
        /// That number.
        id: u32,
    },
    /// The text is no list of keys.
    #[error("the {place}. of the keys is not written as NUMBER:KEY, with the key in hexadecimal or base64")]
    Text {
        /// Which one of the list; the first is 1.
        place: usize,
    },
}

impl Keys {
    /// One key: its number, which is written beside what it encrypts, and its 32 bytes, which are as secret as random.
    ///
    /// # Errors
    ///
    /// [`KeysError::Length`].
    pub fn new(id: u32, key: impl AsRef<[u8]>) -> Result<Self, KeysError> {
        Ok(Self { ring: Arc::new([Key::new(id, key.as_ref())?]) })
    }

    /// These keys, and one more to decrypt with.
    ///
    /// # Errors
    ///
    /// [`KeysError::Length`], and [`KeysError::Duplicate`] for a number that is there already.
    pub fn and(self, id: u32, key: impl AsRef<[u8]>) -> Result<Self, KeysError> {
        if self.find(id).is_some() {
            return Err(KeysError::Duplicate { id });
        }
        let added = Key::new(id, key.as_ref())?;
        Ok(Self { ring: self.ring.iter().cloned().chain([added]).collect() })
    }

    fn find(&self, id: u32) -> Option<&Key> {
        self.ring.iter().find(|key| key.id == id)
    }

    /// Encrypts what is behind the room for the header, writes the header, and appends the tag.
    pub(super) fn seal(
        &self,
        cache_key: &str,
        format: Format,
        compressed: bool,
        bytes: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let key = self.ring.first().ok_or(CodecError::NotEncryptable)?;
        let mut nonce = [0; NONCE_BYTES];
        SystemRandom::new().fill(&mut nonce).map_err(|_| CodecError::NotEncryptable)?;
        frame::write_header(bytes, format, compressed, Some(Sealed { key_id: key.id, nonce }));
        let (header, body) = bytes.split_at_mut(SEALED_HEADER);
        let bound = bound_to(header, cache_key);
        let sealed = key.key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), bound, body);
        let tag: Tag = sealed.map_err(|_| CodecError::NotEncryptable)?;
        bytes.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// The body in plain text.
    pub(super) fn open(&self, cache_key: &str, frame: &Frame<'_>, sealed: Sealed) -> Result<Vec<u8>, CodecError> {
        let Sealed { key_id, nonce } = sealed;
        let key = self.find(key_id).ok_or(CodecError::UnknownKey { key_id })?;
        let mut body = frame.body.to_vec();
        let bound = bound_to(frame.header, cache_key);
        let opened = key.key.open_in_place(Nonce::assume_unique_for_key(nonce), bound, &mut body);
        let length = opened.map_err(|_| CodecError::Tampered)?.len();
        body.truncate(length);
        Ok(body)
    }
}

impl Key {
    fn new(id: u32, material: &[u8]) -> Result<Self, KeysError> {
        let key = UnboundKey::new(&AES_256_GCM, material);
        let key = key.map_err(|_| KeysError::Length { id, bytes: material.len() })?;
        Ok(Self { id, key: Arc::new(LessSafeKey::new(key)) })
    }
}

/// What a value is bound to: the header, whose length follows from its flags, and the key of the cache.
fn bound_to(header: &[u8], cache_key: &str) -> Aad<Vec<u8>> {
    Aad::from([header, cache_key.as_bytes()].concat())
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ring.iter().map(|key| key.id)).finish()
    }
}

/// Keys as configurations say them: `2:NEW,1:OLD`, numbers with their keys in hexadecimal (64 digits) or base64, of
/// either alphabet. The first one encrypts.
///
/// ```
/// use tideover::codec::Keys;
///
/// let keys: Keys = "2:CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=,\
///                   1:0707070707070707070707070707070707070707070707070707070707070707".parse()?;
/// assert_eq!(format!("{keys:?}"), "[2, 1]");
/// # Ok::<(), tideover::codec::KeysError>(())
/// ```
impl FromStr for Keys {
    type Err = KeysError;

    fn from_str(text: &str) -> Result<Self, KeysError> {
        let mut keys: Option<Self> = None;
        for (index, part) in text.split(',').enumerate() {
            let place = index + 1;
            let (id, material) = part.trim().split_once(':').ok_or(KeysError::Text { place })?;
            let id = id.trim().parse().map_err(|_| KeysError::Text { place })?;
            let material = key_from_text(material.trim()).ok_or(KeysError::Text { place })?;
            keys = Some(match keys {
                Some(keys) => keys.and(id, material)?,
                None => Self::new(id, material)?,
            });
        }
        keys.ok_or(KeysError::Text { place: 1 })
    }
}

/// 64 digits are hexadecimal: as base64 they would be 48 bytes, which is no key.
fn key_from_text(text: &str) -> Option<Vec<u8>> {
    if text.len() == 2 * KEY_BYTES { from_hex(text) } else { from_base64(text) }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()).collect()
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(KEY_BYTES);
    let (mut bits, mut count) = (0_u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let six = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        (bits, count) = (bits << 6 | u32::from(six), count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    // What is left over of the last letter is nothing, and less than a letter.
    (count < 6 && bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";
    const BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    #[test]
    fn keys_are_read_from_either_text() {
        let expected: Vec<u8> = (0..32).collect();
        for text in [HEX, BASE64, BASE64.trim_end_matches('=')] {
            assert_eq!(key_from_text(text), Some(expected.clone()), "{text}");
        }
        assert_eq!(from_base64("-_-_"), from_base64("+/+/"));
        assert_eq!(from_base64("+/+/"), Some(vec![0xFB, 0xFF, 0xBF]));
        assert!("7:AAAA".parse::<Keys>().is_err());
    }

    #[test]
    fn what_is_no_list_of_keys_is_refused_by_its_place_and_never_quoted() {
        let good = format!("1:{HEX}");
        for bad in ["", ":", "x", "1", &format!("x:{HEX}"), &format!("1:{}", HEX.replace('0', "g")), "1:a b", "1:A"] {
            assert_eq!(bad.parse::<Keys>().map(|_| ()), Err(KeysError::Text { place: 1 }), "{bad}");
            let second = format!("{good},{bad}").parse::<Keys>().map(|_| ());
            assert_eq!(second, Err(KeysError::Text { place: 2 }), "{bad}");
        }
        assert_eq!(format!("{good},{good}").parse::<Keys>().map(|_| ()), Err(KeysError::Duplicate { id: 1 }));
        assert_eq!("5:AAAA".parse::<Keys>().map(|_| ()), Err(KeysError::Length { id: 5, bytes: 3 }));
    }

    #[test]
    fn material_of_another_length_is_no_key() {
        for bytes in [0, 16, 31, 33, 64] {
            assert_eq!(Keys::new(3, vec![1; bytes]).map(|_| ()), Err(KeysError::Length { id: 3, bytes }));
        }
        let keys = Keys::new(3, [1; 32]).expect("a key");
        assert_eq!(keys.clone().and(3, [2; 32]).map(|_| ()), Err(KeysError::Duplicate { id: 3 }));
        assert_eq!(keys.and(4, [2; 5]).map(|_| ()), Err(KeysError::Length { id: 4, bytes: 5 }));
    }
}
