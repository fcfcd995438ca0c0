//! Lua scripts, run by their digest; a server that does not know one is sent its text.

use super::failure::Fault;
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

    /// Runs it if the server knows it.
    pub(super) fn by_digest(&self, key: &[u8], arguments: &[&[u8]]) -> Request {
        let digest = self.digest.get_or_init(|| sha1_smol::Sha1::from(self.text).digest().to_string());
        self.request(b"EVALSHA", digest, key, arguments)
    }

    /// Runs it, and has the server know it from now on.
    pub(super) fn by_text(&self, key: &[u8], arguments: &[&[u8]]) -> Request {
        self.request(b"EVAL", self.text, key, arguments)
    }

    fn request(&self, command: &[u8], script: &str, key: &[u8], arguments: &[&[u8]]) -> Request {
        Request::new(self.effect, &[&[command, script.as_bytes(), b"1", key], arguments].concat())
    }
}

/// Whether the server does not know the script, and so has not run it.
pub(super) fn is_unknown(fault: &Fault) -> bool {
    fault.code() == Some("NOSCRIPT")
}
