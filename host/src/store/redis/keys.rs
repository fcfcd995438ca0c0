//! Where keys lie: entries under `namespace + key`, what the store keeps for itself under `namespace + "!" + name`.
//!
//! A user's key that begins with `!` is written with one more, so the two never meet. Keys of direct operations are
//! those of the store's own that begin with `!direct:`, so that no entry of a cache is there and what clears entries
//! leaves them alone.

use bytes::Bytes;
use tideover_core::pattern::Pattern;

use crate::store::{DIRECT_PREFIX, is_direct};

/// What every key of a store begins with.
#[derive(Debug, Clone)]
pub(super) struct Namespace(pub(super) String);

impl Namespace {
    /// Where the entry of `key` lies.
    pub(super) fn entry(&self, key: &str) -> Bytes {
        let escaped = key.starts_with('!') && !is_direct(key);
        // Exactly as much as it takes, else making it `Bytes` allocates again.
        let mut place = Vec::with_capacity(self.0.len() + key.len() + usize::from(escaped));
        place.extend_from_slice(self.0.as_bytes());
        if escaped {
            place.push(b'!');
        }
        place.extend_from_slice(key.as_bytes());
        place.into()
    }

    /// Where the store keeps its own `name`, which does not begin with `!`.
    pub(super) fn internal(&self, name: &str) -> Bytes {
        [&self.0, "!", name].concat().into()
    }

    /// Whether something of the store's own lies there.
    pub(super) fn is_own(&self, place: &[u8]) -> bool {
        let rest = place.strip_prefix(self.0.as_bytes()).and_then(|rest| rest.strip_prefix(b"!"));
        rest.is_some_and(|rest| !rest.starts_with(b"!"))
    }

    /// The key whose entry lies there; `None` if it is the store's own, or nobody's.
    pub(super) fn key<'a>(&self, place: &'a [u8]) -> Option<&'a str> {
        let rest = std::str::from_utf8(place.strip_prefix(self.0.as_bytes())?).ok()?;
        match rest.strip_prefix('!') {
            None => Some(rest),
            Some(escaped) if escaped.starts_with('!') => Some(escaped),
            Some(_) => Some(rest).filter(|rest| is_direct(rest)),
        }
    }

    /// Whether what lies there is of direct operations.
    pub(super) fn is_direct(&self, place: &[u8]) -> bool {
        place.strip_prefix(self.0.as_bytes()).is_some_and(|rest| rest.starts_with(DIRECT_PREFIX.as_bytes()))
    }

    /// The server's pattern for everything in here.
    pub(super) fn everything(&self) -> String {
        escape_glob(&self.0) + "*"
    }

    /// The server's pattern for what `pattern` matches, and perhaps more.
    pub(super) fn matching(&self, pattern: &Pattern) -> String {
        let mut text = escape_glob(&self.0);
        match pattern.literals().next() {
            Some(first) if is_direct(first) => {}
            // Keys of both kinds may match.
            Some(first) if first.starts_with('!') && DIRECT_PREFIX.starts_with(first) => return text + "!*",
            Some(first) if first.starts_with('!') => text.push('!'),
            _ => {}
        }
        for (number, literal) in pattern.literals().enumerate() {
            if number > 0 {
                text.push('*');
            }
            text += &escape_glob(literal);
        }
        text
    }
}

/// The server's pattern that matches `text` and nothing else.
fn escape_glob(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for char in text.chars() {
        if matches!(char, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(char);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace() -> Namespace {
        Namespace("a*b:".into())
    }

    #[test]
    fn entries_and_what_is_the_stores_own_never_meet() {
        for key in ["k", "", "!", "!log", "!!log"] {
            assert_ne!(namespace().entry(key), namespace().internal("log"));
            assert_eq!(namespace().key(&namespace().entry(key)), Some(key));
            assert!(!namespace().is_own(&namespace().entry(key)));
        }
        assert_eq!(namespace().key(&namespace().internal("log")), None);
        assert!(namespace().is_own(&namespace().internal("log")));
        assert_eq!(namespace().key(b"other:k"), None);
        assert_eq!(namespace().key(b"a*b:\xff"), None);
    }

    #[test]
    fn keys_of_direct_operations_are_among_the_stores_own_and_found_again() {
        let place = namespace().entry("!direct:k");
        assert_eq!(place, "a*b:!direct:k");
        assert_eq!(namespace().key(&place), Some("!direct:k"));
        assert!(namespace().is_own(&place) && namespace().is_direct(&place));
        for key in ["!direc", "!!direct:k", "direct:k"] {
            let place = namespace().entry(key);
            assert!(!namespace().is_own(&place) && !namespace().is_direct(&place), "{key}");
            assert_eq!(namespace().key(&place), Some(key));
        }
        assert_eq!(namespace().matching(&Pattern::new("!direct:u*")), r"a\*b:!direct:u*");
        assert_eq!(namespace().matching(&Pattern::new("!*")), r"a\*b:!*");
        assert_eq!(namespace().matching(&Pattern::new("!dir")), r"a\*b:!*");
    }

    #[test]
    fn a_pattern_matches_the_namespace_to_the_letter() {
        assert_eq!(namespace().everything(), r"a\*b:*");
        assert_eq!(namespace().matching(&Pattern::new("user:*:[x]")), r"a\*b:user:*:\[x\]");
        assert_eq!(namespace().matching(&Pattern::new("!k")), r"a\*b:!!k");
        assert_eq!(escape_glob(r"a*b?[c]\:"), r"a\*b\?\[c\]\\:");
    }
}
