//! Answers off the wire: RESP2 and RESP3 (<https://redis.io/docs/latest/develop/reference/protocol-spec/>).
//!
//! Decides where an answer ends and what it says. An answer is measured before anything of it is taken, so a long one
//! that comes in pieces is copied once; bytes are copied out of the read buffer, which a small value would otherwise
//! keep alive. It does not know what was asked.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

/// Lists within lists; no command used here comes near it.
const DEPTH_MAX: u32 = 16;

/// The longest that a server may announce: 512 MB is the limit of its own.
const LENGTH_MAX: usize = 512 * 1024 * 1024;

/// What stands in one line: words of the protocol and of errors.
const LINE_MAX: usize = 64 * 1024;

/// What a server answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reply {
    Nil,
    Int(i64),
    Bytes(Bytes),
    /// Lists, sets, and the flattened pairs of maps.
    List(Vec<Self>),
    Refused(Refusal),
    /// Not an answer to anything: a RESP3 push message.
    Push(Vec<Self>),
}

/// An error of the server. Its words may quote a key: [`Debug`](fmt::Debug) shows the code alone.
#[derive(Clone, PartialEq)]
pub(super) struct Refusal(Bytes);

impl Refusal {
    /// The word in capitals that it begins with: `WRONGTYPE`, `MOVED`. Servers before version 7 wrap what a command in a
    /// script was refused with, also where the script has caught it.
    pub(super) fn code(&self) -> &str {
        let text = self.text();
        let of_script = ["ERR Error running script", "@user_script"].iter().any(|begin| text.starts_with(begin));
        let wrapped = text.split_once(": -").filter(|_| of_script);
        wrapped.map_or(text, |(_, inner)| inner).split(' ').next().unwrap_or_default()
    }

    /// Whether the same might be allowed with one key at a time.
    pub(super) fn forbids_merging(&self) -> bool {
        matches!(self.code(), "NOPERM" | "CROSSSLOT") || self.text().contains("unknown command")
    }

    /// All of it, code included. It may quote what was asked.
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Refusal").field(&self.code()).finish()
    }
}

/// What came is not of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Garbage;

/// Takes answers out of a buffer that fills up.
#[derive(Default)]
pub(super) struct Decoder {
    /// Below this many bytes another look is of no use.
    needed: usize,
}

impl Decoder {
    /// The next answer, if all of it has come.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Reply>, Garbage> {
        if buffer.is_empty() || buffer.len() < self.needed {
            return Ok(None);
        }
        match measure(buffer, 0, 0)? {
            Extent::Ends(end) => {
                let reply = Reader { bytes: &buffer[..end] }.reply()?;
                buffer.advance(end);
                self.needed = 0;
                Ok(Some(reply))
            }
            Extent::Needs(needed) => {
                self.needed = needed;
                Ok(None)
            }
        }
    }
}

enum Extent {
    Ends(usize),
    Needs(usize),
}

/// Where the answer that begins at `start` ends.
fn measure(bytes: &[u8], start: usize, depth: u32) -> Result<Extent, Garbage> {
    let Some(Line { kind, line, after }) = Line::at(bytes, start)? else { return Ok(Extent::Needs(bytes.len() + 1)) };
    match kind {
        b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => Ok(Extent::Ends(after)),
        b'$' | b'=' | b'!' => {
            let end = length(line)?.map_or(after, |length| after + length + 2);
            Ok(if end <= bytes.len() { Extent::Ends(end) } else { Extent::Needs(end) })
        }
        b'*' | b'~' | b'>' | b'%' | b'|' => {
            if depth == DEPTH_MAX {
                return Err(Garbage);
            }
            let mut end = after;
            for _ in 0..items(kind, line)? {
                match measure(bytes, end, depth + 1)? {
                    Extent::Ends(next) => end = next,
                    needs @ Extent::Needs(_) => return Ok(needs),
                }
            }
            Ok(Extent::Ends(end))
        }
        _ => Err(Garbage),
    }
}

/// What an answer begins with.
struct Line<'a> {
    kind: u8,
    /// The rest of the line.
    line: &'a [u8],
    /// Where the next line begins.
    after: usize,
}

impl<'a> Line<'a> {
    fn at(bytes: &'a [u8], start: usize) -> Result<Option<Self>, Garbage> {
        let rest = bytes.get(start..).unwrap_or_default();
        let looked_at = &rest[..rest.len().min(LINE_MAX + 1)];
        let Some(end) = looked_at.iter().position(|byte| *byte == b'\n') else {
            return if looked_at.len() > LINE_MAX { Err(Garbage) } else { Ok(None) };
        };
        match &rest[..end] {
            [kind, line @ .., b'\r'] => Ok(Some(Self { kind: *kind, line, after: start + end + 1 })),
            _ => Err(Garbage),
        }
    }
}

fn number(line: &[u8]) -> Result<i64, Garbage> {
    std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()).ok_or(Garbage)
}

/// `None` for the null of RESP2.
fn length(line: &[u8]) -> Result<Option<usize>, Garbage> {
    match number(line)? {
        -1 => Ok(None),
        length => usize::try_from(length).ok().filter(|length| *length <= LENGTH_MAX).map(Some).ok_or(Garbage),
    }
}

/// How many answers follow: two for each pair of a map, one more behind an attribute.
fn items(kind: u8, line: &[u8]) -> Result<usize, Garbage> {
    let count = length(line)?.unwrap_or(0);
    Ok(match kind {
        b'%' => count * 2,
        b'|' => count * 2 + 1,
        _ => count,
    })
}

/// Reads an answer that is known to be whole.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn reply(&mut self) -> Result<Reply, Garbage> {
        let Line { kind, line, after } = Line::at(self.bytes, 0)?.ok_or(Garbage)?;
        self.bytes = &self.bytes[after..];
        match kind {
            b'+' | b',' | b'(' => Ok(Reply::Bytes(Bytes::copy_from_slice(line))),
            b'-' => Ok(Reply::Refused(Refusal(Bytes::copy_from_slice(line)))),
            b':' => Ok(Reply::Int(number(line)?)),
            b'#' => Ok(Reply::Int(i64::from(line == b"t"))),
            b'_' => Ok(Reply::Nil),
            b'$' | b'=' | b'!' => self.bulk(kind, length(line)?),
            b'*' if length(line)?.is_none() => Ok(Reply::Nil),
            _ => self.list(kind, items(kind, line)?),
        }
    }

    fn bulk(&mut self, kind: u8, length: Option<usize>) -> Result<Reply, Garbage> {
        let Some(length) = length else { return Ok(Reply::Nil) };
        let (bytes, rest) = self.bytes.split_at_checked(length).ok_or(Garbage)?;
        self.bytes = rest.strip_prefix(b"\r\n").ok_or(Garbage)?;
        Ok(match kind {
            b'!' => Reply::Refused(Refusal(Bytes::copy_from_slice(bytes))),
            // Verbatim text begins with its format: `txt:`.
            b'=' => Reply::Bytes(Bytes::copy_from_slice(bytes.get(4..).unwrap_or_default())),
            _ => Reply::Bytes(Bytes::copy_from_slice(bytes)),
        })
    }

    fn list(&mut self, kind: u8, count: usize) -> Result<Reply, Garbage> {
        let mut list: Vec<Reply> = Vec::new();
        for _ in 0..count {
            list.push(self.reply()?);
        }
        Ok(match kind {
            b'>' => Reply::Push(list),
            // What an attribute says about an answer is of no use here.
            b'|' => list.pop().unwrap_or(Reply::Nil),
            _ => Reply::List(list),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<Reply>, Garbage> {
        let (mut buffer, mut decoder, mut replies) = (BytesMut::from(bytes), Decoder::default(), Vec::new());
        while let Some(reply) = decoder.next(&mut buffer)? {
            replies.push(reply);
        }
        Ok(replies)
    }

    fn bytes(text: &'static str) -> Reply {
        Reply::Bytes(text.into())
    }

    const MANY: &[u8] =
        b"+OK\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n_\r\n*2\r\n$0\r\n\r\n:1\r\n%1\r\n+a\r\n#t\r\n>1\r\n+x\r\n\
        |1\r\n+k\r\n+v\r\n,1.5\r\n=5\r\ntxt:a\r\n";

    #[test]
    fn every_kind_is_understood() {
        let list = Reply::List(vec![bytes(""), Reply::Int(1)]);
        let map = Reply::List(vec![bytes("a"), Reply::Int(1)]);
        let expected = [
            bytes("OK"),
            Reply::Int(-7),
            bytes("a\r\n"),
            Reply::Nil,
            Reply::Nil,
            Reply::Nil,
            list,
            map,
            Reply::Push(vec![bytes("x")]),
            bytes("1.5"),
            bytes("a"),
        ];
        assert_eq!(all(MANY).expect("of the protocol"), expected);
    }

    #[test]
    fn pieces_of_any_size_give_the_same_answers() {
        for size in 1..MANY.len() {
            let (mut buffer, mut decoder, mut replies) = (BytesMut::new(), Decoder::default(), Vec::new());
            for piece in MANY.chunks(size) {
                buffer.extend_from_slice(piece);
                while let Some(reply) = decoder.next(&mut buffer).expect("of the protocol") {
                    replies.push(reply);
                }
            }
            assert_eq!(replies, all(MANY).expect("of the protocol"), "{size}");
        }
    }

    #[test]
    fn flipped_bytes_never_panic() {
        for at in 0..MANY.len() {
            for byte in [0, b'-', b'9', b'$', b'*', b'%', b'\r', b'\n', 255] {
                let mut bytes = MANY.to_vec();
                bytes[at] = byte;
                let _ = all(&bytes);
            }
        }
    }

    #[test]
    fn a_refusal_shows_its_code_and_hides_its_words() {
        let replies = all(b"-WRONGTYPE k3y\r\n").expect("of the protocol");
        let [Reply::Refused(refusal)] = &replies[..] else { panic!("{replies:?}") };
        assert_eq!((refusal.code(), refusal.text()), ("WRONGTYPE", "WRONGTYPE k3y"));
        assert!(!format!("{refusal:?}").contains("k3y"));
    }

    #[test]
    fn what_a_script_was_refused_with_is_the_code() {
        for (text, code) in [
            (
                "ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -READONLY You can't.",
                "READONLY",
            ),
            ("@user_script: 1: -READONLY You can't write against a read only replica.", "READONLY"),
            ("@user_script: 1: Wrong number of args", "@user_script:"),
            ("ERR value: -1 is too small", "ERR"),
        ] {
            let replies = all(format!("-{text}\r\n").as_bytes()).expect("of the protocol");
            let [Reply::Refused(refusal)] = &replies[..] else { panic!("{replies:?}") };
            assert_eq!(refusal.code(), code);
        }
    }

    #[test]
    fn an_answer_without_an_end_is_garbage_before_it_fills_memory() {
        let mut endless = vec![b'x'; LINE_MAX];
        endless[0] = b'+';
        assert_eq!(all(&endless), Ok(vec![]), "it may yet end");
        endless.push(b'x');
        assert_eq!(all(&endless), Err(Garbage));
        let part = format!("${LENGTH_MAX}\r\n");
        assert_eq!(all(part.as_bytes()), Ok(vec![]), "as long as a value may be");
    }

    #[test]
    fn what_is_not_of_the_protocol_is_garbage() {
        let deep = b"*1\r\n".repeat(100);
        for garbage in
            [&b"HTTP/1.1 400\r\n"[..], b"$x\r\n", b"$-2\r\n", b"$1\r\nabc\r\n", b"+a\n", b"$9999999999\r\n", &deep]
        {
            assert_eq!(all(garbage), Err(Garbage), "{}", String::from_utf8_lossy(garbage));
        }
    }
}
