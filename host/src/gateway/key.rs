//! The key of a request before any response to it is known: its method and target, and what the origin is told of its
//! host. RFC 9111 section 2.

use hyper::header::HeaderMap;
use hyper::{Method, Uri};
use tideover_core::Refusal;

use super::headers::{X_FORWARDED_HOST, X_FORWARDED_PROTO};
use crate::responses::vary::{VARIANT_BYTES_MAX, push_hosts};

/// The key of a request in the cache.
///
/// `forwarded` are the headers for the origin (see `headers::forward`). Scheme and host are part of the key exactly
/// if the origin is told them there: it may build the response from them, and one client's `Host` must not shape what
/// others get. Where it is not told, the key is `GET /path?query`.
///
/// # Errors
///
/// [`Refusal::KeyTooLong`] if the key, with room for a variant, exceeds `bytes_max`.
pub(super) fn base_key(method: &Method, uri: &Uri, forwarded: &HeaderMap, bytes_max: usize) -> Result<String, Refusal> {
    let mut key = format!("{method} ");
    if forwarded.contains_key(X_FORWARDED_HOST) {
        push_hosts(&mut key, forwarded, &X_FORWARDED_PROTO);
        key.push_str("://");
        push_hosts(&mut key, forwarded, &X_FORWARDED_HOST);
    }
    key.push_str(uri.path_and_query().map_or("/", |target| target.as_str()));
    let bytes = key.len() + VARIANT_BYTES_MAX;
    if bytes > bytes_max { Err(Refusal::KeyTooLong { bytes, max: bytes_max }) } else { Ok(key) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::responses::headers::headers;

    #[test]
    fn the_key_holds_what_the_origin_is_told() {
        let uri = Uri::from_static("/a?b=c%20d");
        let key = |forwarded: &HeaderMap| base_key(&Method::GET, &uri, forwarded, 1_024);
        assert_eq!(key(&headers(&[("host", "ignored")])), Ok("GET /a?b=c%20d".into()));
        let told = headers(&[("x-forwarded-proto", "HTTPS"), ("x-forwarded-host", "Shop.example")]);
        assert_eq!(key(&told), Ok("GET https://shop.example/a?b=c%20d".into()));
        let hostile =
            headers(&[("x-forwarded-proto", "http"), ("x-forwarded-host", "a b%"), ("x-forwarded-host", "c")]);
        assert_eq!(key(&hostile), Ok("GET http://a%20b%25,c/a?b=c%20d".into()));
        let posing = headers(&[("x-forwarded-proto", "http"), ("x-forwarded-host", "shop.example/x?")]);
        assert_eq!(key(&posing), Ok("GET http://shop.example%2Fx%3F/a?b=c%20d".into()));
        let absolute = Uri::from_static("http://other.example");
        assert_eq!(base_key(&Method::HEAD, &absolute, &HeaderMap::new(), 1_024), Ok("HEAD /".into()));
    }

    #[test]
    fn a_key_leaves_room_for_its_variants() {
        let uri: Uri = format!("/{}", "a".repeat(100)).parse().expect("a path");
        let length = "GET /".len() + 100 + VARIANT_BYTES_MAX;
        assert!(base_key(&Method::GET, &uri, &HeaderMap::new(), length).is_ok());
        let refused = base_key(&Method::GET, &uri, &HeaderMap::new(), length - 1);
        assert_eq!(refused, Err(Refusal::KeyTooLong { bytes: length, max: length - 1 }));
    }
}
