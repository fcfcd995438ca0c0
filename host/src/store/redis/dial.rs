//! Making one connection: name, socket, TLS, login. The limit of time is the caller's to set.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::rustls;

use super::failure::Fault;
use super::reply::Reply;
use super::request::{Effect, Request};
use super::tls::Tls;
use super::url::{Address, Login};
use super::wire::{Keeping, Link, Stream, Watcher};
use crate::store::StoreError;

/// What all connections of a store have in common.
#[derive(Clone)]
pub(super) struct Dialer {
    pub(super) tls: Option<Tls>,
    pub(super) keeping: Keeping,
    pub(super) connect_timeout: Duration,
}

impl Dialer {
    /// A connection to `address`, logged in, by `deadline`, and whether it will tell what is `wanted` of it. `watcher` is
    /// told what becomes of it.
    pub(super) async fn dial(
        &self,
        address: &Address,
        login: &Login,
        replica: bool,
        wanted: Option<Request>,
        deadline: Instant,
        watcher: Watcher,
    ) -> Result<(Link, bool), StoreError> {
        let result = match tokio::time::timeout_at(deadline, self.stream(address)).await {
            Ok(Ok(stream)) => {
                let link = Link::start(stream, &self.keeping, watcher);
                greet(&link, address, login, replica, wanted, deadline).await.map(|tells| (link, tells))
            }
            Ok(Err(error)) => Err(error),
            Err(_elapsed) => Err(late(address)),
        };
        match &result {
            Ok(_) => tracing::debug!(server = %address, "connected"),
            Err(error) => tracing::debug!(server = %address, %error, "not connected"),
        }
        result
    }

    async fn stream(&self, address: &Address) -> Result<Box<dyn Stream>, StoreError> {
        let unreachable = |error: io::Error| unreachable(address, &error);
        match address {
            #[cfg(unix)]
            Address::Unix(path) => Ok(Box::new(tokio::net::UnixStream::connect(path).await.map_err(unreachable)?)),
            #[cfg(not(unix))]
            Address::Unix(_) => Err(StoreError::Rejected("this system has no unix sockets".into())),
            Address::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(unreachable)?;
                self.prepare(&stream).map_err(unreachable)?;
                let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
                let untrusted = |why: &str| StoreError::Unavailable(format!("TLS with {address} failed: {why}"));
                let name = tls.name_of(host).ok_or_else(|| untrusted("its host has no name to be certified"))?;
                match tls.connector.connect(name, stream).await {
                    Ok(stream) => Ok(Box::new(stream)),
                    Err(error) if is_about_trust(&error) => Err(untrusted(&error.to_string())),
                    Err(error) => Err(unreachable(error)),
                }
            }
        }
    }

    fn prepare(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        // Three probes fit into the time; the resolution of the option is a second.
        let probe = (self.keeping.silence_max / 3).max(Duration::from_secs(1));
        let socket = SockRef::from(stream);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(probe).with_interval(probe))?;
        // Without it, the kernel sends into the void for a quarter of an hour before it reports that the peer is gone.
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(self.keeping.silence_max))?;
        Ok(())
    }
}

/// Logs in and chooses. The words are sent together and their answers looked at in order. No key is in play yet, so
/// the server's own words may be passed on, and a refusal says nothing against any value: time can heal it.
async fn greet(
    link: &Link,
    address: &Address,
    login: &Login,
    replica: bool,
    wanted: Option<Request>,
    deadline: Instant,
) -> Result<bool, StoreError> {
    let ask = |words: &[&str]| {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        link.ask(Request::new(Effect::Once, &words), false, deadline)
    };
    let refused = |fault: Fault, what: &str| match fault {
        Fault::Refused(refusal) if matches!(refusal.code(), "LOADING" | "BUSY" | "MASTERDOWN") => {
            Fault::Refused(refusal).into()
        }
        Fault::Refused(refusal) => StoreError::Unavailable(format!("{address} refused {what}: {}", refusal.text())),
        Fault::TimedOut => late(address),
        fault => fault.into(),
    };
    if let Some(password) = &login.password {
        let answer = match &login.username {
            Some(username) => ask(&["AUTH", username, password]).await,
            None => ask(&["AUTH", password]).await,
        };
        answer.map_err(|fault| match fault {
            Fault::Refused(refusal) if refusal.text().contains("AUTH") || refusal.text().contains("password") => {
                StoreError::Unavailable(format!("{address} refused to log in: wrong user or password"))
            }
            fault => refused(fault, "to log in"),
        })?;
    }
    let number = login.database.to_string();
    let select = async { if login.database == 0 { Ok(Reply::Nil) } else { ask(&["SELECT", &number]).await } };
    let readonly = async { if replica { ask(&["READONLY"]).await } else { Ok(Reply::Nil) } };
    let resp3 = login.resp3.unwrap_or(wanted.is_some());
    let protocol = async { if resp3 { ask(&["HELLO", "3"]).await } else { Ok(Reply::Nil) } };
    // For those who look at the server's list of clients. Servers before 7.2 do not know it.
    let name = ask(&["CLIENT", "SETINFO", "LIB-NAME", "tideover"]);
    let version = ask(&["CLIENT", "SETINFO", "LIB-VER", env!("CARGO_PKG_VERSION")]);
    let (select, readonly, protocol, name, version) = tokio::join!(select, readonly, protocol, name, version);
    for courtesy in [name, version] {
        match courtesy {
            Ok(_) | Err(Fault::Refused(_)) => {}
            Err(fault) => return Err(refused(fault, "the connection")),
        }
    }
    select.map_err(|fault| refused(fault, "to switch to the database"))?;
    // A replica of a plain server has no such mode and needs none.
    readonly.or_else(|fault| if matches!(fault, Fault::Refused(_)) { Ok(Reply::Nil) } else { Err(fault) })?;
    let speaks_resp3 = match protocol {
        Ok(_) => resp3,
        // Nobody has insisted on it.
        Err(Fault::Refused(_)) if login.resp3.is_none() => false,
        Err(fault) => return Err(refused(fault, "the protocol RESP3")),
    };
    match wanted.filter(|_| speaks_resp3) {
        None => Ok(false),
        Some(wanted) => match link.ask(wanted, false, deadline).await {
            Ok(_) => Ok(true),
            Err(fault @ Fault::Refused(_)) => {
                tracing::debug!(server = %address, ?fault, "it does not tell what others change");
                Ok(false)
            }
            Err(fault) => Err(refused(fault, "to tell what others change")),
        },
    }
}

pub(super) fn late(address: &Address) -> StoreError {
    StoreError::TimedOut(format!("no connection to {address} in time"))
}

fn unreachable(address: &Address, error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("no connection to {address}: {error}"))
}

fn is_about_trust(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}
