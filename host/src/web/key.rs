//! The key of a request: its target as the service is told of it. RFC 9111 section 2.
//!
//! What the service may build a response from is in the key, or one client could shape what others get: the host, what
//! `Host` says beside an absolute target, and what proxies say that it was.

use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use http::{Method, Uri};

use crate::responses::headers::elements;
use crate::responses::vary::{VARIANT_BYTES_MAX, push_escaped, push_host, push_hosts};

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How keys are made.
#[derive(Clone, Default)]
pub(super) struct KeyChoices {
    pub(super) namespace: String,
    pub(super) any_host: bool,
    pub(super) sort_query: bool,
    pub(super) ignored: Vec<String>,
    pub(super) own: Option<OwnKey>,
}

/// Names targets in the user's way; `None` goes past the cache.
pub(super) type OwnKey = std::sync::Arc<dyn Fn(&Parts) -> Option<String> + Send + Sync>;

impl KeyChoices {
    /// What all keys of the request's target have in common; `None` if it is to go past the cache.
    pub(super) fn target(&self, parts: &Parts) -> Option<String> {
        let mut target = String::new();
        if let Some(own) = &self.own {
            push_escaped(&mut target, own(parts)?.as_bytes());
            return Some(target);
        }
        let uri = asked_for(parts);
        if !self.any_host {
            push_all_hosts(&mut target, uri, &parts.headers);
        }
        target.push_str(uri.path());
        if let Some(query) = uri.query() {
            self.push_query(&mut target, query);
        }
        Some(target)
    }

    /// The key of that target in the cache; `None` if it is too long.
    pub(super) fn key(&self, method: &Method, target: &str, bytes_max: usize) -> Option<String> {
        let key = format!("{}{method} {target}", self.namespace);
        (key.len() + VARIANT_BYTES_MAX <= bytes_max).then_some(key)
    }

    /// Sorting is stable: of parameters of the same name the order counts.
    fn push_query(&self, target: &mut String, query: &str) {
        if !self.sort_query && self.ignored.is_empty() {
            target.push('?');
            target.push_str(query);
            return;
        }
        let name = |parameter: &&str| parameter.split_once('=').map_or(*parameter, |(name, _)| name).to_owned();
        let mut parameters: Vec<_> = query.split('&').filter(|it| !self.ignored.contains(&name(it))).collect();
        if self.sort_query {
            parameters.sort_by_key(name);
        }
        if !parameters.is_empty() {
            target.push('?');
            target.push_str(&parameters.join("&"));
        }
    }
}

/// The target as it came: axum takes the prefix of nested routers off it, and two of them may well have a route `/users`.
fn asked_for(parts: &Parts) -> &Uri {
    #[cfg(feature = "axum")]
    if let Some(original) = parts.extensions.get::<::axum::extract::OriginalUri>() {
        return &original.0;
    }
    &parts.uri
}

/// The host that was asked for, and in brackets what else is said of it, each with the name of who says so. Values are
/// escaped, so none can pass for a name.
fn push_all_hosts(target: &mut String, uri: &Uri, headers: &HeaderMap) {
    let host = hosts(headers, &header::HOST);
    match uri.authority() {
        Some(authority) => {
            push_host(target, authority.as_str().as_bytes());
            // It need not say the same, and the service may well believe it.
            if host.as_ref().is_some_and(|host| host != target) {
                push_named(target, &header::HOST, host);
            }
        }
        None => target.push_str(host.as_deref().unwrap_or_default()),
    }
    for name in [X_FORWARDED_PROTO, X_FORWARDED_HOST] {
        push_named(target, &name, hosts(headers, &name));
    }
    for pair in elements(headers, &header::FORWARDED).flat_map(|element| element.split(|byte| *byte == b';')) {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"host") || name.eq_ignore_ascii_case(b"proto") {
            target.push('(');
            push_host(target, pair.trim_ascii());
            target.push(')');
        }
    }
}

/// What stands in all lines of a field; `None` if there is none.
fn hosts(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.contains_key(name).then(|| {
        let mut told = String::new();
        push_hosts(&mut told, headers, name);
        told
    })
}

fn push_named(target: &mut String, name: &HeaderName, told: Option<String>) {
    if let Some(told) = told {
        target.extend(["(", name.as_str(), "=", &told, ")"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, headers: &[(&str, &str)]) -> Parts {
        let builder = headers.iter().fold(http::Request::get(target), |it, (name, value)| it.header(*name, *value));
        builder.body(()).expect("a request").into_parts().0
    }

    fn target(choices: &KeyChoices, uri: &str) -> String {
        choices.target(&request(uri, &[])).expect("a target")
    }

    #[test]
    fn a_target_is_host_path_and_query() {
        let choices = KeyChoices::default();
        let shop = request("/a?b=c%20d", &[("host", "Shop.example")]);
        assert_eq!(choices.target(&shop).as_deref(), Some("shop.example/a?b=c%20d"));
        assert_eq!(target(&choices, "http://Shop.example/a"), "shop.example/a");
        assert_eq!(choices.key(&Method::GET, "shop.example/a", 1_024).as_deref(), Some("GET shop.example/a"));
        let named = KeyChoices { namespace: "v2:".into(), any_host: true, ..KeyChoices::default() };
        assert_eq!(target(&named, "http://shop.example/a"), "/a");
        assert_eq!(named.key(&Method::HEAD, "/a", 1_024).as_deref(), Some("v2:HEAD /a"));
    }

    #[test]
    fn what_proxies_say_of_the_host_is_part_of_it() {
        let choices = KeyChoices::default();
        let of = |headers: &[(&str, &str)]| choices.target(&request("/", headers)).expect("a target");
        let host = ("host", "a");
        assert_eq!(
            of(&[host, ("x-forwarded-host", "Evil"), ("x-forwarded-proto", "https")]),
            "a(x-forwarded-proto=https)(x-forwarded-host=evil)/"
        );
        assert_eq!(
            of(&[host, ("forwarded", "for=1.1.1.1;Host=evil;proto=http, for=2")]),
            "a(host%3Devil)(proto%3Dhttp)/"
        );
        assert_eq!(of(&[host, ("forwarded", "for=1.1.1.1"), ("x-forwarded-for", "1.1.1.1")]), "a/", "clients share");
        assert_eq!(of(&[("host", "a b/c(d)")]), "a%20b%2Fc%28d%29/", "no host passes for more");
        assert_eq!(of(&[("host", "[::1]:80")]), "[::1]:80/");
    }

    #[test]
    fn no_two_ways_to_name_a_host_share_a_key() {
        let choices = KeyChoices::default();
        let of = |uri, headers: &[(&str, &str)]| choices.target(&request(uri, headers)).expect("a target");
        let shop = "http://shop.example/";
        assert_eq!(of(shop, &[("host", "Shop.example")]), "shop.example/", "both say the same");
        assert_eq!(of(shop, &[("host", "evil.example")]), "shop.example(host=evil.example)/");
        assert_eq!(of(shop, &[("host", "shop.example"), ("host", "evil")]), "shop.example(host=shop.example,evil)/");
        assert_eq!(of(shop, &[("host", "shop.example,")]), "shop.example(host=shop.example%2C)/");
        assert_eq!(of(shop, &[("host", "")]), "shop.example(host=)/");
        let mut told = ["host", "x-forwarded-host", "x-forwarded-proto"].map(|name| of(shop, &[(name, "x")])).to_vec();
        told.push(of(shop, &[("forwarded", "host=x")]));
        told.push(of(shop, &[("forwarded", "proto=x")]));
        told.push(of(shop, &[("x-forwarded-proto", "x)(x-forwarded-host=x")]));
        let different: std::collections::HashSet<_> = told.iter().collect();
        assert_eq!(different.len(), told.len(), "{told:?}");
    }

    #[test]
    fn parameters_may_be_sorted_and_left_out() {
        let sorted = KeyChoices { sort_query: true, ..KeyChoices::default() };
        assert_eq!(target(&sorted, "/?b=2&a=z&a=y&c"), "/?a=z&a=y&b=2&c");
        let ignoring = KeyChoices { ignored: vec!["utm_source".into()], ..KeyChoices::default() };
        assert_eq!(target(&ignoring, "/?z=1&utm_source=x&a=2"), "/?z=1&a=2");
        assert_eq!(target(&ignoring, "/?utm_source=x"), "/");
        assert_eq!(target(&KeyChoices::default(), "/?b=2&a=1"), "/?b=2&a=1");
    }

    #[test]
    fn a_key_leaves_room_for_its_variants() {
        let choices = KeyChoices::default();
        let longest = "GET /".len() + VARIANT_BYTES_MAX;
        assert!(choices.key(&Method::GET, "/", longest).is_some());
        assert!(choices.key(&Method::GET, "/", longest - 1).is_none());
    }

    #[test]
    fn a_key_of_ones_own_cannot_pass_for_a_variant() {
        let own: OwnKey = std::sync::Arc::new(|parts: &Parts| Some(parts.uri.path().replace('/', " ")));
        let choices = KeyChoices { own: Some(own), ..KeyChoices::default() };
        assert_eq!(target(&choices, "/a/b"), "%20a%20b");
    }
}
