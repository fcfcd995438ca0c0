//! Lua scripts, run by their digest; a server that does not know one is sent its text.

use super::failure::Fault;
use super::reply::Reply;
use super::request::{Effect, Request};

/// A script on one key. Make it a `static`, since its digest is computed once for each value of this.
pub(super) struct Script {
    text: &'static str,
    effect: Effect,
    digest: std::sync::OnceLock<String>,
}

impl Script {
    pub(super) const fn new(effect: Effect, text: &'static str) -> Self {
        Self { text, effect, digest: std::sync::OnceLock::new() }
    }

    /// Runs it on what lies at `key`. A server that does not know it has not run it: that is sent its text, and knows it
    /// from then on.
    pub(super) async fn run<A>(
        &self,
        key: &[u8],
        arguments: &[&[u8]],
        ask: impl Fn(Request) -> A,
    ) -> Result<Reply, Fault>
    where
        A: Future<Output = Result<Reply, Fault>>,
    {
        let digest = self.digest.get_or_init(|| sha1_smol::Sha1::from(self.text).digest().to_string());
        match ask(self.request(b"EVALSHA", digest, key, arguments)).await {
            Err(fault) if fault.code() == Some("NOSCRIPT") => {
                ask(self.request(b"EVAL", self.text, key, arguments)).await
            }
            result => result,
        }
    }

    fn request(&self, command: &[u8], script: &str, key: &[u8], arguments: &[&[u8]]) -> Request {
        Request::new(self.effect, &[&[command, script.as_bytes(), b"1", key], arguments].concat())
    }
}
