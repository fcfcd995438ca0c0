//! Bytes and text as they are: a serializer and a deserializer that know nothing else.

use std::fmt;

use serde::de::value::SeqDeserializer;
use serde::de::{self, Deserializer, Visitor};
use serde::ser::{self, Impossible, Serialize, SerializeSeq, SerializeTuple, Serializer};

/// Why something is not written or read raw. It names kinds of things, never what they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotRaw {
    /// Only bytes and text are written.
    Kind(&'static str),
    /// The bytes are no UTF-8.
    NoText,
    /// The type has words of its own for it, which might quote.
    Refused,
}

impl fmt::Display for NotRaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "only bytes and text are written raw, not {kind}"),
            Self::NoText => f.write_str("text that is no UTF-8"),
            Self::Refused => f.write_str("not what the type expects"),
        }
    }
}

impl std::error::Error for NotRaw {}

impl ser::Error for NotRaw {
    fn custom<T: fmt::Display>(_may_quote: T) -> Self {
        Self::Refused
    }
}

impl de::Error for NotRaw {
    fn custom<T: fmt::Display>(_may_quote: T) -> Self {
        Self::Refused
    }
}

/// Appends what it is given.
pub(super) struct RawWriter<'b> {
    bytes: &'b mut Vec<u8>,
    /// `Vec<u8>` and `[u8; N]` come byte for byte.
    in_sequence: bool,
}

impl<'b> RawWriter<'b> {
    pub(super) const fn new(bytes: &'b mut Vec<u8>) -> Self {
        Self { bytes, in_sequence: false }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), NotRaw> {
        if self.in_sequence {
            return Err(NotRaw::Kind("a sequence of them"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn sequence(&mut self) -> Result<&mut Self, NotRaw> {
        if self.in_sequence {
            return Err(NotRaw::Kind("a sequence of sequences"));
        }
        self.in_sequence = true;
        Ok(self)
    }
}

macro_rules! refused {
    ($($serialize:ident($($what:ty),*) -> $ok:ty: $kind:literal,)*) => {$(
        fn $serialize(self, $(_: $what),*) -> Result<$ok, NotRaw> {
            Err(NotRaw::Kind($kind))
        }
    )*};
}

impl Serializer for &mut RawWriter<'_> {
    type Ok = ();
    type Error = NotRaw;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Impossible<(), NotRaw>;
    type SerializeTupleVariant = Impossible<(), NotRaw>;
    type SerializeMap = Impossible<(), NotRaw>;
    type SerializeStruct = Impossible<(), NotRaw>;
    type SerializeStructVariant = Impossible<(), NotRaw>;

    fn serialize_u8(self, byte: u8) -> Result<(), NotRaw> {
        if !self.in_sequence {
            return Err(NotRaw::Kind("a number"));
        }
        self.bytes.push(byte);
        Ok(())
    }

    fn serialize_str(self, text: &str) -> Result<(), NotRaw> {
        self.append(text.as_bytes())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), NotRaw> {
        self.append(bytes)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _name: &'static str, value: &T) -> Result<(), NotRaw> {
        value.serialize(self)
    }

    fn serialize_seq(self, _length: Option<usize>) -> Result<Self, NotRaw> {
        self.sequence()
    }

    fn serialize_tuple(self, _length: usize) -> Result<Self, NotRaw> {
        self.sequence()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _value: &T) -> Result<(), NotRaw> {
        Err(NotRaw::Kind("an option"))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _value: &T,
    ) -> Result<(), NotRaw> {
        Err(NotRaw::Kind("an enum"))
    }

    refused! {
        serialize_bool(bool) -> (): "a bool",
        serialize_i8(i8) -> (): "a number",
        serialize_i16(i16) -> (): "a number",
        serialize_i32(i32) -> (): "a number",
        serialize_i64(i64) -> (): "a number",
        serialize_i128(i128) -> (): "a number",
        serialize_u16(u16) -> (): "a number",
        serialize_u32(u32) -> (): "a number",
        serialize_u64(u64) -> (): "a number",
        serialize_u128(u128) -> (): "a number",
        serialize_f32(f32) -> (): "a number",
        serialize_f64(f64) -> (): "a number",
        serialize_char(char) -> (): "a char",
        serialize_none() -> (): "an option",
        serialize_unit() -> (): "nothing",
        serialize_unit_struct(&'static str) -> (): "nothing",
        serialize_unit_variant(&'static str, u32, &'static str) -> (): "an enum",
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct: "a struct",
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant: "an enum",
        serialize_map(Option<usize>) -> Self::SerializeMap: "a map",
        serialize_struct(&'static str, usize) -> Self::SerializeStruct: "a struct",
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant: "an enum",
    }
}

impl SerializeSeq for &mut RawWriter<'_> {
    type Ok = ();
    type Error = NotRaw;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, byte: &T) -> Result<(), NotRaw> {
        byte.serialize(&mut **self)
    }

    fn end(self) -> Result<(), NotRaw> {
        Ok(())
    }
}

impl SerializeTuple for &mut RawWriter<'_> {
    type Ok = ();
    type Error = NotRaw;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, byte: &T) -> Result<(), NotRaw> {
        byte.serialize(&mut **self)
    }

    fn end(self) -> Result<(), NotRaw> {
        Ok(())
    }
}

/// Hands out what it was given.
pub(super) struct RawReader<'de>(&'de [u8]);

impl<'de> RawReader<'de> {
    pub(super) const fn new(bytes: &'de [u8]) -> Self {
        Self(bytes)
    }

    fn sequence<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotRaw> {
        let mut bytes = SeqDeserializer::<_, NotRaw>::new(self.0.iter().copied());
        let value = visitor.visit_seq(&mut bytes)?;
        // An array takes as many as it has room for.
        bytes.end()?;
        Ok(value)
    }

    fn text<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotRaw> {
        visitor.visit_borrowed_str(std::str::from_utf8(self.0).map_err(|_| NotRaw::NoText)?)
    }
}

impl<'de> Deserializer<'de> for RawReader<'de> {
    type Error = NotRaw;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, NotRaw> {
        Err(NotRaw::Kind("anything else"))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotRaw> {
        self.text(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotRaw> {
        self.text(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotRaw> {
        visitor.visit_borrowed_bytes(self.0)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotRaw> {
        visitor.visit_borrowed_bytes(self.0)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotRaw> {
        self.sequence(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, NotRaw> {
        self.sequence(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, NotRaw> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char option unit unit_struct tuple_struct map struct enum
        identifier ignored_any
    }
}
