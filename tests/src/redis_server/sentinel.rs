//! A primary and its replica, watched by three Sentinels on loopback.

use std::fs;

use super::{RedisServer, wait_until};

/// The name by which the Sentinels know the primary.
const NAME: &str = "main";

/// Two servers and three Sentinels of which two have to agree. A primary that is away for half a second is replaced.
pub struct RedisSentinels {
    /// The first is the primary at the start, the other its replica.
    pub servers: Vec<RedisServer>,
    /// Those who watch.
    pub sentinels: Vec<RedisServer>,
}

impl RedisSentinels {
    /// Starts them and waits until all know of each other.
    ///
    /// # Panics
    ///
    /// When they do not, within half a minute.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// As [`start`](Self::start), with Sentinels that want `password` of their clients.
    #[must_use]
    pub fn start_with_password(password: &str) -> Self {
        Self::start_with(Some(password))
    }

    fn start_with(password: Option<&str>) -> Self {
        let primary = RedisServer::start();
        let port = primary.port().to_string();
        let replica = RedisServer::start_with_arguments(&["--replicaof", "127.0.0.1", &port]);
        wait_until("replication", || replica.command(&["INFO", "replication"]).contains("link_status:up"));
        let sentinels = (0..3).map(|_| sentinel(primary.port(), password)).collect();
        let all = Self { servers: vec![primary, replica], sentinels };
        for sentinel in &all.sentinels {
            wait_until("the Sentinels know of each other and of the replica", || {
                let known = sentinel.command(&["SENTINEL", "MASTER", NAME]);
                let fields: Vec<&str> = known.lines().collect();
                let has = |name, value| fields.windows(2).any(|pair| pair == [name, value]);
                has("num-other-sentinels", "2") && has("num-slaves", "1")
            });
        }
        all
    }

    /// The URL for clients.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|one| format!("127.0.0.1:{}", one.port())).collect();
        format!("redis+sentinel://{}/{NAME}", hosts.join(","))
    }

    /// The port of the server that the first Sentinel holds for the primary.
    #[must_use]
    pub fn primary_port(&self) -> u16 {
        let address = self.sentinels[0].command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]);
        address.lines().last().and_then(|port| port.parse().ok()).expect("an address")
    }
}

fn sentinel(primary: u16, password: Option<&str>) -> RedisServer {
    RedisServer::start_as(password, &|port, folder| {
        let mut text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {NAME} 127.0.0.1 {primary} 2\n\
             sentinel down-after-milliseconds {NAME} 500\nsentinel failover-timeout {NAME} 3000\n",
            folder.display()
        );
        if let Some(password) = password {
            text += &format!("requirepass {password}\nsentinel sentinel-pass {password}\n");
        }
        let file = folder.join("sentinel.conf");
        fs::write(&file, text).expect("the temporary folder is writable");
        vec![file.display().to_string(), "--sentinel".to_owned()]
    })
}
