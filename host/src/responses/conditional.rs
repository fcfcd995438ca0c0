//! Conditions: the client's, answered from what is stored, and ours, put to the origin for a refresh.
//! RFC 9110 sections 13 and 15.4.5; RFC 9111 sections 4.3 and 3.2.

use std::iter;

use http::header::{self, HeaderMap};

use super::headers::{date, remove_hop_by_hop};
use super::stored::StoredResponse;

/// Whether a client that sent `request` (a GET or HEAD) already has the stored response, so that 304 answers it.
///
/// `If-None-Match` is asked first and alone if it is there (RFC 9110 section 13.2.2); its comparison is the weak one
/// (section 13.1.2). `If-Modified-Since` is compared with `Last-Modified`, or else with `Date` (RFC 9111 section
/// 4.3.2), and ignored if it is no date. Conditions apply to responses of success only (section 13.2.1).
pub(crate) fn is_not_modified(request: &HeaderMap, stored: &StoredResponse) -> bool {
    if !stored.status.is_success() {
        return false;
    }
    if request.contains_key(header::IF_NONE_MATCH) {
        let mut lines = request.get_all(header::IF_NONE_MATCH).iter().map(|line| line.as_bytes().trim_ascii());
        let current = opaque_tag(&stored.headers);
        return lines.any(|line| line == b"*" || opaque_tags(line).any(|tag| Some(tag) == current));
    }
    let Some(since) = date(request, &header::IF_MODIFIED_SINCE) else { return false };
    let modified = date(&stored.headers, &header::LAST_MODIFIED).or_else(|| date(&stored.headers, &header::DATE));
    modified.is_some_and(|modified| modified <= since)
}

/// The headers of a 304 that stands for a stored response: those of the response but for what describes the content
/// that is not sent (RFC 9110 section 15.4.5). `Last-Modified` stays only where there is no `ETag` to say it better.
pub(crate) fn not_modified_headers(stored: &HeaderMap) -> HeaderMap {
    let mut headers = stored.clone();
    for name in [
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_LANGUAGE,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
    ] {
        headers.remove(name);
    }
    if headers.contains_key(header::ETAG) {
        headers.remove(header::LAST_MODIFIED);
    }
    headers
}

/// Puts our conditions in place of the client's: is `stored` still current? Without `stored`: none at all.
///
/// What is loaded is shared with other clients, so it must be the whole response, whatever this client has of it.
/// `If-None-Match` and `If-Modified-Since` are for [`is_not_modified`] to answer; the other conditions and `Range` an
/// intermediary may ignore (RFC 9110 sections 13.1.1, 13.1.4 and 14.2).
pub(crate) fn condition(request: &mut HeaderMap, stored: Option<&HeaderMap>) {
    for name in [
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_UNMODIFIED_SINCE,
        header::IF_RANGE,
        header::RANGE,
    ] {
        request.remove(name);
    }
    for (validator, condition) in
        [(header::ETAG, header::IF_NONE_MATCH), (header::LAST_MODIFIED, header::IF_MODIFIED_SINCE)]
    {
        if let Some(value) = stored.and_then(|stored| stored.get(validator)) {
            request.insert(condition, value.clone());
        }
    }
}

/// The headers of a stored response after a 304 confirmed it (RFC 9111 sections 3.2 and 4.3.4).
///
/// What describes the stored content stays, all else that the 304 says replaces what was stored. A stored `Age` goes
/// and a stored `Date` gives way even to none: they would date the confirmation back to the first load.
///
/// `None` if the 304 is about another response than ours, by its `ETag`: then it must not be used, and the load
/// be repeated without conditions.
pub(crate) fn refreshed(stored: &HeaderMap, not_modified: &HeaderMap) -> Option<HeaderMap> {
    if not_modified.contains_key(header::ETAG) && opaque_tag(not_modified) != opaque_tag(stored) {
        return None;
    }
    let mut update = not_modified.clone();
    remove_hop_by_hop(&mut update);
    for name in [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::CONTENT_RANGE] {
        update.remove(name);
    }
    let mut headers = stored.clone();
    headers.remove(header::AGE);
    headers.remove(header::DATE);
    // Replaces all lines of each field that the update has.
    headers.extend(update);
    Some(headers)
}

fn opaque_tag(response: &HeaderMap) -> Option<&[u8]> {
    opaque_tags(response.get(header::ETAG)?.as_bytes()).next()
}

/// What is between the quotes of each entity tag; weak comparison looks at nothing else (RFC 9110 section 8.8.3.2).
/// An entity tag is no quoted string: a backslash in it is an ordinary character.
fn opaque_tags(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = list.split(|byte| *byte == b'"').skip(1);
    iter::from_fn(move || {
        let tag = quoted.next()?;
        // Nothing follows the last piece: its quote was never closed.
        quoted.next().map(|_between| tag)
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;
    use http::header::HeaderValue;

    use super::super::headers::headers;
    use super::*;

    const EARLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATE: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn stored(lines: &[(&'static str, &'static str)]) -> StoredResponse {
        StoredResponse { status: StatusCode::OK, headers: headers(lines), body: Bytes::new() }
    }

    fn none_match(line: &'static str, etag: &'static str) -> bool {
        is_not_modified(&headers(&[("if-none-match", line)]), &stored(&[("etag", etag)]))
    }

    /// RFC 9110 section 8.8.3.2.
    #[test]
    fn tags_are_compared_weakly() {
        for (line, etag) in [("\"1\"", "\"1\""), ("W/\"1\"", "\"1\""), ("\"1\"", "W/\"1\""), ("W/\"1\"", "W/\"1\"")] {
            assert!(none_match(line, etag), "{line} and {etag}");
        }
        assert!(!none_match("W/\"1\"", "W/\"2\""));
    }

    #[test]
    fn any_tag_of_the_list_will_do() {
        assert!(none_match("\"a\", W/\"b,c\",\"d\"", "\"b,c\""));
        assert!(none_match("\"a\\\", \"b\"", "\"b\""), "a backslash is part of the tag");
        assert!(none_match("\"\"", "\"\""));
        assert!(!none_match("\"a\", \"b\"", "\", \""), "what is between two tags is no tag");
        let request = headers(&[("if-none-match", "\"a\""), ("if-none-match", "\"b\"")]);
        assert!(is_not_modified(&request, &stored(&[("etag", "\"b\"")])));
    }

    #[test]
    fn a_star_stands_for_whatever_there_is() {
        assert!(is_not_modified(&headers(&[("if-none-match", " * ")]), &stored(&[])));
    }

    #[test]
    fn what_is_no_tag_matches_nothing() {
        for (line, etag) in [("", "\"1\""), ("1", "1"), ("\"1", "\"1"), ("\"1", "\"1\""), ("\"1\"", "\"1")] {
            assert!(!none_match(line, etag), "{line} and {etag}");
        }
        assert!(!is_not_modified(&headers(&[("if-none-match", "\"1\"")]), &stored(&[])));
    }

    /// RFC 9110 section 13.1.3: the date is ignored if there is a tag to go by.
    #[test]
    fn the_date_is_asked_only_without_tags() {
        let request = headers(&[("if-none-match", "\"1\""), ("if-modified-since", LATE)]);
        assert!(!is_not_modified(&request, &stored(&[("etag", "\"2\""), ("last-modified", EARLY)])));
    }

    #[test]
    fn not_modified_since_the_very_second() {
        let since = |since, stored: &StoredResponse| is_not_modified(&headers(&[("if-modified-since", since)]), stored);
        let early = stored(&[("last-modified", EARLY), ("date", LATE)]);
        assert!(since(EARLY, &early) && since(LATE, &early));
        let late = stored(&[("last-modified", LATE)]);
        assert!(!since(EARLY, &late));
        assert!(!since("yesterday", &late));
        let undated = stored(&[("date", LATE)]);
        assert!(since(LATE, &undated) && !since(EARLY, &undated));
        assert!(!since(LATE, &stored(&[])));
    }

    #[test]
    fn only_a_success_can_be_unmodified() {
        let gone = StoredResponse { status: StatusCode::GONE, ..stored(&[("etag", "\"1\"")]) };
        assert!(!is_not_modified(&headers(&[("if-none-match", "*")]), &gone));
    }

    /// RFC 9110 section 15.4.5.
    #[test]
    fn a_304_carries_all_but_what_describes_the_content() {
        let kept = [
            ("cache-control", "max-age=60"),
            ("content-location", "/a.en"),
            ("date", EARLY),
            ("etag", "\"1\""),
            ("expires", LATE),
            ("vary", "accept"),
            ("access-control-allow-origin", "*"),
        ];
        let mut stored = headers(&kept);
        stored.extend(headers(&[("content-type", "a/b"), ("content-length", "5"), ("last-modified", EARLY)]));
        stored.extend(headers(&[("content-encoding", "br"), ("content-language", "en"), ("content-range", "*/5")]));
        assert_eq!(not_modified_headers(&stored), headers(&kept));
        stored.remove("etag");
        assert_eq!(not_modified_headers(&stored)["last-modified"], EARLY);
    }

    #[test]
    fn a_refresh_asks_with_our_validators_not_with_the_clients() {
        let client = [
            ("if-none-match", "\"theirs\""),
            ("if-modified-since", LATE),
            ("if-match", "*"),
            ("if-unmodified-since", LATE),
            ("if-range", "\"theirs\""),
            ("range", "bytes=0-1"),
            ("accept", "*/*"),
        ];
        let mut request = headers(&client);
        condition(&mut request, Some(&headers(&[("etag", "W/\"ours\""), ("last-modified", EARLY)])));
        let expected = [("accept", "*/*"), ("if-none-match", "W/\"ours\""), ("if-modified-since", EARLY)];
        assert_eq!(request, headers(&expected));
        condition(&mut request, None);
        assert_eq!(request, headers(&[("accept", "*/*")]));
    }

    /// RFC 9111 section 3.2.
    #[test]
    fn a_304_renews_the_headers_but_not_what_describes_the_content() {
        let stored = headers(&[
            ("age", "500"),
            ("date", EARLY),
            ("cache-control", "max-age=60"),
            ("content-length", "5"),
            ("content-encoding", "br"),
            ("etag", "\"1\""),
            ("x-tag", "a"),
            ("x-tag", "b"),
            ("x-old", "stays"),
        ]);
        let mut not_modified = headers(&[
            ("cache-control", "max-age=90"),
            ("connection", "x-hop"),
            ("content-length", "0"),
            ("content-encoding", "gzip"),
            ("content-range", "*/5"),
            ("etag", "W/\"1\""),
            ("transfer-encoding", "chunked"),
            ("x-hop", "1"),
            ("x-tag", "c"),
            ("x-tag", "d"),
        ]);
        let expected = headers(&[
            ("cache-control", "max-age=90"),
            ("content-length", "5"),
            ("content-encoding", "br"),
            ("etag", "W/\"1\""),
            ("x-tag", "c"),
            ("x-tag", "d"),
            ("x-old", "stays"),
        ]);
        assert_eq!(refreshed(&stored, &not_modified), Some(expected));
        not_modified.insert(header::DATE, HeaderValue::from_static(LATE));
        assert_eq!(refreshed(&stored, &not_modified).expect("ours")["date"], LATE);
    }

    /// RFC 9111 section 4.3.4.
    #[test]
    fn a_304_about_another_response_is_not_used() {
        let ours = headers(&[("etag", "\"1\"")]);
        assert_eq!(refreshed(&ours, &headers(&[("etag", "\"2\"")])), None);
        assert_eq!(refreshed(&headers(&[]), &headers(&[("etag", "\"2\"")])), None);
        assert_eq!(refreshed(&ours, &headers(&[])), Some(ours.clone()));
    }
}
