//! What somebody has said: one option, as text, and where.

use std::cmp::Reverse;

use super::error::Finding;
use super::origin::Origin;
use super::{redis, secret, store};

/// One value for one option.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) option: &'static str,
    pub(super) text: String,
    pub(super) origin: Origin,
    /// Whether it counts only where nobody else of its rank says anything.
    pub(super) fall_back: bool,
}

impl Setting {
    pub(super) fn new(option: &'static str, text: impl Into<String>, origin: Origin) -> Self {
        Self { option, text: text.into(), origin, fall_back: false }
    }

    /// The greater overrules.
    pub(super) fn rank(&self) -> ((u8, usize), Reverse<bool>) {
        (self.origin.rank(), Reverse(self.fall_back))
    }

    /// The value, as far as it may be shown.
    pub(super) fn shown(&self) -> String {
        match self.option {
            "url" if store::reads(&self.text) => secret::shown_url(&self.text),
            "url" => secret::hidden_url(&self.text),
            option if redis::is_secret(option) => secret::MASK.to_owned(),
            _ => secret::shown_value(&self.text),
        }
    }

    /// That something is wrong with it.
    pub(super) fn finding(&self, reason: impl Into<String>) -> Finding {
        Finding::new(self.option, Some(self.shown()), &self.origin, reason)
    }
}

/// All that was said, and what is wrong with how it was said.
#[derive(Default)]
pub(super) struct Said {
    pub(super) settings: Vec<Setting>,
    pub(super) refusals: Vec<Finding>,
    pub(super) warnings: Vec<Finding>,
    /// Whether something could not be read at all, so that what is missing says nothing.
    pub(super) incomplete: bool,
}

impl Said {
    /// Refuses a name, and shows nothing of what it was to be.
    pub(super) fn refuse(&mut self, name: &str, origin: &Origin, reason: impl Into<String>) {
        self.refusals.push(Finding::new(name, None, origin, reason));
    }
}
