//! The directives of `Cache-Control`, of a request or of a response: RFC 9111 section 5.2, RFC 5861.
//!
//! It says what is written, always reading the malformed as the most restrictive; what follows from it is decided in
//! `freshness`. Directives that can only widen what a cache may do for one client (`max-stale`, `min-fresh`) and
//! `no-transform` (nothing here transforms) are ignored, as unknown ones must be.

use std::time::Duration;

use http::header::{self, HeaderMap};

use super::headers::{delta_seconds, elements};

/// The directives of all `Cache-Control` lines of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CacheControl {
    /// Neither the request nor the response may be stored.
    pub(crate) no_store: bool,
    /// Each use must be validated. The form that names fields counts as the plain one, which is more restrictive.
    pub(crate) no_cache: bool,
    /// For one user. The form that names fields counts as the plain one.
    pub(crate) private: bool,
    /// May be stored even where that is otherwise forbidden.
    pub(crate) public: bool,
    /// Never served stale.
    pub(crate) must_revalidate: bool,
    /// Never served stale by a shared cache.
    pub(crate) proxy_revalidate: bool,
    /// Stored only if the status code is understood.
    pub(crate) must_understand: bool,
    /// The client wants nothing that is not stored.
    pub(crate) only_if_cached: bool,
    /// Freshness lifetime; in a request, the largest age that the client takes.
    pub(crate) max_age: Option<Duration>,
    /// Freshness lifetime in shared caches.
    pub(crate) s_maxage: Option<Duration>,
    /// RFC 5861 section 3.
    pub(crate) stale_while_revalidate: Option<Duration>,
    /// RFC 5861 section 4.
    pub(crate) stale_if_error: Option<Duration>,
}

impl CacheControl {
    /// Reads all lines of the field; any bytes will do.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        for directive in elements(headers, &header::CACHE_CONTROL) {
            let mut parts = directive.splitn(2, |byte| *byte == b'=');
            let name = parts.next().unwrap_or_default();
            control.add(name.trim_ascii(), parts.next());
        }
        control
    }

    fn add(&mut self, name: &[u8], argument: Option<&[u8]>) {
        match name.to_ascii_lowercase().as_slice() {
            b"no-store" => self.no_store = true,
            b"no-cache" => self.no_cache = true,
            b"private" => self.private = true,
            b"public" => self.public = true,
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"must-understand" => self.must_understand = true,
            b"only-if-cached" => self.only_if_cached = true,
            b"max-age" => restrict(&mut self.max_age, argument),
            b"s-maxage" => restrict(&mut self.s_maxage, argument),
            b"stale-while-revalidate" => restrict(&mut self.stale_while_revalidate, argument),
            b"stale-if-error" => restrict(&mut self.stale_if_error, argument),
            _ => {}
        }
    }
}

/// A number of seconds that is invalid, or that contradicts an earlier one, means stale (RFC 9111 section 4.2.1).
fn restrict(seconds: &mut Option<Duration>, argument: Option<&[u8]>) {
    let value = argument.map(unquoted).and_then(delta_seconds).unwrap_or(Duration::ZERO);
    *seconds = match *seconds {
        Some(earlier) if earlier != value => Some(Duration::ZERO),
        _ => Some(value),
    };
}

/// Both forms of an argument are accepted, whichever a directive asks for (RFC 9111 section 5.2).
fn unquoted(argument: &[u8]) -> &[u8] {
    argument.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).unwrap_or(argument)
}

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;
    use tideover_core::entropy::Entropy;

    use super::*;

    fn read(lines: &[&[u8]]) -> CacheControl {
        let line = |line: &&[u8]| (header::CACHE_CONTROL, HeaderValue::from_bytes(line).expect("a header value"));
        CacheControl::of(&lines.iter().map(line).collect())
    }

    fn secs(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn directives_are_read_in_any_case_from_all_lines() {
        let control = read(&[b"Public, MAX-AGE=60,s-maxage=\"120\"", b"stale-while-revalidate=5 , stale-if-error=10"]);
        let expected = CacheControl {
            public: true,
            max_age: secs(60),
            s_maxage: secs(120),
            stale_while_revalidate: secs(5),
            stale_if_error: secs(10),
            ..CacheControl::default()
        };
        assert_eq!(control, expected);
    }

    #[test]
    fn the_forms_that_name_fields_count_as_the_plain_ones() {
        let control = read(&[br#"no-cache="set-cookie, max-age=5", private="x", max-age=9"#]);
        assert!(control.no_cache && control.private);
        assert_eq!(control.max_age, secs(9), "what is in quotes is no directive");
    }

    #[test]
    fn each_flag_is_its_own() {
        let names = [
            "no-store",
            "no-cache",
            "private",
            "public",
            "must-revalidate",
            "proxy-revalidate",
            "must-understand",
            "only-if-cached",
        ];
        for name in names {
            let c = read(&[name.as_bytes()]);
            let flags = [
                c.no_store,
                c.no_cache,
                c.private,
                c.public,
                c.must_revalidate,
                c.proxy_revalidate,
                c.must_understand,
                c.only_if_cached,
            ];
            assert_eq!(flags, names.map(|other| other == name), "{name}");
        }
    }

    /// RFC 9111 section 4.2.1: invalid or contradictory freshness is no freshness.
    #[test]
    fn what_is_invalid_or_contradictory_is_stale() {
        for wrong in ["max-age", "max-age=", "max-age=-1", "max-age=1.5", "max-age=6;0", "max-age= 60", "max-age=\"60"]
        {
            assert_eq!(read(&[wrong.as_bytes()]).max_age, secs(0), "{wrong}");
        }
        assert_eq!(read(&[b"max-age=60, max-age=60"]).max_age, secs(60));
        assert_eq!(read(&[b"max-age=60", b"max-age=61"]).max_age, secs(0));
        assert_eq!(read(&[b"max-age=60, max-age=61, max-age=60"]).max_age, secs(0));
    }

    #[test]
    fn too_many_seconds_are_68_years() {
        assert_eq!(read(&[b"max-age=18446744073709551616"]).max_age, secs(1 << 31));
    }

    #[test]
    fn the_unknown_is_ignored() {
        let control = read(&[b"immutable, max-stale=5, min-fresh=5, no-transform, community=\"UCI\", =5, ="]);
        assert_eq!(control, CacheControl::default());
    }

    #[test]
    fn any_bytes_are_read_without_panic() {
        let alphabet = b"max-age=0\"\\, \tno-store\xff";
        let mut dice = Entropy::from_seed(9111);
        for _ in 0..20_000 {
            let length = dice.bits() % 24;
            let line: Vec<u8> = (0..length).map(|_| alphabet[dice.bits() as usize % alphabet.len()]).collect();
            read(&[&line]);
        }
    }
}
