//! Patterns over keys: `*` stands for any characters, `\` makes the character after it data, all else is data, `?` and `[`
//! included.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// What a backslash makes data.
const SPECIAL: [char; 2] = ['*', '\\'];

/// A pattern, taken apart.
///
/// ```
/// use tideover_core::pattern::Pattern;
///
/// let pages = Pattern::new("user:7:*");
/// assert!(pages.matches("user:7:3") && !pages.matches("user:70:3"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// What stands before, between and behind the stars; one literal means that there is no star.
    literals: Vec<String>,
}

impl Pattern {
    /// Every text is a pattern: a backslash at the very end is data.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut literals = vec![String::new()];
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            match char {
                '*' => literals.push(String::new()),
                '\\' => push(&mut literals, chars.next().unwrap_or('\\')),
                char => push(&mut literals, char),
            }
        }
        Self { literals }
    }

    /// The text as a pattern that matches it and nothing else.
    ///
    /// ```
    /// use tideover_core::pattern::Pattern;
    ///
    /// let pattern = Pattern::new(&format!("tag:{}:*", Pattern::escape("c*")));
    /// assert!(pattern.matches("tag:c*:1") && !pattern.matches("tag:css:1"));
    /// ```
    #[must_use]
    pub fn escape(text: &str) -> Cow<'_, str> {
        if !text.contains(SPECIAL) {
            return Cow::Borrowed(text);
        }
        let mut escaped = String::with_capacity(text.len() + 8);
        for char in text.chars() {
            if SPECIAL.contains(&char) {
                escaped.push('\\');
            }
            escaped.push(char);
        }
        Cow::Owned(escaped)
    }

    /// What stands before, between and behind the stars.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.literals.iter().map(String::as_str)
    }

    /// Whether the whole key is as the pattern says.
    #[must_use]
    pub fn matches(&self, key: &str) -> bool {
        let [first, between @ .., last] = &self.literals[..] else {
            return self.literals.first().is_some_and(|only| only == key);
        };
        let Some(mut rest) = key.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str())) else {
            return false;
        };
        // The leftmost place is as good as any: what follows it is longest.
        for literal in between {
            let Some(at) = rest.find(literal.as_str()) else { return false };
            rest = &rest[at + literal.len()..];
        }
        true
    }
}

fn push(literals: &mut [String], char: char) {
    if let Some(literal) = literals.last_mut() {
        literal.push(char);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything_and_all_else_for_itself() {
        for (pattern, yes, no) in [
            ("*", &["", "a", "a*"][..], &[][..]),
            ("user:*", &["user:", "user:7"], &["user", "a user:7"]),
            ("*:7", &["user:7", ":7"], &["user:70"]),
            ("a*b*c", &["abc", "axbxc", "abbcc"], &["ab", "acb", "abcd"]),
            ("a*a", &["aa", "aba"], &["a"]),
            (r"a\*b", &["a*b"], &["axb", r"a\*b"]),
            (r"a\\*", &[r"a\", r"a\b"], &["a", "ab"]),
            ("[ab]?", &["[ab]?"], &["ax"]),
            ("", &[""], &["a"]),
        ] {
            let compiled = Pattern::new(pattern);
            assert!(yes.iter().all(|key| compiled.matches(key)), "{pattern}");
            assert!(!no.iter().any(|key| compiled.matches(key)), "{pattern}");
        }
    }

    #[test]
    fn what_is_escaped_matches_itself() {
        for text in ["", "a", "*", r"\", r"a*\*b", r"\\"] {
            let pattern = Pattern::new(&Pattern::escape(text));
            assert!(pattern.matches(text) && pattern.literals().count() == 1, "{text}");
        }
    }
}
