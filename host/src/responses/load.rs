//! The way of a response into the cache: what a load of the machine's means in HTTP. There is no other way in.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::{Method, Response, StatusCode};
use http_body::Body as _;
use tideover_core::{Entry, Windows};
use tokio::time::Instant;

use super::body::{Body, Read, full, read};
use super::cache_control::CacheControl;
use super::carried::{Luggage, Told};
use super::conditional::{condition, refreshed};
use super::find::Asked;
use super::freshness::{Verdict, storable};
use super::headers::{date, delta_seconds, is_credential, remove_hop_by_hop, stamp};
use super::stored::{Record, StoredResponse, Varies};
use super::vary::{Vary, variant_key};
use super::{Responses, Upstream};
use crate::cache::random_seed;
use crate::loader::{LoadContext, LoadError, Loaded};

/// How long it is remembered by which headers a target varies.
const VARIES_TTL: Duration = Duration::from_secs(24 * 3600);

/// The body of an error page is shared with everybody who waits up to this size; larger ones are for who led.
const ERROR_BODY_MAX: usize = 64 * 1024;

/// One load.
pub(super) struct Loading<U> {
    pub(super) asked: Arc<Asked<U>>,
    /// How the key that is loaded continues the key of the target.
    pub(super) varies: Option<Varies>,
    /// What its request has brought, while that is under way: a load may outlive it.
    pub(super) luggage: Weak<Luggage>,
    /// Whether its request waited for the load that has found out about the variants, and may use what that brought.
    pub(super) waited: bool,
    /// What the load has for its own request alone.
    pub(super) handed: Handed,
}

/// What a load tells the request that led it, besides what goes into the cache.
#[derive(Default)]
pub(super) struct Handed(Mutex<Hand>);

#[derive(Default)]
pub(crate) struct Hand {
    /// A response that is not for anybody else, its body perhaps still on its way.
    pub(super) response: Option<Response<Body>>,
    /// What upstream said.
    pub(super) status: Option<StatusCode>,
    /// Whether the response was stored.
    pub(super) stored: bool,
    /// Why it was not.
    pub(super) why: Option<&'static str>,
    /// Whether something stale was there to be refreshed.
    pub(super) was_stale: bool,
}

impl Handed {
    pub(super) fn take(&self) -> Hand {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn with(&self, note: impl FnOnce(&mut Hand)) {
        note(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What was known when a response was asked for.
struct Before {
    /// Of the target's variants.
    varies: Option<Varies>,
    /// What the cache had been told, if that may concern the response on its way to its variant.
    told: Option<Told>,
}

/// A response to be asked about, or the variants that there are of the target. If those are in doubt, somebody may have removed
/// the target, and with it all of them: they are not to be found again.
fn known(entry: Entry<Bytes>) -> (Option<StoredResponse>, Option<Varies>) {
    let doubted = entry.doubted;
    match Record::decode(entry.value) {
        Ok(Record::Response(response)) => (Some(response), None),
        Ok(Record::Varies(varies)) => (None, Some(varies).filter(|_| !doubted)),
        Err(_) => (None, None),
    }
}

impl<U: Upstream> Loading<U> {
    /// Loads what the machine asks for.
    pub(super) async fn load(self: Arc<Self>, context: LoadContext) -> Result<Loaded, LoadError> {
        if self.waited
            && let Some(loaded) = self.carried(&context.key).await
        {
            self.handed.with(|hand| hand.stored = true);
            return Ok(loaded);
        }
        let told = if U::TAGS && self.varies.is_none() { Told::to(&self.responses().cache).await } else { None };
        let (previous, varies) = context.previous.map_or((None, None), known);
        self.handed.with(|hand| hand.was_stale |= previous.is_some());
        if let Some(previous) = previous {
            let (response, delay) = self.send(Some(&previous.headers)).await?;
            if response.status() != StatusCode::NOT_MODIFIED {
                return self.receive(response, delay, Before { varies, told }).await;
            }
            // A 304 about another response than ours says nothing: ask again without conditions.
            if let Some(headers) = refreshed(&previous.headers, response.headers()) {
                return Ok(self.keep(StoredResponse { headers, ..previous }, delay, Before { varies, told }));
            }
        }
        let (response, delay) = self.send(None).await?;
        self.receive(response, delay, Before { varies, told }).await
    }

    /// What the request has brought to its variant; nothing if that may have been invalidated since it was asked for.
    async fn carried(&self, key: &str) -> Option<Loaded> {
        let (loaded, told) = self.responses().carried.take(key)?;
        (told.is_none() || told == Told::to(&self.responses().cache).await).then_some(loaded)
    }

    fn responses(&self) -> &Arc<Responses> {
        &self.asked.responses
    }

    /// Sends the request with conditions for what is stored.
    async fn send(&self, stored: Option<&HeaderMap>) -> Result<(Response<Body>, Duration), LoadError> {
        let mut headers = self.asked.question.headers.clone();
        condition(&mut headers, stored);
        // Of an earlier attempt.
        self.handed.with(|hand| hand.response = None);
        let sent = Instant::now();
        let mut response = self.asked.upstream.send(headers).await?;
        let delay = sent.elapsed();
        stamp(response.headers_mut(), SystemTime::now());
        self.handed.with(|hand| hand.status = Some(response.status()));
        Ok((response, delay))
    }

    async fn receive(&self, response: Response<Body>, delay: Duration, before: Before) -> Result<Loaded, LoadError> {
        let status = response.status();
        if status.is_server_error() {
            return Err(self.fail(response).await);
        }
        if let Verdict::Pass { why } = self.verdict(status, response.headers(), delay) {
            return Ok(self.hand_over(response, why.token()));
        }
        let body_bytes_max = self.responses().body_bytes_max;
        let declared =
            if self.asked.question.method == Method::HEAD { None } else { declared_length(response.headers()) };
        if declared.unwrap_or(0).max(response.body().size_hint().lower()) > body_bytes_max as u64 {
            return Ok(self.hand_over(response, "too-large"));
        }
        let (mut parts, body) = response.into_parts();
        match read(body, body_bytes_max).await {
            Ok(Read::Whole(body)) => {
                remove_hop_by_hop(&mut parts.headers);
                Ok(self.keep(StoredResponse { status, headers: parts.headers, body }, delay, before))
            }
            Ok(Read::NotKept { body, why }) => Ok(self.hand_over(Response::from_parts(parts, body), why)),
            // What it says may be of the data.
            Err(_broken) => Err(LoadError::unavailable("the response broke off")),
        }
    }

    /// Keeps a complete response under the key it belongs to.
    fn keep(&self, response: StoredResponse, delay: Duration, before: Before) -> Loaded {
        let (windows, age) = match self.verdict(response.status, &response.headers, delay) {
            Verdict::Store { windows, age } => (windows, age),
            Verdict::Pass { why } => return self.hand_over(response.into_http(), why.token()),
        };
        let names = match Vary::of(&response.headers) {
            Vary::Names(names) => names,
            Vary::Any => return self.hand_over(response.into_http(), "vary-star"),
        };
        let names = joined(names, &self.asked.question.varies_by);
        let known = self.varies.as_ref().map_or(&[][..], |varies| &varies.names);
        let tags = self.asked.upstream.tags();
        if names == known || names.is_empty() {
            self.handed.with(|hand| hand.stored = true);
            return Loaded::new(Record::Response(response).encode()).windows(windows).age(age).tags(tags);
        }
        // A call that wants it newer than the marker is must not part others from their variants.
        let varies = match before.varies {
            Some(before) if before.names == names => before,
            _ => Varies { names, generation: random_seed() },
        };
        let ttl = Windows { ttl: Some(VARIES_TTL), ..Windows::FOREVER };
        if self.varies.is_none() {
            let told = before.told.filter(|_| !tags.is_empty());
            if told.is_some() || tags.is_empty() {
                let key = variant_key(&self.asked.question.key, &varies, &self.asked.question.headers);
                let loaded = Loaded::new(Record::Response(response).encode()).windows(windows).tags(tags);
                self.responses().carried.put(&self.luggage, key, (loaded, told), age);
            }
            return Loaded::new(Record::Varies(varies).encode()).windows(ttl);
        }
        // It varies by other headers than before: the target learns that, and this key is of the past.
        let (responses, base) = (Arc::clone(self.responses()), self.asked.question.key.clone());
        let marker = Record::Varies(varies).encode();
        tokio::spawn(async move { responses.cache.put(&base, marker, Some(ttl)).await });
        self.hand_over(response.into_http(), "vary-changed")
    }

    /// The response is for the request that led the load alone.
    fn hand_over(&self, response: Response<Body>, why: &'static str) -> Loaded {
        self.handed.with(|hand| {
            hand.response = Some(response);
            hand.why = Some(why);
        });
        Loaded::new(Bytes::new()).private()
    }

    /// A 5xx as a failed load. Who led it gets the page as it is, and everybody who waits does if it may be shared.
    ///
    /// The four that RFC 5861 section 4 names mean that no answer was had; of those, 500 says so of this one target, and
    /// nothing of the others (nginx does not count it against an upstream either). Any other is an answer.
    async fn fail(&self, response: Response<Body>) -> LoadError {
        let (parts, content) = response.into_parts();
        let (status, wait) = (parts.status, retry_after(&parts.headers));
        let message = format!("the answer was {status}");
        let error = match status.as_u16() {
            500 => LoadError::isolated(message),
            502..=504 => LoadError::unavailable(message),
            _ => LoadError::answer(message),
        };
        let error = wait.map_or(error.clone(), |wait| error.retry_after(wait));
        let (content, page) = match read(content, ERROR_BODY_MAX).await {
            Ok(Read::Whole(body)) => (full(body.clone()), self.shared_page(status, &parts.headers, body)),
            Ok(Read::NotKept { body, .. }) => (body, self.shared_page(status, &parts.headers, Bytes::new())),
            Err(_broken) => return error,
        };
        self.handed.with(|hand| hand.response = Some(Response::from_parts(parts, content)));
        error.with_detail(Record::Response(page).encode())
    }

    /// What of an error page everybody may see who asked at the same time.
    fn shared_page(&self, status: StatusCode, headers: &HeaderMap, body: Bytes) -> StoredResponse {
        if self.is_for_one(headers) {
            let wait = headers.get(header::RETRY_AFTER).map(|wait| (header::RETRY_AFTER, wait.clone()));
            return StoredResponse { status, headers: wait.into_iter().collect(), body: Bytes::new() };
        }
        let mut headers = headers.clone();
        remove_hop_by_hop(&mut headers);
        if body.is_empty() {
            headers.remove(header::CONTENT_LENGTH);
        }
        StoredResponse { status, headers, body }
    }

    /// Whether an error page may speak of who asked, while others wait for it who are somebody else: it says so itself, or
    /// depends on credentials that are not in the key.
    fn is_for_one(&self, page: &HeaderMap) -> bool {
        let control = CacheControl::of(page);
        if control.private || control.no_store || page.contains_key(header::SET_COOKIE) {
            return true;
        }
        let question = &self.asked.question;
        if question.facts.authorized && !control.public {
            return true;
        }
        let Vary::Names(names) = Vary::of(page) else { return true };
        let in_key = self.varies.as_ref().map_or(&[][..], |varies| &varies.names);
        let credentials = |name| is_credential(name, &question.headers) && !in_key.contains(name);
        names.iter().chain(&question.varies_by).any(credentials)
    }

    fn verdict(&self, status: StatusCode, response: &HeaderMap, delay: Duration) -> Verdict {
        let question = &self.asked.question;
        storable(&question.facts, status, response, &question.choices, delay, SystemTime::now())
    }
}

/// Both, sorted, each once.
fn joined(mut names: Vec<HeaderName>, others: &[HeaderName]) -> Vec<HeaderName> {
    names.extend_from_slice(others);
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    names
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// `Retry-After`, as seconds or as a date (RFC 9110 section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER).and_then(|value| delta_seconds(value.as_bytes().trim_ascii()));
    seconds.or_else(|| date(headers, &header::RETRY_AFTER)?.duration_since(SystemTime::now()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_that_are_in_doubt_are_not_found_again() {
        let varies = Varies { names: vec![header::ACCEPT], generation: 7 };
        let entry = |doubted| {
            let entry = Entry::new(Record::Varies(varies.clone()).encode(), Windows::FOREVER);
            Entry { doubted, ..entry }
        };
        let generation = |doubted| known(entry(doubted)).1.map(|varies| varies.generation);
        assert_eq!((generation(false), generation(true)), (Some(7), None));
    }
}
