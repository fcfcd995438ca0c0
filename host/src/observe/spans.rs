//! The spans of `tracing`: their names, their fields, and when they are made.
//!
//! All are of level `DEBUG` and target `tideover`. A flight's span lies inside the span of the caller that launched it,
//! loads and store operations lie inside their flight's, and what a loader does lies inside its load's. The engine
//! `component` has no span for flights: they are inside the sandbox, and loads lie inside their caller's span.

use std::fmt::Display;

use tracing::{Span, debug_span, field};

use super::Observed;

/// The target of all spans and log lines of a cache.
const TARGET: &str = "tideover";

/// A span and its fields.
#[derive(Debug, Clone, Copy)]
pub struct SpanDoc {
    /// Its name.
    pub name: &'static str,
    /// Its fields.
    pub fields: &'static [&'static str],
    /// What it covers.
    pub doc: &'static str,
}

/// Every span, for the documentation. The field `key` is there if [`Builder::reveal_keys`](crate::Builder::reveal_keys)
/// asks for it; values never are.
pub const SPANS: &[SpanDoc] = &[
    SpanDoc {
        name: "tideover.flight",
        fields: &["cache", "flight", "outcome"],
        doc: "A flight: a load, a read of the store or a change, with all its attempts. `outcome`: `served`, `private`, \
              `absent`, `settled`, `failed`, `again`; empty if it was given up.",
    },
    SpanDoc {
        name: "tideover.load",
        fields: &["cache", "attempt", "outcome", "key"],
        doc: "An attempt to load. `outcome`: `ok`, or the class of the failure.",
    },
    SpanDoc {
        name: "tideover.store",
        fields: &["cache", "tier", "operation", "outcome", "key"],
        doc: "An operation of a store. `tier`: `primary`, `fallback` or `direct`; `operation`: `read`, `write`, `remove`, \
              `clear`, `lease`, `note`, `scan`, or the name of a direct operation, `replay` where it was owed; `outcome`: `ok`, `unavailable`, `timed_out`, `overloaded`, `rejected`, `corrupt`.",
    },
];

impl Observed {
    pub(crate) fn flight_span(&self, flight: u64) -> Span {
        debug_span!(target: TARGET, "tideover.flight", cache = self.name(), flight, outcome = field::Empty)
    }

    pub(super) fn load_span(&self, key: &str, attempt: u32) -> Span {
        let key = self.shown(key);
        debug_span!(target: TARGET, "tideover.load", cache = self.name(), attempt, key, outcome = field::Empty)
    }

    pub(super) fn store_span(&self, operation: &str, tier: &str, key: Option<&str>) -> Span {
        let (cache, key) = (self.name(), key.and_then(|key| self.shown(key)));
        debug_span!(target: TARGET, "tideover.store", cache, tier, operation, key, outcome = field::Empty)
    }

    /// The key, where it may be seen.
    fn shown<'a>(&self, key: &'a str) -> Option<&'a str> {
        self.reveals_keys().then_some(key)
    }
}

/// Notes how it ended in the span where it happened.
pub(crate) fn ended(span: &Span, outcome: &impl Display) {
    span.record("outcome", field::display(outcome));
}
