//! What a cache reads in the header section of any message, and does to it: lists, dates and seconds, and what belongs to
//! one connection alone. RFC 9110 sections 5.6, 6.6, 7.6.1; RFC 9111 section 5.1.
//!
//! It knows nothing of freshness, keys or what is stored.

use std::iter;
use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// The name of this cache in `Via` and `Cache-Status`.
pub(crate) const NAME: &str = "tideover";

/// Where credentials come.
pub(crate) const CREDENTIALS: [HeaderName; 5] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-auth-token"),
];

/// Whether credentials come in that header, as a rule or in this request.
pub(crate) fn is_credential(name: &HeaderName, request: &HeaderMap) -> bool {
    CREDENTIALS.contains(name) || request.get(name).is_some_and(HeaderValue::is_sensitive)
}

/// What a number of seconds too large to be meant becomes (RFC 9111 section 1.2.2): 68 years.
const DELTA_SECONDS_MAX: u64 = 1 << 31;

/// The fields that end with the connection, besides those that `Connection` names.
///
/// `Connection`, `Keep-Alive`, `Proxy-Connection`, `TE`, `Transfer-Encoding` and `Upgrade` are the list of RFC 9110
/// section 7.6.1. `Trailer` goes because trailers do: a body is passed on without them (section 6.5.1 allows that).
/// `Proxy-*` concern a proxy of the client's choice (section 11.7), which a gateway is not, and must not be stored
/// (RFC 9111 section 3.1).
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The elements of a list over all lines of the field: split at commas outside quoted strings, trimmed, the empty
/// ones left out (RFC 9110 section 5.6.1).
///
/// A quote that is never closed is an ordinary character, so that it cannot hide the directives behind it.
pub(crate) fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let lines = headers.get_all(name).iter();
    lines.flat_map(|line| split_list(line.as_bytes())).filter(|element| !element.is_empty())
}

fn split_list(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    let mut quotes = true;
    iter::from_fn(move || {
        let text = rest?;
        let (element, tail) = text.split_at(element_length(text, &mut quotes));
        rest = tail.get(1..);
        Some(element.trim_ascii())
    })
}

/// `quotes` turns false at the first quote that is never closed; looking for the end of each would cost the square
/// of the line's length.
fn element_length(text: &[u8], quotes: &mut bool) -> usize {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b',' => return at - 1,
            b'"' if *quotes => match quoted_length(&text[at..]) {
                Some(length) => at += length,
                None => *quotes = false,
            },
            _ => {}
        }
    }
    text.len()
}

/// The length of a quoted string after its opening quote, closing quote included (RFC 9110 section 5.6.4).
fn quoted_length(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Seconds as `max-age` and `Age` write them, saturating at 2^31 (RFC 9111 section 1.2.2); `None` if it is anything
/// but digits.
pub(crate) fn delta_seconds(text: &[u8]) -> Option<Duration> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = text.iter().fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    Some(Duration::from_secs(seconds.min(DELTA_SECONDS_MAX)))
}

/// The date in a field that may occur once; `None` if it is absent, repeated or no date (RFC 9110 section 5.6.7).
pub(crate) fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    httpdate::parse_http_date(line.to_str().ok()?).ok()
}

/// Dates a received response that came without a `Date`, as who stores or forwards it must (RFC 9110 section 6.6.1).
pub(crate) fn stamp(response: &mut HeaderMap, now: SystemTime) {
    if response.contains_key(header::DATE) {
        return;
    }
    if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(now)) {
        response.insert(header::DATE, date);
    }
}

/// The value of `Age` (RFC 9111 section 5.1).
pub(crate) fn age(age: Duration) -> HeaderValue {
    HeaderValue::from(age.as_secs().min(DELTA_SECONDS_MAX))
}

/// Removes what must not go beyond the connection that it came on (RFC 9110 section 7.6.1).
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let options = elements(headers, &header::CONNECTION);
    let named: Vec<_> = options.filter_map(|option| HeaderName::from_bytes(option).ok()).collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Headers for the tests of this folder.
#[cfg(test)]
pub(crate) fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines.iter().map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(lines: &[&'static str]) -> Vec<String> {
        let lines: HeaderMap = lines.iter().map(|&line| (header::VARY, HeaderValue::from_static(line))).collect();
        elements(&lines, &header::VARY).map(|element| String::from_utf8_lossy(element).into_owned()).collect()
    }

    #[test]
    fn a_list_runs_over_lines_and_ignores_empty_elements() {
        assert_eq!(list(&["a , b\t,,c", ", d"]), ["a", "b", "c", "d"]);
        assert_eq!(list(&["", " , "]), [""; 0]);
    }

    #[test]
    fn a_comma_in_quotes_does_not_separate() {
        assert_eq!(list(&[r#"a="x, \", y", b"#]), [r#"a="x, \", y""#, "b"]);
    }

    #[test]
    fn a_quote_left_open_hides_nothing() {
        assert_eq!(list(&[r#"a="x, no-store"#]), [r#"a="x"#, "no-store"]);
        assert_eq!(list(&[r#"a="x\", no-store"#]), [r#"a="x\""#, "no-store"]);
        assert_eq!(list(&["a=\"x\\", "no-store"]), ["a=\"x\\", "no-store"]);
    }

    #[test]
    fn a_line_full_of_escaped_quotes_is_read_in_linear_time() {
        let line = HeaderValue::try_from(r#"\""#.repeat(1 << 20)).expect("a value");
        assert_eq!(elements(&HeaderMap::from_iter([(header::VARY, line)]), &header::VARY).count(), 1);
    }

    #[test]
    fn seconds_are_digits_and_saturate() {
        assert_eq!(delta_seconds(b"060"), Some(Duration::from_secs(60)));
        for huge in ["2147483648", "2147483649", "99999999999999999999999"] {
            assert_eq!(delta_seconds(huge.as_bytes()), Some(Duration::from_secs(1 << 31)), "{huge}");
        }
        for wrong in ["", "-1", "+1", "1.5", "1 ", "0x1", "one"] {
            assert_eq!(delta_seconds(wrong.as_bytes()), None, "{wrong:?}");
        }
        assert_eq!(age(Duration::from_millis(1_999)), "1");
        assert_eq!(age(Duration::MAX), "2147483648");
    }

    #[test]
    fn a_date_counts_only_if_there_is_one() {
        let once = headers(&[("date", "Sun, 06 Nov 1994 08:49:37 GMT")]);
        assert_eq!(date(&once, &header::DATE), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)));
        let twice = headers(&[("expires", "Sun, 06 Nov 1994 08:49:37 GMT"), ("expires", "0")]);
        assert_eq!(date(&twice, &header::EXPIRES), None);
        assert_eq!(date(&headers(&[("expires", "0")]), &header::EXPIRES), None);
    }

    #[test]
    fn only_what_has_no_date_is_stamped() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let mut response = HeaderMap::new();
        stamp(&mut response, now);
        assert_eq!(response["date"], "Sun, 06 Nov 1994 08:49:37 GMT");
        stamp(&mut response, now + Duration::from_secs(60));
        assert_eq!(response["date"], "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn what_belongs_to_the_connection_ends_with_it() {
        let mut message = headers(&[
            ("connection", "close, X-Trace"),
            ("connection", "bad name, te"),
            ("x-trace", "1"),
            ("te", "trailers"),
            ("trailer", "checksum"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authentication-info", "x"),
            ("proxy-authorization", "Basic x"),
            ("cookie", "stays"),
        ]);
        remove_hop_by_hop(&mut message);
        assert_eq!(message, headers(&[("cookie", "stays")]));
    }
}
