//! How options are read from text and written as text.

use core::fmt::{self, Write};
use core::time::Duration;

use crate::backoff::Jitter;
use crate::breaker::Mode;
use crate::eviction::Eviction;
use crate::time::{Text, parse_duration};

/// How an option is written as text.
pub(super) trait OptionText: Sized {
    /// The value that `text` names, or what was expected.
    fn read(text: &str) -> Result<Self, &'static str>;
    /// Writes the value so that it is read back.
    fn write(&self, to: &mut dyn Write) -> fmt::Result;
}

macro_rules! number {
    ($($type:ty: $expected:literal,)+) => {
        $(impl OptionText for $type {
            fn read(text: &str) -> Result<Self, &'static str> {
                text.trim().parse().map_err(|_| $expected)
            }
            fn write(&self, to: &mut dyn Write) -> fmt::Result {
                write!(to, "{self}")
            }
        })+
    };
}

number! {
    u8: "expected a whole number from 0 to 100",
    u32: "expected a whole number",
    u64: "expected a whole number",
    bool: "expected true or false",
}

impl OptionText for Duration {
    fn read(text: &str) -> Result<Self, &'static str> {
        parse_duration(text)
    }
    fn write(&self, to: &mut dyn Write) -> fmt::Result {
        write!(to, "{}", Text(*self))
    }
}

impl OptionText for Option<Duration> {
    fn read(text: &str) -> Result<Self, &'static str> {
        parse_duration(text).map(|duration| Some(duration).filter(|duration| !duration.is_zero()))
    }
    fn write(&self, to: &mut dyn Write) -> fmt::Result {
        write!(to, "{}", Text(self.unwrap_or_default()))
    }
}

impl OptionText for Jitter {
    fn read(text: &str) -> Result<Self, &'static str> {
        match text.trim() {
            "none" => Ok(Self::None),
            "full" => Ok(Self::Full),
            "equal" => Ok(Self::Equal),
            "decorrelated" => Ok(Self::Decorrelated),
            _ => Err("expected none, full, equal or decorrelated"),
        }
    }
    fn write(&self, to: &mut dyn Write) -> fmt::Result {
        to.write_str(match self {
            Self::None => "none",
            Self::Full => "full",
            Self::Equal => "equal",
            Self::Decorrelated => "decorrelated",
        })
    }
}

impl OptionText for Eviction {
    fn read(text: &str) -> Result<Self, &'static str> {
        Self::named(text.trim()).ok_or("expected lru, s3-fifo, sieve or w-tinylfu")
    }
    fn write(&self, to: &mut dyn Write) -> fmt::Result {
        to.write_str(self.name())
    }
}

impl OptionText for Mode {
    fn read(text: &str) -> Result<Self, &'static str> {
        Self::from_name(text.trim()).ok_or("expected automatic, forced-open, forced-closed, disabled or metrics-only")
    }
    fn write(&self, to: &mut dyn Write) -> fmt::Result {
        to.write_str(self.name())
    }
}
