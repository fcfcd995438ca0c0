//! Every option by its one name, and by the names that files and the environment have for it.

use std::sync::LazyLock;

use tideover_core::Policy;

use super::redis;

/// One option of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigOption {
    /// Its name for [`ConfigBuilder::set`](super::ConfigBuilder::set): `url`, `ttl.short`, `stale_if_error`,
    /// `redis.backplane`.
    pub name: &'static str,
    /// The variables of the environment that say it; an earlier one comes before a later.
    pub variables: Vec<String>,
    /// The keys of a file that say it: `[ttl] short`.
    pub keys: Vec<String>,
    /// What holds if nobody says anything, as text; empty: nothing.
    pub default: String,
    /// What it means.
    pub doc: &'static str,
}

/// An option that is neither of the policy nor of Redis: name, variables, keys, default, meaning.
struct Own(&'static str, &'static [&'static str], &'static [&'static str], &'static str, &'static str);

const OWN: &[Own] = &[
    Own("preset", &["CACHE_PRESET"], &["preset"], "", "Choices to start from: development, production or edge."),
    Own(
        "url",
        &["CACHE_URL", "REDIS_URL"],
        &["url", "store"],
        "mem://",
        "The shared store: `mem://` for none, or any URL that `RedisConfig` reads, such as `redis://host:port/database`.",
    ),
    Own(
        "prefix",
        &["CACHE_PREFIX"],
        &["prefix"],
        "tideover",
        "What every key in the store begins with, a colon after it. Letters, digits and `-_./+`.",
    ),
    Own(
        "version",
        &["CACHE_VERSION"],
        &["version"],
        "",
        "The version of what is cached: keys begin with `PREFIX@VERSION:`, and versions do not see each other. Letters, \
         digits and `-_./+`.",
    ),
    Own(
        "namespace",
        &["CACHE_NAMESPACE"],
        &["namespace"],
        "",
        "What every key in the store begins with, to the letter, in place of `prefix` and `version`.",
    ),
    Own(
        "engine",
        &["CACHE_ENGINE"],
        &["engine"],
        "native",
        "Where the policy runs: native, or policy or component in WebAssembly, where the build has them.",
    ),
    Own(
        "breaker",
        &["CACHE_BREAKER"],
        &["breaker"],
        "on",
        "Switches both circuit breakers: on or off, for `store_breaker` and `load_breaker`.",
    ),
    Own(
        "ttl.short",
        &["CACHE_TTL_SHORT"],
        &["[ttl] short"],
        "30s",
        "How long `Ttl::Short` is; a number without a unit is seconds, 0 never expires.",
    ),
    Own(
        "ttl.long",
        &["CACHE_TTL_LONG"],
        &["[ttl] long"],
        "1h",
        "How long `Ttl::Long` is; a number without a unit is seconds, 0 never expires.",
    ),
];

/// Options of the policy that follow from the store, whatever anybody says.
pub(super) const FOLLOWING: [&str; 2] = ["store", "store_log"];

/// All options, in the order of documents: those of the cache as a whole, those of the [`Policy`], those of Redis.
///
/// ```
/// let lease = tideover::config::options().iter().find(|option| option.name == "lease").expect("there is one");
/// assert_eq!(lease.variables, ["TIDEOVER_LEASE"]);
/// assert_eq!(lease.keys, ["[policy] lease"]);
/// ```
#[must_use]
pub fn options() -> &'static [ConfigOption] {
    static ALL: LazyLock<Vec<ConfigOption>> = LazyLock::new(|| {
        let own = OWN.iter().map(|Own(name, variables, keys, default, doc)| ConfigOption {
            name,
            variables: owned(variables),
            keys: owned(keys),
            default: (*default).to_owned(),
            doc,
        });
        let policy = Policy::OPTIONS.iter().map(|option| {
            let follows = FOLLOWING.contains(&option.name);
            let doc = if follows { "Follows from the store at `url`, whatever is said." } else { option.doc.trim() };
            of_policy(option.name, option.default_text(), doc)
        });
        let redis = redis::OPTIONS.iter().map(|option| ConfigOption {
            name: option.name,
            variables: vec![variable(option.name)],
            keys: vec![format!("[redis] {}", option.name.trim_start_matches("redis."))],
            default: option.default.to_owned(),
            doc: option.doc,
        });
        own.chain(policy).chain(redis).collect()
    });
    &ALL
}

fn of_policy(name: &'static str, default: String, doc: &'static str) -> ConfigOption {
    let mut option =
        ConfigOption { name, variables: vec![variable(name)], keys: vec![format!("[policy] {name}")], default, doc };
    if name == "ttl" {
        option.variables.insert(0, "CACHE_TTL_DEFAULT".to_owned());
        option.keys.insert(0, "[ttl] default".to_owned());
    }
    option
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// The variable that says an option of the policy or of Redis.
fn variable(option: &str) -> String {
    format!("TIDEOVER_{}", option.to_ascii_uppercase().replace('.', "_"))
}

/// The option of that name.
pub(super) fn named(name: &str) -> Option<&'static ConfigOption> {
    options().iter().find(|option| option.name == name)
}

/// The option that the variable says, and the place of the variable among those that do.
pub(super) fn of_variable(variable: &str) -> Option<(&'static str, usize)> {
    options().iter().find_map(|option| {
        let place = option.variables.iter().position(|known| known == variable)?;
        Some((option.name, place))
    })
}

/// The option under that key of that table of a file.
pub(super) fn of_key(table: &str, key: &str) -> Option<&'static str> {
    let spelled = if table.is_empty() { key.to_owned() } else { format!("[{table}] {key}") };
    options().iter().find(|option| option.keys.contains(&spelled)).map(|option| option.name)
}

/// The keys that a table of a file may have; without a name, those of the top level.
pub(super) fn keys_of(table: &str) -> Vec<&'static str> {
    let keys = options().iter().flat_map(|option| &option.keys).map(String::as_str);
    if table.is_empty() {
        keys.filter(|key| !key.starts_with('[')).collect()
    } else {
        let own = |key: &'static str| key.strip_prefix('[')?.strip_prefix(table)?.strip_prefix("] ");
        keys.filter_map(own).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_options_have_a_name_a_variable_or_a_key_in_common() {
        let of = |names: &dyn Fn(&ConfigOption) -> Vec<String>| {
            let mut all: Vec<String> = options().iter().flat_map(names).collect();
            let count = all.len();
            all.sort();
            all.dedup();
            assert_eq!(all.len(), count);
        };
        of(&|option| vec![option.name.to_owned()]);
        of(&|option| option.variables.clone());
        of(&|option| option.keys.clone());
    }

    #[test]
    fn every_option_is_found_by_each_of_its_names() {
        for option in options() {
            assert_eq!(named(option.name), Some(option));
            for variable in &option.variables {
                assert_eq!(of_variable(variable).map(|(name, _)| name), Some(option.name));
            }
        }
        assert_eq!(of_key("ttl", "default"), Some("ttl"));
        assert_eq!(of_key("policy", "ttl"), Some("ttl"));
        assert_eq!(of_key("", "ttl"), None);
        assert_eq!(keys_of("ttl"), ["short", "long", "default"]);
    }
}
