//! The command line, and the configuration file that stands behind it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use serde::Deserialize;
use tideover::core::time::parse_duration;
use tideover::{EngineKind, Policy};

use super::Failure;

/// A cache that tides a service over when Redis, the database or an upstream is slow, stale or down.
#[derive(Parser)]
#[command(version, about, long_about = None, subcommand_required = true, arg_required_else_help = false)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Run a caching, resilient HTTP gateway before an origin.
    Serve(Box<ServeArgs>),
    /// Play a story of slow and failing parts, and show what callers saw of it.
    Demo(DemoArgs),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Engine {
    /// The WebAssembly component of world `cache`: policy, memory and single flight in a sandbox.
    Component,
    /// The component of world `policy` under the native driver.
    Policy,
    /// The core compiled into this program.
    Native,
}

impl From<Engine> for EngineKind {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Component => Self::Component,
            Engine::Policy => Self::Policy,
            Engine::Native => Self::Native,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// Where the policy runs.
    #[arg(long, value_enum, default_value = "component")]
    pub(super) engine: Engine,
}

/// Durations are written as 250ms, 60s or 1h30m.
#[derive(Debug, Default, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ServeArgs {
    /// The origin: http://HOST:PORT.
    #[arg(long)]
    origin: Option<String>,
    /// Where to listen; port 0 picks one [default: 127.0.0.1:8080].
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Where to answer /-/health and /-/metrics; needed when --listen is not a loopback address.
    #[arg(long)]
    admin_listen: Option<SocketAddr>,
    /// The shared store: mem:// for none, or redis://HOST:PORT/DB, rediss:// for TLS,
    /// redis+unix:///PATH, redis://A,B for a Cluster, redis+sentinel://A,B/NAME [default: mem://].
    #[arg(long)]
    store: Option<String>,
    /// What every key in the store begins with [default: tideover:].
    #[arg(long)]
    namespace: Option<String>,
    /// Where the policy runs [default: component].
    #[arg(long, value_enum)]
    engine: Option<Engine>,
    /// Freshness lifetime of responses that carry none of their own; without it they are not reused.
    #[arg(long)]
    ttl: Option<String>,
    /// How long such responses are served stale while one refresh runs [default: 0].
    #[arg(long)]
    stale_while_revalidate: Option<String>,
    /// How long such responses stand in when the origin is unavailable [default: 0].
    #[arg(long)]
    stale_if_error: Option<String>,
    /// Larger bodies pass through unstored, in bytes [default: 4194304].
    #[arg(long)]
    body_bytes_max: Option<usize>,
    /// Believe clients' X-Forwarded-* headers: they are proxies of yours.
    #[arg(long)]
    #[serde(default)]
    trust_forwarded: bool,
    /// Any option of the policy, such as load_deadline=5s; may be given again.
    #[arg(long = "set", value_name = "OPTION=VALUE")]
    #[serde(skip)]
    set: Vec<String>,
    /// A TOML file with these options, underscores for dashes, and a table [policy] for --set. The command line wins.
    #[arg(long)]
    #[serde(skip)]
    config: Option<PathBuf>,
    #[arg(skip)]
    policy: toml::Table,
}

/// What `serve` is to do, every option settled.
pub(super) struct ServeOptions {
    pub(super) origin: String,
    pub(super) listen: SocketAddr,
    pub(super) admin_listen: Option<SocketAddr>,
    pub(super) store: String,
    pub(super) namespace: Option<String>,
    pub(super) engine: EngineKind,
    pub(super) ttl: Option<Duration>,
    pub(super) stale_while_revalidate: Duration,
    pub(super) stale_if_error: Duration,
    pub(super) body_bytes_max: Option<usize>,
    pub(super) trust_forwarded: bool,
    pub(super) policy: Policy,
}

impl ServeArgs {
    /// Settles the options: command line, then file, then defaults.
    pub(super) fn settle(self) -> Result<ServeOptions, Failure> {
        let file = match &self.config {
            Some(path) => read(path)?,
            None => Self::default(),
        };
        let mut policy = Policy::default();
        // A URL with its host and a variant is longer than the keys that people write.
        policy.key_bytes_max = 9 * 1024;
        for (name, value) in &file.policy {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            set(&mut policy, name, &text)?;
        }
        for setting in &self.set {
            let Some((name, value)) = setting.split_once('=') else {
                return Err(Failure::usage("--set", format!("{setting:?} is not OPTION=VALUE")));
            };
            set(&mut policy, name.trim(), value)?;
        }
        let ttl = duration("--ttl", self.ttl.or(file.ttl))?;
        let stale_while_revalidate = self.stale_while_revalidate.or(file.stale_while_revalidate);
        Ok(ServeOptions {
            origin: self.origin.or(file.origin).ok_or_else(|| Failure::usage("--origin", "is needed"))?,
            listen: self.listen.or(file.listen).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080))),
            admin_listen: self.admin_listen.or(file.admin_listen),
            store: self.store.or(file.store).unwrap_or_else(|| "mem://".to_owned()),
            namespace: self.namespace.or(file.namespace),
            engine: self.engine.or(file.engine).unwrap_or(Engine::Component).into(),
            ttl,
            stale_while_revalidate: duration("--stale-while-revalidate", stale_while_revalidate)?.unwrap_or_default(),
            stale_if_error: duration("--stale-if-error", self.stale_if_error.or(file.stale_if_error))?
                .unwrap_or_default(),
            body_bytes_max: self.body_bytes_max.or(file.body_bytes_max),
            trust_forwarded: self.trust_forwarded || file.trust_forwarded,
            policy,
        })
    }
}

fn read(path: &Path) -> Result<ServeArgs, Failure> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| Failure::usage(&name, error))?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let place = line.map_or(String::new(), |line| format!("line {line}: "));
        Failure::usage(&name, format!("{place}{}", error.message().replace('\n', " ")))
    })
}

fn set(policy: &mut Policy, name: &str, value: &str) -> Result<(), Failure> {
    policy.set(name, value).map_err(|error| Failure::Usage(error.to_string()))
}

fn duration(option: &str, text: Option<String>) -> Result<Option<Duration>, Failure> {
    text.map(|text| parse_duration(&text).map_err(|reason| Failure::usage(option, format!("{text:?}: {reason}"))))
        .transpose()
}
