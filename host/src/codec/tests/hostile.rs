//! Bytes from outside: law 11 for frames.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::*;

/// Frames of each kind, with the codec that reads them.
fn frames() -> Vec<(Codec, Bytes)> {
    let value = Draw(Entropy::from_seed(17)).rich(4);
    let pair = (value, "z".repeat(40));
    let text = "z".repeat(40);
    let mut frames = Vec::new();
    for codec in formats().iter().flat_map(dressed) {
        frames.push((codec.clone(), kept(&codec, &pair)));
    }
    for codec in dressed(&Codec::raw()) {
        frames.push((codec.clone(), kept(&codec, &text)));
    }
    frames
}

/// Whatever the bytes are, there is an answer; what is encrypted is refused.
fn is_survived(codec: &Codec, bytes: &[u8]) {
    let pair = codec.decode::<(Rich, String)>(KEY, bytes).map(|_| ());
    let text = codec.decode::<String>(KEY, bytes).map(|_| ());
    let any = codec.decode::<serde_json::Value>(KEY, bytes).map(|_| ());
    if codec.keys.is_some() {
        assert!(pair.is_err() && text.is_err() && any.is_err());
    }
}

#[test]
fn every_truncation_and_every_flipped_bit_of_a_frame_is_survived_and_refused_if_encrypted() {
    for (codec, frame) in frames() {
        for length in 0..frame.len() {
            is_survived(&codec, &frame[..length]);
            assert!(codec.decode::<(Rich, String)>(KEY, &frame[..length]).is_err(), "{codec:?} cut at {length}");
        }
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            is_survived(&codec, &flipped);
        }
        let longer = [&frame, &b"\0"[..]].concat();
        assert!(codec.decode::<(Rich, String)>(KEY, &longer).is_err(), "{codec:?} with something behind it");
    }
}

#[test]
fn random_bytes_behind_a_good_header_are_survived() {
    let mut draw = Draw(Entropy::from_seed(23));
    for round in 0..20_000 {
        let [format, flags] = [1 + round % 4, (round / 4) % 2];
        let length = draw.bytes(1)[0] % 64;
        // Small numbers are lengths, kinds and indices that exist.
        let body = draw.bytes(length.into()).into_iter().map(|byte| if round % 3 == 0 { byte } else { byte % 32 });
        let bytes: Vec<u8> = [0xC1, 1, format as u8, flags as u8].into_iter().chain(body).collect();
        is_survived(&Codec::json(), &bytes);
    }
}

#[test]
fn foreign_and_future_bytes_are_told_apart() {
    let read = |bytes: &[u8]| Codec::json().decode::<String>(KEY, bytes).expect_err("it is no frame");
    for foreign in [&b""[..], b"\"text\"", b"{}", b"\0\0\0\0", &[0x80], "Grüße".as_bytes()] {
        assert_eq!(read(foreign), CodecError::Foreign);
    }
    assert_eq!(read(&[0xC1]), CodecError::Truncated);
    assert_eq!(read(&[0xC1, 1, 1]), CodecError::Truncated);
    assert_eq!(read(&[0xC1, 2]), CodecError::Version(2));
    assert_eq!(read(&[0xC1, 1, 0, 0, b'7']), CodecError::UnknownFormat(0));
    assert_eq!(read(&[0xC1, 1, 5, 0, b'7']), CodecError::UnknownFormat(5));
    assert_eq!(read(&[0xC1, 1, 1, 4, b'7']), CodecError::UnknownFlags(4));
    assert_eq!(read(&[0xC1, 1, 1, 2, 1, 0, 0, 0, 9]), CodecError::Truncated, "half a nonce");
    assert_eq!(read(&[0xC1, 1, 1, 1, 9]), CodecError::Truncated, "half a size");
}

#[test]
fn what_says_it_is_large_is_refused_before_room_is_made_for_it() {
    let compressed = |size: u32, block: &[u8]| {
        let bytes = [&[0xC1, 1, 4, 1][..], &size.to_le_bytes(), block].concat();
        Codec::raw().decode::<String>(KEY, &bytes)
    };
    let max = DECOMPRESSED_MAX;
    let larger = max as u32 + 1;
    assert_eq!(compressed(larger, &[0; 64]), Err(CodecError::TooLarge { bytes: max + 1, max }));
    assert_eq!(compressed(u32::MAX, &[]), Err(CodecError::TooLarge { bytes: u32::MAX as usize, max }));
    assert_eq!(compressed(larger - 1, &[0; 64]), Err(CodecError::Decompression), "no block of 64 bytes grows to that");
    assert_eq!(compressed(10, &[0x20, b'h', b'i']), Err(CodecError::Decompression), "shorter than it says");
    assert_eq!(compressed(1, &[0x20, b'h', b'i']), Err(CodecError::Decompression), "longer than it says");
    assert_eq!(compressed(2, &[0x20, b'h', b'i']).as_deref(), Ok("hi"));
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Node {
    next: Option<Box<Node>>,
}

impl Node {
    fn list(length: usize) -> Self {
        (1..length).fold(Self::default(), |next, _| Self { next: Some(Box::new(next)) })
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Endless(Option<Box<Endless>>);

#[test]
fn what_goes_too_deep_is_refused_by_every_format_before_the_stack_ends() {
    let too_deep = CodecError::TooDeep { max: bounded::DEPTH_MAX };
    let deep = [&[0xC1, 1, 3, 0][..], &[1; 1_000_000]].concat();
    assert_eq!(Codec::json().decode::<Node>(KEY, &deep), Err(too_deep.clone()), "postcard");
    let endless = [[0xC1, 1, 1, 0, b'7'], [0xC1, 1, 2, 0, 7]];
    for bytes in endless {
        let read = Codec::json().decode::<Endless>(KEY, &bytes).map(|_| ());
        assert_eq!(read, Err(too_deep.clone()), "an option in a newtype in an option, of no bytes at all");
    }
    for (format, open) in [(1, b'['), (2, 0x91)] {
        let deep = [&[0xC1, 1, format, 0][..], &[open; 100_000]].concat();
        assert!(Codec::json().decode::<serde_json::Value>(KEY, &deep).is_err());
    }
    for codec in formats() {
        assert_eq!(codec.encode(KEY, &Node::list(200)).map(|_| ()), Err(too_deep.clone()));
        kept(&codec, &Node::list(120));
    }
}

#[test]
fn sequences_of_nothing_end() {
    let endless = [0xC1, 1, 3, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];
    let read = Codec::postcard().decode::<Vec<()>>(KEY, &endless);
    assert!(matches!(read, Err(CodecError::TooManyElements { .. })), "{read:?}");
    kept(&Codec::postcard(), &vec![(); 60_000]);
    assert!(matches!(Codec::postcard().encode(KEY, &vec![(); 70_000]), Err(CodecError::TooManyElements { .. })));
    kept(&Codec::postcard(), &vec![((), 1_u8, ()); 200_000]);
    kept(&Codec::postcard(), &vec![Vec::<u8>::new(); 200_000]);
    kept(&Codec::json(), &vec![HashMap::<String, u8>::new(); 100_000]);
}
