//! The way of a request to a response: by its key, and on to the variant that its headers select.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName};
use http::{Method, StatusCode};
use tideover_core::Source;

use super::cache_control::CacheControl;
use super::cache_status::{CacheStatus, Fwd};
use super::carried::Luggage;
use super::freshness::{Choices, RequestFacts};
use super::load::{Hand, Handed, Loading};
use super::stored::{Record, StoredResponse, Varies};
use super::vary::variant_key;
use super::{Responses, Upstream};
use crate::cache::{CallOptions, Fetched};
use crate::error::Error;

/// Lookups that one request may need: the target, its variant, and both again if they changed meanwhile.
const LOOKUPS_MAX: usize = 4;

/// What is asked of the cache.
pub(crate) struct Question {
    /// GET or HEAD.
    pub(crate) method: Method,
    /// As upstream is to see them, but for conditions.
    pub(crate) headers: HeaderMap,
    pub(crate) facts: RequestFacts,
    pub(crate) choices: Choices,
    /// The key of the target.
    pub(crate) key: String,
    /// For a HEAD, that of a GET.
    pub(crate) get_key: Option<String>,
    /// Request headers by which every response varies, whatever it says itself.
    pub(crate) varies_by: Vec<HeaderName>,
    pub(crate) options: CallOptions,
}

/// A request on its way through the cache. A load may outlive it.
pub(crate) struct Asked<U> {
    pub(crate) responses: Arc<Responses>,
    pub(crate) upstream: U,
    pub(crate) question: Question,
}

/// What became of it.
pub(crate) enum Found {
    /// A response that the cache keeps.
    Stored(StoredResponse, Fetched<()>, Hand),
    /// A response for this request alone, if it was not lost on its way.
    Alone(Hand),
    /// Nothing is stored, and nobody may be asked.
    NotStored,
    /// None, and nothing stale that could stand in.
    Failed(Error, Hand),
    /// What is stored changed at each look.
    Unsettled,
}

/// Why a request is none for a cache, if it is none.
pub(crate) fn past_the_cache(method: &Method, headers: &HeaderMap, has_body: bool) -> Option<CacheStatus> {
    if method != Method::GET && method != Method::HEAD {
        return Some(CacheStatus::fwd(Fwd::Method));
    }
    if CacheControl::of(headers).no_store {
        return Some(CacheStatus::fwd(Fwd::Request).detail("no-store"));
    }
    if headers.contains_key(header::RANGE) {
        return Some(CacheStatus::fwd(Fwd::Bypass).detail("range"));
    }
    if has_body {
        return Some(CacheStatus::fwd(Fwd::Bypass).detail("request-body"));
    }
    None
}

/// Whether the response to an unsafe method makes what is stored for its target invalid (RFC 9111 section 4.4).
pub(crate) fn invalidates(method: &Method, response: StatusCode) -> bool {
    !method.is_safe() && (response.is_success() || response.is_redirection())
}

impl<U: Upstream> Asked<U> {
    /// Answers from the cache, or through it from upstream.
    pub(crate) async fn find(self: &Arc<Self>) -> Found {
        if let Some((response, fetched)) = self.head_of_get().await {
            return Found::Stored(response, fetched, Hand::default());
        }
        let Question { key: base, headers, .. } = &self.question;
        let only_if_cached = CacheControl::of(headers).only_if_cached;
        let luggage = Arc::<Luggage>::default();
        let (mut varies, mut waited) = (None::<Varies>, false);
        for _ in 0..LOOKUPS_MAX {
            let key = varies.as_ref().map_or_else(|| base.clone(), |varies| variant_key(base, varies, headers));
            let loading = Arc::new(Loading {
                asked: Arc::clone(self),
                varies: varies.take(),
                luggage: Arc::downgrade(&luggage),
                waited,
                handed: Handed::default(),
            });
            let found = self.look_up(&key, &loading, only_if_cached).await;
            let mut hand = loading.handed.take();
            let fetched = match found {
                Ok(Some(fetched)) => fetched,
                Ok(None) => return Found::NotStored,
                Err(error) => return Found::Failed(error, hand),
            };
            if fetched.private && fetched.value.is_empty() {
                return Found::Alone(hand);
            }
            // What was invalidated meanwhile is kept from those who came after that, and not from who led.
            hand.stored &= !fetched.private;
            waited = fetched.source == Source::Load;
            match Record::decode(fetched.value.clone()) {
                Ok(Record::Response(response)) => return Found::Stored(response, fetched.map(drop), hand),
                Ok(Record::Varies(found)) => varies = Some(found),
                Err(_corrupt) => {
                    let _settled = self.responses.cache.remove(&key).await;
                }
            }
        }
        Found::Unsettled
    }

    /// `None` if nothing may be asked of upstream, and nothing is stored.
    async fn look_up(
        &self,
        key: &str,
        loading: &Arc<Loading<U>>,
        only_if_cached: bool,
    ) -> Result<Option<Fetched>, Error> {
        let (cache, options) = (&self.responses.cache, self.question.options);
        if only_if_cached {
            return cache.get_with(key, options).await;
        }
        let loading = Arc::clone(loading);
        let load = move |context| Arc::clone(&loading).load(context);
        if options == CallOptions::new() {
            // Hits are quicker there.
            return cache.get_or_load(key, load).await.map(Some);
        }
        cache.get_or_load_with(key, options, load).await.map(Some)
    }

    /// The stored response to a GET, as the answer to a HEAD (RFC 9110 section 9.3.2).
    async fn head_of_get(&self) -> Option<(StoredResponse, Fetched<()>)> {
        let (cache, options) = (&self.responses.cache, self.question.options);
        let base = self.question.get_key.as_ref()?;
        let mut fetched = cache.get_with(base, options).await.ok()??;
        if let Ok(Record::Varies(varies)) = Record::decode(fetched.value.clone()) {
            let key = variant_key(base, &varies, &self.question.headers);
            fetched = cache.get_with(&key, options).await.ok()??;
        }
        match Record::decode(fetched.value.clone()) {
            Ok(Record::Response(response)) if !fetched.is_stale() => Some((response, fetched.map(drop))),
            _ => None,
        }
    }
}
