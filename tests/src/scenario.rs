//! Stories as text: what is asked of an engine on a virtual clock, and what it answers.
//!
//! A story is a file of commands, each followed by the lines that the engine must answer with, which begin with `> `.
//! `#` begins a comment. [`play`] gives the story back with the answers that an engine really gave; a test compares
//! the two, and `UPDATE_SCENARIOS=1` writes them into the file.
//!
//! | command | what it does |
//! |---|---|
//! | `policy ttl=10s store=true` | makes the engine; comes first |
//! | `at 10s`, `advance 500ms` | sets the clock; it never goes back |
//! | `lookup KEY [deadline 5s] [max-age 5s] [of LOADER] [within 1]` | a caller with a loader, which may have a name; `within` names the flights whose loaders call |
//! | `get KEY [deadline 5s] [max-age 5s]` | a caller without a loader |
//! | `explain KEY [...]` | as `lookup`, and the caller wants to know why |
//! | `story`, `story 1` | why: of the last lookup that was answered at once, of flight 1; it is replayed, too |
//! | `put KEY "v2" [tags a,b] [WINDOWS]`, `remove KEY`, `clear` | a change |
//! | `expire KEY`, `invalidate TAG [expire]` | another: nothing is left of the tag's values, or they are stale |
//! | `leave 1`, `expire 1 [deadline D]` | a caller of flight 1 goes away, or has waited long enough |
//! | `maintain` | what a driver calls now and then |
//! | `stats misses loads`, `health` | looks at counts; at circuits and debts |
//! | `breaker store`, `breaker loader`, `breaker of LOADER` | looks at all that one breaker says of itself |
//! | `breaker loader forced-open`, `reset of LOADER` | overrules a breaker, or those of all loaders; closes it and forgets |
//! | `removals` | what has left memory since the last time |
//! | `snapshot` | the machine as bytes |
//! | `restore last`, `restore earlier` | an empty machine takes the place of the present one, and restores the last snapshot |
//! | `1 store-read miss [version 7.3]`, `1 store-read "v" [tags a,b] [age 3s] [version 7.3] [born 5] [WINDOWS]` | what flight 1 found in the store: which write of whom (by default 9.1 if there is a value), and up to where in the log it is valid |
//! | `1 loaded "v" [tags a,b] [age 3s] [share] [private] [WINDOWS]` | what its loader brought |
//! | `1 not-modified [age 3s] [WINDOWS]`, `1 absent [tags a,b] [ttl 5s]` | the same: what was at hand is true; there is no such thing |
//! | `1 load-failed answer [retry-after 2s]` | `unavailable`, `timed-out`, `answer`, `isolated` or `panicked` |
//! | `1 store-failed timed-out` | its store operation: `unavailable`, `timed-out`, `rejected`, `overloaded` or `corrupt` |
//! | `1 slept`, `1 launched`, `1 landed`, `1 written`, `1 removed`, `1 cleared`, `1 noted`, `1 resigned`, `1 abandoned` | the other events |
//! | `1 leased`, `1 leased elsewhere 3s`, `1 awaited` | it has the lease; another process has it for so long; it may be free |
//! | `1 overtaken` | its write or removal was refused, as another process had changed the key |
//! | `learn 5 TAG [expire] [own] [ago 2s]`, `learn 5 clear [own]`, `learn 5 unknown` | what stands in the store's log at number 5 |
//! | `changed KEY`, `missed` | another process has changed that key; others may have changed anything |
//! | `1 ends` | every landing and change that is left succeeds, up to the flight's end |
//!
//! A flight that a step names as the next one is launched at once. WINDOWS are `ttl 10s swr 5s sie 1m keep 1h` or `never-expires`; what is not named is the policy's. Where the story's policy does not say
//! otherwise nothing is left to chance: no jitter, no spread. A story ends when every flight has ended.

mod operate;
mod shown;
mod words;

use std::collections::BTreeMap;

use tideover::Policy;
use tideover::core::stamp::{Version, Written};
use tideover::core::{
    Answer, Call, Class, Command, Entry, Event, FlightId, Found, Instant, Invalidation, Launch, Leased, LoadFailure,
    Loaded, Lookup, News, Note, Outcome, Sharing, Step, StoreFailure, Tag, Tidings, Windows,
};
use tideover::engine::{Engine, Key, Payload};

use self::words::Words;

/// Begins a line that no story may hold.
pub const WRONG: &str = "> wrong:";

/// Which write a value in the store is by, if the story does not say.
const SOMEBODYS: Version = Version { writer: 9, number: 1 };

/// Makes an engine for the policy of a story.
pub type MakeEngine = fn(Policy) -> Box<dyn Engine>;

/// Plays `story` on the engine that `make` gives, and gives the story back with the engine's answers. What is no
/// command, and flights that have not ended when the story does, are answered with a line that begins with [`WRONG`].
#[must_use]
pub fn play(story: &str, make: MakeEngine) -> String {
    let mut stage = Stage {
        make,
        engine: None,
        policy: Policy::default(),
        now: Instant::ZERO,
        steps: BTreeMap::new(),
        deadlines: BTreeMap::new(),
        answered: None,
        snapshot: Vec::new(),
    };
    let mut played = Vec::new();
    for line in story.lines().filter(|line| !line.starts_with('>')) {
        played.push(line.to_owned());
        let command = line.split('#').next().unwrap_or_default().trim();
        if !command.is_empty() {
            played.extend(stage.perform(command).unwrap_or_else(|reason| vec![format!("{WRONG} {reason}")]));
        }
    }
    match stage.flights() {
        Ok(0) => {}
        Ok(left) => played.push(format!("{WRONG} {left} flights have not ended")),
        Err(reason) => played.push(format!("{WRONG} {reason}")),
    }
    played.into_iter().map(|line| line + "\n").collect()
}

/// The lines that differ, with `-` for what was expected and `+` for what came, and two lines around them.
#[must_use]
pub fn difference(expected: &str, came: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), came.lines().collect());
    let same_before = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let longest = old.len().min(new.len()) - same_before;
    let same_after = old.iter().rev().zip(new.iter().rev()).take(longest).take_while(|(old, new)| old == new).count();
    let begin = same_before.saturating_sub(2);
    let mut shown: Vec<String> = old[begin..same_before].iter().map(|line| format!("  {line}")).collect();
    shown.extend(old[same_before..old.len() - same_after].iter().map(|line| format!("- {line}")));
    shown.extend(new[same_before..new.len() - same_after].iter().map(|line| format!("+ {line}")));
    shown.extend(new[new.len() - same_after..].iter().take(2).map(|line| format!("  {line}")));
    shown.join("\n")
}

struct Stage {
    make: MakeEngine,
    engine: Option<Box<dyn Engine>>,
    policy: Policy,
    now: Instant,
    /// The step that each flight waits for.
    steps: BTreeMap<FlightId, Step<Key, Payload>>,
    /// What the last caller of each flight was told of its patience.
    deadlines: BTreeMap<FlightId, Instant>,
    /// What the last lookup was answered at once.
    answered: Option<Outcome<Payload>>,
    snapshot: Vec<u8>,
}

/// What was said in answer to a command, without the `> `.
type Said = Result<Vec<String>, String>;

impl Stage {
    fn engine(&self) -> Result<&dyn Engine, String> {
        self.engine.as_deref().ok_or_else(|| "a story begins with its policy".to_owned())
    }

    /// Flights under way.
    fn flights(&self) -> Result<u64, String> {
        Ok(self.engine()?.report().map_err(|broken| broken.to_string())?.count("flights"))
    }

    fn perform(&mut self, command: &str) -> Said {
        let mut words = Words::of(command)?;
        let said = self.understand(&mut words)?;
        words.end()?;
        Ok(said.into_iter().map(|line| format!("> {line}")).collect())
    }

    fn understand(&mut self, words: &mut Words) -> Said {
        let verb = words.next("a command")?;
        if let Ok(flight) = verb.parse() {
            return self.on_event(FlightId(flight), words);
        }
        match verb.as_str() {
            "policy" => self.make(words),
            "at" => self.turn_clock(Instant::ZERO + words.duration()?),
            "advance" => self.turn_clock(self.now + words.duration()?),
            "lookup" | "get" | "explain" => self.lookup(&verb, words),
            "story" => self.story(words),
            "breaker" => self.breaker(words),
            "reset" => self.reset(words),
            "removals" => self.removals(),
            "snapshot" => self.take_snapshot(),
            "restore" => self.restore(words),
            "learn" => self.learn(words),
            "changed" => self.tell(Tidings::Changed(words.next("a key")?.into())),
            "missed" => self.tell(Tidings::Missed),
            "put" | "remove" | "expire" | "invalidate" | "clear" => self.change(&verb, words),
            "leave" => {
                let left = self.engine()?.leave(words.flight()?).map_err(|broken| broken.to_string())?;
                Ok(vec![format!("{left:?}").to_lowercase()])
            }
            "maintain" => {
                let next = self.engine()?.maintain(self.now).map_err(|broken| broken.to_string())?;
                next.map_or_else(|| Ok(vec!["nothing to do".to_owned()]), |next| self.resume(next, Event::Launched))
            }
            "stats" => self.stats(words),
            "health" => Ok(vec![shown::health(&self.engine()?.report().map_err(|broken| broken.to_string())?)]),
            _ => Err(format!("there is no command {verb}")),
        }
    }

    fn make(&mut self, words: &mut Words) -> Said {
        for exact in ["wait_jitter=0", "retry_jitter=none"].map(str::to_owned).into_iter().chain(words.rest()) {
            let (name, text) = exact.split_once('=').ok_or("expected option=value")?;
            self.policy.set(name, text).map_err(|error| error.to_string())?;
        }
        self.engine = Some((self.make)(self.policy.clone()));
        Ok(Vec::new())
    }

    fn turn_clock(&mut self, now: Instant) -> Said {
        if now < self.now {
            return Err("the clock never goes back".to_owned());
        }
        self.now = now;
        Ok(Vec::new())
    }

    /// As a driver does it: the hit path first.
    fn lookup(&mut self, verb: &str, words: &mut Words) -> Said {
        let key: Key = words.next("a key")?.into();
        let deadline = words.option("deadline")?.map(|after| Instant::ZERO + after);
        let within: Vec<FlightId> = words.flights("within")?;
        let max_age = words.option("max-age")?;
        let loader = words.loader()?;
        let (read_only, explain) = (verb == "get", verb == "explain" || self.policy.explain);
        let engine = self.engine()?;
        if max_age.is_none()
            && !explain
            && let Some(served) = engine.hit(&key, self.now)
        {
            return Ok(vec![shown::outcome(&Outcome::Served(served))]);
        }
        let call = Call { deadline, read_only, max_age, explain, loader, within: &within };
        let lookup = engine.lookup(&key, call, self.now).map_err(|broken| broken.to_string())?;
        self.answered = if let Answer::Now(outcome) = &lookup.answer { Some(outcome.clone()) } else { None };
        self.on_lookup(lookup)
    }

    fn change(&mut self, verb: &str, words: &mut Words) -> Said {
        let subject = if verb == "clear" { String::new() } else { words.next("a key, a tag or a flight")? };
        let command = match verb {
            "clear" => Command::Clear,
            "remove" => Command::Remove { key: subject.into() },
            "invalidate" => {
                let how = if words.flag("expire") { Invalidation::Expire } else { Invalidation::Remove };
                Command::Invalidate { tag: Tag::named(&subject), how }
            }
            // A key never is a number here, and a flight always is.
            "expire" => match subject.parse() {
                Ok(flight) => return self.expire(FlightId(flight), words),
                Err(_) => Command::Expire { key: subject.into() },
            },
            _ => Command::Put {
                key: subject.into(),
                value: words.tagged_value()?,
                windows: words.windows(self.policy.windows())?,
            },
        };
        let lookup = self.engine()?.command(command, self.now).map_err(|broken| broken.to_string())?;
        self.on_lookup(lookup)
    }

    fn expire(&self, flight: FlightId, words: &mut Words) -> Said {
        let own = words.option("deadline")?.map(|after| Instant::ZERO + after);
        let deadline = own.or(self.deadlines.get(&flight).copied()).unwrap_or(self.now);
        let answer = self.engine()?.expire(flight, deadline, self.now).map_err(|broken| broken.to_string())?;
        Ok(vec![shown::answer(&answer)])
    }

    fn on_lookup(&mut self, lookup: Lookup<Key, Payload>) -> Said {
        let mut said = vec![shown::answer(&lookup.answer)];
        if let Answer::Pending { flight, deadline, .. } = lookup.answer {
            self.deadlines.insert(flight, deadline);
        }
        if let Some(launch) = lookup.launch {
            said.extend(self.follow(launch)?);
        }
        Ok(said)
    }

    fn follow(&mut self, launch: Launch<Key, Payload>) -> Said {
        let Launch { flight, step } = launch;
        let mut said = vec![format!("{}: {}", flight.0, shown::step(&step))];
        let next = match step {
            Step::Done { next } => {
                self.steps.remove(&flight);
                next
            }
            step => {
                let next = if let Step::Land { next, .. } = &step { *next } else { None };
                self.steps.insert(flight, step);
                next
            }
        };
        if let Some(next) = next {
            said.extend(self.resume(next, Event::Launched)?);
        }
        Ok(said)
    }

    fn on_event(&mut self, flight: FlightId, words: &mut Words) -> Said {
        let verb = words.next("an event")?;
        if verb == "ends" {
            let mut said = Vec::new();
            while let Some(event) = self.steps.get(&flight).and_then(success) {
                said.extend(self.resume(flight, event)?);
            }
            return Ok(said);
        }
        let event = self.event(flight, &verb, words)?;
        self.resume(flight, event)
    }

    fn resume(&mut self, flight: FlightId, event: Event<Payload>) -> Said {
        let step = self.engine()?.resume(flight, event, self.now).map_err(|broken| broken.to_string())?;
        self.follow(Launch { flight, step })
    }

    fn event(&self, flight: FlightId, verb: &str, words: &mut Words) -> Result<Event<Payload>, String> {
        Ok(match verb {
            "slept" => Event::Slept,
            "launched" => Event::Launched,
            "landed" => Event::Landed,
            "written" => Event::StoreWritten(Ok(Written::Kept)),
            "removed" => Event::StoreRemoved(Ok(Written::Kept)),
            "overtaken" if matches!(self.steps.get(&flight), Some(Step::RemoveStore { .. })) => {
                Event::StoreRemoved(Ok(Written::Overtaken))
            }
            "overtaken" => Event::StoreWritten(Ok(Written::Overtaken)),
            "noted" => Event::StoreInvalidated(Ok(())),
            "cleared" => Event::StoreCleared(Ok(())),
            "leased" => Event::LeaseAnswered(Ok(match words.option("elsewhere")? {
                Some(free_in) => Leased::Elsewhere { free_in },
                None => Leased::Held,
            })),
            "awaited" => Event::LeaseAwaited,
            "resigned" => Event::Resigned,
            "abandoned" => Event::Abandoned,
            "store-read" => Event::StoreRead(Ok(self.found(words)?)),
            "store-failed" => self.store_failed(flight, words)?,
            "loaded" => Event::Loaded(Ok(self.loaded(words)?)),
            "not-modified" => {
                let age = words.option("age")?.unwrap_or_default();
                Event::Loaded(Ok(Loaded::NotModified { age, windows: words.windows(self.policy.windows())? }))
            }
            "absent" => {
                let tags = words.tags()?;
                Event::Loaded(Ok(Loaded::absent(words.option("ttl")?, &tags)))
            }
            "load-failed" => {
                let class = match words.next("a class")?.as_str() {
                    "unavailable" => Class::Unavailable,
                    "timed-out" => Class::TimedOut,
                    "answer" => Class::Answer,
                    "isolated" => Class::Isolated,
                    "panicked" => Class::Panicked,
                    other => return Err(format!("there is no class {other}")),
                };
                Event::Loaded(Err(LoadFailure { class, retry_after: words.option("retry-after")? }))
            }
            other => return Err(format!("there is no event {other}")),
        })
    }

    fn found(&self, words: &mut Words) -> Result<Found<Payload>, String> {
        let value = words.tagged_value()?;
        let version = words.version()?;
        if &value.bytes[..] == b"miss" {
            return Ok(Found { version, ..Found::NOTHING });
        }
        let (age, born) = (words.option("age")?.unwrap_or_default(), words.count("born")?.unwrap_or_default());
        let windows: Windows = words.windows(self.policy.windows())?.unwrap_or_else(|| self.policy.windows());
        let entry = Some(Entry { age, ..Entry::new(value, windows) });
        Ok(Found { entry, version: version.or(Some(SOMEBODYS)), born })
    }

    fn learn(&self, words: &mut Words) -> Said {
        let number = words.next("a number")?.parse().map_err(|_| "expected a number".to_owned())?;
        let note = match words.next("a tag, clear or unknown")?.as_str() {
            "clear" => Note::Cleared,
            "unknown" => Note::Unknown,
            tag if words.flag("expire") => Note::Invalidated(Tag::named(tag), Invalidation::Expire),
            tag => Note::Invalidated(Tag::named(tag), Invalidation::Remove),
        };
        let (own, ago) = (words.flag("own"), words.option("ago")?.unwrap_or_default());
        self.tell(News { number, ago, own, note }.into())
    }

    fn tell(&self, tidings: Tidings<Key>) -> Said {
        let learnt = self.engine()?.learn(tidings, self.now);
        learnt.map(|()| Vec::new()).map_err(|broken| broken.to_string())
    }

    fn loaded(&self, words: &mut Words) -> Result<Loaded<Payload>, String> {
        let value = words.tagged_value()?;
        let age = words.option("age")?.unwrap_or_default();
        let sharing = match (words.flag("share"), words.flag("private")) {
            (true, _) => Sharing::Share,
            (_, true) => Sharing::Private,
            _ => Sharing::Store,
        };
        Ok(Loaded::Value { value, age, windows: words.windows(self.policy.windows())?, sharing })
    }

    fn store_failed(&self, flight: FlightId, words: &mut Words) -> Result<Event<Payload>, String> {
        let failure = match words.next("a failure")?.as_str() {
            "unavailable" => StoreFailure::Unavailable,
            "timed-out" => StoreFailure::TimedOut,
            "rejected" => StoreFailure::Rejected,
            "overloaded" => StoreFailure::Overloaded,
            "corrupt" => StoreFailure::Corrupt { version: None },
            other => return Err(format!("there is no failure {other}")),
        };
        match self.steps.get(&flight) {
            Some(Step::ReadStore { .. }) => Ok(Event::StoreRead(Err(failure))),
            Some(Step::WriteStore { .. }) => Ok(Event::StoreWritten(Err(failure))),
            Some(Step::RemoveStore { .. }) => Ok(Event::StoreRemoved(Err(failure))),
            Some(Step::ClearStore { .. }) => Ok(Event::StoreCleared(Err(failure))),
            Some(Step::InvalidateStore { .. }) => Ok(Event::StoreInvalidated(Err(failure))),
            Some(Step::AcquireLease { .. }) => Ok(Event::LeaseAnswered(Err(failure))),
            _ => Err(format!("flight {} is at no store", flight.0)),
        }
    }

    fn stats(&self, words: &mut Words) -> Said {
        let report = self.engine()?.report().map_err(|broken| broken.to_string())?;
        let shown: Result<Vec<String>, String> = words
            .rest()
            .map(|name| match report.counts.iter().find(|(known, _)| *known == name) {
                Some((_, count)) => Ok(format!("{name} {count}")),
                None => Err(format!("there is no count {name}")),
            })
            .collect();
        Ok(vec![shown?.join(", ")])
    }
}

/// The event that says that a landing or a change succeeded.
fn success(step: &Step<Key, Payload>) -> Option<Event<Payload>> {
    match step {
        Step::Land { .. } => Some(Event::Landed),
        Step::WriteStore { .. } => Some(Event::StoreWritten(Ok(Written::Kept))),
        Step::RemoveStore { .. } => Some(Event::StoreRemoved(Ok(Written::Kept))),
        Step::InvalidateStore { .. } => Some(Event::StoreInvalidated(Ok(()))),
        Step::ClearStore { .. } => Some(Event::StoreCleared(Ok(()))),
        Step::AcquireLease { .. } => Some(Event::LeaseAnswered(Ok(Leased::Held))),
        Step::ReadStore { .. }
        | Step::Load { .. }
        | Step::Sleep { .. }
        | Step::AwaitLease { .. }
        | Step::Wait
        | Step::Done { .. } => None,
    }
}
