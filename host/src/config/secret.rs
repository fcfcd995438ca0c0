//! What of names and values may be shown.

/// Letters of a value, or of a name that is none, that are repeated.
const SHOWN_MAX: usize = 80;

/// What stands for a secret.
pub(super) const MASK: &str = "***";

/// A URL that could be understood, without user, password and parameters.
pub(super) fn shown_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return MASK.to_owned() };
    // A password may hold `@`, `/` and `?`, even if it must not: only what is behind the last `@` is no part of it.
    let (login, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, rest)| ("***@", rest));
    let (place, query) = rest.split_once('?').map_or((rest, ""), |(place, _)| (place, "?***"));
    plain(&format!("{}://{login}{place}{query}", shown_scheme(scheme)))
}

/// Of a URL that could not be understood nobody knows which part is the password.
pub(super) fn hidden_url(url: &str) -> String {
    url.split_once("://").map_or_else(|| MASK.to_owned(), |(scheme, _)| format!("{}://{MASK}", shown_scheme(scheme)))
}

fn shown_scheme(scheme: &str) -> &str {
    let known = scheme.len() <= 16 && scheme.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'+');
    if known { scheme } else { MASK }
}

/// A value as it may be shown: somebody may have put a URL where none belongs.
pub(super) fn shown_value(text: &str) -> String {
    if text.contains("://") { hidden_url(text) } else { plain(text) }
}

/// A name as it may be shown.
pub(super) fn shown_name(name: &str) -> String {
    shown_value(name)
}

/// On one line, and not without end.
fn plain(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_url_neither_login_nor_parameters_are_shown() {
        for (url, shown) in [
            ("redis://cache:6379/2", "redis://cache:6379/2"),
            ("rediss://app:hush@cache:6379", "rediss://***@cache:6379"),
            ("redis://:hu/sh?hu#sh@hush@cache", "redis://***@cache"),
            ("redis+unix:///run/redis.sock?user=app&pass=hush", "redis+unix:///run/redis.sock?***"),
            ("hush@redis://cache", "***://cache"),
            ("hush", "***"),
        ] {
            assert_eq!(shown_url(url), shown);
        }
        assert_eq!(hidden_url("redis://user:hush"), "redis://***");
        assert_eq!(shown_value("redis://user:hush"), "redis://***");
    }

    #[test]
    fn what_is_shown_is_one_short_line() {
        assert_eq!(shown_value("a\nb\u{1b}[1m"), "a\\nb\\u{1b}[1m");
        assert_eq!(shown_value(&"x".repeat(500)).chars().count(), SHOWN_MAX + 1);
    }
}
