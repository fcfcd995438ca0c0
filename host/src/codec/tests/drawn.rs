//! Values of every kind that serde knows, drawn by dice.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tideover_core::entropy::Entropy;

/// One variant for each way in which serde writes something.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) enum Rich {
    #[default]
    Unit,
    Bool(bool),
    Signed(i8, i16, i32, i64),
    Unsigned(u8, u16, u32, u64),
    Wide {
        signed: i128,
        unsigned: u128,
    },
    Floats(f32, f64),
    Char(char),
    Text(String),
    Shared(Arc<str>, Box<str>),
    Octets(bytes::Bytes),
    ByteByByte(Vec<u8>),
    Array([u16; 3]),
    Nothing(Nothing),
    UnitItself(()),
    Newtype(Newtype),
    Pair(Pair),
    Record(Box<Record>),
    Boxed(Box<Rich>),
    List(Vec<Rich>),
    Queue(VecDeque<Option<bool>>),
    Named(HashMap<String, Rich>),
    Numbered(HashMap<i32, String>),
    Sorted(BTreeMap<u64, Option<Box<Rich>>>),
    Hashed(HashSet<String>),
    SortedSet(BTreeSet<(u8, char)>),
    Outcome(Result<u8, String>),
    Times(Duration, SystemTime),
    Address(IpAddr),
    Path(PathBuf),
    NonZero(NonZeroU16, std::ops::Range<u32>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Nothing;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Newtype(Option<i64>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Pair(String, Nothing);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    maybe_number: Option<u32>,
    #[serde(default)]
    inner_value: Rich,
    tags: Vec<String>,
    level: Level,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    VeryLow,
    High,
}

/// Dice for values.
pub(super) struct Draw(pub(super) Entropy);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0.bits() % end
    }

    /// Extremes as often as anything between.
    fn bits(&mut self) -> u64 {
        match self.below(4) {
            0 => self.below(3),
            1 => u64::MAX - self.below(3),
            2 => 1 << self.below(64),
            _ => self.0.bits(),
        }
    }

    fn wide(&mut self) -> u128 {
        u128::from(self.bits()) << 64 | u128::from(self.bits())
    }

    fn float(&mut self) -> f64 {
        loop {
            let float = match self.below(3) {
                0 => self.below(1_000) as f64 / 10.0,
                1 => -0.0,
                _ => f64::from_bits(self.0.bits()),
            };
            // JSON has no others, and the smaller type makes some infinite.
            if (float as f32).is_finite() {
                return float;
            }
        }
    }

    fn char(&mut self) -> char {
        const ODD: &[char] = &['\0', '"', '\\', '\n', '\u{7F}', '\u{2028}', 'é', '\u{FEFF}', '🦀', char::MAX];
        match self.below(3) {
            0 => ODD[self.below(ODD.len() as u64) as usize],
            1 => char::from(b'a' + self.below(26) as u8),
            _ => char::from_u32(self.below(0x11_0000) as u32).unwrap_or('\u{FFFD}'),
        }
    }

    fn text(&mut self) -> String {
        let length = self.below(12);
        (0..length).map(|_| self.char()).collect()
    }

    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.0.bits() as u8).collect()
    }

    fn option<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(2) == 0).then(|| value(self))
    }

    fn many<T, C: FromIterator<T>>(&mut self, mut value: impl FnMut(&mut Self) -> T) -> C {
        let count = self.below(6);
        (0..count).map(|_| value(self)).collect()
    }

    /// A value with at most so many levels of others inside.
    pub(super) fn rich(&mut self, levels: u32) -> Rich {
        let Some(levels) = levels.checked_sub(1) else { return self.flat() };
        match self.below(10) {
            0 => Rich::Boxed(Box::new(self.rich(levels))),
            1 | 2 => Rich::List(self.many(|draw| draw.rich(levels))),
            3 | 4 => Rich::Named(self.many(|draw| (draw.text(), draw.rich(levels)))),
            5 => Rich::Sorted(self.many(|draw| (draw.bits(), draw.option(|draw| Box::new(draw.rich(levels)))))),
            6 | 7 => Rich::Record(Box::new(Record {
                maybe_number: self.option(|draw| draw.bits() as u32),
                inner_value: self.rich(levels),
                tags: self.many(Self::text),
                level: if self.below(2) == 0 { Level::VeryLow } else { Level::High },
            })),
            _ => self.flat(),
        }
    }

    fn flat(&mut self) -> Rich {
        match self.below(24) {
            0 => Rich::Unit,
            1 => Rich::Bool(self.below(2) == 0),
            2 => Rich::Signed(self.bits() as i8, self.bits() as i16, self.bits() as i32, self.bits() as i64),
            3 => Rich::Unsigned(self.bits() as u8, self.bits() as u16, self.bits() as u32, self.bits()),
            4 => Rich::Wide { signed: self.wide() as i128, unsigned: self.wide() },
            5 => Rich::Floats(self.float() as f32, self.float()),
            6 => Rich::Char(self.char()),
            7 => Rich::Text(self.text()),
            8 => Rich::Shared(self.text().into(), self.text().into()),
            9 => Rich::Octets(self.bytes(9).into()),
            10 => Rich::ByteByByte(self.bytes(9)),
            11 => Rich::Array([(); 3].map(|()| self.bits() as u16)),
            12 => Rich::Nothing(Nothing),
            13 => Rich::UnitItself(()),
            14 => Rich::Newtype(Newtype(self.option(|draw| draw.bits() as i64))),
            15 => Rich::Pair(Pair(self.text(), Nothing)),
            16 => Rich::Queue(self.many(|draw| draw.option(|draw| draw.below(2) == 0))),
            17 => Rich::Numbered(self.many(|draw| (draw.bits() as i32, draw.text()))),
            18 => Rich::Hashed(self.many(Self::text)),
            19 => Rich::SortedSet(self.many(|draw| (draw.bits() as u8, draw.char()))),
            20 => Rich::Outcome(if self.below(2) == 0 { Ok(self.bits() as u8) } else { Err(self.text()) }),
            21 => {
                let time = Duration::new(self.below(1 << 40), self.below(1_000_000_000) as u32);
                Rich::Times(time, SystemTime::UNIX_EPOCH + time)
            }
            22 => {
                let wide = self.wide();
                let address = self.option(|draw| IpAddr::from((draw.bits() as u32).to_be_bytes()));
                Rich::Address(address.unwrap_or_else(|| IpAddr::from(wide.to_be_bytes())))
            }
            _ => match self.option(|draw| PathBuf::from(draw.text())) {
                Some(path) => Rich::Path(path),
                None => Rich::NonZero(NonZeroU16::MIN.saturating_add(self.bits() as u16), 0..self.bits() as u32),
            },
        }
    }
}
