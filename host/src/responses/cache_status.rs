//! What the cache did, told to whoever reads the response: the field `Cache-Status` of RFC 9211.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::headers::NAME;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why a request went to the origin (RFC 9211 section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fwd {
    /// The cache was told not to handle the request.
    Bypass,
    /// The method is not one that a cache may answer.
    Method,
    /// Nothing suitable is stored: neither whether the target nor whether its variant was missing is told.
    Miss,
    /// What is stored is fresh, but the request asks for a newer one.
    Request,
    /// What is stored is stale.
    Stale,
}

impl Fwd {
    const fn token(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::Miss => "miss",
            Self::Request => "request",
            Self::Stale => "stale",
        }
    }
}

/// One member of `Cache-Status`: how this cache handled one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) struct CacheStatus {
    fwd: Option<Fwd>,
    fwd_status: Option<StatusCode>,
    ttl: Option<i64>,
    stored: bool,
    collapsed: bool,
    detail: Option<&'static str>,
}

impl CacheStatus {
    /// The response came from the cache (section 2.1).
    pub(crate) const fn hit() -> Self {
        Self { fwd: None, fwd_status: None, ttl: None, stored: false, collapsed: false, detail: None }
    }

    /// The request went to the origin (section 2.2).
    pub(crate) const fn fwd(why: Fwd) -> Self {
        Self { fwd: Some(why), ..Self::hit() }
    }

    /// What the origin answered, if that is not the status of the response (section 2.3).
    pub(crate) const fn fwd_status(self, status: StatusCode) -> Self {
        Self { fwd_status: Some(status), ..self }
    }

    /// How long the response stays fresh, negative once it is stale (section 2.4).
    pub(crate) fn ttl(self, lifetime: Duration, age: Duration) -> Self {
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        // What a structured field can hold: fifteen digits (RFC 8941 section 3.3.1).
        let ttl = (seconds(lifetime) - seconds(age)).clamp(-999_999_999_999_999, 999_999_999_999_999);
        Self { ttl: Some(ttl), ..self }
    }

    /// The response was stored (section 2.5).
    pub(crate) const fn stored(self) -> Self {
        Self { stored: true, ..self }
    }

    /// The request waited for another one's response (section 2.6).
    pub(crate) const fn collapsed(self) -> Self {
        Self { collapsed: true, ..self }
    }

    /// Anything else worth knowing, as a token that begins with a letter (section 2.8).
    pub(crate) const fn detail(self, token: &'static str) -> Self {
        Self { detail: Some(token), ..self }
    }

    /// Adds this cache behind those nearer to the origin (section 2).
    pub(crate) fn append_to(&self, response: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.to_string()) {
            response.append(CACHE_STATUS, value);
        }
    }
}

impl fmt::Display for CacheStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)?;
        match self.fwd {
            None => f.write_str("; hit")?,
            Some(why) => write!(f, "; fwd={}", why.token())?,
        }
        if let Some(status) = self.fwd_status {
            write!(f, "; fwd-status={}", status.as_u16())?;
        }
        if let Some(ttl) = self.ttl {
            write!(f, "; ttl={ttl}")?;
        }
        if self.stored {
            f.write_str("; stored")?;
        }
        if self.collapsed {
            f.write_str("; collapsed")?;
        }
        if let Some(token) = self.detail {
            write!(f, "; detail={token}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_hit_says_how_long_it_stays_fresh() {
        assert_eq!(CacheStatus::hit().to_string(), "tideover; hit");
        assert_eq!(CacheStatus::hit().ttl(secs(60), secs(18)).to_string(), "tideover; hit; ttl=42");
    }

    #[test]
    fn stale_has_a_negative_ttl() {
        assert_eq!(CacheStatus::hit().ttl(secs(60), secs(65)).to_string(), "tideover; hit; ttl=-5");
        let rescued = CacheStatus::fwd(Fwd::Stale)
            .fwd_status(StatusCode::SERVICE_UNAVAILABLE)
            .ttl(secs(0), secs(412))
            .detail("stale-if-error");
        assert_eq!(rescued.to_string(), "tideover; fwd=stale; fwd-status=503; ttl=-412; detail=stale-if-error");
    }

    #[test]
    fn a_miss_says_whether_it_was_stored_and_shared() {
        let leader = CacheStatus::fwd(Fwd::Miss).ttl(secs(60), secs(0)).stored();
        assert_eq!(leader.to_string(), "tideover; fwd=miss; ttl=60; stored");
        assert_eq!(leader.collapsed().to_string(), "tideover; fwd=miss; ttl=60; stored; collapsed");
        assert_eq!(
            CacheStatus::fwd(Fwd::Bypass).detail("no-store").to_string(),
            "tideover; fwd=bypass; detail=no-store"
        );
    }

    #[test]
    fn every_reason_has_the_token_of_the_rfc() {
        let reasons = [Fwd::Bypass, Fwd::Method, Fwd::Miss, Fwd::Request, Fwd::Stale].map(Fwd::token);
        assert_eq!(reasons, ["bypass", "method", "miss", "request", "stale"]);
    }

    #[test]
    fn an_endless_ttl_fits_a_structured_field() {
        assert_eq!(CacheStatus::hit().ttl(Duration::MAX, secs(0)).to_string(), "tideover; hit; ttl=999999999999999");
        assert_eq!(CacheStatus::hit().ttl(secs(0), Duration::MAX).to_string(), "tideover; hit; ttl=-999999999999999");
    }

    #[test]
    fn the_cache_nearest_to_the_client_comes_last() {
        let mut response = HeaderMap::from_iter([(CACHE_STATUS, HeaderValue::from_static("Origin; hit"))]);
        CacheStatus::hit().append_to(&mut response);
        let members: Vec<_> = response.get_all(CACHE_STATUS).iter().collect();
        assert_eq!(members, ["Origin; hit", "tideover; hit"]);
    }
}
