//! Patterns over keys: `*` stands for any characters, `\` makes the character after it data, all else is data.

/// A pattern, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob {
    /// What stands before, between and behind the stars; one literal means that there is no star.
    literals: Vec<String>,
}

impl Glob {
    pub(crate) fn new(pattern: &str) -> Self {
        let mut literals = vec![String::new()];
        let mut chars = pattern.chars();
        while let Some(char) = chars.next() {
            match char {
                '*' => literals.push(String::new()),
                // A backslash at the very end is data.
                '\\' => push(&mut literals, chars.next().unwrap_or('\\')),
                char => push(&mut literals, char),
            }
        }
        Self { literals }
    }

    #[cfg(feature = "redis")]
    pub(super) fn literals(&self) -> impl Iterator<Item = &str> {
        self.literals.iter().map(String::as_str)
    }

    pub(crate) fn matches(&self, key: &str) -> bool {
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
            let glob = Glob::new(pattern);
            assert!(yes.iter().all(|key| glob.matches(key)), "{pattern}");
            assert!(!no.iter().any(|key| glob.matches(key)), "{pattern}");
        }
    }
}
