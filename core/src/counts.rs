//! Counters by name: the struct, the names and the help texts from one list.

macro_rules! counts {
    ($(#[$attr:meta])* pub struct $name:ident $fields:tt) => {
        counts! { ""; $(#[$attr])* pub struct $name $fields }
    };
    // The names of the counts begin so.
    ($prefix:literal; $(#[$attr:meta])* pub struct $name:ident { $(#[doc = $doc:literal] $field:ident,)+ }) => {
        $(#[$attr])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct $name {
            $(#[doc = $doc] pub $field: u64,)+
        }

        impl $name {
            /// Name and meaning of each count.
            pub const NAMES: &'static [(&'static str, &'static str)] = &[$((concat!($prefix, stringify!($field)), $doc),)+];

            /// Each count by its name.
            pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((concat!($prefix, stringify!($field)), self.$field),)+].into_iter()
            }

            /// Adds the counts of another, a shard's for example.
            pub fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)+
            }
        }
    };
}
