//! Known cases in which a format does not keep a value. Each is refused on write, and by its own name.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use self::Verdict::{Inexact, Kept, Unwritable};
use super::*;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Verdict {
    Kept,
    Unwritable,
    Inexact,
}

fn verdict<V: Serialize + DeserializeOwned>(codec: &Codec, value: &V) -> Verdict {
    match codec.encode(KEY, value) {
        Ok(_) => Kept,
        Err(CodecError::Unwritable { .. }) => Unwritable,
        Err(CodecError::Inexact { .. }) => Inexact,
        Err(error) => panic!("{codec:?}: {error}"),
    }
}

/// What JSON, MessagePack and postcard make of it.
fn verdicts<V: Serialize + DeserializeOwned>(value: &V) -> [Verdict; 3] {
    formats().map(|codec| verdict(&codec, value))
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Sparse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    second: Option<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Small(u8),
    Large(u64),
    Float(f64),
    Text(String),
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    Circle { radius: f64 },
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", content = "value")]
enum Adjacent {
    Circle(f64),
}

#[derive(Serialize, Deserialize)]
struct Flattened {
    id: u32,
    #[serde(flatten)]
    rest: BTreeMap<String, u32>,
}

#[derive(Serialize, Deserialize)]
struct WideInside {
    #[serde(flatten)]
    wide: Wide,
}

#[derive(Serialize, Deserialize)]
struct Wide {
    amount: u128,
}

/// An option of an option, by way of a newtype.
#[derive(Serialize, Deserialize)]
struct Nested(Option<Box<Nested>>);

#[derive(Serialize, Deserialize)]
struct ReadsAnotherName {
    #[serde(rename(serialize = "written", deserialize = "read"), default)]
    value: u32,
}

#[test]
fn nan_and_infinities_are_refused_by_json_alone() {
    for float in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(verdicts(&float), [Inexact, Kept, Kept]);
        assert_eq!(verdicts(&(float as f32)), [Inexact, Kept, Kept]);
        assert_eq!(verdicts(&Some(float)), [Inexact, Kept, Kept], "`null` is `None`");
        assert_eq!(verdicts(&vec![Some(1.0), Some(float)]), [Inexact, Kept, Kept]);
        assert_eq!(
            verdicts(&HashMap::from([("a", 1.0), ("b", float)].map(|(k, v)| (k.to_owned(), v)))),
            [Inexact, Kept, Kept]
        );
    }
}

#[test]
fn options_of_what_is_written_as_nothing_are_kept_by_postcard_alone() {
    assert_eq!(verdicts(&Some(None::<u8>)), [Inexact, Inexact, Kept]);
    assert_eq!(verdicts(&Some(Some(1))), [Kept; 3]);
    assert_eq!(verdicts(&None::<Option<u8>>), [Kept; 3]);
    assert_eq!(verdicts(&Some(())), [Inexact, Inexact, Kept]);
    assert_eq!(verdicts(&vec![Some(None), Some(Some(1)), None]), [Inexact, Inexact, Kept]);
    assert_eq!(verdicts(&Nested(Some(Box::new(Nested(None))))), [Inexact, Inexact, Kept]);
}

#[test]
fn keys_of_maps_that_are_no_text_are_refused_by_json_alone() {
    assert_eq!(verdicts(&HashMap::from([((1, 2), 3)])), [Unwritable, Kept, Kept]);
    assert_eq!(verdicts(&HashMap::from([(Some(1), 3)])), [Kept; 3]);
    assert_eq!(verdicts(&HashMap::from([(None::<u8>, 3)])), [Unwritable, Kept, Kept]);
    assert_eq!(verdicts(&HashMap::from([(vec![1_u8], 3)])), [Unwritable, Kept, Kept]);
    assert_eq!(verdicts(&HashMap::from([(true, 3)])), [Kept; 3]);
    assert_eq!(verdicts(&HashMap::from([(u64::MAX, 3)])), [Kept; 3]);
    assert_eq!(verdicts(&HashMap::from([(i128::MIN, 3)])), [Kept; 3]);
}

#[test]
fn fields_that_are_left_out_are_refused_by_postcard_alone() {
    let both = Sparse { first: Some(1), second: Some(2) };
    assert_eq!(verdicts(&both), [Kept; 3]);
    assert_eq!(verdicts(&Sparse { first: None, ..both.clone() }), [Kept, Kept, Inexact]);
    assert_eq!(verdicts(&Sparse { second: None, ..both.clone() }), [Kept, Kept, Inexact]);
    assert_eq!(verdicts(&Sparse::default()), [Kept, Kept, Inexact]);
    let pair = (Sparse { first: None, ..both.clone() }, Sparse { second: None, ..both });
    assert_eq!(verdicts(&pair), [Kept, Kept, Inexact], "one lends the other its bytes");
}

#[test]
fn what_needs_to_see_what_comes_is_refused_by_postcard_alone() {
    assert_eq!(verdicts(&Untagged::Text("7".to_owned())), [Kept, Kept, Inexact]);
    assert_eq!(verdicts(&Untagged::Float(1.5)), [Kept, Kept, Inexact]);
    assert_eq!(verdicts(&Tagged::Circle { radius: 1.5 }), [Kept, Kept, Inexact]);
    assert_eq!(verdicts(&Adjacent::Circle(1.5)), [Kept, Kept, Inexact]);
    let flattened = Flattened { id: 1, rest: BTreeMap::from([("a".to_owned(), 2)]) };
    assert_eq!(verdicts(&flattened), [Kept, Kept, Unwritable]);
    assert_eq!(verdicts(&serde_json::json!({ "a": [1, -1, 1.5, null, "x"] })), [Kept, Kept, Inexact]);
}

#[test]
fn an_untagged_value_that_reads_as_another_variant_is_refused() {
    assert_eq!(verdicts(&Untagged::Large(300)), [Kept, Kept, Inexact]);
    assert_eq!(verdicts(&Untagged::Large(7)), [Inexact; 3], "it is read as `Small`");
    assert_eq!(verdicts(&Untagged::Small(7)), [Kept, Kept, Inexact]);
    assert_eq!(verdicts(&Untagged::Float(f64::NAN)), [Inexact, Kept, Inexact]);
}

#[test]
fn wide_integers_are_kept_but_for_those_in_what_is_flattened() {
    for wide in [0, u128::from(u64::MAX), u128::MAX] {
        assert_eq!(verdicts(&wide), [Kept; 3]);
        assert_eq!(verdicts(&(wide as i128)), [Kept; 3]);
    }
    let [json, message_pack, postcard] = verdicts(&WideInside { wide: Wide { amount: u128::MAX } });
    assert_ne!(json, Kept);
    assert_ne!(message_pack, Kept);
    assert_eq!(postcard, Unwritable);
}

#[test]
fn a_type_that_reads_other_names_than_it_writes_is_refused_where_names_are_written() {
    assert_eq!(verdicts(&ReadsAnotherName { value: 1 }), [Inexact, Inexact, Kept]);
}

#[test]
fn raw_refuses_everything_but_bytes_and_text() {
    let refused = |verdict| assert_eq!(verdict, Unwritable);
    let raw = Codec::raw();
    refused(verdict(&raw, &7));
    refused(verdict(&raw, &7_u8));
    refused(verdict(&raw, &1.5));
    refused(verdict(&raw, &true));
    refused(verdict(&raw, &'x'));
    refused(verdict(&raw, &()));
    refused(verdict(&raw, &Some("x".to_owned())));
    refused(verdict(&raw, &None::<String>));
    refused(verdict(&raw, &vec!["x".to_owned()]));
    refused(verdict(&raw, &vec![vec![1_u8]]));
    refused(verdict(&raw, &vec![1_u16]));
    refused(verdict(&raw, &("x".to_owned(), 1)));
    refused(verdict(&raw, &Sparse::default()));
    refused(verdict(&raw, &HashMap::from([("a".to_owned(), "b".to_owned())])));
    refused(verdict(&raw, &Ok::<String, String>("x".to_owned())));
    assert_eq!(verdict(&raw, &Untagged::Text("x".to_owned())), Inexact, "it is text, but nobody knows when it is read");
}

#[test]
fn an_unchecked_codec_trusts_its_user() {
    let codec = Codec::json().unchecked();
    let (frame, twin) = codec.encode(KEY, &Some(f64::NAN)).expect("it is written");
    assert_eq!((twin, codec.decode(KEY, &frame)), (None, Ok(None::<f64>)));
}

#[test]
fn a_type_that_refuses_is_refused_without_its_words() {
    struct Fussy;
    impl Serialize for Fussy {
        fn serialize<S: serde::Serializer>(&self, _to: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("hunter2"))
        }
    }
    impl<'de> Deserialize<'de> for Fussy {
        fn deserialize<D: serde::Deserializer<'de>>(_from: D) -> Result<Self, D::Error> {
            Err(serde::de::Error::custom("hunter2"))
        }
    }
    for codec in [Codec::json(), Codec::message_pack(), Codec::postcard(), Codec::raw()] {
        let checked = codec.encode(KEY, &Fussy).map(|_| ()).expect_err("it refuses");
        assert!(matches!(checked, CodecError::Unserializable { .. }));
        let unchecked = codec.clone().unchecked().encode(KEY, &Fussy).map(|_| ()).expect_err("it refuses");
        let (frame, _) = codec.encode(KEY, &"abc".to_owned()).expect("text is kept");
        let read = codec.decode::<Fussy>(KEY, &frame).map(|_| ()).expect_err("it refuses");
        for error in [checked, unchecked, read] {
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }
}

#[test]
fn no_error_quotes_a_value_or_a_key() {
    const SECRET: &str = "hunter2";
    let value = BTreeMap::from([(SECRET.to_owned(), SECRET.to_owned())]);
    for codec in formats() {
        let (frame, _) = codec.encode(SECRET, &value).expect("it is kept");
        let errors = [
            codec.decode::<Vec<u64>>(SECRET, &frame).map(|_| ()),
            codec.decode::<Tagged>(SECRET, &frame).map(|_| ()),
            codec.decode::<BTreeMap<u8, bool>>(SECRET, &frame).map(|_| ()),
            codec.decode::<Untagged>(SECRET, &frame[..frame.len() - 1]).map(|_| ()),
            Codec::json().encode(SECRET, &BTreeMap::from([(vec![SECRET.to_owned()], 1)])).map(|_| ()),
        ];
        for error in errors.into_iter().filter_map(Result::err) {
            assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?}");
        }
    }
}
