//! What is sent: one command, packed once, and what running it twice would do.

use bytes::{Bytes, BytesMut};

use super::script::Part;

/// What a command does, which decides how long its answer may take and whether it may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Changes nothing. A replica may answer it.
    Read,
    /// Changes something, and the same if it is run twice.
    Write,
    /// Counts, takes or asks for a condition: not sent again once it may have reached the server.
    Once,
}

/// One command.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) effect: Effect,
    pub(super) body: Body,
    /// The end of the log is asked for behind it, and given with the answer.
    pub(super) heeds: bool,
}

#[derive(Clone)]
pub(super) enum Body {
    /// `GET` of the key; several that leave together become one `MGET`.
    Get(Bytes),
    Packed(Bytes),
    /// A script on one key; several of the same that leave together become one run of it for all of their keys.
    Script(Part),
    /// The end of the log, and nothing else.
    Head,
    /// `SUBSCRIBE`, which is answered by a push message.
    Subscribe(Bytes),
}

impl Request {
    pub(super) fn get(key: impl Into<Bytes>) -> Self {
        Self { effect: Effect::Read, body: Body::Get(key.into()), heeds: false }
    }

    /// The end of the log, as the primary has it.
    pub(super) const fn head() -> Self {
        Self { effect: Effect::Write, body: Body::Head, heeds: true }
    }

    pub(super) fn new(effect: Effect, words: &[&[u8]]) -> Self {
        // The lengths stand before the words, and lines end.
        let size = words.iter().map(|word| word.len() + 16).sum::<usize>() + 16;
        let mut packed = BytesMut::with_capacity(size);
        pack(&mut packed, words.iter().copied());
        Self { effect, body: Body::Packed(packed.freeze()), heeds: false }
    }

    /// From now on what is published in `channel` is told, on a connection that speaks RESP3.
    pub(super) fn subscription(channel: &[u8]) -> Self {
        let mut packed = BytesMut::new();
        pack(&mut packed, [&b"SUBSCRIBE"[..], channel].into_iter());
        Self { effect: Effect::Once, body: Body::Subscribe(packed.freeze()), heeds: false }
    }

    /// The same, for who does not heed the log.
    pub(super) fn unheeding(&self) -> Self {
        Self { heeds: false, ..self.clone() }
    }

    /// About how many bytes it will take on the wire.
    pub(super) fn weight(&self) -> usize {
        match &self.body {
            Body::Get(key) => key.len() + 16,
            Body::Packed(packed) | Body::Subscribe(packed) => packed.len(),
            Body::Script(part) => part.weight(),
            Body::Head => 0,
        }
    }
}

/// Appends the command of these words to `out`.
pub(super) fn pack<'a>(out: &mut BytesMut, words: impl ExactSizeIterator<Item = &'a [u8]>) {
    pack_count(out, words.len());
    words.for_each(|word| pack_word(out, word));
}

/// Appends how many words follow.
pub(super) fn pack_count(out: &mut BytesMut, count: usize) {
    out.extend_from_slice(Digits::default().line(b'*', count));
}

/// Appends one word.
pub(super) fn pack_word(out: &mut BytesMut, word: &[u8]) {
    out.extend_from_slice(Digits::default().line(b'$', word.len()));
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
}

/// Room for `*123\r\n`. Formatting through `fmt` costs more than everything else of a command.
struct Digits([u8; 24]);

impl Default for Digits {
    fn default() -> Self {
        let mut room = [0; 24];
        (room[22], room[23]) = (b'\r', b'\n');
        Self(room)
    }
}

impl Digits {
    fn line(&mut self, kind: u8, mut number: usize) -> &[u8] {
        let mut begin = 22;
        loop {
            begin -= 1;
            self.0[begin] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                self.0[begin - 1] = kind;
                return &self.0[begin - 1..];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_packed_with_their_lengths() {
        let Body::Packed(packed) = Request::new(Effect::Write, &[b"SET", b"k", b"", b"0123456789"]).body else {
            panic!("packed")
        };
        assert_eq!(packed, "*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n$10\r\n0123456789\r\n");
    }
}
