//! What is stored under a key, as bytes.
//!
//! ```text
//! version: u8   kind: u8   body of the kind
//! response (0): status: u16   lines: u16   (name: block, value: block) for each line   body: what remains
//! varies   (1): generation: u64   (name: block) for each name, to the end
//! block:        length: u32   bytes
//! ```
//!
//! Integers are big-endian. Any bytes may be found in a store: decoding checks every length and every character, and
//! copies neither header values nor body. That the bytes are those that were written is the envelope's concern.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Changes with every change of the form above; other versions are [`Corrupt`], which a cache treats as absent.
const VERSION: u8 = 1;
const RESPONSE: u8 = 0;
const VARIES: u8 = 1;

/// A complete response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredResponse {
    /// Its final status.
    pub(crate) status: StatusCode,
    /// Its headers, without those of the connection.
    pub(crate) headers: HeaderMap,
    /// Its content.
    pub(crate) body: Bytes,
}

/// What is found under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// The response to the request.
    Response(StoredResponse),
    /// Stored at a base key: look again, with these request headers joined to the key.
    Varies(Varies),
}

/// Where the variants of a target are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Varies {
    /// The request headers that tell them apart.
    pub(crate) names: Vec<HeaderName>,
    /// Joins the key of each variant, so that removing this record removes them all.
    pub(crate) generation: u64,
}

/// The bytes are no record of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Corrupt;

impl Record {
    /// The record as bytes.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        match self {
            Self::Response(response) => {
                out.put_u8(RESPONSE);
                response.encode(&mut out);
            }
            Self::Varies(Varies { names, generation }) => {
                out.put_u8(VARIES);
                out.put_u64(*generation);
                names.iter().for_each(|name| put_block(&mut out, name.as_ref()));
            }
        }
        out.freeze()
    }

    /// The record in `bytes`; a response keeps them alive and copies neither its header values nor its body.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] if `bytes` are no record of this version.
    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self, Corrupt> {
        if bytes.try_get_u8() != Ok(VERSION) {
            return Err(Corrupt);
        }
        match bytes.try_get_u8() {
            Ok(RESPONSE) => StoredResponse::decode(bytes).map(Self::Response),
            Ok(VARIES) => {
                let generation = bytes.try_get_u64().map_err(|_| Corrupt)?;
                let mut names = Vec::new();
                while bytes.has_remaining() {
                    names.push(take_name(&mut bytes)?);
                }
                Ok(Self::Varies(Varies { names, generation }))
            }
            _ => Err(Corrupt),
        }
    }
}

impl StoredResponse {
    fn encode(&self, out: &mut BytesMut) {
        let head: usize = self.headers.iter().map(|(name, value)| 8 + name.as_str().len() + value.len()).sum();
        out.reserve(4 + head + self.body.len());
        out.put_u16(self.status.as_u16());
        // A header map holds at most 2^15 lines.
        out.put_u16(self.headers.len() as u16);
        for (name, value) in &self.headers {
            put_block(out, name.as_ref());
            put_block(out, value.as_bytes());
        }
        out.put_slice(&self.body);
    }

    fn decode(mut bytes: Bytes) -> Result<Self, Corrupt> {
        let status = bytes.try_get_u16().map_err(|_| Corrupt)?;
        let status = StatusCode::from_u16(status).map_err(|_| Corrupt)?;
        let lines = bytes.try_get_u16().map_err(|_| Corrupt)?;
        let mut headers = HeaderMap::new();
        for _ in 0..lines {
            let name = take_name(&mut bytes)?;
            let value = HeaderValue::from_maybe_shared(take_block(&mut bytes)?).map_err(|_| Corrupt)?;
            headers.try_append(name, value).map_err(|_| Corrupt)?;
        }
        Ok(Self { status, headers, body: bytes })
    }
}

fn put_block(out: &mut BytesMut, block: &[u8]) {
    // The header section that it was part of was read into memory under a limit far below 4 GiB.
    out.put_u32(block.len() as u32);
    out.put_slice(block);
}

fn take_block(bytes: &mut Bytes) -> Result<Bytes, Corrupt> {
    let length = bytes.try_get_u32().map_err(|_| Corrupt)? as usize;
    if length > bytes.len() { Err(Corrupt) } else { Ok(bytes.split_to(length)) }
}

fn take_name(bytes: &mut Bytes) -> Result<HeaderName, Corrupt> {
    HeaderName::from_lowercase(&take_block(bytes)?).map_err(|_| Corrupt)
}

#[cfg(test)]
mod tests {
    use http::header;
    use tideover_core::entropy::Entropy;

    use super::*;

    fn response() -> Record {
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/plain")),
            (header::SET_COOKIE, HeaderValue::from_static("a=1")),
            (header::SET_COOKIE, HeaderValue::from_static("")),
            (HeaderName::from_static("x-latin"), HeaderValue::from_bytes(b"caf\xe9").expect("opaque bytes")),
        ];
        let body = Bytes::from_static(b"\0hello");
        Record::Response(StoredResponse { status: StatusCode::NOT_FOUND, headers: headers.into_iter().collect(), body })
    }

    fn varies() -> Record {
        Record::Varies(Varies { names: vec![header::ACCEPT_ENCODING, header::COOKIE], generation: 7 })
    }

    #[test]
    fn what_is_written_is_read() {
        let empty = StoredResponse { status: StatusCode::NO_CONTENT, headers: HeaderMap::new(), body: Bytes::new() };
        for record in [response(), varies(), Record::Response(empty)] {
            assert_eq!(Record::decode(record.encode()), Ok(record));
        }
    }

    #[test]
    fn the_body_is_not_copied() {
        let bytes = response().encode();
        let Ok(Record::Response(response)) = Record::decode(bytes.clone()) else { panic!("a response was written") };
        assert!(bytes.as_ptr_range().contains(&response.body.as_ptr()));
    }

    #[test]
    fn another_version_is_corrupt() {
        let mut bytes = response().encode().to_vec();
        bytes[0] = VERSION + 1;
        assert_eq!(Record::decode(bytes.into()), Err(Corrupt));
    }

    #[test]
    fn what_is_cut_short_before_its_body_is_corrupt() {
        let bytes = response().encode();
        for length in 0..=bytes.len() {
            let decoded = Record::decode(bytes.slice(..length));
            assert_eq!(decoded.is_ok(), length >= bytes.len() - b"\0hello".len(), "{length} bytes");
        }
        let bytes = varies().encode();
        for length in 0..bytes.len() {
            assert_ne!(Record::decode(bytes.slice(..length)), Ok(varies()), "{length} bytes");
        }
    }

    #[test]
    fn no_flipped_byte_panics() {
        for record in [response(), varies()] {
            let bytes = record.encode();
            for (index, flip) in (0..bytes.len()).flat_map(|index| (1..=255).map(move |flip| (index, flip))) {
                let mut bytes = bytes.to_vec();
                bytes[index] ^= flip;
                assert_ne!(Record::decode(bytes.into()), Ok(record.clone()), "byte {index} xor {flip}");
            }
        }
    }

    #[test]
    fn no_bytes_panic() {
        let mut dice = Entropy::from_seed(1);
        for _ in 0..50_000 {
            let length = dice.bits() as usize % 64;
            // Small numbers are frequent, so that lengths often fit and the decoder gets far.
            let mut bytes: Vec<u8> = (0..length).map(|_| (dice.bits() as u8) >> (dice.bits() % 8)).collect();
            bytes.splice(0..0, [VERSION, dice.bits() as u8 & 1]);
            let _ = Record::decode(bytes.into());
        }
    }

    #[test]
    fn more_lines_than_a_header_map_holds_are_corrupt() {
        let mut out = BytesMut::new();
        out.put_slice(&[VERSION, RESPONSE]);
        out.put_u16(200);
        out.put_u16(u16::MAX);
        for line in 0..u16::MAX {
            put_block(&mut out, format!("x-{line}").as_bytes());
            put_block(&mut out, b"");
        }
        assert_eq!(Record::decode(out.freeze()), Err(Corrupt));
    }
}
