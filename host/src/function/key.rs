//! What the keys of cached functions look like.
//!
//! A template's values stand in it as they are shown, but for colons (`%3A`), `%` (`%25`) and the character of the template
//! that follows: `{org}:{user}` is never the same for two pairs, and no id makes a `user:{id}` of a `user:{id}:posts`. The ids of
//! a [`Resource`](crate::writes::Resource) are written so, too. Without a template, the key is the call as it would be written in Rust, with the type at each number and
//! quotes around text: `app::user(7u64,"a:b",None)`.

use std::fmt::{self, Display, Write};

use serde::ser::{self, Serialize};
use sha2::{Digest, Sha256};

use crate::writes::escape_pattern;

/// Longer keys than this end with a digest instead of the arguments. Keys may have 1 024 bytes by default.
const READABLE_MAX: usize = 512;

/// What can stand in a template.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot stand in a key or a tag",
    note = "what a placeholder names implements `Display`; `{{argument.field}}` names a field of an argument"
)]
pub trait Placeholder: Display {}

impl<T: Display + ?Sized> Placeholder for T {}

/// Writes a value into a key or a tag. `end` is the character of the template that follows it.
pub fn insert<T: Placeholder + ?Sized>(into: &mut String, value: &T, end: Option<char>) {
    // Writing to a string fails only if the value's own `Display` does; what it has written until then stays.
    let _ = write!(Bounded { into, end }, "{value}");
}

/// As [`insert`], into a pattern over keys: whatever characters the value brings stand for themselves.
pub fn insert_literal<T: Placeholder + ?Sized>(into: &mut String, value: &T, end: Option<char>) {
    let mut text = String::new();
    insert(&mut text, value, end);
    into.push_str(&escape_pattern(&text));
}

/// Text that cannot run into what stands beside it: neither a colon nor `end` occurs in it.
struct Bounded<'a> {
    into: &'a mut String,
    end: Option<char>,
}

impl Write for Bounded<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if matches!(character, ':' | '%') || Some(character) == self.end {
                for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                    write!(self.into, "%{byte:02X}")?;
                }
            } else {
                self.into.push(character);
            }
        }
        Ok(())
    }
}

/// What can be part of the key of a function without a template.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of the key",
    note = "arguments in a key implement `serde::Serialize`; `skip = [argument]` leaves one out, `key = \"…{{argument.field}}…\"` names all that matters"
)]
pub trait KeyPart: Serialize {}

impl<T: Serialize + ?Sized> KeyPart for T {}

/// The key of a call without a template.
#[derive(Debug)]
pub struct Signature {
    text: String,
    parts: usize,
    writable: bool,
}

impl Signature {
    /// That of a function, with the types it is called for.
    #[must_use]
    pub fn of(function: &str, types: &[&str]) -> Self {
        let mut text = String::from(function);
        if !types.is_empty() {
            text.push('<');
            text += &types.join(",");
            text.push('>');
        }
        text.push('(');
        Self { text, parts: 0, writable: true }
    }

    /// Another argument.
    #[must_use]
    pub fn part<T: KeyPart + ?Sized>(mut self, value: &T) -> Self {
        if self.parts > 0 {
            self.text.push(',');
        }
        self.parts += 1;
        self.writable &= value.serialize(Literal { to: &mut self.text }).is_ok();
        self
    }

    /// The key; nothing if an argument could not be written as text.
    #[must_use]
    pub fn key(mut self) -> String {
        self.text.push(')');
        if !self.writable {
            return String::new();
        }
        if self.text.len() <= READABLE_MAX {
            return self.text;
        }
        let digest = Sha256::digest(&self.text);
        let end = self.text.find('(').unwrap_or_default().min(READABLE_MAX / 2);
        let mut key: String = self.text.get(..end).unwrap_or_default().to_owned();
        key.push('#');
        for byte in digest {
            let _ = write!(key, "{byte:02x}");
        }
        key
    }
}

/// Writes a value as a literal of its type, so that no two values look alike that serde tells apart.
struct Literal<'a> {
    to: &'a mut String,
}

/// A value that says that it cannot be written.
#[derive(Debug)]
struct Unwritable;

impl Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value cannot be written as text")
    }
}

impl std::error::Error for Unwritable {}

impl ser::Error for Unwritable {
    fn custom<T: Display>(_message: T) -> Self {
        Self
    }
}

impl Literal<'_> {
    fn number(self, value: impl Display, kind: &str) -> Result<(), Unwritable> {
        write!(self.to, "{value}{kind}").map_err(|_| Unwritable)
    }

    fn word(self, word: &str) -> Result<(), Unwritable> {
        self.to.push_str(word);
        Ok(())
    }
}

macro_rules! numbers {
    ($($method:ident $type:ident,)+) => {
        $(fn $method(self, value: $type) -> Result<(), Unwritable> {
            self.number(value, stringify!($type))
        })+
    };
}

impl<'a> ser::Serializer for Literal<'a> {
    type Ok = ();
    type Error = Unwritable;
    type SerializeSeq = Several<'a>;
    type SerializeTuple = Several<'a>;
    type SerializeTupleStruct = Several<'a>;
    type SerializeTupleVariant = Several<'a>;
    type SerializeMap = Entries<'a>;
    type SerializeStruct = Several<'a>;
    type SerializeStructVariant = Several<'a>;

    numbers! {
        serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64, serialize_i128 i128,
        serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64, serialize_u128 u128,
        serialize_f32 f32, serialize_f64 f64,
    }

    fn serialize_bool(self, value: bool) -> Result<(), Unwritable> {
        self.word(if value { "true" } else { "false" })
    }

    fn serialize_char(self, value: char) -> Result<(), Unwritable> {
        write!(self.to, "{value:?}").map_err(|_| Unwritable)
    }

    fn serialize_str(self, value: &str) -> Result<(), Unwritable> {
        self.to.push('"');
        for character in value.chars() {
            if matches!(character, '"' | '\\') {
                self.to.push('\\');
            }
            self.to.push(character);
        }
        self.to.push('"');
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Unwritable> {
        self.to.push_str("b\"");
        for byte in value {
            write!(self.to, "{byte:02x}").map_err(|_| Unwritable)?;
        }
        self.to.push('"');
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Unwritable> {
        self.word("None")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unwritable> {
        self.serialize_newtype_struct("Some", value)
    }

    fn serialize_unit(self) -> Result<(), Unwritable> {
        self.word("()")
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<(), Unwritable> {
        self.word(name)
    }

    fn serialize_unit_variant(self, name: &'static str, _index: u32, variant: &'static str) -> Result<(), Unwritable> {
        write!(self.to, "{name}::{variant}").map_err(|_| Unwritable)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<(), Unwritable> {
        write!(self.to, "{name}(").map_err(|_| Unwritable)?;
        value.serialize(Literal { to: self.to })?;
        self.to.push(')');
        Ok(())
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Unwritable> {
        self.to.push_str(name);
        self.to.push_str("::");
        let _ = index;
        Literal { to: self.to }.serialize_newtype_struct(variant, value)
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Several<'a>, Unwritable> {
        Ok(Several::begin(self.to, "", '[', ']'))
    }

    fn serialize_tuple(self, _len: usize) -> Result<Several<'a>, Unwritable> {
        Ok(Several::begin(self.to, "", '(', ')'))
    }

    fn serialize_tuple_struct(self, name: &'static str, _len: usize) -> Result<Several<'a>, Unwritable> {
        Ok(Several::begin(self.to, name, '(', ')'))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Several<'a>, Unwritable> {
        self.to.push_str(name);
        self.to.push_str("::");
        Ok(Several::begin(self.to, variant, '(', ')'))
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Entries<'a>, Unwritable> {
        Ok(Entries { to: self.to, entries: Vec::new() })
    }

    fn serialize_struct(self, name: &'static str, _len: usize) -> Result<Several<'a>, Unwritable> {
        Ok(Several::begin(self.to, name, '{', '}'))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Several<'a>, Unwritable> {
        self.to.push_str(name);
        self.to.push_str("::");
        Ok(Several::begin(self.to, variant, '{', '}'))
    }
}

/// Values one after the other, between brackets.
struct Several<'a> {
    to: &'a mut String,
    end: char,
    first: bool,
}

impl<'a> Several<'a> {
    fn begin(to: &'a mut String, name: &str, begin: char, end: char) -> Self {
        to.push_str(name);
        to.push(begin);
        Self { to, end, first: true }
    }

    fn value<T: Serialize + ?Sized>(&mut self, name: Option<&str>, value: &T) -> Result<(), Unwritable> {
        if !std::mem::take(&mut self.first) {
            self.to.push(',');
        }
        if let Some(name) = name {
            self.to.push_str(name);
            self.to.push(':');
        }
        value.serialize(Literal { to: self.to })
    }

    fn close(self) {
        self.to.push(self.end);
    }
}

macro_rules! several {
    ($($trait:ident $method:ident,)+) => {
        $(impl ser::$trait for Several<'_> {
            type Ok = ();
            type Error = Unwritable;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritable> {
                self.value(None, value)
            }

            fn end(self) -> Result<(), Unwritable> {
                self.close();
                Ok(())
            }
        })+
    };
}

several! {
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field,
}

macro_rules! named {
    ($($trait:ident,)+) => {
        $(impl ser::$trait for Several<'_> {
            type Ok = ();
            type Error = Unwritable;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Unwritable> {
                self.value(Some(name), value)
            }

            fn end(self) -> Result<(), Unwritable> {
                self.close();
                Ok(())
            }
        })+
    };
}

named! { SerializeStruct, SerializeStructVariant, }

/// The entries of a map, to be written in an order that does not depend on how it hashes.
struct Entries<'a> {
    to: &'a mut String,
    entries: Vec<(String, String)>,
}

impl ser::SerializeMap for Entries<'_> {
    type Ok = ();
    type Error = Unwritable;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unwritable> {
        let mut text = String::new();
        key.serialize(Literal { to: &mut text })?;
        self.entries.push((text, String::new()));
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritable> {
        let Some((_key, text)) = self.entries.last_mut() else { return Err(Unwritable) };
        value.serialize(Literal { to: text })
    }

    fn end(mut self) -> Result<(), Unwritable> {
        self.entries.sort_unstable();
        self.to.push('{');
        for (key, value) in &self.entries {
            write!(self.to, "{key}:{value},").map_err(|_| Unwritable)?;
        }
        self.to.push('}');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde::Serialize;

    use super::*;

    fn key(parts: impl FnOnce(Signature) -> Signature) -> String {
        parts(Signature::of("f", &[])).key()
    }

    fn of<T: Serialize>(value: T) -> String {
        key(|key| key.part(&value))
    }

    #[derive(Serialize)]
    enum Shape {
        Dot,
        Circle(u8),
        Box { width: u8, height: u8 },
    }

    #[test]
    fn a_key_is_the_call_as_it_would_be_written() {
        let text =
            key(|key| key.part(&7_u64).part("a:b").part(&None::<u8>).part(&Some(["x"])).part(&(1_i8, 'c', true)));
        assert_eq!(text, r#"f(7u64,"a:b",None,Some(("x")),(1i8,'c',true))"#);
        assert_eq!(of([Shape::Dot, Shape::Circle(1)]), "f((Shape::Dot,Shape::Circle(1u8)))");
        assert_eq!(of(Shape::Box { width: 1, height: 2 }), "f(Shape::Box{width:1u8,height:2u8})");
    }

    #[test]
    fn what_differs_by_type_position_or_separator_differs_in_the_key() {
        let keys = [
            of(1_u32),
            of(1_i64),
            of(1.0_f64),
            of(true),
            of("1"),
            of('1'),
            of(Some(1_u32)),
            of(None::<u32>),
            of("None"),
            of(()),
            of(vec![1_u32]),
            of([1_u32]),
            of((1_u32,)),
            key(|key| key.part("a:b").part("c")),
            key(|key| key.part("a").part("b:c")),
            key(|key| key.part("a\",\"b").part("c")),
            key(|key| key.part("a").part("b\",\"c")),
            key(|key| key.part("a\\").part("b")),
            key(|key| key.part(&("a", "b:c"))),
            key(|key| key),
        ];
        let mut distinct: Vec<_> = keys.iter().filter(|key| **key != of([1_u32])).collect();
        distinct.sort();
        distinct.dedup();
        // An array and a tuple are the same to serde, and so, being of the same length, to the key.
        assert_eq!(distinct.len(), keys.len() - 2, "{keys:#?}");
        assert_ne!(Signature::of("f", &["u32"]).key(), Signature::of("f", &["i64"]).key());
    }

    #[test]
    fn maps_that_are_equal_have_equal_keys() {
        let one: HashMap<_, _> = (0..100).map(|number| (number, "x")).collect();
        let other: HashMap<_, _> = (0..100).rev().map(|number| (number, "x")).collect();
        assert_eq!(of(one), of(other));
    }

    #[test]
    fn long_keys_end_with_a_digest() {
        let (one, other) = (of("x".repeat(5_000)), of("x".repeat(5_001)));
        assert!(one.starts_with("f#") && one.len() < 128, "{one}");
        assert_ne!(one, other);
    }

    #[cfg(unix)]
    #[test]
    fn what_cannot_be_written_makes_no_key() {
        use std::os::unix::ffi::OsStrExt;
        let no_text = std::ffi::OsStr::from_bytes(b"\xff");
        assert_eq!(of(std::path::Path::new(no_text)), "");
    }

    #[test]
    fn what_a_value_brings_into_a_pattern_is_literal() {
        let mut pattern = String::from("page:");
        insert_literal(&mut pattern, r"a:*\", Some(':'));
        assert_eq!(pattern, r"page:a%3A\*\\");
    }

    #[test]
    fn a_value_never_reaches_past_what_follows_it() {
        let pair = |one: &str, other: &str| {
            let mut key = String::new();
            insert(&mut key, one, Some('/'));
            key.push('/');
            insert(&mut key, other, None);
            key
        };
        assert_eq!(pair("a", "b/c"), "a/b/c");
        assert_eq!(pair("a/b", "c"), "a%2Fb/c");
        assert_eq!(pair("a%2Fb", "c"), "a%252Fb/c");
        let mut wide = String::new();
        insert(&mut wide, "─02", Some('─'));
        assert_eq!(wide, "%E2%94%8002", "each byte by itself, so that what follows is not taken for a part");
        // What begins like it may go on with a colon.
        assert_eq!(pair("a:1", "b:2"), "a%3A1/b%3A2");
    }
}
