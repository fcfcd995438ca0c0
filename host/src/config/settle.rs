//! Which of all that was said counts, and what comes of it.

use std::time::Duration;

use tideover_core::time::{Text, parse_duration};
use tideover_core::{Policy, PolicyError};

use super::Config;
use super::check;
use super::error::{ConfigError, Finding};
use super::options::{FOLLOWING, options};
use super::origin::Origin;
use super::preset::Preset;
use super::setting::{Said, Setting};
use super::store::{self, Choice};
use crate::cache::{EngineKind, Ttl, TtlBuckets};
use crate::store::check_namespace;

/// Longest prefix or version, in bytes: both stand in front of every key.
const NAME_MAX: usize = 64;

/// What counts: for each option one setting, defaults included.
pub(super) struct Effective {
    settings: Vec<Setting>,
}

impl Effective {
    /// The setting of the option; every option has one.
    pub(super) fn of(&self, option: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.option == option)
    }

    /// The setting of the option, unless it says nothing, as some defaults do.
    pub(super) fn said(&self, option: &str) -> Option<&Setting> {
        self.of(option).filter(|setting| !setting.text.is_empty())
    }
}

/// Makes a configuration of all that was said.
pub(super) fn settle(mut said: Said) -> Result<Config, ConfigError> {
    spread_switch(&mut said);
    let preset = preset(&mut said);
    let effective = effective(&mut said);
    let mut policy = policy(&effective, &mut said);
    let namespace = namespace(&effective, &mut said);
    let store = choose(&effective, namespace.as_ref(), &mut said);
    policy.store = !matches!(store, Choice::None);
    if !said.incomplete {
        validate(&policy, &effective, &mut said);
        check::contradictions(&policy, &effective, &mut said);
    }
    let Said { mut refusals, mut warnings, .. } = said;
    refusals.sort_by_key(|refusal| refusal.origin.place());
    warnings.sort_by_key(|warning| warning.origin.place());
    if !refusals.is_empty() {
        return Err(ConfigError::Refused { refusals, warnings });
    }
    let [short, default, long] =
        Ttl::ALL.map(|ttl| lifetime(&effective, ttl).map_or(Duration::ZERO, |(_, length)| length));
    let engine = effective.of("engine").and_then(|setting| engine(&setting.text).ok()).unwrap_or_default();
    let settings = shown(effective, namespace);
    Ok(Config { settings, warnings, policy, ttls: TtlBuckets { short, default, long }, engine, store, preset })
}

/// What counts, as it is shown: the switch of the breakers as their two switches, and nothing that has no effect.
fn shown(effective: Effective, namespace: Option<Setting>) -> Vec<Setting> {
    let mut settings = effective.settings;
    settings.retain(|setting| setting.option != "breaker" && !FOLLOWING.contains(&setting.option));
    if let Some((place, namespace)) = settings.iter_mut().find(|setting| setting.option == "namespace").zip(namespace) {
        *place = namespace;
    }
    settings
}

/// The switch of both breakers is their two switches.
fn spread_switch(said: &mut Said) {
    let (switches, others): (Vec<_>, Vec<_>) =
        std::mem::take(&mut said.settings).into_iter().partition(|setting| setting.option == "breaker");
    said.settings = others;
    for switch in switches {
        let truth = match switch.text.as_str() {
            "on" | "true" => "true",
            "off" | "false" => "false",
            _ => {
                said.refusals.push(switch.finding("expected on or off"));
                continue;
            }
        };
        for option in ["store_breaker", "load_breaker"] {
            said.settings.push(Setting::new(option, truth, switch.origin.clone()));
        }
    }
}

/// The preset that counts, if it is one; from now on it has said what it chooses.
fn preset(said: &mut Said) -> Option<Preset> {
    let named = said.settings.iter().filter(|setting| setting.option == "preset").max_by_key(|setting| setting.rank());
    let preset: Preset = named?.text.parse().ok()?;
    let choices = preset.choices().iter();
    said.settings.extend(choices.map(|choice| Setting::new(choice.option, choice.value, Origin::Preset(preset))));
    Some(preset)
}

/// For each option the setting that counts. What cannot be read is refused; where it is overruled it is doubtful.
fn effective(said: &mut Said) -> Effective {
    let mut settings = Vec::with_capacity(options().len());
    for option in options() {
        let mut of_it: Vec<&Setting> = said.settings.iter().filter(|setting| setting.option == option.name).collect();
        of_it.sort_by_key(|setting| (setting.rank(), setting.origin.place()));
        let Some((strongest, overruled)) = of_it.split_last() else {
            settings.push(Setting::new(option.name, option.default.as_str(), Origin::Default));
            continue;
        };
        for setting in overruled {
            let alike = setting.rank() == strongest.rank();
            if alike && !same(setting, strongest) {
                let other = format!("contradicts {} ({})", strongest.shown(), strongest.origin);
                said.refusals.push(setting.finding(other));
            } else if !setting.fall_back
                && let Err(reason) = check_text(setting)
            {
                said.warnings.push(setting.finding(format!("{reason}; {} overrules it", strongest.origin)));
            }
        }
        if strongest.fall_back && overruled.iter().any(|setting| setting.origin.is_said() && !same(setting, strongest))
        {
            let doubt = "overrules a file, although it may be meant for something else; say it as CACHE_URL";
            said.warnings.push(strongest.finding(doubt));
        }
        let counts = match check_text(strongest) {
            Ok(()) => (*strongest).clone(),
            Err(reason) => {
                said.refusals.push(strongest.finding(reason));
                Setting::new(option.name, option.default.as_str(), strongest.origin.clone())
            }
        };
        settings.push(counts);
    }
    Effective { settings }
}

/// Whether two settings of one option mean the same.
fn same(one: &Setting, other: &Setting) -> bool {
    policy_text(one) == policy_text(other)
}

/// Refuses text that is not of the option's form.
fn check_text(setting: &Setting) -> Result<(), String> {
    let text = setting.text.as_str();
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    match setting.option {
        "preset" => text.parse::<Preset>().map(drop).map_err(str::to_owned),
        "url" => store::check_url(text),
        "prefix" | "version" => check_name(text),
        "namespace" => check_namespace(text),
        "engine" => engine(text).map(drop),
        "ttl.short" | "ttl.long" => length(text).map(drop),
        option if option.starts_with("redis.") => store::check_option(option, text),
        option => Policy::default().set(option, &policy_text(setting)).map_err(|error| error.reason.to_owned()),
    }
}

/// The text as the policy reads it: of the lifetime, which lies beside others, a bare number is seconds as theirs.
fn policy_text(setting: &Setting) -> String {
    match (setting.option, length(&setting.text)) {
        ("ttl", Ok(length)) => Text(length).to_string(),
        _ => setting.text.clone(),
    }
}

/// Reads a lifetime; a number without a unit is seconds.
fn length(text: &str) -> Result<Duration, String> {
    let bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    Ok(if bare { parse_duration(&format!("{text}s")) } else { parse_duration(text) }?)
}

fn engine(text: &str) -> Result<EngineKind, String> {
    match text {
        "native" => Ok(EngineKind::Native),
        #[cfg(feature = "component")]
        "policy" => Ok(EngineKind::Policy),
        #[cfg(feature = "component")]
        "component" => Ok(EngineKind::Component),
        #[cfg(not(feature = "component"))]
        "policy" | "component" => {
            Err("this build has no WebAssembly engines: the feature `component` is off".to_owned())
        }
        _ => Err("expected native, policy or component".to_owned()),
    }
}

/// Prefixes and versions hold no colon and no `@`, so that no namespace that is made of them is the beginning of another.
fn check_name(text: &str) -> Result<(), String> {
    if text.trim_end_matches(':').is_empty() {
        return Err("must not be empty".to_owned());
    }
    if text.len() > NAME_MAX {
        return Err(format!("is longer than {NAME_MAX} bytes"));
    }
    let known = |letter: char| letter.is_ascii_alphanumeric() || "-_./+".contains(letter);
    match text.chars().find(|letter| !known(*letter)) {
        Some(':') if text.trim_end_matches(':').chars().all(known) => {
            Err(format!("ends with the colon that is put after it; write {}", text.trim_end_matches(':')))
        }
        Some(letter) => Err(format!("holds {letter:?}; letters, digits and -_./+ are allowed")),
        None => Ok(()),
    }
}

fn policy(effective: &Effective, said: &mut Said) -> Policy {
    let mut policy = Policy::default();
    for option in Policy::OPTIONS {
        let Some(setting) = effective.of(option.name) else { continue };
        if FOLLOWING.contains(&option.name) {
            if setting.origin.is_said() {
                said.warnings.push(setting.finding("has no effect: it follows from the store at url"));
            }
            continue;
        }
        // What is not of its form was refused above.
        let _refused = policy.set(option.name, &policy_text(setting));
    }
    policy
}

/// What every key in the store begins with; the setting that is to blame for it.
fn namespace(effective: &Effective, said: &mut Said) -> Option<Setting> {
    let (prefix, version) = (effective.of("prefix")?, effective.said("version"));
    let parts = [Some(prefix), version].into_iter().flatten();
    let strongest = parts.max_by_key(|setting| setting.rank())?;
    if let Some(whole) = effective.said("namespace") {
        if strongest.origin.is_said() && strongest.rank() >= whole.rank() {
            let reason =
                format!("contradicts {} ({}), which says the same in parts", strongest.option, strongest.origin);
            said.refusals.push(whole.finding(reason));
        }
        return Some(whole.clone());
    }
    let version = version.map_or(String::new(), |version| format!("@{}", version.text));
    let text = format!("{}{version}:", prefix.text);
    Some(Setting::new("namespace", text, strongest.origin.clone()))
}

fn choose(effective: &Effective, namespace: Option<&Setting>, said: &mut Said) -> Choice {
    let (Some(url), Some(namespace)) = (effective.of("url"), namespace) else { return Choice::None };
    let redis: Vec<&Setting> = effective
        .settings
        .iter()
        .filter(|setting| setting.option.starts_with("redis.") && !setting.text.is_empty())
        .collect();
    store::choose(url, &namespace.text, &redis, said)
}

/// Everything that the policy refuses about itself: it names one thing at a time, which is then taken for its default.
fn validate(policy: &Policy, effective: &Effective, said: &mut Said) {
    let mut policy = policy.clone();
    let mut named: Vec<String> = Vec::new();
    while let Err(error) = policy.validate() {
        if named.iter().any(|option| option == error.option()) {
            return;
        }
        said.refusals.push(refused(&error, effective));
        let default = Policy::default().text(error.option()).unwrap_or_default();
        let _fits = policy.set(error.option(), &default);
        named.push(error.option().to_owned());
    }
}

fn refused(error: &PolicyError, effective: &Effective) -> Finding {
    match effective.of(error.option()) {
        Some(setting) => setting.finding(error.reason),
        None => Finding::new(error.option(), None, &Origin::Default, error.reason),
    }
}

/// How long a named lifetime is, and the setting that says so.
pub(super) fn lifetime(effective: &Effective, ttl: Ttl) -> Option<(&Setting, Duration)> {
    let setting = effective.of(match ttl {
        Ttl::Short => "ttl.short",
        Ttl::Default => "ttl",
        Ttl::Long => "ttl.long",
    })?;
    Some((setting, length(&setting.text).ok()?))
}
