//! Walking over keys with `SCAN`: pages for callers, and removals of all that matches.
//!
//! A position is worth something to the server that gave it only. A page's cursor names its node and the connection to it, so
//! that walking on needs no state here, and a walk that goes on at another server, or among others, is refused: it might
//! pass keys over. A removal stays on one connection for each node, and begins that node anew, once, if it breaks.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;
use tideover_core::Tag;
use tideover_core::pattern::Pattern;
use tokio::time::Instant;

use super::RedisStore;
use super::failure::{Fault, unexpected};
use super::node::{Line, Named, Node};
use super::reply::Reply;
use super::request::{Effect, Request};
use crate::store::{Cursor, Page, StoreError};

/// Keys that one step of a removal looks at; the server serves other clients between two steps.
pub(super) const STEP: usize = 1_000;

/// Keys that one step of a page looks at, at most, whatever the caller asks for.
const PAGE_MAX: usize = 10_000;

impl RedisStore {
    pub(super) async fn scan_page(&self, pattern: &str, cursor: &Cursor, count: usize) -> Result<Page, StoreError> {
        let pattern = Pattern::new(pattern);
        let deadline = self.deadline();
        let masters = self.deployment.masters(deadline).await?;
        let (index, place) = place(cursor, &masters)?;
        let Some((address, node)) = masters.get(index) else { return Ok(Page::default()) };
        let request = scan(place.position, &self.namespace.matching(&pattern), count.clamp(1, PAGE_MAX));
        let (line, reply) = step(node, &request, place, deadline).await?;
        let (position, places) = found(&reply)?;
        let keys = places.iter().filter_map(|place| self.namespace.key(place)).filter(|key| pattern.matches(key));
        let keys = keys.map(str::to_owned).collect();
        let next = match position {
            0 => masters.get(index + 1).map(|(address, _)| address),
            _ => Some(address),
        };
        let among = among(&masters);
        Ok(Page { keys, next: next.map(|address| Cursor::new(format!("{position}.{line}.{among}@{address}"))) })
    }

    /// Removes all entries whose keys match, or with `None` everything in the namespace. Tells how many there were.
    pub(super) async fn remove_all(&self, pattern: Option<&Pattern>) -> Result<u64, StoreError> {
        let masters = self.deployment.masters(self.deadline()).await?;
        let removed = try_join_all(masters.iter().map(|(_, node)| self.remove_on(node, pattern))).await?;
        Ok(removed.into_iter().sum())
    }

    async fn remove_on(&self, node: &Arc<Node>, pattern: Option<&Pattern>) -> Result<u64, StoreError> {
        let mut removed = 0;
        for last_try in [false, true] {
            let (line, found) = node.line(self.deadline()).await?;
            match self.remove_over(node, &line, pattern, &mut removed).await {
                Ok(()) => break,
                Err(fault) if !last_try && found && fault.may_repeat(true) => {}
                Err(fault) => {
                    if fault.code() == Some("READONLY") {
                        node.forget(&line);
                    }
                    return Err(fault.into());
                }
            }
        }
        Ok(removed)
    }

    async fn remove_over(
        &self,
        node: &Node,
        line: &Line,
        pattern: Option<&Pattern>,
        removed: &mut u64,
    ) -> Result<(), Fault> {
        let server_pattern = pattern.map_or_else(|| self.namespace.everything(), |glob| self.namespace.matching(glob));
        let mut position = 0;
        loop {
            let limit = node.limit(Effect::Read, self.deadline());
            let reply = line.link.ask(scan(position, &server_pattern, STEP), false, limit).await.map_err(of_walk)?;
            let (next, mut places) = found(&reply)?;
            // What is the store's own stays.
            places.retain(|place| match pattern {
                Some(glob) => self.namespace.key(place).is_some_and(|key| glob.matches(key)),
                None => !self.namespace.is_own(place),
            });
            if !places.is_empty() {
                *removed += self.unlink(node, line, places).await?;
            }
            if next == 0 {
                return Ok(());
            }
            position = next;
        }
    }

    /// Removes what lies at `places`. In a Cluster each goes by itself, to whoever serves it by now.
    async fn unlink(&self, node: &Node, line: &Line, places: Vec<Bytes>) -> Result<u64, Fault> {
        if self.deployment.is_cluster() {
            let deadline = self.deadline();
            let requests = places.iter().map(|place| async move {
                let request = Request::new(Effect::Write, &[b"UNLINK", place]);
                self.deployment.ask(place, &request, deadline).await.map(|reply| number(&reply))
            });
            return Ok(try_join_all(requests).await?.into_iter().sum());
        }
        let words: Vec<&[u8]> = std::iter::once(&b"UNLINK"[..]).chain(places.iter().map(|place| &place[..])).collect();
        let limit = node.limit(Effect::Write, self.deadline());
        let reply = line.link.ask(Request::new(Effect::Write, &words), false, limit).await?;
        Ok(number(&reply))
    }
}

fn number(reply: &Reply) -> u64 {
    match reply {
        Reply::Int(number) => u64::try_from(*number).unwrap_or(0),
        _ => 0,
    }
}

pub(super) fn scan(position: u64, pattern: &str, count: usize) -> Request {
    let (position, count) = (position.to_string(), count.to_string());
    let words = [b"SCAN", position.as_bytes(), b"MATCH", pattern.as_bytes(), b"COUNT", count.as_bytes()];
    Request::new(Effect::Read, &words)
}

/// The next position and the places of a step.
pub(super) fn found(reply: &Reply) -> Result<(u64, Vec<Bytes>), StoreError> {
    let Reply::List(parts) = reply else { return Err(unexpected("SCAN")) };
    let [Reply::Bytes(position), Reply::List(places)] = &parts[..] else { return Err(unexpected("SCAN")) };
    let position = std::str::from_utf8(position).ok().and_then(|text| text.parse().ok());
    let places = places.iter().filter_map(|place| match place {
        Reply::Bytes(place) => Some(place.clone()),
        _ => None,
    });
    Ok((position.ok_or_else(|| unexpected("SCAN"))?, places.collect()))
}

/// Where on a node a walk goes on, and on which connection; zero begins there, on any.
#[derive(Default, Clone, Copy)]
struct Place {
    position: u64,
    line: u64,
}

/// The answer of the node, and the number of the connection that it came over.
async fn step(node: &Node, request: &Request, place: Place, deadline: Instant) -> Result<(u64, Reply), StoreError> {
    let begins = place.position == 0;
    let mut last_try = !begins;
    loop {
        let (line, found) = node.line(deadline).await?;
        if !begins && line.number != place.line {
            return Err(StoreError::Unavailable("the connection of the cursor was replaced; begin anew".into()));
        }
        match line.link.ask(request.clone(), false, node.limit(Effect::Read, deadline)).await {
            Ok(reply) => return Ok((line.number, reply)),
            Err(fault) if !last_try && found && fault.may_repeat(true) => last_try = true,
            Err(fault) => return Err(of_walk(fault).into()),
        }
    }
}

/// Who may use the keys but not walk through them is let down by the operation, not by the store, and will be again.
fn of_walk(fault: Fault) -> Fault {
    match fault.code() {
        Some("NOPERM") => StoreError::Rejected("NOPERM: the user may not walk through keys with SCAN".into()).into(),
        _ => fault,
    }
}

/// Which nodes there are, as a number.
fn among(masters: &[Named]) -> u64 {
    let names: String = masters.iter().map(|(address, _)| format!("{address} ")).collect();
    Tag::named(&names).0
}

/// Which of the nodes a cursor leads to, and where on it.
fn place(cursor: &Cursor, masters: &[Named]) -> Result<(usize, Place), StoreError> {
    let text = cursor.as_str();
    if text.is_empty() {
        return Ok((0, Place::default()));
    }
    let foreign = || StoreError::Rejected("the cursor is not one that this store gave".into());
    let (numbers, address) = text.split_once('@').ok_or_else(foreign)?;
    let numbers: Vec<u64> = numbers.split('.').map(str::parse).collect::<Result<_, _>>().map_err(|_| foreign())?;
    let [position, line, of] = numbers[..] else { return Err(foreign()) };
    let index = masters.iter().position(|(known, _)| known.to_string() == address);
    match index.filter(|_| of == among(masters)) {
        Some(index) => Ok((index, Place { position, line })),
        None => Err(StoreError::Unavailable("the nodes are others than the cursor knows; begin anew".into())),
    }
}
