//! A deserializer with limits, around that of any format: what bytes from outside can make it do.
//!
//! The formats themselves do not say: postcard follows a hostile list for as deep as the stack goes, a MessagePack
//! value may be a newtype of an option of itself without a single byte being read, and a sequence of `()` may be as long
//! as a number is large. It knows no format.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::CodecError;

/// How many values may lie inside each other. An element, a field, the inside of an option and of a newtype each are one
/// more, so this is about 128 nodes of a linked list; JSON's own limit is 128 arrays and objects.
pub(super) const DEPTH_MAX: u32 = 256;

/// Elements beyond one for each byte, for what is nothing once it is written: `Vec<()>`.
const EMPTY_ELEMENTS_MAX: usize = 65_536;

/// What is left of the limits, and which one was hit.
pub(super) struct Limits {
    elements: Cell<usize>,
    elements_max: usize,
    hit: Cell<Option<CodecError>>,
}

impl Limits {
    /// For a value of so many bytes.
    pub(super) const fn for_bytes(count: usize) -> Self {
        let elements_max = count.saturating_add(EMPTY_ELEMENTS_MAX);
        Self { elements: Cell::new(elements_max), elements_max, hit: Cell::new(None) }
    }

    /// `inner` within these limits.
    pub(super) const fn around<D>(&self, inner: D) -> Bounded<'_, D> {
        Bounded { inner, limits: self, levels: DEPTH_MAX, counted: true }
    }

    /// The limit that was hit, if one was: the format's own error does not tell.
    pub(super) fn hit(&self) -> Option<CodecError> {
        self.hit.take()
    }
}

/// A deserializer, visitor, access or seed within limits.
pub(super) struct Bounded<'l, T> {
    inner: T,
    limits: &'l Limits,
    /// How many more values may lie inside each other.
    levels: u32,
    /// Whether the number of elements is up to the bytes. That of tuples and structs is up to the type.
    counted: bool,
}

impl<'l, T> Bounded<'l, T> {
    fn on<U>(&self, inner: U) -> Bounded<'l, U> {
        Bounded { inner, limits: self.limits, levels: self.levels, counted: self.counted }
    }

    fn uncounted(self) -> Self {
        Self { counted: false, ..self }
    }

    /// One value further inside.
    fn inside<U, E: Error>(&self, inner: U) -> Result<Bounded<'l, U>, E> {
        let Some(levels) = self.levels.checked_sub(1) else {
            return Err(self.refuse(CodecError::TooDeep { max: DEPTH_MAX }));
        };
        Ok(Bounded { inner, limits: self.limits, levels, counted: true })
    }

    fn count<E: Error>(&self) -> Result<(), E> {
        if self.counted {
            let Some(left) = self.limits.elements.get().checked_sub(1) else {
                return Err(self.refuse(CodecError::TooManyElements { max: self.limits.elements_max }));
            };
            self.limits.elements.set(left);
        }
        Ok(())
    }

    fn refuse<E: Error>(&self, limit: CodecError) -> E {
        self.limits.hit.set(Some(limit));
        E::custom("a limit is hit")
    }

    /// So that nobody reserves room for more than there can be.
    fn hint(&self, hint: Option<usize>) -> Option<usize> {
        hint.map(|hint| hint.min(self.limits.elements.get()))
    }
}

macro_rules! forwarded {
    ($($deserialize:ident)*) => {$(
        fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            let visitor = self.on(visitor);
            self.inner.$deserialize(visitor)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Bounded<'_, D> {
    type Error = D::Error;

    forwarded! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string deserialize_bytes
        deserialize_byte_buf deserialize_option deserialize_unit deserialize_seq deserialize_map
        deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.on(visitor);
        self.inner.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.on(visitor);
        self.inner.deserialize_newtype_struct(name, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.on(visitor).uncounted();
        self.inner.deserialize_tuple(length, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.on(visitor).uncounted();
        self.inner.deserialize_tuple_struct(name, length, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.on(visitor).uncounted();
        self.inner.deserialize_struct(name, fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.on(visitor);
        self.inner.deserialize_enum(name, variants, visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! scalars {
    ($($visit:ident: $what:ty,)*) => {$(
        fn $visit<E: Error>(self, value: $what) -> Result<V::Value, E> {
            self.inner.$visit(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Bounded<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    scalars! {
        visit_bool: bool,
        visit_i8: i8,
        visit_i16: i16,
        visit_i32: i32,
        visit_i64: i64,
        visit_i128: i128,
        visit_u8: u8,
        visit_u16: u16,
        visit_u32: u32,
        visit_u64: u64,
        visit_u128: u128,
        visit_f32: f32,
        visit_f64: f64,
        visit_char: char,
        visit_str: &str,
        visit_borrowed_str: &'de str,
        visit_string: String,
        visit_bytes: &[u8],
        visit_borrowed_bytes: &'de [u8],
        visit_byte_buf: Vec<u8>,
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let deserializer = self.inside(deserializer)?;
        self.inner.visit_some(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let deserializer = self.inside(deserializer)?;
        self.inner.visit_newtype_struct(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<V::Value, A::Error> {
        let elements = self.on(elements);
        self.inner.visit_seq(elements)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        let entries = self.on(entries);
        self.inner.visit_map(entries)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        let variant = self.on(variant);
        self.inner.visit_enum(variant)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        let seed = self.inside(seed)?;
        let element = self.inner.next_element_seed(seed)?;
        if element.is_some() {
            self.count()?;
        }
        Ok(element)
    }

    fn size_hint(&self) -> Option<usize> {
        self.hint(self.inner.size_hint())
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let seed = self.inside(seed)?;
        let key = self.inner.next_key_seed(seed)?;
        if key.is_some() {
            self.count()?;
        }
        Ok(key)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        let seed = self.inside(seed)?;
        self.inner.next_value_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.hint(self.inner.size_hint())
    }
}

impl<'de, 'l, A: EnumAccess<'de>> EnumAccess<'de> for Bounded<'l, A> {
    type Error = A::Error;
    type Variant = Bounded<'l, A::Variant>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self::Variant), A::Error> {
        let seed = self.inside(seed)?;
        let Self { inner, limits, levels, counted } = self;
        let (value, variant) = inner.variant_seed(seed)?;
        Ok((value, Bounded { inner: variant, limits, levels, counted }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, A::Error> {
        let seed = self.inside(seed)?;
        self.inner.newtype_variant_seed(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, A::Error> {
        let visitor = self.on(visitor).uncounted();
        self.inner.tuple_variant(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = self.on(visitor).uncounted();
        self.inner.struct_variant(fields, visitor)
    }
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Bounded<'_, T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T::Value, D::Error> {
        let deserializer = self.on(deserializer);
        self.inner.deserialize(deserializer)
    }
}
