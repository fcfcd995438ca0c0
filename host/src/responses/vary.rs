//! Keys: which request headers tell the variants of a response apart, and the text under which each is stored.
//! RFC 9111 sections 2 and 4.1; RFC 9110 section 12.5.5.
//!
//! How a request is named to begin with is up to whoever asks. From there on a key is made of words separated by one
//! space, and no word contains one:
//!
//! ```text
//! GET http://shop.example/cart?id=7 accept-encoding=gzip,br accept-language
//! ```
//!
//! the request, then each header that the response varies by, without `=` if the request has no such header. Where
//! the headers would take more than [`VARIANT_BYTES_MAX`], or hold credentials, `=` and their digest take their place.

use std::fmt::Write as _;

use http::header::{self, HeaderMap, HeaderName};
use sha2::{Digest, Sha256};

use super::headers::{elements, is_credential};
use super::stored::Varies;

/// A response that varies by more headers is taken to vary by everything.
const NAMES_MAX: usize = 16;
/// So is one that names a header longer than this.
const NAME_BYTES_MAX: usize = 64;
/// How much the headers may add to a key.
pub(crate) const VARIANT_BYTES_MAX: usize = 128;

/// What a response varies by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Vary {
    /// These request headers, sorted, each once; often none.
    Names(Vec<HeaderName>),
    /// More than the request: no stored response answers another one.
    Any,
}

impl Vary {
    /// Reads all lines of `Vary`; what is malformed or past the limits is [`Vary::Any`].
    pub(crate) fn of(response: &HeaderMap) -> Self {
        let mut names = Vec::new();
        for element in elements(response, &header::VARY) {
            match HeaderName::from_bytes(element) {
                Ok(name) if element != b"*" && element.len() <= NAME_BYTES_MAX => names.push(name),
                _ => return Self::Any,
            }
        }
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        if names.len() > NAMES_MAX { Self::Any } else { Self::Names(names) }
    }
}

/// The key of the variant that answers requests whose headers `varies` names are as in `request`.
///
/// Headers match if they differ only in how they are split over lines and in the whitespace around commas
/// (RFC 9111 section 4.1). An absent header matches only an absent one.
pub(crate) fn variant_key(base_key: &str, varies: &Varies, request: &HeaderMap) -> String {
    let mut variant = format!(" {:x}", varies.generation);
    let mut secret = false;
    for name in &varies.names {
        variant.push(' ');
        variant.push_str(name.as_str());
        if request.contains_key(name) {
            // It opens doors, and keys are kept in stores.
            secret |= is_credential(name, request);
            variant.push('=');
            push_elements(&mut variant, request, name);
        }
    }
    if secret || variant.len() > VARIANT_BYTES_MAX {
        variant = digest(&variant);
    }
    format!("{base_key}{variant}")
}

/// Half of a SHA-256. A client chooses what goes in, so anything that is only fast would let it build the key of
/// another client's variant.
fn digest(variant: &str) -> String {
    let mut text = String::from(" =");
    for byte in &Sha256::digest(variant)[..16] {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Appends the elements of all lines of the field, with a comma and nothing else between two.
fn push_elements(text: &mut String, headers: &HeaderMap, name: &HeaderName) {
    for (index, element) in elements(headers, name).enumerate() {
        if index > 0 {
            text.push(',');
        }
        push_escaped(text, element);
    }
}

/// Appends `bytes` with all but visible ASCII, and `%` itself, as `%` and two digits.
pub(crate) fn push_escaped(text: &mut String, bytes: &[u8]) {
    push_only(text, bytes, |byte| byte.is_ascii_graphic() && byte != b'%');
}

/// Appends a host or a scheme in lower case. Nothing that a client may write there can pass for the path behind it: with
/// `Host: shop.example/a`, say, it would have `/b` stored as what others get for `/a/b`.
pub(crate) fn push_host(text: &mut String, told: &[u8]) {
    push_only(text, &told.to_ascii_lowercase(), |byte| byte.is_ascii_alphanumeric() || b".:-_[]".contains(&byte));
}

fn push_only(text: &mut String, bytes: &[u8], plain: impl Fn(u8) -> bool) {
    for &byte in bytes {
        if plain(byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

/// As [`push_host`], all lines of a field, each as it stands: with a comma behind it a host is another one, and links to it
/// lead elsewhere.
pub(crate) fn push_hosts(text: &mut String, headers: &HeaderMap, name: &HeaderName) {
    for (index, line) in headers.get_all(name).iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        push_host(text, line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;

    use super::super::headers::headers;
    use super::*;

    fn vary(lines: &[&'static str]) -> Vary {
        Vary::of(&lines.iter().map(|&line| (header::VARY, HeaderValue::from_static(line))).collect())
    }

    fn variant(names: &[&'static str], request: &[(&'static str, &'static str)]) -> String {
        let names: Vec<_> = names.iter().copied().map(HeaderName::from_static).collect();
        variant_key("GET /", &Varies { names, generation: 10 }, &headers(request))
    }

    #[test]
    fn names_are_lower_case_sorted_and_once() {
        let expected = vec![header::ACCEPT, header::COOKIE];
        assert_eq!(vary(&["Cookie, Accept", "COOKIE ,"]), Vary::Names(expected));
        assert_eq!(vary(&[]), Vary::Names(Vec::new()));
    }

    #[test]
    fn a_star_a_bad_name_and_too_much_all_mean_anything() {
        assert_eq!(vary(&["accept", "cookie, *"]), Vary::Any);
        assert_eq!(vary(&["accept encoding"]), Vary::Any);
        let name = |length| HeaderMap::from_iter([(header::VARY, value("a".repeat(length)))]);
        assert_ne!(Vary::of(&name(64)), Vary::Any);
        assert_eq!(Vary::of(&name(65)), Vary::Any);
        let names = |count: usize| (0..count).map(|n| (header::VARY, value(format!("x-{n}")))).collect();
        assert_ne!(Vary::of(&names(16)), Vary::Any);
        assert_eq!(Vary::of(&names(17)), Vary::Any);
    }

    fn value(text: String) -> HeaderValue {
        HeaderValue::try_from(text).expect("a header value")
    }

    /// RFC 9111 section 4.1.
    #[test]
    fn lines_and_whitespace_do_not_make_a_variant() {
        let key = variant(&["accept"], &[("accept", "a/b;q=1 ,\tc/d,")]);
        assert_eq!(key, "GET / a accept=a/b;q=1,c/d");
        assert_eq!(variant(&["accept"], &[("accept", "a/b;q=1"), ("accept", "c/d")]), key);
    }

    #[test]
    fn an_absent_header_is_not_an_empty_one() {
        assert_eq!(variant(&["accept", "te"], &[("te", "")]), "GET / a accept te=");
        assert_eq!(variant(&["accept", "te"], &[("accept", " , ")]), "GET / a accept= te");
        assert_eq!(variant(&["accept"], &[("accept", "accept")]), "GET / a accept=accept");
    }

    #[test]
    fn no_value_can_pass_for_other_headers() {
        let forged = variant(&["accept", "te"], &[("accept", "x te=y%")]);
        assert_eq!(forged, "GET / a accept=x%20te=y%25 te");
        let opaque = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_bytes(b"\xff").expect("opaque bytes"))]);
        let varies = Varies { names: vec![header::ACCEPT], generation: 10 };
        assert_eq!(variant_key("GET /", &varies, &opaque), "GET / a accept=%FF");
    }

    #[test]
    fn long_values_are_digested() {
        let key = |length| {
            let request = HeaderMap::from_iter([(header::ACCEPT, value("c".repeat(length)))]);
            variant_key("GET /", &Varies { names: vec![header::ACCEPT], generation: 10 }, &request)
        };
        let longest = VARIANT_BYTES_MAX - " a accept=".len();
        assert_eq!(key(longest).len(), "GET /".len() + VARIANT_BYTES_MAX);
        assert_eq!(key(longest + 1).len(), "GET / =".len() + 32);
        assert_ne!(key(longest + 1), key(longest + 2));
    }

    #[test]
    fn credentials_are_digested_however_short() {
        let cookie = "c".repeat(119);
        let long = HeaderMap::from_iter([(header::COOKIE, value(cookie))]);
        let varies = Varies { names: vec![header::COOKIE], generation: 10 };
        // Keys outlive processes and releases: the digest must never change.
        assert_eq!(variant_key("GET /", &varies, &long), "GET / =daf618568bd58edf9c982d70e3b73f70");
        for name in ["authorization", "cookie"] {
            let key = |value| variant(&[name], &[(name, value)]);
            assert!(!key("secret").contains("secret") && key("secret") != key("other"));
            assert_eq!(variant(&[name], &[]), format!("GET / a {name}"), "there is nothing to hide");
        }
    }
}
