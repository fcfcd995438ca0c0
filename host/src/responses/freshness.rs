//! Whether a shared cache may store a response, and for how long it may use it: RFC 9111 sections 3, 4.2 and 5.2,
//! RFC 5861. Stricter than the RFC where a mistake would show one user what is meant for another.
//!
//! It knows nothing of keys and bodies, nor of what is stored already.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap};
use http::{Method, StatusCode};
use tideover_core::{Windows, Zone};

use super::cache_control::CacheControl;
use super::headers::{date, delta_seconds, elements};
use super::vary::Vary;

/// How long past its freshness a response with a validator is kept, as the base of a conditional refresh.
pub(crate) const KEEP: Duration = Duration::from_secs(3600);

/// The status codes that may be stored without freshness of their own (RFC 9110 section 15.1), but for 206, whose
/// parts are not put together here, and 501, which is a failure like all 5xx.
const HEURISTICALLY_CACHEABLE: [u16; 10] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414];

/// What of the request decides about storing the response to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestFacts {
    get_or_head: bool,
    pub(super) authorized: bool,
    no_store: bool,
}

impl RequestFacts {
    /// Reads the request as it goes to the origin.
    pub(crate) fn of(method: &Method, headers: &HeaderMap) -> Self {
        Self {
            get_or_head: method == Method::GET || method == Method::HEAD,
            authorized: headers.contains_key(header::AUTHORIZATION),
            no_store: CacheControl::of(headers).no_store,
        }
    }
}

/// What whoever runs the cache has chosen about responses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choices {
    /// The windows of responses that have no freshness of their own; `None`: they are not reused. What is kept for
    /// refreshes depends on the response alone.
    pub(crate) windows: Option<Windows>,
    /// Whether these windows hold whatever freshness the response gives itself. What it forbids to store stays forbidden.
    pub(crate) overrule: bool,
    /// The only status codes that are stored; `None`: those that the RFC lets a cache store.
    pub(crate) statuses: Option<Arc<[StatusCode]>>,
    /// Whether `public` lets a response be stored with the cookies that it sets.
    pub(crate) public_cookies: bool,
}

/// What to do with a response beyond passing it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Verdict {
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
pub(crate) enum PassReason {
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
    /// It goes on for as long as its reader listens.
    Stream,
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
    pub(crate) const fn token(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::ServerError => "server-error",
            Self::PartialContent => "partial-content",
            Self::Status => "status",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::Authorization => "authorization",
            Self::SetCookie => "set-cookie",
            Self::Stream => "stream",
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
pub(crate) fn storable(
    request: &RequestFacts,
    status: StatusCode,
    response: &HeaderMap,
    choices: &Choices,
    response_delay: Duration,
    now: SystemTime,
) -> Verdict {
    let control = CacheControl::of(response);
    let lifetime = explicit_lifetime(&control, response, now);
    if let Some(why) = refusal(request, status, response, &control, lifetime.is_some(), choices) {
        return Verdict::Pass { why };
    }
    let keep = if has_validator(response) { KEEP } else { Duration::ZERO };
    let own = || windows(&control, lifetime, choices.windows);
    let Some(windows) = choices.windows.filter(|_| choices.overrule).or_else(own) else {
        return Verdict::Pass { why: PassReason::NoFreshness };
    };
    let windows = Windows { keep, ..windows };
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
    choices: &Choices,
) -> Option<PassReason> {
    let heuristic = HEURISTICALLY_CACHEABLE.contains(&status.as_u16());
    let chosen = choices.statuses.as_ref().map(|chosen| chosen.contains(&status));
    let by_rule = heuristic || explicit && !control.must_understand;
    let final_status = !status.is_informational() && status != StatusCode::NOT_MODIFIED;
    // The origin adds `no-store` for caches that do not know `must-understand` (section 5.2.2.3).
    let no_store = control.no_store && !(control.must_understand && heuristic);
    let sets_cookie = response.contains_key(header::SET_COOKIE);
    let reasons = [
        (PassReason::Method, !request.get_or_head),
        (PassReason::ServerError, status.is_server_error()),
        (PassReason::PartialContent, status == StatusCode::PARTIAL_CONTENT),
        (PassReason::NoStore, request.no_store || no_store),
        (PassReason::Status, !(final_status && chosen.unwrap_or(by_rule))),
        (PassReason::Private, control.private),
        // Section 3.5 would take `must-revalidate` and `s-maxage` for consent, too; origins write both without
        // having credentials in mind.
        (PassReason::Authorization, request.authorized && !control.public),
        (PassReason::SetCookie, sets_cookie && !(control.public && choices.public_cookies)),
        (PassReason::Stream, is_stream(response)),
        (PassReason::VaryStar, Vary::of(response) == Vary::Any),
    ];
    reasons.into_iter().find_map(|(reason, applies)| applies.then_some(reason))
}

/// `None` if the response has no freshness of its own and there is no default.
fn windows(control: &CacheControl, explicit: Option<Duration>, default: Option<Windows>) -> Option<Windows> {
    let ttl = match (explicit, default) {
        _ if control.no_cache => Some(Duration::ZERO),
        (Some(explicit), _) => Some(explicit),
        (None, Some(default)) => default.ttl,
        (None, None) => return None,
    };
    // `s-maxage` means `proxy-revalidate`, too (RFC 9111 section 5.2.2.10), and section 4.2.4 puts all of these
    // above any permission to serve stale.
    let never_stale =
        control.no_cache || control.must_revalidate || control.proxy_revalidate || control.s_maxage.is_some();
    let window = |own: Option<Duration>, default: Option<Duration>| match own {
        _ if never_stale => Duration::ZERO,
        Some(own) => own,
        None if explicit.is_some() => Duration::ZERO,
        None => default.unwrap_or_default(),
    };
    Some(Windows {
        ttl,
        stale_while_revalidate: window(
            control.stale_while_revalidate,
            default.map(|default| default.stale_while_revalidate),
        ),
        stale_if_error: window(control.stale_if_error, default.map(|default| default.stale_if_error)),
        keep: Duration::ZERO,
    })
}

/// Whether the content is of a kind that is sent bit by bit and does not end by itself, or that ends with trailers.
fn is_stream(response: &HeaderMap) -> bool {
    const STREAMS: [&[u8]; 3] = [b"text/event-stream", b"multipart/x-mixed-replace", b"application/grpc"];
    let Some(kind) = response.get(header::CONTENT_TYPE) else { return false };
    let starts = |stream: &&[u8]| kind.as_bytes().get(..stream.len()).is_some_and(|it| it.eq_ignore_ascii_case(stream));
    STREAMS.iter().any(starts)
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
    use http::header::HeaderValue;

    use super::super::headers::headers;
    use super::*;

    const ZERO: Duration = Duration::ZERO;
    const NO_DEFAULTS: Choices = Choices { windows: None, overrule: false, statuses: None, public_cookies: true };
    const WINDOWS: Windows =
        Windows { ttl: Some(secs(300)), stale_while_revalidate: secs(30), stale_if_error: secs(3000), keep: ZERO };
    const DEFAULTS: Choices = Choices { windows: Some(WINDOWS), ..NO_DEFAULTS };

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
        choices: Choices,
    }

    fn get(response: &[(&'static str, &'static str)]) -> Exchange {
        Exchange {
            method: Method::GET,
            request: HeaderMap::new(),
            status: 200,
            response: headers(response),
            choices: DEFAULTS,
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
            self.choosing(NO_DEFAULTS)
        }

        fn choosing(self, choices: Choices) -> Self {
            Self { choices, ..self }
        }

        fn verdict(&self) -> Verdict {
            let request = RequestFacts::of(&self.method, &self.request);
            let status = StatusCode::from_u16(self.status).expect("a status");
            storable(&request, status, &self.response, &self.choices, ZERO, now())
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

    #[test]
    fn chosen_windows_may_overrule_freshness_but_nothing_that_forbids_to_store() {
        let overruled = |control| cached(control).choosing(Choices { overrule: true, ..DEFAULTS });
        for control in ["max-age=60", "no-cache", "s-maxage=0", "max-age=5, must-revalidate", "stale-if-error=1"] {
            assert_eq!(overruled(control).windows(), [300, 30, 3000, 0], "{control}");
        }
        assert_eq!(overruled("no-cache").with("etag", "\"1\"").windows(), [300, 30, 3000, 3600]);
        assert_eq!(overruled("no-store").pass(), PassReason::NoStore);
        assert_eq!(overruled("private").pass(), PassReason::Private);
        assert_eq!(overruled("max-age=60").with("vary", "*").pass(), PassReason::VaryStar);
        let nothing_chosen = cached("max-age=60").choosing(Choices { overrule: true, ..NO_DEFAULTS });
        assert_eq!(nothing_chosen.windows(), [60, 0, 0, 0]);
    }

    #[test]
    fn chosen_status_codes_are_the_only_ones() {
        let chosen = |status| {
            let statuses = Some(Arc::from([StatusCode::OK, StatusCode::FORBIDDEN, StatusCode::BAD_GATEWAY]));
            get(&[]).choosing(Choices { statuses, ..DEFAULTS }).status(status)
        };
        assert_eq!(chosen(200).windows()[0], 300);
        assert_eq!(chosen(403).windows()[0], 300);
        assert_eq!(chosen(404).with("cache-control", "max-age=60").pass(), PassReason::Status);
        assert_eq!(chosen(502).pass(), PassReason::ServerError);
    }

    #[test]
    fn cookies_are_kept_only_where_public_may_allow_it() {
        let cookie = || cached("public, max-age=60").with("set-cookie", "a=1");
        assert_eq!(cookie().windows()[0], 60);
        let strict = Choices { public_cookies: false, ..DEFAULTS };
        assert_eq!(cookie().choosing(strict).pass(), PassReason::SetCookie);
    }

    #[test]
    fn what_does_not_end_by_itself_is_not_kept() {
        for kind in ["text/event-stream", "Text/Event-Stream; charset=utf-8", "multipart/x-mixed-replace; boundary=x"] {
            assert_eq!(cached("max-age=60").with("content-type", kind).pass(), PassReason::Stream, "{kind}");
        }
        assert_eq!(cached("max-age=60").with("content-type", "text/event").windows()[0], 60);
    }

    #[test]
    fn chosen_windows_may_be_endless() {
        let forever = Choices { windows: Some(Windows::FOREVER), ..NO_DEFAULTS };
        let Verdict::Store { windows, .. } = get(&[("etag", "\"1\"")]).choosing(forever).verdict() else {
            panic!("it is stored");
        };
        assert_eq!(windows.ttl, None);
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
