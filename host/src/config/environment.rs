//! What the environment says.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use super::error::Finding;
use super::nearest::nearest;
use super::options::{of_variable, options};
use super::origin::Origin;
use super::setting::{Said, Setting};

/// Names of ours: whatever begins so is an option, or a mistake.
const OURS: &str = "TIDEOVER_";
/// Names that others have, too.
const SHARED: &str = "CACHE_";
/// The variable of everybody who uses Redis, for whatever.
const ANYBODYS: &str = "REDIS_URL";

/// What other caches call what is called otherwise here.
const ELSEWHERE: &[(&str, &str)] = &[
    ("CACHE_DEFAULT_TIMEOUT", "CACHE_TTL_DEFAULT"),
    ("CACHE_KEY_PREFIX", "CACHE_PREFIX"),
    ("CACHE_REDIS_URL", "CACHE_URL"),
    ("CACHE_TTL", "CACHE_TTL_DEFAULT"),
];

/// Takes what concerns a cache out of these variables.
pub(super) fn read(variables: &[(OsString, OsString)], said: &mut Said) {
    for (name, value) in variables {
        let Some(name) = name.to_str() else { continue };
        let ours = name.starts_with(OURS);
        let origin = Origin::Environment(Arc::from(name));
        match of_variable(name) {
            Some((option, _)) => take(option, name, value, origin, said),
            None if ours => {
                let meant = meant(name, OURS).map_or(String::new(), |meant| format!("; did you mean {meant}?"));
                said.refuse(name, &origin, format!("there is no such variable{meant}"));
            }
            None if name.starts_with(SHARED) => doubt(name, value, &origin, variables, said),
            None => {}
        }
    }
}

fn take(option: &'static str, name: &str, value: &OsStr, origin: Origin, said: &mut Said) {
    let fall_back = name == ANYBODYS;
    match value.to_str() {
        // An empty variable is what a script leaves that meant to set it to something.
        Some(text) if text.trim().is_empty() => {
            if !fall_back {
                said.refuse(option, &origin, "is empty; unset the variable, or give it a value");
            }
        }
        Some(text) => said.settings.push(Setting { fall_back, ..Setting::new(option, text.trim(), origin) }),
        None => said.refuse(option, &origin, "is not text in UTF-8"),
    }
}

/// A name that may be somebody else's, or one of ours with a slip of the pen.
fn doubt(name: &str, value: &OsStr, origin: &Origin, all: &[(OsString, OsString)], said: &mut Said) {
    let elsewhere = ELSEWHERE.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours);
    let Some(meant) = elsewhere.map(str::to_owned).or_else(|| meant(name, SHARED)) else { return };
    let contradicted = all.iter().any(|(other, said)| *other == *meant && said != value);
    if elsewhere.is_some() && contradicted {
        said.refuse(name, origin, format!("is not read, and contradicts {meant}, which is; unset one of them"));
    } else {
        said.warnings.push(Finding::new(name, None, origin, format!("is not read; did you mean {meant}?")));
    }
}

/// The variable with that beginning that may have been meant. What all have in common makes none alike.
fn meant(name: &str, beginning: &str) -> Option<String> {
    let known = options().iter().flat_map(|option| &option.variables).filter_map(|known| known.strip_prefix(beginning));
    nearest(name.strip_prefix(beginning)?, known).map(|meant| format!("{beginning}{meant}"))
}
