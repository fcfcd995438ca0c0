//! Whether a shared cache may store a response, and for how long it may use it: RFC 9111 sections 3, 4.2 and 5.2,
//! RFC 5861. Stricter than the RFC where a mistake would show one user what is meant for another.
//!
//! It knows nothing of keys and bodies, nor of what is stored already.

use std::time::{Duration, SystemTime};

use hyper::header::{self, HeaderMap};
use hyper::{Method, StatusCode};
use tideover_core::{Windows, Zone};

use super::cache_control::CacheControl;
use super::headers::{date, delta_seconds, elements};
use super::vary::Vary;

/// How long past its freshness a response with a validator is kept, as the base of a conditional refresh.
pub(super) const KEEP: Duration = Duration::from_secs(3600);

/// The status codes that may be stored without freshness of their own (RFC 9110 section 15.1), but for 206, whose
/// parts are not put together here, and 501, which is a failure like all 5xx.
const HEURISTICALLY_CACHEABLE: [u16; 10] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414];

/// What of the request decides about storing the response to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestFacts {
    get_or_head: bool,
    authorized: bool,
    no_store: bool,
}

impl RequestFacts {
    /// Reads the request as it goes to the origin.
    pub(super) fn of(method: &Method, headers: &HeaderMap) -> Self {
        Self {
            get_or_head: method == Method::GET || method == Method::HEAD,
            authorized: headers.contains_key(header::AUTHORIZATION),
            no_store: CacheControl::of(headers).no_store,
        }
    }
}

/// Freshness of responses that have none of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Defaults {
    /// Their freshness lifetime; `None`: they are not reused.
    pub(super) ttl: Option<Duration>,
    /// How long after `ttl` they may be served while a refresh runs.
    pub(super) stale_while_revalidate: Duration,
    /// How long after `ttl` they may stand in when the origin is unavailable.
    pub(super) stale_if_error: Duration,
}

/// What to do with a response beyond passing it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Verdict {
    /// Store it.
    Store {
        /// For how long it may be used.
        windows: Windows,
        /// How old it is already (RFC 9111 section 4.2.3).
        age: Duration,
    },
    /// Do not store it.
    Pass {
        /// The first reason found.
        why: PassReason,
    },
}

/// Why a response is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PassReason {
    /// The request is neither GET nor HEAD.
    Method,
    /// 5xx: a failed load, which must not take the place of a stored response.
    ServerError,
    /// 206, a part of a response.
    PartialContent,
    /// The status code is not final, or not understood where it must be.
    Status,
    /// The request or the response forbids it.
    NoStore,
    /// Meant for one user.
    Private,
    /// The request had credentials, and the response is not marked `public`.
    Authorization,
    /// The response sets a cookie, and is not marked `public`.
    SetCookie,
    /// It varies by more than request headers can tell.
    VaryStar,
    /// It must be validated for each use, but has no validator.
    NoCache,
    /// It has no freshness of its own, and there is no default.
    NoFreshness,
    /// Its freshness is over on arrival, it may not be used stale, and there is nothing to validate it with.
    Expired,
}

impl PassReason {
    /// The reason as `detail` of `Cache-Status`.
    pub(super) const fn token(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::ServerError => "server-error",
            Self::PartialContent => "partial-content",
            Self::Status => "status",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::Authorization => "authorization",
            Self::SetCookie => "set-cookie",
            Self::VaryStar => "vary-star",
            Self::NoCache => "no-cache",
            Self::NoFreshness => "no-freshness",
            Self::Expired => "expired",
        }
    }
}

/// Whether the response may be stored, and for how long it may be used.
///
/// `response_delay` is the time from sending the request to receiving the response at `now`. After a 304, `status`
/// is that of the stored response and `response` what `conditional::refreshed` made of its headers.
pub(super) fn storable(
    request: &RequestFacts,
    status: StatusCode,
    response: &HeaderMap,
    defaults: &Defaults,
    response_delay: Duration,
    now: SystemTime,
) -> Verdict {
    let control = CacheControl::of(response);
    let lifetime = explicit_lifetime(&control, response, now);
    if let Some(why) = refusal(request, status, response, &control, lifetime.is_some()) {
        return Verdict::Pass { why };
    }
    let Some(windows) = windows(&control, lifetime, defaults, has_validator(response)) else {
        return Verdict::Pass { why: PassReason::NoFreshness };
    };
    let age = corrected_initial_age(response, response_delay, now);
    match windows.zone(age) {
        Zone::Gone if control.no_cache => Verdict::Pass { why: PassReason::NoCache },
        Zone::Gone => Verdict::Pass { why: PassReason::Expired },
        _ => Verdict::Store { windows, age },
    }
}

/// The freshness lifetime that the response itself gives (RFC 9111 section 4.2.1). An `Expires` that is no date, `0`
/// above all, lies in the past (section 5.3).
fn explicit_lifetime(control: &CacheControl, response: &HeaderMap, now: SystemTime) -> Option<Duration> {
    control.s_maxage.or(control.max_age).or_else(|| {
        response.contains_key(header::EXPIRES).then(|| {
            let start = date(response, &header::DATE).unwrap_or(now);
            let expires = date(response, &header::EXPIRES).unwrap_or(SystemTime::UNIX_EPOCH);
            expires.duration_since(start).unwrap_or_default()
        })
    })
}

/// The reasons not to store that have nothing to do with time (RFC 9111 section 3).
fn refusal(
    request: &RequestFacts,
    status: StatusCode,
    response: &HeaderMap,
    control: &CacheControl,
    explicit: bool,
) -> Option<PassReason> {
    let heuristic = HEURISTICALLY_CACHEABLE.contains(&status.as_u16());
    let final_status = !status.is_informational() && status != StatusCode::NOT_MODIFIED;
    // The origin adds `no-store` for caches that do not know `must-understand` (section 5.2.2.3).
    let no_store = control.no_store && !(control.must_understand && heuristic);
    let reasons = [
        (PassReason::Method, !request.get_or_head),
        (PassReason::ServerError, status.is_server_error()),
        (PassReason::PartialContent, status == StatusCode::PARTIAL_CONTENT),
        (PassReason::NoStore, request.no_store || no_store),
        (PassReason::Status, !(heuristic || explicit && final_status && !control.must_understand)),
        (PassReason::Private, control.private),
        // Section 3.5 would take `must-revalidate` and `s-maxage` for consent, too; origins write both without
        // having credentials in mind.
        (PassReason::Authorization, request.authorized && !control.public),
        (PassReason::SetCookie, response.contains_key(header::SET_COOKIE) && !control.public),
        (PassReason::VaryStar, Vary::of(response) == Vary::Any),
    ];
    reasons.into_iter().find_map(|(reason, applies)| applies.then_some(reason))
}

/// `None` if the response has no freshness of its own and there is no default.
fn windows(
    control: &CacheControl,
    explicit: Option<Duration>,
    defaults: &Defaults,
    validator: bool,
) -> Option<Windows> {
    let ttl = if control.no_cache { Duration::ZERO } else { explicit.or(defaults.ttl)? };
    // `s-maxage` means `proxy-revalidate`, too (RFC 9111 section 5.2.2.10), and section 4.2.4 puts all of these
    // above any permission to serve stale.
    let never_stale =
        control.no_cache || control.must_revalidate || control.proxy_revalidate || control.s_maxage.is_some();
    let window = |own: Option<Duration>, default: Duration| match own {
        _ if never_stale => Duration::ZERO,
        Some(own) => own,
        None if explicit.is_some() => Duration::ZERO,
        None => default,
    };
    Some(Windows {
        ttl: Some(ttl),
        stale_while_revalidate: window(control.stale_while_revalidate, defaults.stale_while_revalidate),
        stale_if_error: window(control.stale_if_error, defaults.stale_if_error),
        keep: if validator { KEEP } else { Duration::ZERO },
    })
}

fn has_validator(response: &HeaderMap) -> bool {
    response.contains_key(header::ETAG) || response.contains_key(header::LAST_MODIFIED)
}

/// The age on arrival (RFC 9111 section 4.2.3): what the caches on the way say or what the origin's clock says,
/// whichever is more.
fn corrected_initial_age(response: &HeaderMap, response_delay: Duration, now: SystemTime) -> Duration {
    let sent = date(response, &header::DATE).unwrap_or(now);
    // `Date` has whole seconds: counting the fraction would make every response older than it is.
    let apparent = Duration::from_secs(now.duration_since(sent).unwrap_or_default().as_secs());
    // Of a list the first counts, and what is no number is ignored (section 5.1).
    let told = elements(response, &header::AGE).next().and_then(delta_seconds).unwrap_or_default();
    apparent.max(told.saturating_add(response_delay))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::super::headers::headers;
    use super::*;

    const ZERO: Duration = Duration::ZERO;
    const NO_DEFAULTS: Defaults = Defaults { ttl: None, stale_while_revalidate: ZERO, stale_if_error: ZERO };
    const DEFAULTS: Defaults =
        Defaults { ttl: Some(secs(300)), stale_while_revalidate: secs(30), stale_if_error: secs(3000) };

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + secs(784_111_777)
    }

    /// A request and the response to it, received at [`now`] without delay.
    struct Exchange {
        method: Method,
        request: HeaderMap,
        status: u16,
        response: HeaderMap,
        defaults: Defaults,
    }

    fn get(response: &[(&'static str, &'static str)]) -> Exchange {
        Exchange {
            method: Method::GET,
            request: HeaderMap::new(),
            status: 200,
            response: headers(response),
            defaults: DEFAULTS,
        }
    }

    fn cached(control: &'static str) -> Exchange {
        get(&[("cache-control", control)])
    }

    impl Exchange {
        fn status(self, status: u16) -> Self {
            Self { status, ..self }
        }

        fn method(self, method: Method) -> Self {
            Self { method, ..self }
        }

        fn with(mut self, name: &'static str, value: &'static str) -> Self {
            self.response.append(name, HeaderValue::from_static(value));
            self
        }

        fn asked_with(mut self, name: &'static str, value: &'static str) -> Self {
            self.request.append(name, HeaderValue::from_static(value));
            self
        }

        fn without_defaults(self) -> Self {
            Self { defaults: NO_DEFAULTS, ..self }
        }

        fn verdict(&self) -> Verdict {
            let request = RequestFacts::of(&self.method, &self.request);
            let status = StatusCode::from_u16(self.status).expect("a status");
            storable(&request, status, &self.response, &self.defaults, ZERO, now())
        }

        fn pass(&self) -> PassReason {
            match self.verdict() {
                Verdict::Pass { why } => why,
                stored => panic!("{stored:?}"),
            }
        }

        /// ttl, stale-while-revalidate, stale-if-error and keep in seconds.
        fn windows(&self) -> [u64; 4] {
            match self.verdict() {
                Verdict::Store { windows: w, .. } => {
                    [w.ttl.expect("a ttl"), w.stale_while_revalidate, w.stale_if_error, w.keep].map(|w| w.as_secs())
                }
                passed @ Verdict::Pass { .. } => panic!("{passed:?}"),
            }
        }

        fn age(&self) -> u64 {
            match self.verdict() {
                Verdict::Store { age, .. } => age.as_secs(),
                passed @ Verdict::Pass { .. } => panic!("{passed:?}"),
            }
        }
    }

    /// RFC 9111 section 4.2.1: the first of these that is there counts.
    #[test]
    fn a_shared_lifetime_goes_before_max_age_before_expires_before_the_default() {
        let expires = ("expires", "Sun, 06 Nov 1994 08:51:37 GMT");
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let ttl = |response: &[_]| get(response).windows()[0];
        assert_eq!(ttl(&[("cache-control", "s-maxage=10, max-age=20"), expires, date]), 10);
        assert_eq!(ttl(&[("cache-control", "max-age=20"), expires, date]), 20);
        assert_eq!(ttl(&[expires, date]), 120);
        assert_eq!(ttl(&[expires]), 120, "without Date, the time of receipt counts");
        assert_eq!(ttl(&[date]), 300);
        assert_eq!(get(&[date]).without_defaults().pass(), PassReason::NoFreshness);
    }

    /// RFC 9111 section 5.3.
    #[test]
    fn an_expires_that_is_no_date_is_in_the_past() {
        for expires in ["0", "-1", "tomorrow", "Sun, 06 Nov 1994 08:49:36 GMT"] {
            assert_eq!(get(&[("expires", expires)]).pass(), PassReason::Expired, "{expires}");
        }
        let twice = [("expires", "Sun, 06 Nov 1994 08:51:37 GMT"), ("expires", "Sun, 06 Nov 1994 08:52:37 GMT")];
        assert_eq!(get(&twice).pass(), PassReason::Expired);
    }

    #[test]
    fn only_get_and_head_are_stored() {
        assert_eq!(cached("max-age=60").method(Method::HEAD).windows(), [60, 0, 0, 0]);
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::CONNECT] {
            assert_eq!(cached("max-age=60, public").method(method).pass(), PassReason::Method);
        }
    }

    /// RFC 9110 section 15.1: other codes need freshness of their own.
    #[test]
    fn the_status_must_be_understood_or_the_freshness_explicit() {
        for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414] {
            assert_eq!(get(&[]).status(status).windows()[0], 300, "{status}");
        }
        for status in [201, 202, 302, 303, 307, 400, 403, 429, 499] {
            assert_eq!(get(&[]).status(status).pass(), PassReason::Status, "{status}");
            assert_eq!(cached("max-age=60").status(status).windows()[0], 60, "{status}");
        }
        for status in [100, 103, 304] {
            assert_eq!(cached("max-age=60").status(status).pass(), PassReason::Status, "{status}");
        }
        assert_eq!(cached("max-age=60").status(206).pass(), PassReason::PartialContent);
        for status in [500, 501, 502, 503, 504, 599] {
            assert_eq!(cached("max-age=60, public").status(status).pass(), PassReason::ServerError, "{status}");
        }
    }

    #[test]
    fn what_forbids_storing_is_obeyed() {
        assert_eq!(cached("no-store, max-age=60").pass(), PassReason::NoStore);
        assert_eq!(cached("max-age=60").asked_with("cache-control", "no-store").pass(), PassReason::NoStore);
        assert_eq!(cached("private, max-age=60").pass(), PassReason::Private);
        assert_eq!(cached("private=\"set-cookie\", public, s-maxage=60").pass(), PassReason::Private);
        assert_eq!(cached("max-age=60").with("vary", "accept, *").pass(), PassReason::VaryStar);
    }

    /// RFC 9111 section 5.2.2.3.
    #[test]
    fn must_understand_overrides_no_store_for_what_is_understood() {
        let control = "must-understand, no-store, max-age=60";
        assert_eq!(cached(control).windows()[0], 60);
        assert_eq!(cached(control).status(299).pass(), PassReason::NoStore);
        assert_eq!(cached("must-understand, max-age=60").status(299).pass(), PassReason::Status);
        assert_eq!(cached(control).asked_with("cache-control", "no-store").pass(), PassReason::NoStore);
    }

    #[test]
    fn what_may_be_one_users_is_stored_only_if_public() {
        for control in ["max-age=60", "max-age=60, must-revalidate", "s-maxage=60"] {
            assert_eq!(cached(control).asked_with("authorization", "x").pass(), PassReason::Authorization, "{control}");
            assert_eq!(cached(control).with("set-cookie", "a=1").pass(), PassReason::SetCookie, "{control}");
        }
        let public = cached("public, max-age=60").asked_with("authorization", "x").with("set-cookie", "a=1");
        assert_eq!(public.windows(), [60, 0, 0, 0]);
    }

    /// RFC 9111 section 5.2.2.4.
    #[test]
    fn no_cache_is_stored_only_to_be_validated() {
        assert_eq!(cached("no-cache, max-age=60, stale-if-error=60").with("etag", "\"1\"").windows(), [0, 0, 0, 3600]);
        assert_eq!(cached("no-cache").with("last-modified", "x").windows(), [0, 0, 0, 3600]);
        assert_eq!(cached("no-cache").with("etag", "\"1\"").without_defaults().windows(), [0, 0, 0, 3600]);
        assert_eq!(cached("no-cache, max-age=60").pass(), PassReason::NoCache);
        assert_eq!(cached("no-cache").with("etag", "\"1\"").status(302).pass(), PassReason::Status);
    }

    #[test]
    fn the_stale_windows_are_those_of_whoever_gave_the_freshness() {
        assert_eq!(get(&[]).windows(), [300, 30, 3000, 0]);
        assert_eq!(cached("max-age=60").windows(), [60, 0, 0, 0]);
        assert_eq!(cached("max-age=60, stale-while-revalidate=5").windows(), [60, 5, 0, 0]);
        assert_eq!(cached("max-age=60, stale-if-error=7").windows(), [60, 0, 7, 0]);
        assert_eq!(cached("stale-if-error=7").windows(), [300, 30, 7, 0]);
        assert_eq!(cached("max-age=0, stale-if-error=7").windows(), [0, 0, 7, 0]);
    }

    /// RFC 9111 sections 4.2.4 and 5.2.2.10.
    #[test]
    fn what_must_be_revalidated_is_never_served_stale() {
        for control in ["must-revalidate", "proxy-revalidate"] {
            assert_eq!(cached(control).windows(), [300, 0, 0, 0], "{control}");
        }
        for control in [
            "max-age=60, must-revalidate, stale-while-revalidate=5, stale-if-error=7",
            "s-maxage=60, stale-while-revalidate=5, stale-if-error=7",
        ] {
            assert_eq!(cached(control).with("etag", "\"1\"").windows(), [60, 0, 0, 3600], "{control}");
        }
    }

    #[test]
    fn what_could_never_be_used_is_not_stored() {
        assert_eq!(cached("max-age=0").pass(), PassReason::Expired);
        assert_eq!(cached("max-age=0").with("etag", "\"1\"").windows(), [0, 0, 0, 3600]);
        assert_eq!(cached("max-age=60").with("age", "59").age(), 59);
        assert_eq!(cached("max-age=60").with("age", "60").pass(), PassReason::Expired);
        assert_eq!(cached("max-age=60, stale-if-error=1").with("age", "60").age(), 60);
    }

    /// RFC 9111 section 4.2.3.
    #[test]
    fn the_age_is_what_is_told_or_what_the_date_says() {
        let day = || cached("max-age=86400");
        assert_eq!(day().age(), 0);
        let dated = || day().with("date", "Sun, 06 Nov 1994 08:49:07 GMT");
        assert_eq!(dated().age(), 30);
        assert_eq!(dated().with("age", "20").age(), 30);
        assert_eq!(dated().with("age", "40").age(), 40);
        assert_eq!(day().with("date", "Sun, 06 Nov 1994 08:50:37 GMT").age(), 0, "a date in the future");
        assert_eq!(day().with("date", "yesterday").age(), 0);
        assert_eq!(day().with("age", "7, 9").age(), 7);
        assert_eq!(day().with("age", "-7").age(), 0);
    }

    #[test]
    fn a_slow_answer_has_aged_on_its_way() {
        let delay = Duration::from_millis(1_500);
        let later = now() + Duration::from_millis(999);
        let age = |lines| corrected_initial_age(&headers(lines), delay, later);
        assert_eq!(age(&[("age", "7")]), secs(7) + delay);
        assert_eq!(age(&[("date", "Sun, 06 Nov 1994 08:49:37 GMT")]), delay);
        assert_eq!(age(&[("date", "Sun, 06 Nov 1994 08:49:35 GMT")]), secs(2), "whole seconds");
    }

    #[test]
    fn hostile_numbers_do_not_overflow() {
        let far = ("expires", "Fri, 31 Dec 9999 23:59:59 GMT");
        assert!(get(&[far]).windows()[0] > 250_000_000_000);
        let told = headers(&[("age", "99999999999999999999")]);
        assert_eq!(corrected_initial_age(&told, Duration::MAX, now()), Duration::MAX);
    }
}
