//! Why something was not answered, and what that means for callers. No text quotes a key, a value or a password.

use std::io;
use std::sync::Arc;

use super::reply::Refusal;
use crate::store::StoreError;

/// What became of one request to one server.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// The connection ended. `sent` says whether the request may have reached the server.
    Lost { sent: bool, why: Loss },
    /// No answer in time. It may have reached the server.
    TimedOut,
    /// No answer in time, because of what this process had to do before. It may have reached the server.
    Congested,
    /// The server answered with an error.
    Refused(Refusal),
    /// So many requests wait for this connection already.
    Full(usize),
    /// There is no connection, or there will be none.
    Store(StoreError),
}

/// Why a connection ended.
#[derive(Debug, Clone)]
pub(super) enum Loss {
    /// The other side, or something between, ended it.
    Broken(Arc<str>),
    /// TLS came to an end over certificates or the like: time does not heal it.
    Untrusted(Arc<str>),
    /// What came was not of the protocol.
    Garbage,
    /// Nothing came back for as long as is allowed.
    Silent,
    /// It is not wanted any more.
    Retired,
}

impl Fault {
    /// Whether another connection is worth a try for a request that does the same when it is run twice (`repeatable`).
    pub(super) fn may_repeat(&self, repeatable: bool) -> bool {
        matches!(self, Self::Lost { sent, why } if (repeatable || !sent) && !matches!(why, Loss::Untrusted(_)))
    }

    /// The same, for a request that must not be sent twice: if it was sent, nobody knows whether it was done.
    pub(super) fn of_once(self) -> Self {
        match self {
            Self::Lost { sent: true, why } => Self::Store(StoreError::from(why).uncertain()),
            fault => fault,
        }
    }

    /// The code of the server's refusal, if it is one.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(refusal.code()),
            _ => None,
        }
    }
}

impl Loss {
    /// The connection broke with that.
    pub(super) fn of(error: &io::Error) -> Self {
        let text = error.to_string().into();
        match error.get_ref().is_some_and(|inner| inner.is::<tokio_rustls::rustls::Error>()) {
            true => Self::Untrusted(text),
            false => Self::Broken(text),
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Lost { why, .. } => why.into(),
            Fault::TimedOut => Self::TimedOut("no answer in time".into()),
            Fault::Congested => Self::Congested,
            Fault::Refused(refusal) => refused(&refusal),
            Fault::Full(queue_max) => Self::Overloaded { queue_max },
            Fault::Store(error) => error,
        }
    }
}

impl From<Loss> for StoreError {
    fn from(loss: Loss) -> Self {
        match loss {
            Loss::Broken(why) => Self::Unavailable(format!("connection lost: {why}")),
            Loss::Untrusted(why) => Self::Unavailable(format!("TLS failed: {why}")),
            Loss::Garbage => Self::Unavailable("the answer is not of the Redis protocol".into()),
            Loss::Silent => Self::Unavailable("connection given up: the server stayed silent".into()),
            Loss::Retired => Self::Unavailable("connection given up for its successor".into()),
        }
    }
}

impl StoreError {
    /// It may have been done all the same.
    fn uncertain(self) -> Self {
        match self {
            Self::Unavailable(why) => Self::Uncertain(why),
            error => error,
        }
    }
}

/// An answer that the command does not have.
pub(super) fn unexpected(command: &str) -> StoreError {
    StoreError::Rejected(format!("the answer to {command} is of another kind than it should be"))
}

/// Sorts refusals into those of a server that cannot serve us now, and all others. Only the code is passed on.
fn refused(refusal: &Refusal) -> StoreError {
    let code = refusal.code();
    let unavailable = |why| StoreError::Unavailable(format!("{code}: {why}"));
    let rejected = |why| StoreError::Rejected(format!("{code}: {why}"));
    match code {
        "LOADING" => unavailable("the server is loading its data"),
        "BUSY" => unavailable("a script occupies the server"),
        "CLUSTERDOWN" => unavailable("the cluster does not serve this key now"),
        "MASTERDOWN" => unavailable("the replica has lost its primary"),
        "TRYAGAIN" => unavailable("the cluster is moving this key"),
        "MOVED" | "ASK" => unavailable("the cluster sends this key from node to node"),
        "READONLY" => unavailable("the server is a read-only replica"),
        "MISCONF" => unavailable("the server fails to persist and takes no writes"),
        "NOREPLICAS" => unavailable("the server has too few replicas and takes no writes"),
        "NOAUTH" => unavailable("the server wants a password"),
        "NOPERM" => unavailable("the user lacks the permission"),
        "WRONGTYPE" => StoreError::Foreign(format!("{code}: the key holds something that is not plain bytes")),
        "OOM" => rejected("the server is at its memory limit and may evict nothing"),
        "ERR" if refusal.text().contains("max number of clients") => {
            unavailable("the server has as many clients as it takes")
        }
        "ERR" => rejected(plain_error(refusal.text())),
        _ => rejected("the server refused the command"),
    }
}

/// Says what some errors without a code of their own mean; others may quote what was asked.
fn plain_error(text: &str) -> &'static str {
    const KNOWN: [(&str, &str); 4] = [
        ("not an integer", "the value is not a whole number of 64 bits"),
        ("would overflow", "the number would not fit into 64 bits"),
        ("unknown command", "the server does not know the command"),
        ("cluster support disabled", "the server is no node of a cluster"),
    ];
    KNOWN.into_iter().find(|(part, _)| text.contains(part)).map_or("the server refused the command", |(_, why)| why)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::super::reply::{Decoder, Reply};
    use super::*;

    fn refused_with(line: &str) -> StoreError {
        let mut buffer = BytesMut::from(format!("-{line}\r\n").as_bytes());
        let reply = Decoder::default().next(&mut buffer).expect("of the protocol").expect("a whole reply");
        let Reply::Refused(refusal) = reply else { panic!("{reply:?}") };
        Fault::Refused(refusal).into()
    }

    #[test]
    fn a_server_that_cannot_serve_now_is_unavailable() {
        for line in ["LOADING Redis is loading", "BUSY a script", "CLUSTERDOWN", "MASTERDOWN Link", "TRYAGAIN later"] {
            assert!(matches!(refused_with(line), StoreError::Unavailable(_)), "{line}");
        }
        for line in ["READONLY k3y", "NOAUTH k3y", "NOPERM k3y", "MISCONF k3y", "NOREPLICAS k3y"] {
            let StoreError::Unavailable(text) = refused_with(line) else { panic!("{line}") };
            assert!(!text.contains("k3y"), "{text}");
        }
    }

    #[test]
    fn what_is_not_plain_bytes_is_foreign() {
        let StoreError::Foreign(text) = refused_with("WRONGTYPE k3y") else { panic!("not foreign") };
        assert!(!text.contains("k3y"), "{text}");
    }

    #[test]
    fn a_refusal_is_named_by_its_code_and_quotes_nothing() {
        for line in ["OOM k3y", "CROSSSLOT k3y", "ERR unknown command, args 'k3y'"] {
            let StoreError::Rejected(text) = refused_with(line) else { panic!("{line}") };
            let code = line.split(' ').next().expect("a code");
            assert!(text.starts_with(code) && !text.contains("k3y"), "{text}");
        }
    }
}
