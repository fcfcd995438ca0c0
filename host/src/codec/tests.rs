//! What codecs keep exactly, what they refuse, and what frames from outside can do.

mod drawn;
mod hostile;
mod lossy;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tideover_core::entropy::Entropy;

use self::drawn::{Draw, Rich};
use super::*;

const KEY: &str = "user:7";

fn formats() -> [Codec; 3] {
    [Codec::json(), Codec::message_pack(), Codec::postcard()]
}

fn keys(id: u32) -> Keys {
    Keys::new(id, [id as u8; 32]).expect("a key")
}

/// The same codec as it is, compressing, encrypting, and both.
fn dressed(codec: &Codec) -> [Codec; 4] {
    [
        codec.clone(),
        codec.clone().compress_over(0),
        codec.clone().encrypted(keys(1)),
        codec.clone().compress_over(0).encrypted(keys(1)),
    ]
}

/// The frame of a value that is kept.
fn kept<V: Serialize + DeserializeOwned + PartialEq + Debug>(codec: &Codec, value: &V) -> Bytes {
    let (frame, twin) = codec.encode(KEY, value).unwrap_or_else(|error| panic!("{codec:?}: {error}: {value:?}"));
    assert_eq!(twin.as_ref(), Some(value), "{codec:?}");
    assert_eq!(codec.decode::<V>(KEY, &frame).as_ref(), Ok(value), "{codec:?}");
    frame
}

#[test]
fn whatever_is_drawn_is_kept_by_every_format() {
    for seed in 0..500 {
        let mut draw = Draw(Entropy::from_seed(seed));
        let value = draw.rich(4);
        for codec in formats() {
            kept(&codec, &value);
            let (unchecked, twin) = codec.clone().unchecked().encode(KEY, &value).expect("it is written");
            assert_eq!((codec.decode::<Rich>(KEY, &unchecked).as_ref(), twin), (Ok(&value), None), "seed {seed}");
        }
    }
}

#[test]
fn whatever_is_drawn_is_kept_compressed_and_encrypted() {
    for seed in 0..100 {
        let mut draw = Draw(Entropy::from_seed(seed));
        let value = draw.rich(4);
        for codec in formats().iter().flat_map(dressed) {
            kept(&codec, &value);
        }
        let bytes = draw.bytes(2_000);
        for codec in dressed(&Codec::raw()) {
            kept(&codec, &bytes);
        }
    }
}

#[test]
fn every_float_but_nan_is_kept_to_the_bit_by_every_format() {
    let mut dice = Entropy::from_seed(11);
    let special = [0.0, -0.0, f64::MIN_POSITIVE, 5e-324, f64::MAX, f64::MIN, f64::EPSILON, 0.1, 1e21, 1e-7];
    let drawn = (0..20_000).map(|_| f64::from_bits(dice.bits())).filter(|float| float.is_finite());
    let floats: Vec<(f64, f32)> = special.into_iter().chain(drawn).map(|float| (float, float as f32)).collect();
    let floats: Vec<_> = floats.into_iter().filter(|(_, single)| single.is_finite()).collect();
    for codec in formats() {
        let (_, twin) = codec.encode(KEY, &floats).expect("they are kept");
        let bits =
            |floats: &[(f64, f32)]| -> Vec<_> { floats.iter().map(|(a, b)| (a.to_bits(), b.to_bits())).collect() };
        assert_eq!(twin.map(|twin| bits(&twin)), Some(bits(&floats)), "{codec:?}");
    }
    for codec in [Codec::message_pack(), Codec::postcard()] {
        for bits in [0x7FF8_0000_0000_0000, 0x7FF8_0000_0000_0001, 0xFFF0_0000_0000_0000] {
            let (_, twin) = codec.encode(KEY, &f64::from_bits(bits)).expect("it is kept");
            assert_eq!(twin.map(f64::to_bits), Some(bits), "{codec:?}");
        }
    }
}

#[test]
fn raw_keeps_what_is_bytes_or_text_as_it_is() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Token(String);

    fn body<V: Serialize + DeserializeOwned + PartialEq + Debug>(value: &V) -> Vec<u8> {
        kept(&Codec::raw(), value)[frame::PLAIN_HEADER..].to_vec()
    }
    assert_eq!(body(&Bytes::from_static(b"\0\xFFab")), b"\0\xFFab");
    assert_eq!(body(&vec![0_u8, 255, 7]), [0, 255, 7]);
    assert_eq!(body(&[9_u8; 32]), [9; 32]);
    assert_eq!(body(&"Grüße \u{0} 🦀".to_owned()), "Grüße \u{0} 🦀".as_bytes());
    assert_eq!(body(&Arc::<str>::from("shared")), b"shared");
    assert_eq!(body(&Token("abc".to_owned())), b"abc");
    assert_eq!(body(&std::net::Ipv4Addr::LOCALHOST), b"127.0.0.1");
    assert_eq!(body(&Vec::<u8>::new()), b"");
}

#[test]
fn a_codec_reads_what_another_one_wrote() {
    let value = BTreeMap::from([("a".to_owned(), vec![1.5, -0.0]), ("b".to_owned(), vec![])]);
    for writer in formats() {
        for reader in formats() {
            let (frame, _) = writer.clone().compress_over(1).encode(KEY, &value).expect("it is kept");
            assert_eq!(reader.decode(KEY, &frame).as_ref(), Ok(&value), "{writer:?} to {reader:?}");
        }
    }
}

#[test]
fn every_format_has_a_name_and_a_number_of_its_own() {
    for format in Format::ALL {
        assert_eq!(Codec::named(format.name()).map(|codec| codec.format()), Ok(format));
    }
    let ids: BTreeMap<u8, Format> = Format::ALL.into_iter().map(|format| (format.id(), format)).collect();
    assert_eq!(
        ids.into_iter().collect::<Vec<_>>(),
        [(1, Format::Json), (2, Format::MessagePack), (3, Format::Postcard), (4, Format::Raw),]
    );
}

#[test]
fn a_value_is_compressed_above_the_size_and_only_if_that_makes_it_smaller() {
    let text = |length| "x".repeat(length);
    let codec = Codec::raw().compress_over(100);
    let length = |value: &String| kept(&codec, value).len() - frame::PLAIN_HEADER;
    assert_eq!(length(&text(100)), 100);
    assert!(length(&text(101)) < 50);

    let noise = Draw(Entropy::from_seed(5)).bytes(4_000);
    assert_eq!(kept(&codec, &noise).len(), frame::PLAIN_HEADER + noise.len());

    let small = codec.clone().decompressed_max(1_000);
    assert!(kept(&small, &text(1_000)).len() < 100);
    assert_eq!(kept(&small, &text(1_001)).len(), frame::PLAIN_HEADER + 1_001, "it could not be read again");
    assert_eq!(
        small.decode::<String>(KEY, &kept(&codec, &text(1_001))),
        Err(CodecError::TooLarge { bytes: 1_001, max: 1_000 })
    );
}

#[test]
fn what_is_encrypted_is_read_with_its_key_under_its_key_and_nowhere_else() {
    let secret = "the cat is called Mau".to_owned();
    let codec = Codec::json().encrypted(keys(1));
    let (frame, again) = (kept(&codec, &secret), kept(&codec, &secret));
    assert!(!frame.windows(3).any(|part| part == b"Mau"));
    assert_ne!(frame[8..20], again[8..20], "each has a nonce of its own");

    let read = |codec: Codec, key: &str| codec.decode::<String>(key, &frame);
    assert_eq!(read(codec.clone(), "user:8"), Err(CodecError::Tampered));
    assert_eq!(read(codec.clone(), ""), Err(CodecError::Tampered));
    assert_eq!(read(Codec::json(), KEY), Err(CodecError::Encrypted { key_id: 1 }));
    assert_eq!(read(Codec::json().encrypted(keys(2)), KEY), Err(CodecError::UnknownKey { key_id: 1 }));
    let same_id = Keys::new(1, [9; 32]).expect("a key");
    assert_eq!(read(Codec::json().encrypted(same_id), KEY), Err(CodecError::Tampered));
    let plain = kept(&Codec::json(), &secret);
    assert_eq!(codec.decode::<String>(KEY, &plain), Err(CodecError::NotEncrypted));

    let rotated = keys(2).and(1, [1; 32]).expect("another key");
    let rotated = Codec::postcard().encrypted(rotated);
    assert_eq!(rotated.decode(KEY, &frame).as_ref(), Ok(&secret), "the old key decrypts");
    assert_eq!(kept(&rotated, &secret)[4..8], 2_u32.to_le_bytes(), "the new one encrypts");
}

#[test]
fn debug_shows_numbers_of_keys_and_no_material() {
    let shown = format!("{:?}", Codec::json().encrypted(Keys::new(7, [0xAB; 32]).expect("a key")));
    assert!(shown.contains("[7]") && !shown.contains("171") && !shown.to_lowercase().contains("ab, "), "{shown}");
}
