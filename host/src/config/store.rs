//! Which store a configuration describes.

use std::sync::Arc;

#[cfg(feature = "redis")]
use super::redis;
use super::setting::{Said, Setting};
use crate::store::Store;
#[cfg(feature = "redis")]
use crate::store::{RedisConfig, RedisConfigError, RedisStore};

/// The URL of no store.
pub(super) const NONE: &str = "mem://";

/// The store behind memory.
#[derive(Clone)]
pub(super) enum Choice {
    /// Memory is all there is.
    None,
    #[cfg(feature = "redis")]
    Redis(Box<RedisConfig>),
}

/// Whether the URL is of a form that some store reads.
pub(super) fn reads(url: &str) -> bool {
    url == NONE || check_url(url).is_ok()
}

/// Refuses URLs that no store of this build reads. The reason shows nothing of the URL.
pub(super) fn check_url(url: &str) -> Result<(), String> {
    if url == NONE {
        return Ok(());
    }
    if url.trim_end_matches('/') == "mem:" || url.starts_with("memory") {
        return Err("memory without a shared store is written mem://".to_owned());
    }
    check_redis_url(url)
}

#[cfg(feature = "redis")]
fn check_redis_url(url: &str) -> Result<(), String> {
    match RedisConfig::new(url).validate() {
        Err(RedisConfigError::Url(reason)) => Err(format!("the URL cannot be used: {reason}; or mem:// for none")),
        _ => Ok(()),
    }
}

#[cfg(not(feature = "redis"))]
fn check_redis_url(_url: &str) -> Result<(), String> {
    Err("this build knows no store but mem://: the feature `redis` is off".to_owned())
}

/// Refuses text that is not of the form of the option of Redis.
#[cfg(feature = "redis")]
pub(super) fn check_option(option: &str, text: &str) -> Result<(), String> {
    redis::set(&mut RedisConfig::new(""), option, text)
}

#[cfg(not(feature = "redis"))]
pub(super) fn check_option(_option: &str, _text: &str) -> Result<(), String> {
    Ok(())
}

/// The store at the URL, with the options of Redis that somebody has said.
#[cfg(feature = "redis")]
pub(super) fn choose(url: &Setting, namespace: &str, options: &[&Setting], said: &mut Said) -> Choice {
    if url.text == NONE || !reads(&url.text) {
        return Choice::None;
    }
    let mut config = RedisConfig { namespace: namespace.to_owned(), ..RedisConfig::new(url.text.as_str()) };
    let mut whole = true;
    for setting in options {
        // What is not of its form was refused before.
        let _refused = redis::set(&mut config, setting.option, &setting.text);
        if let Err(reason) = redis::read(&mut config, setting.option, &setting.text) {
            said.refusals.push(setting.finding(reason));
            whole = false;
        }
    }
    if whole && let Err(error) = config.validate() {
        let error = error.to_string();
        said.refusals.push(blamed(url, options, &error).finding(error));
    }
    Choice::Redis(Box::new(config))
}

#[cfg(not(feature = "redis"))]
pub(super) fn choose(_url: &Setting, _namespace: &str, _options: &[&Setting], _said: &mut Said) -> Choice {
    Choice::None
}

/// The setting that an error of the store is about: the first that it names, or the URL.
#[cfg(feature = "redis")]
fn blamed<'a>(url: &'a Setting, options: &[&'a Setting], error: &str) -> &'a Setting {
    let names = |setting: &&&Setting| error.contains(setting.option.trim_start_matches("redis."));
    let tls = |setting: &&&Setting| error.contains("tls") && setting.option.starts_with("redis.tls_");
    options.iter().find(names).or_else(|| options.iter().find(tls)).copied().unwrap_or(url)
}

impl Choice {
    /// The store itself, which connects when it is first used.
    pub(super) fn open(&self) -> Result<Option<Arc<dyn Store>>, String> {
        match self {
            Self::None => Ok(None),
            #[cfg(feature = "redis")]
            Self::Redis(config) => {
                let store = RedisStore::new(RedisConfig::clone(config)).map_err(|error| error.to_string())?;
                Ok(Some(Arc::new(store)))
            }
        }
    }
}
