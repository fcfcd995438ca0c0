//! Who is primary now, as Sentinels know it.
//!
//! All of them are asked at once, each on a connection of its own that ends with the answer, and the first answer
//! counts: one that hangs delays nobody. The server itself is then asked for its role, since Sentinels that were cut
//! off may know of an older state.

use futures_util::FutureExt;
use futures_util::future::select_ok;
use tokio::time::Instant;

use super::dial::Dialer;
use super::failure::unexpected;
use super::reply::Reply;
use super::request::{Effect, Request};
use super::url::{Address, Login};
use super::wire::Link;
use crate::cache::random_seed;
use crate::store::StoreError;

/// The Sentinels of one primary.
pub(super) struct Sentinels {
    pub(super) dialer: Dialer,
    pub(super) login: Login,
    pub(super) addresses: Vec<Address>,
    pub(super) master: String,
}

impl Sentinels {
    /// The address of the primary.
    pub(super) async fn master(&self, deadline: Instant) -> Result<Address, StoreError> {
        match self.ask("GET-MASTER-ADDR-BY-NAME", deadline).await? {
            Reply::List(parts) => address_of(&parts).ok_or_else(|| unexpected("SENTINEL")),
            Reply::Nil => Err(StoreError::Unavailable("the Sentinels know no primary of that name".into())),
            _ => Err(unexpected("SENTINEL")),
        }
    }

    /// The address of a replica that is there, any of them.
    pub(super) async fn replica(&self, deadline: Instant) -> Result<Address, StoreError> {
        let Reply::List(replicas) = self.ask("REPLICAS", deadline).await? else { return Err(unexpected("SENTINEL")) };
        let usable: Vec<Address> = replicas.iter().filter_map(usable_replica).collect();
        let number = usize::try_from(random_seed() % (usable.len().max(1) as u64)).unwrap_or(0);
        usable.into_iter().nth(number).ok_or_else(|| StoreError::Unavailable("no replica is there".into()))
    }

    async fn ask(&self, question: &str, deadline: Instant) -> Result<Reply, StoreError> {
        let asked = self.addresses.iter().map(|address| self.ask_one(address, question, deadline).boxed());
        select_ok(asked).await.map(|(reply, _others)| reply)
    }

    async fn ask_one(&self, address: &Address, question: &str, deadline: Instant) -> Result<Reply, StoreError> {
        let (link, _) = self.dialer.dial(address, &self.login, false, None, deadline, Box::new(drop)).await?;
        let words = [&b"SENTINEL"[..], question.as_bytes(), self.master.as_bytes()];
        let reply = link.ask(Request::new(Effect::Read, &words), false, deadline).await?;
        // One that does not know the name is of less worth than any that does.
        if reply == Reply::Nil {
            return Err(StoreError::Unavailable("the Sentinels know no primary of that name".into()));
        }
        Ok(reply)
    }
}

/// Refuses a server that is not a primary.
pub(super) async fn is_master(link: &Link, address: &Address, deadline: Instant) -> Result<(), StoreError> {
    let reply = link.ask(Request::new(Effect::Read, &[b"ROLE"]), false, deadline).await?;
    match reply {
        Reply::List(parts) if matches!(parts.first(), Some(Reply::Bytes(role)) if role == "master") => Ok(()),
        _ => Err(StoreError::Unavailable(format!("{address} is not a primary now; a failover is under way"))),
    }
}

fn text(reply: &Reply) -> Option<&str> {
    match reply {
        Reply::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

fn address_of(parts: &[Reply]) -> Option<Address> {
    let [host, port] = parts else { return None };
    Some(Address::Tcp(text(host)?.to_owned(), text(port)?.parse().ok()?))
}

/// The address in a list of names and values, unless its flags say that it is away.
fn usable_replica(fields: &Reply) -> Option<Address> {
    let Reply::List(fields) = fields else { return None };
    let field = |name: &str| {
        let mut pairs = fields.chunks_exact(2).filter_map(|pair| Some((text(&pair[0])?, text(&pair[1])?)));
        pairs.find_map(|(found, value)| (found == name).then_some(value))
    };
    let away = field("flags")?.split(',').any(|flag| matches!(flag, "s_down" | "o_down" | "disconnected"));
    let in_step = field("master-link-status").is_none_or(|status| status == "ok");
    (!away && in_step).then(|| Some(Address::Tcp(field("ip")?.to_owned(), field("port")?.parse().ok()?)))?
}
