//! The options of the Redis store that are worth configuring, by name.

#[cfg(feature = "redis")]
pub(super) use self::reading::{read, set};

/// One option of the Redis store.
pub(super) struct RedisOption {
    pub(super) name: &'static str,
    pub(super) default: &'static str,
    pub(super) doc: &'static str,
}

#[cfg(feature = "redis")]
const fn option(name: &'static str, default: &'static str, doc: &'static str) -> RedisOption {
    RedisOption { name, default, doc }
}

/// Without the store there is nothing to choose about it.
#[cfg(not(feature = "redis"))]
pub(super) const OPTIONS: &[RedisOption] = &[];

/// What is not here is for [`RedisConfig`](crate::store::RedisConfig) in code. That the defaults are its own is tested.
#[cfg(feature = "redis")]
pub(super) const OPTIONS: &[RedisOption] = &[
    option("redis.backplane", "tracking", "How memory learns at once what others change: tracking, pubsub or off."),
    option("redis.backplane_grace", "5s", "How long the backplane may be lost before all of memory is in doubt."),
    option("redis.connect_timeout", "1s", "How long making a connection may take."),
    option("redis.response_timeout", "1s", "How long the answer to one command may take."),
    option("redis.write_timeout", "", "The same for commands that change something; as response_timeout if not set."),
    option("redis.call_timeout", "3s", "How long one call may take in all."),
    option(
        "redis.silence_max",
        "15s",
        "How long a server may leave everything unanswered before its connection counts as broken.",
    ),
    option("redis.idle_ping_after", "10s", "After how much idleness a connection is tested."),
    option("redis.reconnect_wait_max", "5s", "The longest wait between two attempts to restore a lost connection."),
    option("redis.close_timeout", "1s", "How long closing waits for calls under way."),
    option("redis.queue_max", "65536", "How many operations may be without an answer on one connection."),
    option(
        "redis.read_from_replicas",
        "false",
        "Whether replicas, which lag behind, may answer reads; Cluster and Sentinel only.",
    ),
    option(
        "redis.compare",
        "true",
        "Whether writes compare what is there, by a script, so that late ones undo nothing newer.",
    ),
    option("redis.log", "true", "Whether tags and clears are told to other processes, by a stream."),
    option("redis.sentinel_username", "", "With whom to log in at the Sentinels. Never shown."),
    option("redis.sentinel_password", "", "The password for it. Never shown."),
    option(
        "redis.tls_ca_file",
        "",
        "A PEM file with the authorities that may have signed the server's certificate; those of the machine if not set.",
    ),
    option("redis.tls_cert_file", "", "A PEM file with the certificate that this client shows."),
    option("redis.tls_key_file", "", "A PEM file with the key to it."),
    option(
        "redis.tls_server_name",
        "",
        "The name that the server's certificate must be for; the host of the URL if not set.",
    ),
];

/// Whether its value must not be shown.
pub(super) fn is_secret(option: &str) -> bool {
    matches!(option, "redis.sentinel_username" | "redis.sentinel_password")
}

#[cfg(feature = "redis")]
mod reading {
    use std::path::Path;
    use std::time::Duration;

    use tideover_core::time::parse_duration;

    use super::super::file::read_file;
    use crate::store::{RedisBackplane, RedisConfig};

    /// Sets the option from text.
    pub(in super::super) fn set(config: &mut RedisConfig, option: &str, text: &str) -> Result<(), String> {
        match option {
            "redis.backplane" => config.backplane = backplane(text)?,
            "redis.backplane_grace" => config.backplane_grace = duration(text)?,
            "redis.connect_timeout" => config.connect_timeout = duration(text)?,
            "redis.response_timeout" => config.response_timeout = duration(text)?,
            "redis.write_timeout" => config.write_timeout = Some(duration(text)?),
            "redis.call_timeout" => config.call_timeout = duration(text)?,
            "redis.silence_max" => config.silence_max = duration(text)?,
            "redis.idle_ping_after" => config.idle_ping_after = duration(text)?,
            "redis.reconnect_wait_max" => config.reconnect_wait_max = duration(text)?,
            "redis.close_timeout" => config.close_timeout = duration(text)?,
            "redis.queue_max" => config.queue_max = text.parse().map_err(|_| "expected a whole number")?,
            "redis.read_from_replicas" => config.read_from_replicas = truth(text)?,
            "redis.compare" => config.compare = truth(text)?,
            "redis.log" => config.log = truth(text)?,
            "redis.sentinel_username" => config.sentinel_username = Some(text.to_owned()),
            "redis.sentinel_password" => config.sentinel_password = Some(text.to_owned()),
            "redis.tls_server_name" => config.tls.server_name = Some(text.to_owned()),
            // What the files hold is looked at when the configuration is settled.
            _ => {}
        }
        Ok(())
    }

    /// Reads the file that the option names.
    pub(in super::super) fn read(config: &mut RedisConfig, option: &str, path: &str) -> Result<(), String> {
        let place = match option {
            "redis.tls_ca_file" => &mut config.tls.ca_pem,
            "redis.tls_cert_file" => &mut config.tls.client_cert_pem,
            "redis.tls_key_file" => &mut config.tls.client_key_pem,
            _ => return Ok(()),
        };
        *place = Some(read_file(Path::new(path))?);
        Ok(())
    }

    fn duration(text: &str) -> Result<Duration, String> {
        Ok(parse_duration(text)?)
    }

    fn truth(text: &str) -> Result<bool, String> {
        text.parse().map_err(|_| "expected true or false".to_owned())
    }

    fn backplane(text: &str) -> Result<RedisBackplane, String> {
        match text {
            "tracking" => Ok(RedisBackplane::Tracking),
            "pubsub" => Ok(RedisBackplane::PubSub),
            "off" => Ok(RedisBackplane::Off),
            _ => Err("expected tracking, pubsub or off".to_owned()),
        }
    }
}

#[cfg(all(test, feature = "redis"))]
mod tests {
    use super::*;
    use crate::store::RedisConfig;

    #[test]
    fn the_defaults_are_those_of_the_store() {
        let mut config = RedisConfig::new("redis://cache");
        for option in OPTIONS.iter().filter(|option| !option.default.is_empty()) {
            set(&mut config, option.name, option.default).expect(option.name);
        }
        assert_eq!(format!("{config:?}"), format!("{:?}", RedisConfig::new("redis://cache")));
    }

    #[test]
    fn each_option_changes_something() {
        for option in OPTIONS.iter().filter(|option| !option.name.ends_with("_file")) {
            let other = match option.default {
                "true" => "false",
                "false" => "true",
                "tracking" => "off",
                "65536" => "7",
                _ => "7s",
            };
            let mut config = RedisConfig::new("redis://cache");
            set(&mut config, option.name, other).expect(option.name);
            let shown = format!("{config:?}") != format!("{:?}", RedisConfig::new("redis://cache"));
            let secret = config.sentinel_username.is_some() || config.sentinel_password.is_some();
            assert!(shown != secret && secret == is_secret(option.name), "{}", option.name);
        }
    }
}
