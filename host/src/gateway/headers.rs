//! What a gateway makes of the headers of a request: those of its own request to the origin, which says for whom it asks.
//! RFC 9110 section 7.6.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Uri, Version};

use crate::responses::headers::{NAME, elements, remove_hop_by_hop};

pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Adds this gateway to `Via`, with the version in which it received the message (RFC 9110 section 7.6.3).
pub(super) fn add_via(headers: &mut HeaderMap, received: Version) {
    let version = if received == Version::HTTP_10 { "1.0" } else { "1.1" };
    if let Ok(via) = HeaderValue::try_from(format!("{version} {NAME}")) {
        headers.append(header::VIA, via);
    }
}

/// A request as it came in, apart from its headers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received<'a> {
    /// The target, from the request line.
    pub(super) uri: &'a Uri,
    /// The protocol version of the request.
    pub(super) version: Version,
    /// Who sent it.
    pub(super) peer: IpAddr,
    /// Whether the sender is a proxy of ours, whose word on `X-Forwarded-*` counts.
    pub(super) trusted: bool,
}

/// Makes the headers of a received request those of the request to the origin.
///
/// `X-Forwarded-For` grows by the sender. `X-Forwarded-Proto` and `-Host` say what the client asked for, so the first
/// proxy's word stands; adding ours would turn `https` into `https, http`, which many origins read as neither. What a
/// sender that is not trusted says of them is dropped: the origin may build a shared response from it.
pub(super) fn forward(headers: &mut HeaderMap, received: &Received<'_>) {
    let host = host(headers, received.uri);
    remove_hop_by_hop(headers);
    if !received.trusted {
        for name in [header::FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO] {
            headers.remove(name);
        }
    }
    add_via(headers, received.version);
    let peer = received.peer.to_canonical().to_string();
    let mut chain: Vec<_> = elements(headers, &X_FORWARDED_FOR).collect();
    chain.push(peer.as_bytes());
    if let Ok(chain) = HeaderValue::from_bytes(&chain.join(&b", "[..])) {
        headers.insert(X_FORWARDED_FOR, chain);
    }
    headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    if let Some(host) = host {
        headers.entry(X_FORWARDED_HOST).or_insert_with(|| host.clone());
        headers.insert(header::HOST, host);
    }
}

/// The host that was asked for: that of an absolute target wins over `Host` (RFC 9112 section 3.2.2).
fn host(headers: &HeaderMap, uri: &Uri) -> Option<HeaderValue> {
    let Some(authority) = uri.authority() else { return headers.get(header::HOST).cloned() };
    let authority = authority.as_str();
    let without_user = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    HeaderValue::from_str(without_user).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::responses::headers::headers;

    fn text<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
        headers.get_all(name).iter().map(|value| value.to_str().expect("ASCII")).collect()
    }

    #[test]
    fn via_names_the_version_received_after_those_before_us() {
        let mut message = headers(&[("via", "1.1 edge")]);
        add_via(&mut message, Version::HTTP_10);
        add_via(&mut message, Version::HTTP_11);
        assert_eq!(text(&message, "via"), ["1.1 edge", "1.0 tideover", "1.1 tideover"]);
    }

    fn received(uri: &Uri, trusted: bool) -> Received<'_> {
        Received { uri, version: Version::HTTP_11, peer: IpAddr::from([10, 0, 0, 7]), trusted }
    }

    #[test]
    fn the_word_of_a_stranger_is_replaced_by_what_we_see() {
        let uri = Uri::from_static("/a");
        let mut request = headers(&[
            ("host", "shop.example"),
            ("connection", "host"),
            ("forwarded", "for=evil"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-proto", "https"),
        ]);
        forward(&mut request, &received(&uri, false));
        let expected = headers(&[
            ("via", "1.1 tideover"),
            ("x-forwarded-for", "10.0.0.7"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "shop.example"),
            ("host", "shop.example"),
        ]);
        assert_eq!(request, expected);
    }

    #[test]
    fn the_word_of_our_own_proxy_is_passed_on() {
        let uri = Uri::from_static("/a");
        let mut request = headers(&[
            ("host", "internal"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2"),
            ("x-forwarded-host", "shop.example"),
            ("x-forwarded-proto", "https"),
        ]);
        forward(&mut request, &received(&uri, true));
        assert_eq!(text(&request, "x-forwarded-for"), ["1.1.1.1, 2.2.2.2, 10.0.0.7"]);
        assert_eq!(text(&request, "x-forwarded-host"), ["shop.example"]);
        assert_eq!(text(&request, "x-forwarded-proto"), ["https"]);
    }

    #[test]
    fn the_host_of_an_absolute_target_wins() {
        let uri = Uri::from_static("http://me:secret@shop.example:8080/a");
        let mut request = headers(&[("host", "other"), ("host", "another")]);
        forward(&mut request, &received(&uri, false));
        assert_eq!(text(&request, "host"), ["shop.example:8080"]);
        assert_eq!(text(&request, "x-forwarded-host"), ["shop.example:8080"]);
    }
}
