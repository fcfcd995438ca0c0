//! What a value is, as serde sees it, in 64 bits: two values with the same fingerprint are written alike by every format.
//!
//! A [`Serializer`] that writes nothing and hashes everything: which kind of thing comes, the bits of floats, whether an
//! option is there, names and numbers of fields, how many elements. The elements of sequences and maps are combined
//! without regard to their order, because the one of a `HashSet` or `HashMap` changes when it is built anew. What a type
//! does not serialize is no part of it.

use std::fmt::{self, Display};
use std::hash::{BuildHasher, Hash, Hasher};

use hashbrown::DefaultHashBuilder;
use serde::ser::{self, Serialize, Serializer};

use super::CodecError;
use super::bounded::DEPTH_MAX;

/// Makes fingerprints that can be compared with each other, and with no others.
pub(super) struct Fingerprints {
    seeded: DefaultHashBuilder,
    /// As the format is: types such as `IpAddr` write themselves differently.
    human_readable: bool,
}

impl Fingerprints {
    pub(super) fn new(human_readable: bool) -> Self {
        Self { seeded: DefaultHashBuilder::default(), human_readable }
    }

    /// The fingerprint of `value`.
    ///
    /// # Errors
    ///
    /// [`CodecError::TooDeep`], and [`CodecError::Unserializable`] if it refuses to be serialized.
    pub(super) fn of<V: Serialize>(&self, value: &V) -> Result<u64, CodecError> {
        let mut print = Print { state: self.seeded.build_hasher(), of: self, levels: DEPTH_MAX };
        match value.serialize(&mut print) {
            Ok(()) => Ok(print.state.finish()),
            Err(Unhashable::TooDeep) => Err(CodecError::TooDeep { max: DEPTH_MAX }),
            Err(Unhashable::Refused) => Err(CodecError::Unserializable { of: std::any::type_name::<V>() }),
        }
    }
}

/// Why there is no fingerprint. What a type says of it might quote the value, and is dropped.
#[derive(Debug)]
enum Unhashable {
    TooDeep,
    Refused,
}

impl Display for Unhashable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooDeep => "nested too deeply",
            Self::Refused => "not to be serialized",
        })
    }
}

impl std::error::Error for Unhashable {}

impl ser::Error for Unhashable {
    fn custom<T: Display>(_may_quote: T) -> Self {
        Self::Refused
    }
}

/// What comes next in the stream, so that `1_u8` is not `1_u16`, and `None` not `()`.
#[derive(Clone, Copy)]
enum Kind {
    Bool,
    I8,
    I16,
    I32,
    I64,
    I128,
    U8,
    U16,
    U32,
    U64,
    U128,
    F32,
    F64,
    Char,
    Str,
    Bytes,
    None,
    Some,
    Unit,
    UnitStruct,
    UnitVariant,
    NewtypeStruct,
    NewtypeVariant,
    Seq,
    Tuple,
    TupleStruct,
    TupleVariant,
    Map,
    Struct,
    StructVariant,
}

type State = <DefaultHashBuilder as BuildHasher>::Hasher;

/// The stream so far.
struct Print<'f> {
    state: State,
    of: &'f Fingerprints,
    /// How many more values may lie inside each other.
    levels: u32,
}

impl Print<'_> {
    fn scalar(&mut self, kind: Kind, bits: u64) -> Result<(), Unhashable> {
        self.state.write_u8(kind as u8);
        self.state.write_u64(bits);
        Ok(())
    }

    fn wide(&mut self, kind: Kind, bits: u128) -> Result<(), Unhashable> {
        self.state.write_u8(kind as u8);
        self.state.write_u128(bits);
        Ok(())
    }

    fn bytes(&mut self, kind: Kind, bytes: &[u8]) -> Result<(), Unhashable> {
        self.scalar(kind, bytes.len() as u64)?;
        self.state.write(bytes);
        Ok(())
    }

    fn inner<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unhashable> {
        self.levels = self.levels.checked_sub(1).ok_or(Unhashable::TooDeep)?;
        value.serialize(&mut *self)?;
        self.levels += 1;
        Ok(())
    }

    /// A stream of its own for an element.
    fn apart(&self) -> Print<'_> {
        Print { state: self.of.seeded.build_hasher(), of: self.of, levels: self.levels }
    }
}

/// Elements in any order.
struct Unordered<'p, 'f> {
    print: &'p mut Print<'f>,
    kind: Kind,
    count: u64,
    sum: u64,
    /// The key whose value comes next.
    key: Option<State>,
}

impl<'p, 'f> Unordered<'p, 'f> {
    fn new(print: &'p mut Print<'f>, kind: Kind) -> Self {
        Self { print, kind, count: 0, sum: 0, key: None }
    }

    fn add(&mut self, element: u64) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(element);
    }

    fn end(self) -> Result<(), Unhashable> {
        self.print.wide(self.kind, u128::from(self.count) << 64 | u128::from(self.sum))
    }
}

/// Elements each of which has its place.
struct Ordered<'p, 'f> {
    print: &'p mut Print<'f>,
    count: u64,
}

impl<'p, 'f> Ordered<'p, 'f> {
    fn new(print: &'p mut Print<'f>, kind: Kind, variant: u32) -> Result<Self, Unhashable> {
        print.scalar(kind, u64::from(variant))?;
        Ok(Self { print, count: 0 })
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unhashable> {
        self.count += 1;
        self.print.inner(value)
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Unhashable> {
        name.hash(&mut self.print.state);
        self.element(value)
    }

    fn end(self) -> Result<(), Unhashable> {
        self.print.state.write_u64(self.count);
        Ok(())
    }
}

impl<'p, 'f> Serializer for &'p mut Print<'f> {
    type Ok = ();
    type Error = Unhashable;
    type SerializeSeq = Unordered<'p, 'f>;
    type SerializeTuple = Ordered<'p, 'f>;
    type SerializeTupleStruct = Ordered<'p, 'f>;
    type SerializeTupleVariant = Ordered<'p, 'f>;
    type SerializeMap = Unordered<'p, 'f>;
    type SerializeStruct = Ordered<'p, 'f>;
    type SerializeStructVariant = Ordered<'p, 'f>;

    fn is_human_readable(&self) -> bool {
        self.of.human_readable
    }

    fn serialize_bool(self, value: bool) -> Result<(), Unhashable> {
        self.scalar(Kind::Bool, value.into())
    }

    fn serialize_i8(self, value: i8) -> Result<(), Unhashable> {
        self.scalar(Kind::I8, i64::from(value).cast_unsigned())
    }

    fn serialize_i16(self, value: i16) -> Result<(), Unhashable> {
        self.scalar(Kind::I16, i64::from(value).cast_unsigned())
    }

    fn serialize_i32(self, value: i32) -> Result<(), Unhashable> {
        self.scalar(Kind::I32, i64::from(value).cast_unsigned())
    }

    fn serialize_i64(self, value: i64) -> Result<(), Unhashable> {
        self.scalar(Kind::I64, value.cast_unsigned())
    }

    fn serialize_i128(self, value: i128) -> Result<(), Unhashable> {
        self.wide(Kind::I128, value.cast_unsigned())
    }

    fn serialize_u8(self, value: u8) -> Result<(), Unhashable> {
        self.scalar(Kind::U8, value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), Unhashable> {
        self.scalar(Kind::U16, value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), Unhashable> {
        self.scalar(Kind::U32, value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), Unhashable> {
        self.scalar(Kind::U64, value)
    }

    fn serialize_u128(self, value: u128) -> Result<(), Unhashable> {
        self.wide(Kind::U128, value)
    }

    fn serialize_f32(self, value: f32) -> Result<(), Unhashable> {
        self.scalar(Kind::F32, value.to_bits().into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Unhashable> {
        self.scalar(Kind::F64, value.to_bits())
    }

    fn serialize_char(self, value: char) -> Result<(), Unhashable> {
        self.scalar(Kind::Char, u32::from(value).into())
    }

    fn serialize_str(self, value: &str) -> Result<(), Unhashable> {
        self.bytes(Kind::Str, value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Unhashable> {
        self.bytes(Kind::Bytes, value)
    }

    fn serialize_none(self) -> Result<(), Unhashable> {
        self.scalar(Kind::None, 0)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unhashable> {
        self.scalar(Kind::Some, 0)?;
        self.inner(value)
    }

    fn serialize_unit(self) -> Result<(), Unhashable> {
        self.scalar(Kind::Unit, 0)
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Unhashable> {
        self.scalar(Kind::UnitStruct, 0)
    }

    fn serialize_unit_variant(self, _name: &'static str, index: u32, _variant: &'static str) -> Result<(), Unhashable> {
        self.scalar(Kind::UnitVariant, index.into())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _name: &'static str, value: &T) -> Result<(), Unhashable> {
        self.scalar(Kind::NewtypeStruct, 0)?;
        self.inner(value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Result<(), Unhashable> {
        self.scalar(Kind::NewtypeVariant, index.into())?;
        self.inner(value)
    }

    fn serialize_seq(self, _length: Option<usize>) -> Result<Self::SerializeSeq, Unhashable> {
        Ok(Unordered::new(self, Kind::Seq))
    }

    fn serialize_tuple(self, _length: usize) -> Result<Self::SerializeTuple, Unhashable> {
        Ordered::new(self, Kind::Tuple, 0)
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeTupleStruct, Unhashable> {
        Ordered::new(self, Kind::TupleStruct, 0)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeTupleVariant, Unhashable> {
        Ordered::new(self, Kind::TupleVariant, index)
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<Self::SerializeMap, Unhashable> {
        Ok(Unordered::new(self, Kind::Map))
    }

    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<Self::SerializeStruct, Unhashable> {
        Ordered::new(self, Kind::Struct, 0)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeStructVariant, Unhashable> {
        Ordered::new(self, Kind::StructVariant, index)
    }
}

impl ser::SerializeSeq for Unordered<'_, '_> {
    type Ok = ();
    type Error = Unhashable;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unhashable> {
        let mut apart = self.print.apart();
        apart.inner(value)?;
        let element = apart.state.finish();
        self.add(element);
        Ok(())
    }

    fn end(self) -> Result<(), Unhashable> {
        self.end()
    }
}

impl ser::SerializeMap for Unordered<'_, '_> {
    type Ok = ();
    type Error = Unhashable;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unhashable> {
        let mut apart = self.print.apart();
        apart.inner(key)?;
        self.key = Some(apart.state);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unhashable> {
        let state = self.key.take().ok_or(Unhashable::Refused)?;
        let mut apart = Print { state, ..self.print.apart() };
        apart.inner(value)?;
        let entry = apart.state.finish();
        self.add(entry);
        Ok(())
    }

    fn end(self) -> Result<(), Unhashable> {
        self.end()
    }
}

impl ser::SerializeTuple for Ordered<'_, '_> {
    type Ok = ();
    type Error = Unhashable;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unhashable> {
        self.element(value)
    }

    fn end(self) -> Result<(), Unhashable> {
        self.end()
    }
}

/// Elements by their places.
macro_rules! by_place {
    ($($serialize:ident)*) => {$(
        impl ser::$serialize for Ordered<'_, '_> {
            type Ok = ();
            type Error = Unhashable;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unhashable> {
                self.element(value)
            }

            fn end(self) -> Result<(), Unhashable> {
                self.end()
            }
        }
    )*};
}

/// Elements by their names.
macro_rules! by_name {
    ($($serialize:ident)*) => {$(
        impl ser::$serialize for Ordered<'_, '_> {
            type Ok = ();
            type Error = Unhashable;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Unhashable> {
                self.field(name, value)
            }

            fn end(self) -> Result<(), Unhashable> {
                self.end()
            }
        }
    )*};
}

by_place! { SerializeTupleStruct SerializeTupleVariant }
by_name! { SerializeStruct SerializeStructVariant }

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap, HashSet};

    use super::*;

    fn same(one: &impl Serialize, other: &impl Serialize) -> bool {
        let prints = Fingerprints::new(true);
        prints.of(one).expect("a fingerprint") == prints.of(other).expect("a fingerprint")
    }

    #[test]
    fn the_order_of_sets_and_maps_does_not_matter() {
        let numbers: Vec<u32> = (0..500).collect();
        let forward: HashSet<u32> = numbers.iter().copied().collect();
        let backward: HashSet<u32> = numbers.iter().rev().copied().collect();
        assert!(same(&forward, &backward));
        let hashed: HashMap<u32, String> = numbers.iter().map(|n| (*n, n.to_string())).collect();
        let sorted: BTreeMap<u32, String> = numbers.iter().map(|n| (*n, n.to_string())).collect();
        assert!(same(&hashed, &sorted));
    }

    #[test]
    fn whatever_differs_in_the_data_model_differs() {
        let pairs = BTreeMap::from([("a", 1), ("b", 2)]);
        assert!(!same(&pairs, &BTreeMap::from([("a", 2), ("b", 1)])), "values changed places");
        assert!(!same(&1_u8, &1_u16));
        assert!(!same(&0.0, &-0.0));
        assert!(!same(&f64::NAN, &-f64::NAN));
        assert!(!same(&None::<u8>, &()));
        assert!(!same(&Some(None::<u8>), &None::<Option<u8>>));
        assert!(!same(&Some(1), &1));
        assert!(!same(&"ab", &["a", "b"]));
        assert!(!same(&("ab", "c"), &("a", "bc")));
        assert!(!same(&vec![1, 1], &vec![1]));
        assert!(!same(&vec![vec![1], vec![2]], &vec![vec![1, 2], vec![]]));
        assert!(!same(&Ok::<u8, u8>(1), &Err::<u8, u8>(1)));
    }

    #[test]
    fn every_bit_of_a_number_counts() {
        let prints = Fingerprints::new(true);
        let of = |number: u64| prints.of(&vec![number, 7]).expect("a fingerprint");
        for bit in 0..64 {
            assert_ne!(of(0), of(1 << bit));
            assert_ne!(of(u64::MAX), of(u64::MAX ^ 1 << bit));
        }
    }
}
