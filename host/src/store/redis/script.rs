//! Lua scripts, run by their digest; a server that does not know one is sent its text.

use bytes::{Bytes, BytesMut};

use super::failure::Fault;
use super::reply::Reply;
use super::request::{Body, Effect, Request, pack_count, pack_word};

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
        match ask(self.request(b"EVALSHA", self.digest(), key, arguments)).await {
            Err(fault) if fault.code() == Some("NOSCRIPT") => {
                ask(self.request(b"EVAL", self.text, key, arguments)).await
            }
            result => result,
        }
    }

    /// As [`run`](Self::run), for a script that works on any number of keys and answers with a list, one item for each: it
    /// is run once for all who ask for it at the same time with the same `common` argument, which is the first of
    /// `ARGV`. Each key has as many further arguments as another. What comes back is this key's item.
    pub(super) async fn run_for_many<A>(
        &'static self,
        key: &[u8],
        common: &Bytes,
        arguments: &[&[u8]],
        ask: impl Fn(Request) -> A,
    ) -> Result<Reply, Fault>
    where
        A: Future<Output = Result<Reply, Fault>>,
    {
        let part = Part::new(self, key, common, arguments);
        let request = |part| Request { effect: self.effect, body: Body::Script(part), heeds: false };
        match ask(request(part.clone())).await {
            Err(fault) if fault.code() == Some("NOSCRIPT") => ask(request(Part { by_text: true, ..part })).await,
            result => result,
        }
    }

    fn digest(&self) -> &str {
        self.digest.get_or_init(|| sha1_smol::Sha1::from(self.text).digest().to_string())
    }

    fn request(&self, command: &[u8], script: &str, key: &[u8], arguments: &[&[u8]]) -> Request {
        Request::new(self.effect, &[&[command, script.as_bytes(), b"1", key], arguments].concat())
    }
}

/// One key's part in the run of a script, its words packed.
#[derive(Clone)]
pub(super) struct Part {
    script: &'static Script,
    by_text: bool,
    common: Bytes,
    key: Bytes,
    arguments: Bytes,
    /// How many arguments there are.
    count: usize,
}

impl Part {
    fn new(script: &'static Script, key: &[u8], common: &Bytes, arguments: &[&[u8]]) -> Self {
        // The lengths stand before the words, and lines end.
        let size = [key].iter().chain(arguments).map(|word| word.len() + 16).sum();
        let mut packed = BytesMut::with_capacity(size);
        pack_word(&mut packed, key);
        let end = packed.len();
        arguments.iter().for_each(|argument| pack_word(&mut packed, argument));
        let mut packed = packed.freeze();
        let (key, common, count) = (packed.split_to(end), common.clone(), arguments.len());
        Self { script, by_text: false, common, key, arguments: packed, count }
    }

    /// Whether both can be one run.
    pub(super) fn goes_with(&self, other: &Self) -> bool {
        std::ptr::eq(self.script, other.script)
            && (self.by_text, self.count) == (other.by_text, other.count)
            && self.common == other.common
    }

    /// About how many bytes it takes.
    pub(super) const fn weight(&self) -> usize {
        self.key.len() + self.arguments.len()
    }

    /// Appends the command that runs the script for this and others that go with it.
    pub(super) fn pack<'a>(&'a self, out: &mut BytesMut, others: impl Iterator<Item = &'a Self> + Clone) {
        let all = std::iter::once(self).chain(others);
        let keys = all.clone().count();
        pack_count(out, 4 + keys * (1 + self.count));
        if self.by_text {
            pack_word(out, b"EVAL");
            pack_word(out, self.script.text.as_bytes());
        } else {
            pack_word(out, b"EVALSHA");
            pack_word(out, self.script.digest().as_bytes());
        }
        pack_word(out, keys.to_string().as_bytes());
        all.clone().for_each(|part| out.extend_from_slice(&part.key));
        pack_word(out, &self.common);
        all.for_each(|part| out.extend_from_slice(&part.arguments));
    }
}
