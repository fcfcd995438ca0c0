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
//! | `lookup KEY [deadline 5s] [within 1]` | a caller with a loader; `within` names the flights whose loaders call |
//! | `get KEY` | a caller without a loader |
//! | `put KEY "v2" [WINDOWS]`, `remove KEY`, `clear` | a change |
//! | `leave 1`, `expire 1` | a caller of flight 1 goes away, or has waited long enough |
//! | `maintain` | what a driver calls now and then |
//! | `stats misses loads`, `health` | looks at counts; at circuits and debts |
//! | `1 store-read miss`, `1 store-read "v" [age 3s] [WINDOWS]` | what flight 1 found in the store |
//! | `1 loaded "v" [age 3s] [share] [private] [WINDOWS]` | what its loader brought |
//! | `1 load-failed answer [retry-after 2s]` | `unavailable`, `timed-out`, `answer` or `panicked` |
//! | `1 store-failed timed-out` | its store operation: `unavailable`, `timed-out`, `rejected` or `corrupt` |
//! | `1 slept`, `1 landed`, `1 written`, `1 removed`, `1 cleared`, `1 abandoned` | the other events |
//! | `1 ends` | every landing and change that is left succeeds, up to the flight's end |
//!
//! WINDOWS are `ttl 10s swr 5s sie 1m keep 1h` or `never-expires`; what is not named is the policy's. Where the story's policy does not say
//! otherwise nothing is left to chance: no jitter, no spread. A story ends when every flight has ended.

mod shown;
mod words;

use std::collections::BTreeMap;

use bytes::Bytes;
use tideover::Policy;
use tideover::core::{
    Answer, Call, Class, Command, Entry, Event, FlightId, Instant, Launch, LoadFailure, Loaded, Lookup, Outcome,
    Sharing, Step, StoreFailure, Windows,
};
use tideover::engine::{Engine, Key};

use self::words::Words;

/// Begins a line that no story may hold.
pub const WRONG: &str = "> wrong:";

/// Makes an engine for the policy of a story.
pub type MakeEngine = fn(Policy) -> Box<dyn Engine>;

/// Plays `story` on the engine that `make` gives, and gives the story back with the engine's answers. What is no
/// command, and flights that have not ended when the story does, are answered with a line that begins with [`WRONG`].
#[must_use]
pub fn play(story: &str, make: MakeEngine) -> String {
    let mut stage = Stage { make, engine: None, policy: Policy::default(), now: Instant::ZERO, steps: BTreeMap::new() };
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
    steps: BTreeMap<FlightId, Step<Key, Bytes>>,
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
            "lookup" => self.lookup(words, false),
            "get" => self.lookup(words, true),
            "put" | "remove" | "clear" => self.change(&verb, words),
            "leave" => {
                let left = self.engine()?.leave(words.flight()?).map_err(|broken| broken.to_string())?;
                Ok(vec![format!("{left:?}").to_lowercase()])
            }
            "expire" => {
                let outcome = self.engine()?.expire(words.flight()?, self.now).map_err(|broken| broken.to_string())?;
                Ok(vec![shown::outcome(&outcome)])
            }
            "maintain" => {
                let launch = self.engine()?.maintain(self.now).map_err(|broken| broken.to_string())?;
                Ok(launch.map_or_else(|| vec!["nothing to do".to_owned()], |launch| self.follow(launch)))
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
    fn lookup(&mut self, words: &mut Words, read_only: bool) -> Said {
        let key: Key = words.next("a key")?.into();
        let deadline = words.option("deadline")?.map(|after| Instant::ZERO + after);
        let within: Vec<FlightId> = words.flights("within")?;
        let engine = self.engine()?;
        if let Some(served) = engine.hit(&key, self.now) {
            return Ok(vec![shown::outcome(&Outcome::Served(served))]);
        }
        let call = Call { deadline, read_only, within: &within };
        let lookup = engine.lookup(&key, call, self.now).map_err(|broken| broken.to_string())?;
        Ok(self.on_lookup(lookup))
    }

    fn change(&mut self, verb: &str, words: &mut Words) -> Said {
        let command = match verb {
            "clear" => Command::Clear,
            "remove" => Command::Remove { key: words.next("a key")?.into() },
            _ => {
                let (key, value) = (words.next("a key")?.into(), words.next("a value")?.into());
                Command::Put { key, value, windows: words.windows(self.policy.windows())? }
            }
        };
        let lookup = self.engine()?.command(command, self.now).map_err(|broken| broken.to_string())?;
        Ok(self.on_lookup(lookup))
    }

    fn on_lookup(&mut self, lookup: Lookup<Key, Bytes>) -> Vec<String> {
        let mut said = vec![match &lookup.answer {
            Answer::Now(outcome) => shown::outcome(outcome),
            Answer::Pending { flight, until } => format!("waits for {} until {until:?}", flight.0),
            Answer::Refused(refusal) => format!("refused: {}", shown::refusal(refusal)),
        }];
        said.extend(lookup.launch.into_iter().flat_map(|launch| self.follow(launch)));
        said
    }

    fn follow(&mut self, launch: Launch<Key, Bytes>) -> Vec<String> {
        let Launch { flight, step } = launch;
        let mut said = vec![format!("{}: {}", flight.0, shown::step(&step))];
        if let Step::Done { next } = step {
            self.steps.remove(&flight);
            said.extend(next.into_iter().flat_map(|next| self.follow(*next)));
        } else {
            self.steps.insert(flight, step);
        }
        said
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

    fn resume(&mut self, flight: FlightId, event: Event<Bytes>) -> Said {
        let step = self.engine()?.resume(flight, event, self.now).map_err(|broken| broken.to_string())?;
        Ok(self.follow(Launch { flight, step }))
    }

    fn event(&self, flight: FlightId, verb: &str, words: &mut Words) -> Result<Event<Bytes>, String> {
        Ok(match verb {
            "slept" => Event::Slept,
            "landed" => Event::Landed,
            "written" => Event::StoreWritten(Ok(())),
            "removed" => Event::StoreRemoved(Ok(())),
            "cleared" => Event::StoreCleared(Ok(())),
            "abandoned" => Event::Abandoned,
            "store-read" => Event::StoreRead(Ok(self.found(words)?)),
            "store-failed" => self.store_failed(flight, words)?,
            "loaded" => Event::Loaded(Ok(self.loaded(words)?)),
            "load-failed" => {
                let class = match words.next("a class")?.as_str() {
                    "unavailable" => Class::Unavailable,
                    "timed-out" => Class::TimedOut,
                    "answer" => Class::Answer,
                    "panicked" => Class::Panicked,
                    other => return Err(format!("there is no class {other}")),
                };
                Event::Loaded(Err(LoadFailure { class, retry_after: words.option("retry-after")? }))
            }
            other => return Err(format!("there is no event {other}")),
        })
    }

    fn found(&self, words: &mut Words) -> Result<Option<Entry<Bytes>>, String> {
        let value = words.next("a value or miss")?;
        if value == "miss" {
            return Ok(None);
        }
        let age = words.option("age")?.unwrap_or_default();
        let windows: Windows = words.windows(self.policy.windows())?.unwrap_or_else(|| self.policy.windows());
        Ok(Some(Entry { age, ..Entry::new(value.into(), windows) }))
    }

    fn loaded(&self, words: &mut Words) -> Result<Loaded<Bytes>, String> {
        let value = words.next("a value")?.into();
        let age = words.option("age")?.unwrap_or_default();
        let sharing = match (words.flag("share"), words.flag("private")) {
            (true, _) => Sharing::Share,
            (_, true) => Sharing::Private,
            _ => Sharing::Store,
        };
        Ok(Loaded { value, age, windows: words.windows(self.policy.windows())?, sharing })
    }

    fn store_failed(&self, flight: FlightId, words: &mut Words) -> Result<Event<Bytes>, String> {
        let failure = match words.next("a failure")?.as_str() {
            "unavailable" => StoreFailure::Unavailable,
            "timed-out" => StoreFailure::TimedOut,
            "rejected" => StoreFailure::Rejected,
            "corrupt" => StoreFailure::Corrupt,
            other => return Err(format!("there is no failure {other}")),
        };
        match self.steps.get(&flight) {
            Some(Step::ReadStore { .. }) => Ok(Event::StoreRead(Err(failure))),
            Some(Step::WriteStore { .. }) => Ok(Event::StoreWritten(Err(failure))),
            Some(Step::RemoveStore { .. }) => Ok(Event::StoreRemoved(Err(failure))),
            Some(Step::ClearStore { .. }) => Ok(Event::StoreCleared(Err(failure))),
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
fn success(step: &Step<Key, Bytes>) -> Option<Event<Bytes>> {
    match step {
        Step::Land { .. } => Some(Event::Landed),
        Step::WriteStore { .. } => Some(Event::StoreWritten(Ok(()))),
        Step::RemoveStore { .. } => Some(Event::StoreRemoved(Ok(()))),
        Step::ClearStore { .. } => Some(Event::StoreCleared(Ok(()))),
        Step::ReadStore { .. } | Step::Load { .. } | Step::Sleep { .. } | Step::Done { .. } => None,
    }
}
