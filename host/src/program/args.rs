//! The command line, and what stands behind it: a configuration file, and the environment.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use serde::Deserialize;
use tideover::EngineKind;
use tideover::config::{Config, ConfigBuilder, ConfigError, Finding};
use tideover::core::time::parse_duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Failure;
use super::config::ConfigCommand;

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
    /// Look at a configuration, of a service or of the gateway, without running anything.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Play a story of slow and failing parts, and show what callers saw of it.
    Demo(DemoArgs),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Engine {
    /// The WebAssembly component of world `cache`: policy, memory and single flight in a sandbox.
    Component,
    /// The component of world `policy` under the native driver.
    Policy,
    /// The core compiled into this program.
    Native,
}

impl Engine {
    /// As configurations name it.
    const fn name(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Policy => "policy",
            Self::Native => "native",
        }
    }
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

/// Durations are written as 250ms, 60s or 1h30m. The command line wins over the environment (CACHE_URL, TIDEOVER_… and
/// the others of `tideover config show`), and that over the file.
#[derive(clap::Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    gateway: GatewayKeys,
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
    /// Any other option of a configuration, such as load_deadline=5s or redis.backplane=off; may be given again.
    #[arg(long = "set", value_name = "OPTION=VALUE")]
    set: Vec<String>,
    /// A TOML file with these options, underscores for dashes, and with all that configures a cache ([policy], [ttl],
    /// [redis], preset).
    #[arg(long)]
    config: Option<PathBuf>,
}

/// What the gateway is told beside its cache: by these options, or by keys of a file, at its top level or in a table
/// `[serve]`.
#[derive(Debug, Default, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct GatewayKeys {
    /// The origin: http://HOST:PORT.
    #[arg(long)]
    origin: Option<String>,
    /// Where to listen; port 0 picks one [default: 127.0.0.1:8080].
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Where to answer /-/health and /-/metrics; needed when --listen is not a loopback address.
    #[arg(long)]
    admin_listen: Option<SocketAddr>,
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
    trust_forwarded: bool,
    /// Listen once the store has answered, and end with an error if it does not. Otherwise a store that is away is no
    /// reason not to start.
    #[arg(long)]
    must_be_ready: bool,
}

/// The names of [`GatewayKeys`].
const GATEWAY_KEYS: [&str; 9] = [
    "origin",
    "listen",
    "admin_listen",
    "ttl",
    "stale_while_revalidate",
    "stale_if_error",
    "body_bytes_max",
    "trust_forwarded",
    "must_be_ready",
];

/// What `serve` is to do, every option settled.
pub(super) struct ServeOptions {
    pub(super) origin: String,
    pub(super) listen: SocketAddr,
    pub(super) admin_listen: Option<SocketAddr>,
    pub(super) ttl: Option<Duration>,
    pub(super) stale_while_revalidate: Duration,
    pub(super) stale_if_error: Duration,
    pub(super) body_bytes_max: Option<usize>,
    pub(super) trust_forwarded: bool,
    pub(super) must_be_ready: bool,
    pub(super) config: Config,
}

impl ServeArgs {
    /// Settles the options: command line, then environment, then file, then defaults.
    pub(super) fn settle(self) -> Result<ServeOptions, Failure> {
        let mut builder = of_gateway(Config::builder().environment());
        let mut keys = self.gateway;
        if let Some(path) = &self.config {
            let file = File::read(path)?;
            builder = builder.toml(&*file.name, &*file.text).other_keys(File::OTHER_KEYS);
            keys = keys.or(file.gateway_keys()?);
        }
        for (by, option, value) in [
            ("--store", "url", self.store),
            ("--namespace", "namespace", self.namespace),
            ("--engine", "engine", self.engine.map(|engine| engine.name().to_owned())),
        ] {
            builder = value.into_iter().fold(builder, |builder, value| builder.set_by(by, option, &value));
        }
        for setting in &self.set {
            let Some((option, value)) = setting.split_once('=') else {
                return Err(Failure::usage("--set", format!("{setting:?} is not OPTION=VALUE")));
            };
            builder = builder.set_by("--set", option.trim(), value);
        }
        keys.settle(builder.read()?)
    }
}

/// What holds for gateways where nobody says anything.
fn of_gateway(builder: ConfigBuilder) -> ConfigBuilder {
    // A URL with its host and a variant is longer than the keys that people write.
    builder.default_value("engine", "component").default_value("key_bytes_max", "9216")
}

impl GatewayKeys {
    /// What is said here, and where nothing is, what `others` say.
    fn or(self, others: Self) -> Self {
        Self {
            origin: self.origin.or(others.origin),
            listen: self.listen.or(others.listen),
            admin_listen: self.admin_listen.or(others.admin_listen),
            ttl: self.ttl.or(others.ttl),
            stale_while_revalidate: self.stale_while_revalidate.or(others.stale_while_revalidate),
            stale_if_error: self.stale_if_error.or(others.stale_if_error),
            body_bytes_max: self.body_bytes_max.or(others.body_bytes_max),
            trust_forwarded: self.trust_forwarded || others.trust_forwarded,
            must_be_ready: self.must_be_ready || others.must_be_ready,
        }
    }

    /// Refuses durations that are none.
    fn check(&self) -> Result<(), Failure> {
        let durations = [&self.ttl, &self.stale_while_revalidate, &self.stale_if_error];
        let names = ["ttl", "stale_while_revalidate", "stale_if_error"];
        names.into_iter().zip(durations).try_for_each(|(name, text)| duration(name, text.clone()).map(drop))
    }

    fn settle(self, config: Config) -> Result<ServeOptions, Failure> {
        Ok(ServeOptions {
            origin: self.origin.ok_or_else(|| Failure::usage("--origin", "is needed"))?,
            listen: self.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080))),
            admin_listen: self.admin_listen,
            ttl: duration("--ttl", self.ttl)?,
            stale_while_revalidate: duration("--stale-while-revalidate", self.stale_while_revalidate)?
                .unwrap_or_default(),
            stale_if_error: duration("--stale-if-error", self.stale_if_error)?.unwrap_or_default(),
            body_bytes_max: self.body_bytes_max,
            trust_forwarded: self.trust_forwarded,
            must_be_ready: self.must_be_ready,
            config,
        })
    }
}

fn duration(option: &str, text: Option<String>) -> Result<Option<Duration>, Failure> {
    text.map(|text| parse_duration(&text).map_err(|reason| Failure::usage(option, format!("{text:?}: {reason}"))))
        .transpose()
}

/// What a file says, and what is doubtful about it even if it cannot be used.
pub(super) struct Looked {
    pub(super) config: Result<Config, Failure>,
    pub(super) warnings: Vec<Finding>,
}

/// A configuration file, of a gateway or of a service.
pub(super) struct File {
    name: String,
    text: String,
}

impl File {
    /// What the configuration of a cache leaves to the gateway.
    const OTHER_KEYS: [&'static str; GATEWAY_KEYS.len() + 1] = {
        let mut keys = ["serve"; GATEWAY_KEYS.len() + 1];
        let mut at = 0;
        while at < GATEWAY_KEYS.len() {
            keys[at + 1] = GATEWAY_KEYS[at];
            at += 1;
        }
        keys
    };

    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| Failure::usage(&name, error))?;
        Ok(Self { name, text })
    }

    /// What the file says about a cache, with the defaults of gateways if it says anything about one.
    pub(super) fn look(&self, builder: ConfigBuilder) -> Looked {
        let builder = builder.toml(&*self.name, &*self.text).other_keys(Self::OTHER_KEYS);
        let gateways = DeTable::parse(&self.text)
            .is_ok_and(|table| table.get_ref().keys().any(|key| is_gateways(key.get_ref(), table.get_ref())));
        let config = if gateways { of_gateway(builder) } else { builder }.read();
        let gateway = self.gateway_keys().and_then(|keys| keys.check());
        let warnings = config.as_ref().map_or_else(ConfigError::warnings, Config::warnings).to_vec();
        let failures =
            [config.as_ref().err().map(ToString::to_string), gateway.err().map(|failure| failure.to_string())];
        let failures: Vec<String> = failures.into_iter().flatten().collect();
        let config =
            if failures.is_empty() { config.map_err(Failure::from) } else { Err(Failure::Usage(failures.join("\n"))) };
        Looked { config, warnings }
    }

    /// What the file says to the gateway; nothing if it is not TOML, which the configuration refuses.
    fn gateway_keys(&self) -> Result<GatewayKeys, Failure> {
        let Ok(document) = DeTable::parse(&self.text) else { return Ok(GatewayKeys::default()) };
        let mut flat = DeTable::new();
        let mut keys = GatewayKeys::default();
        for (key, value) in document.into_inner() {
            match value.get_ref() {
                DeValue::Table(table) if key.get_ref() == "serve" => keys = self.keys_in(table.clone())?,
                DeValue::Table(_) => {}
                _ if GATEWAY_KEYS.contains(&key.get_ref().as_ref()) => {
                    flat.insert(key, value);
                }
                _ => {}
            }
        }
        Ok(keys.or(self.keys_in(flat)?))
    }

    fn keys_in(&self, table: DeTable<'_>) -> Result<GatewayKeys, Failure> {
        GatewayKeys::deserialize(toml::Deserializer::from(Spanned::new(0..self.text.len(), table))).map_err(|error| {
            let before = |at: usize| self.text.as_bytes().get(..at).unwrap_or_default();
            let line = error.span().map(|span| before(span.start).iter().filter(|byte| **byte == b'\n').count() + 1);
            let place = line.map_or(String::new(), |line| format!(":{line}"));
            Failure::Usage(format!("{}{place}: {}", self.name, error.message().replace('\n', " ")))
        })
    }
}

/// Whether the key at the top level speaks to the gateway: a table of that name may be the cache's.
fn is_gateways(key: &str, table: &DeTable<'_>) -> bool {
    let nested = table.get(key).is_some_and(|value| value.get_ref().as_table().is_some());
    if nested { key == "serve" } else { GATEWAY_KEYS.contains(&key) }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::Cache(error) if !matches!(error, tideover::Error::Config(_)) => Self::World(error.to_string()),
            error @ ConfigError::NotReady { .. } => Self::World(error.to_string()),
            error => Self::Usage(error.to_string()),
        }
    }
}
