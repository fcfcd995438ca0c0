//! The log of invalidations as a stream at the server, and who listens to it here.
//!
//! The number of a note is its place in the stream: milliseconds shifted by [`SEQUENCE_BITS`], and the sequence number
//! within the millisecond. With each batch of requests the end of the stream is asked for, once. Where that is the note
//! that was told last, nothing else is done; otherwise the notes in between are fetched and told before the requests of the
//! batch are answered. Notes were missed if the one that was told last is not in the stream any more (trimmed), or if the
//! stream ends before it (the server restarted empty, or a replica took over that had not got it). Then a mark is put at
//! the end of the stream, above all that was told before, so that numbers keep growing for everybody.
//!
//! The server numbers by its clock, and goes on in the millisecond of the last note for as long as the clock is behind that: its
//! clock was ahead and has been set back, or a mark stands above what it has come to. A millisecond that is full is followed by
//! the next one, so numbers always grow, and none is too great to be read, whatever becomes of the clock. That takes a script;
//! who runs none (`compare: false`, or a user that may not) leaves it to the clock, and a note past a full millisecond
//! stops the log until it is trimmed away. The server tells of a script's note to those who added it, too: they look at the log's end once
//! more.
//!
//! It does not know what notes mean to a cache.

use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use tideover_core::{Invalidation, Note, Tag, WallTime};
use tokio::time::Instant;

use super::backplane::Deed;
use super::failure::{Fault, unexpected};
use super::keys::Namespace;
use super::pulse::by;
use super::reply::Reply;
use super::request::{Effect, Request};
use super::script::Script;
use super::wire::Answered;
use super::{Deployment, RedisStore, lock};
use crate::store::log::NOTES_MAX;
use crate::store::{Ear, Heard, StoreError};

/// Room for a sequence number: so many notes in one millisecond, as a power of two.
const SEQUENCE_BITS: u32 = 20;

/// Notes that are fetched at once.
const PAGE: usize = 1_000;

/// Adds a note at the end. `KEYS`: the log. `ARGV`: how many notes are kept, how many there may be in one millisecond; then the
/// note's fields. One that the millisecond has no room for goes to the beginning of the next.
static ADD: Script = Script::new(
    Effect::Write,
    "local function add(place) \
       return redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], place, unpack(ARGV, 3)) \
     end \
     local added = add('*') \
     if type(added) ~= 'string' then return added end \
     local millis, sequence = string.match(added, '(%d+)%-(%d+)') \
     if tonumber(sequence) < tonumber(ARGV[2]) then return added end \
     redis.call('XDEL', KEYS[1], added) \
     return add(string.format('%.0f-0', millis + 1))",
);

/// The number of the newest note, zero for none; or why that is not known.
pub(super) type Head = Result<u64, Fault>;

/// Where the log lies and who listens.
pub(super) struct Log {
    place: Bytes,
    is_kept: bool,
    listeners: Mutex<Listeners>,
    /// Whoever tells notes holds it, so that they are told one after the other.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Listeners {
    all: Vec<Listener>,
    next: u64,
}

struct Listener {
    number: u64,
    ear: Weak<dyn Ear>,
    told: Option<Told>,
}

/// How far somebody who listens has heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    /// The greatest number that was told.
    number: u64,
    /// The last note in the stream that was told; zero if it was empty.
    anchor: u64,
}

/// Some of the log: from its beginning, or from the last note that was told.
struct Page {
    notes: Vec<Heard>,
    /// The newest note that the log has forgotten, if this is its beginning.
    forgotten: Option<u64>,
    is_last: bool,
}

/// What had been told when an operation began: the log's end is not before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before(u64);

impl Log {
    pub(super) fn new(namespace: &Namespace, is_kept: bool) -> Self {
        Self {
            place: namespace.internal("log"),
            is_kept,
            listeners: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    pub(super) const fn is_kept(&self) -> bool {
        self.is_kept
    }

    pub(super) fn place(&self) -> &[u8] {
        &self.place
    }

    /// The command that asks for the newest note.
    pub(super) fn head_command(&self) -> Bytes {
        let mut packed = bytes::BytesMut::new();
        let words: [&[u8]; 6] = [b"XREVRANGE", &self.place, b"+", b"-", b"COUNT", b"1"];
        super::request::pack(&mut packed, words.into_iter());
        packed.freeze()
    }

    /// From now on operations tell `ear` first.
    pub(super) fn listen(&self, ear: &Arc<dyn Ear>) {
        if self.is_kept {
            let mut listeners = lock(&self.listeners);
            let number = listeners.next;
            listeners.next += 1;
            listeners.all.push(Listener { number, ear: Arc::downgrade(ear), told: None });
        }
    }

    /// What has been told so far; `None` if nobody listens.
    pub(super) fn listened(&self) -> Option<Before> {
        let mut listeners = lock(&self.listeners);
        listeners.all.retain(|listener| listener.ear.strong_count() > 0);
        listeners
            .all
            .iter()
            .map(|listener| Before(listener.told.map_or(0, |told| told.number)))
            .max_by_key(|told| told.0)
    }

    /// The answer to a request, after what was noted before it took effect. Where the log lies on another server than
    /// the key, its end is asked for at the same time.
    pub(super) async fn heed(
        &self,
        deployment: &Deployment,
        before: Before,
        place: &[u8],
        request: Request,
        deadline: Instant,
    ) -> Result<Reply, Fault> {
        let is_once = request.effect == Effect::Once;
        let (answer, head) = if deployment.has_log_with(place, &request) {
            let request = Request { heeds: true, ..request };
            match deployment.answer(place, &request, deadline).await {
                Ok(Answered { reply, head }) => (Ok(reply), head),
                Err(fault) => (Err(fault), None),
            }
        } else {
            let both =
                async { tokio::join!(deployment.ask(place, &request, deadline), self.head(deployment, deadline)) };
            let (answer, head) = Box::pin(both).await;
            (answer, Some(head))
        };
        if answer.as_ref().is_err_and(|fault| fault.code() != Some("WRONGTYPE")) {
            // Nothing was done that could be seen.
            return answer;
        }
        match self.hear_at(deployment, before, head, deadline).await.map_err(unreadable) {
            Ok(()) => answer,
            // It was done, and whoever repeats it does it twice.
            Err(fault) if is_once && answer.is_ok() => {
                let why = format!("the log could not be read: {}", StoreError::from(fault));
                Err(StoreError::Uncertain(why).into())
            }
            Err(fault) => Err(fault),
        }
    }

    /// Hears what was noted, with what was said of the end of the log.
    async fn hear_at(
        &self,
        deployment: &Deployment,
        before: Before,
        head: Option<Head>,
        deadline: Instant,
    ) -> Result<(), Fault> {
        let head = match head {
            Some(Ok(head)) => head,
            Some(Err(fault)) if !matches!(fault.code(), Some("MOVED" | "ASK" | "TRYAGAIN")) => return Err(fault),
            // It lies elsewhere by now: asked for by itself, it is followed there.
            _ => Box::pin(self.head(deployment, deadline)).await?,
        };
        self.hear_up_to(deployment, before, head, deadline).await
    }

    /// Tells what is in the log by now.
    pub(super) async fn catch_up(&self, deployment: &Deployment, deadline: Instant) -> Result<(), Fault> {
        let Some(before) = self.listened() else { return Ok(()) };
        let head = self.head(deployment, deadline).await.map_err(unreadable)?;
        self.hear_up_to(deployment, before, head, deadline).await.map_err(unreadable)
    }

    /// The end of the log, from whoever has it.
    async fn head(&self, deployment: &Deployment, deadline: Instant) -> Head {
        let answered = deployment.answer(&self.place, &Request::head(), deadline).await?;
        match answered.head {
            Some(head) => head,
            // Whoever is asked for that alone has said it.
            None => Err(StoreError::Unavailable("the cluster is moving the log".into()).into()),
        }
    }

    async fn hear_up_to(
        &self,
        deployment: &Deployment,
        before: Before,
        head: u64,
        deadline: Instant,
    ) -> Result<(), Fault> {
        if self.has_told(before, head) {
            return Ok(());
        }
        // Rare, and large.
        Box::pin(self.tell_up_to(deployment, before, head, deadline)).await
    }

    async fn tell_up_to(
        &self,
        deployment: &Deployment,
        before: Before,
        head: u64,
        deadline: Instant,
    ) -> Result<(), Fault> {
        // Whoever has it is told himself if the server does not answer.
        let _turn = by(deadline, self.turn.lock()).await.ok_or(Fault::Congested)?;
        if self.has_told(before, head) {
            return Ok(());
        }
        if head < before.0 {
            // Nobody else can tell anything meanwhile.
            let newest = self.listened().map_or(0, |told| told.0);
            if self.head(deployment, deadline).await? < newest {
                self.mark(deployment, newest, deadline).await?;
            }
        }
        let numbers: Vec<u64> = lock(&self.listeners).all.iter().map(|listener| listener.number).collect();
        for number in numbers {
            self.tell(deployment, number, deadline).await?;
        }
        Ok(())
    }

    /// Whether everybody has heard all up to `head`, in a log that has lost nothing.
    fn has_told(&self, before: Before, head: u64) -> bool {
        let knows = |listener: &Listener| {
            listener.told.is_some_and(|told| told.number >= head) || listener.ear.strong_count() == 0
        };
        head >= before.0 && lock(&self.listeners).all.iter().all(knows)
    }

    /// Tells one who listens everything up to the log's end.
    async fn tell(&self, deployment: &Deployment, number: u64, deadline: Instant) -> Result<(), Fault> {
        loop {
            let Some((_, told)) = self.listener(number) else { return Ok(()) };
            let page = self.page(deployment, told, deadline).await?;
            let Some((ear, _)) = self.listener(number) else { return Ok(()) };
            let (news, told) = news(told, &page);
            news.into_iter().for_each(|heard| ear.hear(heard));
            let mut listeners = lock(&self.listeners);
            if let Some(listener) = listeners.all.iter_mut().find(|listener| listener.number == number) {
                listener.told = Some(told);
            }
            if page.is_last {
                return Ok(());
            }
        }
    }

    fn listener(&self, number: u64) -> Option<(Arc<dyn Ear>, Option<Told>)> {
        let listeners = lock(&self.listeners);
        let listener = listeners.all.iter().find(|listener| listener.number == number)?;
        Some((listener.ear.upgrade()?, listener.told))
    }

    async fn page(&self, deployment: &Deployment, told: Option<Told>, deadline: Instant) -> Result<Page, Fault> {
        let anchor = told.map(|told| told.anchor).filter(|anchor| *anchor > 0);
        let from = anchor.map_or_else(|| "-".to_owned(), id);
        // The anchor is one of them.
        let count = (PAGE + 1).to_string();
        let range = [b"XRANGE", &*self.place, from.as_bytes(), b"+", b"COUNT", count.as_bytes()];
        let range = self.ask(deployment, &range, deadline);
        let (range, info) = if anchor.is_some() {
            (range.await?, None)
        } else {
            // Asked for later, so that what was trimmed in between counts as forgotten.
            let info = [&b"XINFO"[..], b"STREAM", &self.place];
            let (range, info) = tokio::join!(range, self.ask(deployment, &info, deadline));
            (range?, Some(info))
        };
        let Reply::List(entries) = range else { return Err(unexpected("XRANGE").into()) };
        let notes = entries.iter().map(heard).collect::<Result<Vec<_>, _>>()?;
        let first = notes.first().map(|heard| heard.number);
        let forgotten = match info {
            None => None,
            Some(Ok(info)) => Some(forgotten(&info, first)?),
            Some(Err(Fault::Refused(refusal))) if refusal.text().contains("no such key") => {
                Some(first.map_or(0, |first| first.saturating_sub(1)))
            }
            Some(Err(fault)) => return Err(fault),
        };
        Ok(Page { is_last: notes.len() <= PAGE, notes, forgotten })
    }

    /// Puts a mark above everything that was told before into a log that has lost notes.
    async fn mark(&self, deployment: &Deployment, newest: u64, deadline: Instant) -> Result<(), Fault> {
        // Notes are numbered by the server's clock.
        let time = self.ask(deployment, &[b"TIME"], deadline).await?;
        let Reply::List(parts) = time else { return Err(unexpected("TIME").into()) };
        let parts: Vec<u64> = parts.iter().filter_map(|part| text(part)?.parse().ok()).collect();
        let [seconds, micros] = parts[..] else { return Err(unexpected("TIME").into()) };
        let number = (newest + 1).max(seconds.saturating_mul(1_000).saturating_add(micros / 1_000) << SEQUENCE_BITS);
        let kept = NOTES_MAX.to_string();
        let id = id(number);
        let words = [b"XADD", &*self.place, b"MAXLEN", b"~", kept.as_bytes(), id.as_bytes(), b"u", b""];
        tracing::debug!(number, "the log of invalidations has lost its end");
        match self.ask(deployment, &words, deadline).await {
            // Somebody else has put one.
            Err(Fault::Refused(refusal)) if refusal.text().contains("equal or smaller") => Ok(()),
            result => result.map(drop),
        }
    }

    /// The answer of the primary that has the log.
    async fn ask(&self, deployment: &Deployment, words: &[&[u8]], deadline: Instant) -> Result<Reply, Fault> {
        deployment.ask(&self.place, &Request::new(Effect::Write, words), deadline).await
    }
}

impl RedisStore {
    pub(super) async fn put_note(&self, writer: u64, note: Note, made_at: WallTime) -> Result<(), StoreError> {
        if !self.log.is_kept() {
            return Err(StoreError::Unsupported("note"));
        }
        let (writer, made_at) = (writer.to_string(), made_at.as_unix_millis().to_string());
        let mut fields = vec![&b"w"[..], writer.as_bytes()];
        let tag;
        match note {
            Note::Invalidated(Tag(number), how) => {
                tag = format!("{number:x}");
                let how = match how {
                    Invalidation::Remove => b"remove",
                    Invalidation::Expire => b"expire",
                };
                fields.extend([&b"t"[..], tag.as_bytes(), b"h", how]);
            }
            Note::Cleared => fields.extend([&b"c"[..], b""]),
            Note::Unknown => fields.extend([&b"u"[..], b""]),
        }
        fields.extend([&b"m"[..], made_at.as_bytes()]);
        // Noted twice is noted later: nothing that it reaches is older for it.
        let number = number(&self.add_to_log(&fields).await.map_err(unreadable)?)?;
        self.tell(Deed::Noted).await;
        if note == Note::Cleared {
            self.sweeper.sweep(number);
        }
        Ok(())
    }

    /// The place of a note of these fields, which is the last.
    async fn add_to_log(&self, fields: &[&[u8]]) -> Result<Reply, Fault> {
        let (place, kept) = (self.log.place(), NOTES_MAX.to_string());
        if self.compare {
            let room = (1_u64 << SEQUENCE_BITS).to_string();
            let arguments = [&[kept.as_bytes(), room.as_bytes()], fields].concat();
            match self.script(&ADD, place, &arguments).await {
                // By itself the command says in the words of all versions what the user may not.
                Err(fault) if lacks_permission(&fault) => {}
                result => return result,
            }
        }
        let command = [b"XADD", place, b"MAXLEN", b"~", kept.as_bytes(), b"*"];
        self.ask(place, Request::new(Effect::Write, &[&command, fields].concat())).await
    }
}

/// What to tell somebody who has heard so much, and how far he has heard then.
fn news(told: Option<Told>, page: &Page) -> (Vec<Heard>, Told) {
    let first = page.notes.first();
    let mut at = told.unwrap_or(Told { number: 0, anchor: 0 });
    // Up to where notes were missed.
    let missed = match (told, page.forgotten) {
        (None, forgotten) => Some(forgotten.unwrap_or(0)),
        (Some(_), Some(forgotten)) => Some(forgotten).filter(|forgotten| *forgotten > at.number),
        (Some(_), None) => {
            let gap = first.filter(|first| first.number > at.anchor && first.note != Note::Unknown);
            gap.map(|first| first.number - 1).filter(|missed| *missed > at.number)
        }
    };
    let unknown = missed.map(|number| Heard { number, made_at: WallTime::default(), writer: 0, note: Note::Unknown });
    at.number = unknown.map_or(at.number, |unknown| unknown.number);
    let mut news: Vec<Heard> = unknown.into_iter().collect();
    for heard in page.notes.iter().filter(|heard| heard.number > at.number) {
        news.push(*heard);
    }
    if let Some(last) = page.notes.last() {
        at = Told { number: at.number.max(last.number), anchor: last.number };
    }
    (news, at)
}

/// The newest note from an answer to [`Log::head_command`].
pub(super) fn head(reply: &Reply) -> Head {
    match reply {
        Reply::Refused(refusal) => Err(Fault::Refused(refusal.clone())),
        Reply::Nil => Ok(0),
        Reply::List(entries) => match &entries[..] {
            [] => Ok(0),
            [Reply::List(entry)] => Ok(entry.first().map_or_else(|| Err(unexpected("XREVRANGE")), number)?),
            _ => Err(unexpected("XREVRANGE").into()),
        },
        _ => Err(unexpected("XREVRANGE").into()),
    }
}

/// An entry of the stream as a note. What this build does not understand may be anything.
fn heard(entry: &Reply) -> Result<Heard, StoreError> {
    let Reply::List(parts) = entry else { return Err(unexpected("XRANGE")) };
    let [place, Reply::List(fields)] = &parts[..] else { return Err(unexpected("XRANGE")) };
    let field = |name: &str| {
        let mut pairs = fields.chunks_exact(2);
        pairs.find(|pair| text(&pair[0]) == Some(name)).and_then(|pair| text(&pair[1]))
    };
    let (writer, made_at) =
        (field("w").and_then(|text| text.parse().ok()), field("m").and_then(|text| text.parse().ok()));
    let tag = field("t").and_then(|text| u64::from_str_radix(text, 16).ok()).map(Tag);
    let note = match (tag, field("h"), field("c")) {
        (Some(tag), Some("remove"), None) => Note::Invalidated(tag, Invalidation::Remove),
        (Some(tag), Some("expire"), None) => Note::Invalidated(tag, Invalidation::Expire),
        (None, None, Some(_)) => Note::Cleared,
        _ => Note::Unknown,
    };
    let note = if writer.is_some() && made_at.is_some() { note } else { Note::Unknown };
    let made_at = WallTime::from_unix_millis(made_at.unwrap_or(0));
    Ok(Heard { number: number(place)?, made_at, writer: writer.unwrap_or(0), note })
}

/// The newest note that a log which begins with `first` has forgotten; zero if it was never trimmed. Servers before
/// version 7 do not say whether it was.
fn forgotten(info: &Reply, first: Option<u64>) -> Result<u64, StoreError> {
    let Reply::List(fields) = info else { return Err(unexpected("XINFO")) };
    let field = |name: &str| fields.chunks_exact(2).find(|pair| text(&pair[0]) == Some(name)).map(|pair| &pair[1]);
    let is_whole = match (field("entries-added"), field("length")) {
        (Some(Reply::Int(added)), Some(Reply::Int(length))) => added == length,
        _ => false,
    };
    match (is_whole, first) {
        (true, _) => Ok(0),
        (false, Some(first)) => Ok(first.saturating_sub(1)),
        (false, None) => field("last-generated-id").map_or(Ok(0), number),
    }
}

/// The number of a note at this place of the stream.
fn number(place: &Reply) -> Result<u64, StoreError> {
    let parts = text(place).and_then(|text| text.split_once('-'));
    let parts = parts.and_then(|(millis, sequence)| Some((millis.parse::<u64>().ok()?, sequence.parse::<u64>().ok()?)));
    match parts {
        Some((millis, sequence)) if millis >> (u64::BITS - SEQUENCE_BITS) == 0 && sequence >> SEQUENCE_BITS == 0 => {
            Ok(millis << SEQUENCE_BITS | sequence)
        }
        Some(_) => Err(StoreError::Rejected("the log has a note with a number that is too great".into())),
        None => Err(unexpected("XRANGE")),
    }
}

/// The place of a note in the stream.
fn id(number: u64) -> String {
    format!("{}-{}", number >> SEQUENCE_BITS, number & ((1 << SEQUENCE_BITS) - 1))
}

fn text(reply: &Reply) -> Option<&str> {
    match reply {
        Reply::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

/// Whether the user may not run scripts, or not what one does. Servers before version 7.2 have no code for the latter.
fn lacks_permission(fault: &Fault) -> bool {
    matches!(fault, Fault::Refused(refusal)
        if refusal.code() == "NOPERM" || refusal.text().contains("user executing the script can't"))
}

/// Says what is amiss where the user may not use streams, or something else lies in the log's place.
fn unreadable(fault: Fault) -> Fault {
    match fault.code() {
        Some("NOPERM") => StoreError::Unavailable(
            "NOPERM: the user may not use the log (XADD, XDEL, XRANGE, XREVRANGE, XINFO); the option `log` does without it"
                .into(),
        )
        .into(),
        Some("WRONGTYPE") => {
            StoreError::Rejected("WRONGTYPE: what lies in the place of the log is no stream".into()).into()
        }
        _ => fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(number: u64) -> Heard {
        Heard { number, made_at: WallTime::default(), writer: 1, note: Note::Cleared }
    }

    fn page(numbers: &[u64], forgotten: Option<u64>) -> Page {
        Page { notes: numbers.iter().copied().map(note).collect(), forgotten, is_last: true }
    }

    fn told(number: u64, anchor: u64) -> Option<Told> {
        Some(Told { number, anchor })
    }

    /// Numbers, those of notes that were missed as negative ones, and how far was told.
    fn numbers((news, told): (Vec<Heard>, Told)) -> (Vec<i64>, u64, u64) {
        let number = |heard: &Heard| heard.number as i64 * if heard.note == Note::Unknown { -1 } else { 1 };
        (news.iter().map(number).collect(), told.number, told.anchor)
    }

    #[test]
    fn who_is_new_hears_what_was_forgotten_and_then_all() {
        assert_eq!(numbers(news(None, &page(&[], Some(0)))), (vec![0], 0, 0));
        assert_eq!(numbers(news(None, &page(&[5, 9], Some(0)))), (vec![0, 5, 9], 9, 9));
        assert_eq!(numbers(news(None, &page(&[5, 9], Some(4)))), (vec![-4, 5, 9], 9, 9));
        assert_eq!(numbers(news(None, &page(&[], Some(4)))), (vec![-4], 4, 0));
    }

    #[test]
    fn who_has_heard_some_hears_what_is_new() {
        assert_eq!(numbers(news(told(9, 9), &page(&[9], None))), (vec![], 9, 9));
        assert_eq!(numbers(news(told(9, 9), &page(&[9, 12], None))), (vec![12], 12, 12));
        assert_eq!(numbers(news(told(0, 0), &page(&[3], Some(0)))), (vec![3], 3, 3));
    }

    #[test]
    fn what_was_trimmed_before_it_was_told_is_unknown() {
        assert_eq!(numbers(news(told(9, 9), &page(&[12, 14], None))), (vec![-11, 12, 14], 14, 14));
        assert_eq!(numbers(news(told(0, 0), &page(&[12], Some(11)))), (vec![-11, 12], 12, 12));
        // Nothing fits in between.
        assert_eq!(numbers(news(told(9, 9), &page(&[10], None))), (vec![10], 10, 10));
    }

    #[test]
    fn a_mark_stands_for_what_was_missed() {
        let mark = Heard { note: Note::Unknown, ..note(20) };
        let page = Page { notes: vec![mark], forgotten: None, is_last: true };
        assert_eq!(numbers(news(told(9, 9), &page)), (vec![-20], 20, 20));
    }

    #[test]
    fn numbers_and_places_are_the_same() {
        let place = |text: &'static str| number(&Reply::Bytes(text.into()));
        assert_eq!(place("1700000000000-7").map(id).ok().as_deref(), Some("1700000000000-7"));
        assert!(place("1-0").expect("small") > place("0-1048575").expect("small"));
        for wrong in ["0-1048576", "17592186044416-0", "18446744073709551615-18446744073709551615", "1", "a-b"] {
            assert!(matches!(place(wrong), Err(StoreError::Rejected(_))), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_understood_is_unknown() {
        let entry = |fields: &[&'static str]| {
            let fields = fields.iter().map(|field| Reply::Bytes((*field).into())).collect();
            heard(&Reply::List(vec![Reply::Bytes("0-5".into()), Reply::List(fields)])).expect("an entry").note
        };
        let tag = Note::Invalidated(Tag(255), Invalidation::Expire);
        assert_eq!(entry(&["w", "1", "t", "ff", "h", "expire", "m", "7"]), tag);
        assert_eq!(entry(&["w", "1", "c", "", "m", "7"]), Note::Cleared);
        for odd in
            [&["x", "1"][..], &["w", "1", "m", "7"], &["t", "ff", "h", "expire"], &["w", "1", "t", "z", "m", "1"]]
        {
            assert_eq!(entry(odd), Note::Unknown);
        }
    }
}
