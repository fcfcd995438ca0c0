//! What is wrong with a configuration: each thing by its name, its value and the place where it was said.

use std::fmt;

use super::origin::Origin;
use super::secret;
use crate::error::Error;
use crate::store::StoreError;

/// One thing that is wrong with a configuration, or doubtful. As text it is one line:
/// `OPTION = VALUE (WHERE IT WAS SAID): REASON`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The option, or the name that is none; empty when it is about a whole file.
    pub option: String,
    /// What it was to be, as far as it may be shown: secrets are not, nor is the value of what is no option.
    pub value: Option<String>,
    /// Where it was said.
    pub origin: Origin,
    /// What is wrong with it.
    pub reason: String,
}

impl Finding {
    pub(super) fn new(option: &str, value: Option<String>, origin: &Origin, reason: impl Into<String>) -> Self {
        Self { option: secret::shown_name(option), value, origin: origin.clone(), reason: reason.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (origin, reason) = (self.origin.to_string(), &self.reason);
        match (self.option.as_str(), &self.value) {
            (option, Some(value)) => write!(f, "{option} = {value} ({origin}): {reason}"),
            (option, None) if option.is_empty() || *option == origin => write!(f, "{origin}: {reason}"),
            (option, None) => write!(f, "{option} ({origin}): {reason}"),
        }
    }
}

/// Why a configuration makes no cache.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It cannot be used. Everything that is wrong with it is here, as far as it could be seen; as text, each a line.
    #[error("{}", lines(.refusals))]
    Refused {
        /// What cannot be. Never empty.
        refusals: Vec<Finding>,
        /// What could be, and is doubtful.
        warnings: Vec<Finding>,
    },
    /// Nothing is wrong with it, as far as one can tell, but the store that it names has not answered.
    #[error("{finding}")]
    NotReady {
        /// The option `url`, and why.
        finding: Box<Finding>,
        /// Why.
        #[source]
        error: StoreError,
    },
    /// The cache could not be made of it: there is no tokio runtime, or no engine.
    #[error(transparent)]
    Cache(#[from] Error),
}

impl ConfigError {
    /// What cannot be; empty if the configuration is not to blame.
    #[must_use]
    pub fn refusals(&self) -> &[Finding] {
        match self {
            Self::Refused { refusals, .. } => refusals,
            Self::NotReady { .. } | Self::Cache(_) => &[],
        }
    }

    /// What could be, and is doubtful.
    #[must_use]
    pub fn warnings(&self) -> &[Finding] {
        match self {
            Self::Refused { warnings, .. } => warnings,
            Self::NotReady { .. } | Self::Cache(_) => &[],
        }
    }
}

fn lines(findings: &[Finding]) -> String {
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    lines.join("\n")
}
