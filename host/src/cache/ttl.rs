//! Freshness lifetimes by name: what a program says as "short", and a configuration as a duration.

use std::str::FromStr;
use std::time::Duration;

use super::{Builder, Cache};

/// A freshness lifetime by its name. How long it is, the cache says: [`Cache::ttl_of`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Ttl {
    /// What changes often; 30 s unless configured.
    Short,
    /// The cache's own ([`Policy::ttl`](crate::Policy::ttl)); 300 s unless configured.
    #[default]
    Default,
    /// What hardly changes; 1 h unless configured.
    Long,
}

impl Ttl {
    /// All of them, the shortest first.
    pub const ALL: [Self; 3] = [Self::Short, Self::Default, Self::Long];

    /// `short`, `default` or `long`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Default => "default",
            Self::Long => "long",
        }
    }
}

/// Reads what [`Ttl::name`] writes.
impl FromStr for Ttl {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|ttl| ttl.name() == name).ok_or("expected short, default or long")
    }
}

/// How long each [`Ttl`] of a cache is. Zero never expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TtlBuckets {
    /// See [`Ttl::Short`].
    pub short: Duration,
    /// See [`Ttl::Default`].
    pub default: Duration,
    /// See [`Ttl::Long`].
    pub long: Duration,
}

impl TtlBuckets {
    /// The length of one of them.
    #[must_use]
    pub const fn of(&self, ttl: Ttl) -> Duration {
        match ttl {
            Ttl::Short => self.short,
            Ttl::Default => self.default,
            Ttl::Long => self.long,
        }
    }
}

impl Default for TtlBuckets {
    fn default() -> Self {
        let [short, default, long] = [30, 300, 3600].map(Duration::from_secs);
        Self { short, default, long }
    }
}

impl Builder {
    /// How long one of the named lifetimes is; zero never expires. [`Ttl::Default`] is what [`ttl`](Self::ttl) sets.
    #[must_use]
    pub fn ttl_of(mut self, ttl: Ttl, length: Duration) -> Self {
        match ttl {
            Ttl::Short => self.ttls.short = length,
            Ttl::Default => return self.ttl(length),
            Ttl::Long => self.ttls.long = length,
        }
        self
    }
}

impl Cache {
    /// How long a lifetime is that is called so; zero never expires, as for all that take a `ttl`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tideover::{Cache, CallOptions, Loaded, Ttl};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let cache = Cache::builder().ttl_of(Ttl::Short, Duration::from_secs(5)).build()?;
    /// let briefly = CallOptions::new().ttl(cache.ttl_of(Ttl::Short));
    /// let price = cache.get_or_load_with("price:7", briefly, |_| async { Ok(Loaded::new("9.99")) }).await?;
    /// assert_eq!(price.ttl, Some(Duration::from_secs(5)));
    /// assert_eq!(cache.ttl_of(Ttl::Long), Duration::from_secs(3600));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn ttl_of(&self, ttl: Ttl) -> Duration {
        self.shared.ttls.of(ttl)
    }

    /// As [`ttl_of`](Self::ttl_of), by the name `short`, `default` or `long`; `None` for any other.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let cache = tideover::Cache::builder().build()?;
    /// assert_eq!(cache.ttl_named("default").map(|ttl| ttl.as_secs()), Some(300));
    /// assert_eq!(cache.ttl_named("brief"), None);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn ttl_named(&self, name: &str) -> Option<Duration> {
        name.parse().ok().map(|ttl| self.ttl_of(ttl))
    }
}
