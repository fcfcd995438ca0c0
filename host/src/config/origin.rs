//! Who said what an option is to be, and whose word counts.

use std::fmt;
use std::sync::Arc;

use super::preset::Preset;

/// Where a value comes from. What is later in this list overrules what is earlier.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The preset.
    Preset(Preset),
    /// A file.
    File {
        /// Its path, as it was given.
        path: Arc<str>,
        /// The line, from 1; 0 for the whole file.
        line: usize,
        /// How many files were given before it: a later one overrules an earlier one.
        number: usize,
    },
    /// The variable of that name in the environment.
    Environment(Arc<str>),
    /// The program itself, or somebody on its command line: `code`, `--store`.
    Explicit(&'static str),
}

impl Origin {
    /// Its weight: the greater overrules.
    pub(super) const fn rank(&self) -> (u8, usize) {
        match self {
            Self::Default => (0, 0),
            Self::Preset(_) => (1, 0),
            Self::File { number, .. } => (2, *number),
            Self::Environment(_) => (3, 0),
            Self::Explicit(_) => (4, 0),
        }
    }

    /// For an order in which people look things up: the weaker first, each file from its beginning.
    pub(super) const fn place(&self) -> ((u8, usize), usize) {
        match self {
            Self::File { line, .. } => (self.rank(), *line),
            _ => (self.rank(), 0),
        }
    }

    /// Whether somebody said it for this very program.
    pub(super) const fn is_said(&self) -> bool {
        !matches!(self, Self::Default | Self::Preset(_))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Preset(preset) => write!(f, "preset {}", preset.name()),
            Self::File { path, line: 0, .. } => f.write_str(path),
            Self::File { path, line, .. } => write!(f, "{path}:{line}"),
            Self::Environment(name) => f.write_str(name),
            Self::Explicit(by) => f.write_str(by),
        }
    }
}
