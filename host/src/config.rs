//! Configuration: from code, from the environment, from TOML, from a preset; each option with the place where it was
//! said.
//!
//! What is said in code overrules the environment, that overrules files, those overrule the [`Preset`], and that the
//! defaults. Nothing is passed over in silence: an unknown name, a value that is not of its form and options that
//! contradict each other are [refused](ConfigError), all at once, each by its name and place. What works and is
//! doubtful is a warning. Passwords are in no message.
//!
//! ```
//! use std::time::Duration;
//! use tideover::Ttl;
//! use tideover::config::Config;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tideover::config::ConfigError> {
//! let file = r#"
//!     preset = "production"
//!     prefix = "shop"
//!
//!     [ttl]
//!     short = "10s"
//!
//!     [policy]
//!     stale_if_error = "1d"
//! "#;
//! let config = Config::builder()
//!     .toml("cache.toml", file)
//!     .variables([("CACHE_VERSION", "7"), ("CACHE_TTL_SHORT", "5")])
//!     .set("load_deadline", "2s")
//!     .read()?;
//! assert_eq!(config.ttl_of(Ttl::Short), Duration::from_secs(5));
//! assert_eq!(config.namespace(), "shop@7:");
//! let from = config.values().find(|value| value.option == "stale_if_error").expect("a value");
//! assert_eq!((from.value.as_str(), from.origin.to_string()), ("1d", "cache.toml:9".to_owned()));
//!
//! let cache = config.build()?;
//! assert_eq!(cache.ttl_of(Ttl::Short), Duration::from_secs(5));
//! # Ok(())
//! # }
//! ```
//!
//! A service that is configured by its environment alone needs one line: [`Cache::from_env`]. Every name is in
//! `docs/configuration.md`, which is made from [`options`].

mod check;
mod environment;
mod error;
mod file;
mod nearest;
mod options;
mod origin;
mod preset;
mod redis;
mod secret;
mod setting;
mod settle;
mod store;
#[cfg(all(test, feature = "redis"))]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tideover_core::Policy;
use tideover_core::time::Text;

pub use self::error::{ConfigError, Finding};
pub use self::options::{ConfigOption, options};
pub use self::origin::Origin;
pub use self::preset::{Preset, PresetChoice};

use self::setting::{Said, Setting};
use self::store::Choice;
use crate::cache::{Builder, Cache, EngineKind, Ttl, TtlBuckets};
use crate::error::Error;

/// A configuration that holds: every option has a value, and none contradicts another.
#[derive(Clone)]
pub struct Config {
    /// One for each option, in the order of [`options`].
    settings: Vec<Setting>,
    warnings: Vec<Finding>,
    policy: Policy,
    ttls: TtlBuckets,
    engine: EngineKind,
    store: Choice,
    preset: Option<Preset>,
}

/// The value of one option, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Value {
    /// The option's name.
    pub option: &'static str,
    /// The value as text, secrets masked; empty: nothing.
    pub value: String,
    /// Where it was said.
    pub origin: Origin,
}

impl Config {
    /// A configuration to be put together.
    #[must_use]
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// What the environment of this process says; the defaults where it says nothing.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Refused`] with everything that is wrong.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::builder().environment().read()
    }

    /// What the TOML file at `path` says, overruled by the environment of this process.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Refused`] with everything that is wrong; that the file cannot be read, too.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::builder().file(path).environment().read()
    }

    /// What was said that works and is doubtful: options without use, limits that other limits make pointless.
    #[must_use]
    pub fn warnings(&self) -> &[Finding] {
        &self.warnings
    }

    /// What every option is and where that was said, in the order of [`options`], secrets masked.
    pub fn values(&self) -> impl Iterator<Item = Value> {
        self.settings.iter().map(|setting| Value {
            option: setting.option,
            value: if setting.text.is_empty() { String::new() } else { setting.shown() },
            origin: setting.origin.clone(),
        })
    }

    /// The choices of the cache's policy.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How long a named lifetime is; zero never expires.
    #[must_use]
    pub const fn ttl_of(&self, ttl: Ttl) -> Duration {
        self.ttls.of(ttl)
    }

    /// Where the policy runs.
    #[must_use]
    pub const fn engine(&self) -> EngineKind {
        self.engine
    }

    /// The preset that it starts from, if there is one.
    #[must_use]
    pub const fn preset(&self) -> Option<Preset> {
        self.preset
    }

    /// What every key in the store begins with: `PREFIX:` or `PREFIX@VERSION:`. Each has one colon, at its end, so no
    /// namespace is the beginning of another.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.setting("namespace").map_or("", |setting| &setting.text)
    }

    /// The cache. To be called inside a tokio runtime. Warnings are logged.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Refused`] if the certificates that the store is to use cannot be used, [`ConfigError::Cache`] as
    /// [`Builder::build`].
    pub fn build(self) -> Result<Cache, ConfigError> {
        tokio::runtime::Handle::try_current().map_err(|_| Error::NoRuntime)?;
        for warning in &self.warnings {
            tracing::warn!("configuration: {warning}");
        }
        Ok(self.cache_builder()?.build()?)
    }

    /// As [`build`](Self::build), and ready: its store has answered. Without a store it is ready as it is.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use tideover::config::{Config, ConfigError};
    ///
    /// let config = Config::builder().set("url", "redis://127.0.0.1:1").read().expect("a configuration");
    /// let error = config.connect().await.expect_err("nobody is there");
    /// assert!(matches!(error, ConfigError::NotReady { .. }), "{error}");
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build), and [`ConfigError::NotReady`] if there is no answer within
    /// [`RedisConfig::call_timeout`](crate::store::RedisConfig::call_timeout).
    #[cfg(feature = "redis")]
    pub async fn connect(self) -> Result<Cache, ConfigError> {
        let url = self.setting("url").cloned();
        let cache = self.build()?;
        let (Some(url), Some(store)) = (url, &cache.stores().primary) else { return Ok(cache) };
        let Err(error) = store.ping().await else { return Ok(cache) };
        cache.shutdown().await;
        let finding = url.finding(format!("the store is not ready: {error}")).into();
        Err(ConfigError::NotReady { finding, error })
    }

    fn setting(&self, option: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.option == option)
    }

    /// What the cache is to be made with, for those who have more to say than a configuration can. To be called inside a
    /// tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Refused`], as [`build`](Self::build).
    pub fn cache_builder(self) -> Result<Builder, ConfigError> {
        let url = self.setting("url").cloned();
        let mut builder = Cache::builder().policy(self.policy).engine(self.engine);
        for ttl in Ttl::ALL {
            builder = builder.ttl_of(ttl, self.ttls.of(ttl));
        }
        match self.store.open() {
            Ok(None) => Ok(builder),
            Ok(Some(store)) => Ok(builder.own_store(store)),
            Err(reason) => {
                let refusals = url.map(|url| url.finding(reason)).into_iter().collect();
                Err(ConfigError::Refused { refusals, warnings: self.warnings })
            }
        }
    }
}

/// What was chosen, each with its origin; no secrets.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chosen = self.values().filter(|value| value.origin != Origin::Default);
        f.debug_map().entries(chosen.map(|value| (value.option, (value.value, value.origin.to_string())))).finish()
    }
}

impl Cache {
    /// The cache that the environment of this process describes: `CACHE_URL`, `CACHE_PREFIX` and the others of
    /// `docs/configuration.md`. With nothing set it is in memory alone. To be called inside a tokio runtime.
    ///
    /// ```no_run
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), tideover::config::ConfigError> {
    /// let cache = tideover::Cache::from_env()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with everything that is wrong.
    pub fn from_env() -> Result<Self, ConfigError> {
        Config::from_env()?.build()
    }
}

/// Where a configuration is to be taken from. Nothing is read before [`read`](Self::read) or [`build`](Self::build).
#[derive(Default)]
pub struct ConfigBuilder {
    sources: Vec<FileSource>,
    variables: Vec<(OsString, OsString)>,
    explicit: Vec<(String, String, Origin)>,
    other_keys: Vec<String>,
}

enum FileSource {
    Path(PathBuf),
    Text { name: String, text: String },
}

impl ConfigBuilder {
    /// Also what the TOML file at `path` says; it overrules the files before it.
    #[must_use]
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.sources.push(FileSource::Path(path.as_ref().to_owned()));
        self
    }

    /// As [`file`](Self::file), for a file that was read already; `name` is what messages call it.
    #[must_use]
    pub fn toml(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.sources.push(FileSource::Text { name: name.into(), text: text.into() });
        self
    }

    /// Keys and tables of the files' top level that belong to somebody else, and are neither read nor refused: `server`,
    /// if the service keeps its own options in the same file.
    #[must_use]
    pub fn other_keys(mut self, keys: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.other_keys.extend(keys.into_iter().map(Into::into));
        self
    }

    /// Also what the environment of this process says; it overrules files.
    #[must_use]
    pub fn environment(self) -> Self {
        self.variables(std::env::vars_os())
    }

    /// As [`environment`](Self::environment), with these variables in its place.
    #[must_use]
    pub fn variables(
        mut self,
        variables: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
    ) -> Self {
        self.variables.extend(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// Starts from a preset, whatever files and environment say.
    #[must_use]
    pub fn preset(self, preset: Preset) -> Self {
        self.set("preset", preset.name())
    }

    /// The shared store; `mem://` for none.
    #[must_use]
    pub fn url(self, url: &str) -> Self {
        self.set("url", url)
    }

    /// How long a named lifetime is; zero never expires.
    #[must_use]
    pub fn ttl_of(self, ttl: Ttl, length: Duration) -> Self {
        let option = match ttl {
            Ttl::Short => "ttl.short",
            Ttl::Default => "ttl",
            Ttl::Long => "ttl.long",
        };
        self.set(option, &Text(length).to_string())
    }

    /// Any option by its name, as text: `set("stale_if_error", "1h")`, `set("redis.backplane", "off")`. Overrules files
    /// and environment, and what was set before.
    #[must_use]
    pub fn set(self, option: &str, value: &str) -> Self {
        self.set_by("code", option, value)
    }

    /// As [`set`](Self::set); `by` is what messages name as the place where it was said, such as `--store`.
    #[must_use]
    pub fn set_by(self, by: &'static str, option: &str, value: &str) -> Self {
        self.said(option, value, Origin::Explicit(by))
    }

    /// What holds for the option where nobody says anything, in place of its default.
    #[must_use]
    pub fn default_value(self, option: &str, value: &str) -> Self {
        self.said(option, value, Origin::Default)
    }

    fn said(mut self, option: &str, value: &str, origin: Origin) -> Self {
        self.explicit.retain(|(known, _, earlier)| known != option || earlier.rank() != origin.rank());
        self.explicit.push((option.to_owned(), value.trim().to_owned(), origin));
        self
    }

    /// The configuration, after a look at everything that was said.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Refused`] with everything that is wrong.
    ///
    /// ```
    /// use tideover::config::Config;
    ///
    /// let error = Config::builder()
    ///     .variables([("CACHE_URL", "redis://app:hush@cache:port"), ("TIDEOVER_STALE_IF_EROR", "1h")])
    ///     .read()
    ///     .expect_err("neither can be");
    /// let text = error.to_string();
    /// assert!(text.starts_with("TIDEOVER_STALE_IF_EROR"), "{text}");
    /// assert!(text.contains("did you mean TIDEOVER_STALE_IF_ERROR?"), "{text}");
    /// assert!(text.contains("url = redis://*** (CACHE_URL)") && !text.contains("hush"), "{text}");
    /// ```
    pub fn read(self) -> Result<Config, ConfigError> {
        let mut said = Said::default();
        for (number, source) in self.sources.iter().enumerate() {
            source.read(number, &self.other_keys, &mut said);
        }
        environment::read(&self.variables, &mut said);
        for (name, text, origin) in self.explicit {
            match options::named(&name) {
                Some(option) => said.settings.push(Setting::new(option.name, text, origin)),
                None => said.refuse(&name, &origin, nearest::unknown("option", &name, option_names())),
            }
        }
        settle::settle(said)
    }

    /// The cache; as [`read`](Self::read) and [`Config::build`] together.
    ///
    /// # Errors
    ///
    /// As those.
    pub fn build(self) -> Result<Cache, ConfigError> {
        self.read()?.build()
    }

    /// The cache, ready; as [`read`](Self::read) and [`Config::connect`] together.
    ///
    /// # Errors
    ///
    /// As those.
    #[cfg(feature = "redis")]
    pub async fn connect(self) -> Result<Cache, ConfigError> {
        self.read()?.connect().await
    }
}

fn option_names() -> impl Iterator<Item = &'static str> {
    options().iter().map(|option| option.name)
}

impl FileSource {
    fn read(&self, number: usize, other_keys: &[String], said: &mut Said) {
        let (path, text) = match self {
            Self::Text { name, text } => (Arc::from(name.as_str()), text.clone()),
            Self::Path(path) => {
                let name: Arc<str> = Arc::from(path.display().to_string());
                let text = file::read_file(path)
                    .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "the file is not text in UTF-8".to_owned()));
                match text {
                    Ok(text) => (name, text),
                    Err(reason) => {
                        said.incomplete = true;
                        return said.refuse("", &Origin::File { path: name, line: 0, number }, reason);
                    }
                }
            }
        };
        file::Source::new(path, &text, number, other_keys).read(said);
    }
}
