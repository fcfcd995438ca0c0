//! What operators say in a story.

use tideover::core::breaker::Mode;
use tideover::core::cache::Dependency;
use tideover::core::cache::explain::{Erased, Replayed, Story, replay};
use tideover::core::cache::snapshot::Taken;
use tideover::core::time::Text;
use tideover::core::{LoaderId, Outcome, Served, Step, Value, WallTime};
use tideover::engine::{EngineError, Payload};

use super::words::Words;
use super::{Said, Stage, shown};

/// The civil time at which the clock of every story begins.
const BEGAN: WallTime = WallTime::from_unix_millis(1_000_000_000_000);

impl Stage {
    fn wall(&self) -> WallTime {
        let millis = BEGAN.as_unix_millis() + self.now.as_nanos() / 1_000_000;
        WallTime::from_unix_millis(millis)
    }

    /// Shows why, and replays it: the replay is to lead to the very answer.
    pub(super) fn story(&mut self, words: &mut Words) -> Said {
        let flight = if words.is_empty() { None } else { Some(words.flight()?) };
        let Some(story) = self.engine()?.story(flight).map_err(text)? else { return Ok(vec!["no story".to_owned()]) };
        let carried = Story::from_bytes(&story.to_bytes()).ok_or("its bytes hold no story")?;
        let Replayed { answer, landed } = replay(&self.policy, &carried).map_err(|diverged| diverged.to_string())?;
        let (replayed, given) = match flight.map(|flight| self.steps.get(&flight)) {
            None => (answer, self.answered.as_ref()),
            Some(Some(Step::Land { outcome, .. })) => (landed, Some(outcome)),
            Some(_) => (landed, None),
        };
        if replayed != given.map(erased) {
            return Err(format!("the replay leads to {replayed:?}"));
        }
        Ok(story.to_string().lines().map(str::to_owned).collect())
    }

    pub(super) fn breaker(&mut self, words: &mut Words) -> Said {
        let of = dependency(words)?;
        if words.is_empty() {
            let report = self.engine()?.report().map_err(text)?;
            let breaker = match of {
                Dependency::Store => report.store_breaker,
                Dependency::Loader => report.load_breaker,
                Dependency::Named(named) => {
                    let found = report.loaders.iter().find(|(loader, _)| *loader == named);
                    let Some((_, breaker)) = found else { return Ok(vec!["no circuit of its own".to_owned()]) };
                    *breaker
                }
            };
            return Ok(shown::breaker(&breaker));
        }
        let name = words.next("a mode")?;
        let mode = Mode::from_name(&name).ok_or_else(|| format!("there is no mode {name}"))?;
        self.engine()?.set_breaker_mode(of, mode, self.now).map_err(text)?;
        Ok(Vec::new())
    }

    pub(super) fn reset(&mut self, words: &mut Words) -> Said {
        let of = dependency(words)?;
        self.engine()?.reset_breaker(of, self.now).map_err(text)?;
        Ok(Vec::new())
    }

    pub(super) fn removals(&mut self) -> Said {
        let removals = self.engine()?.take_removals().map_err(text)?;
        let mut said: Vec<String> =
            removals.iter().map(|(key, reason)| format!("{key} {}", format!("{reason:?}").to_lowercase())).collect();
        if said.is_empty() {
            said.push("none".to_owned());
        }
        Ok(said)
    }

    pub(super) fn take_snapshot(&mut self) -> Said {
        self.snapshot = self.engine()?.snapshot(self.now, self.wall()).map_err(text)?;
        Ok(Vec::new())
    }

    /// The engine that restores is a new one, and nothing flies in it.
    pub(super) fn restore(&mut self, words: &mut Words) -> Said {
        let taken = match words.next("last or earlier")?.as_str() {
            "last" => Taken::Last,
            "earlier" => Taken::Earlier,
            other => return Err(format!("expected last or earlier, not {other}")),
        };
        let engine = (self.make)(self.policy.clone());
        let restored = engine.restore(&self.snapshot, taken, self.now, self.wall()).map_err(text)?;
        let restored = restored.map_err(|reason| reason.to_string())?;
        self.engine = Some(engine);
        self.steps.clear();
        let age = Text(restored.age);
        Ok(vec![format!("{} entries, {} debts, of {age} ago", restored.entries, restored.debts)])
    }
}

fn dependency(words: &mut Words) -> Result<Dependency, String> {
    match words.next("store or loader")?.as_str() {
        "store" => Ok(Dependency::Store),
        "loader" => Ok(Dependency::Loader),
        "of" => Ok(Dependency::Named(LoaderId::named(&words.next("the loader's name")?))),
        other => Err(format!("expected store, loader or of, not {other}")),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn text(broken: EngineError) -> String {
    broken.to_string()
}

/// As stories hold it.
fn erased(outcome: &Outcome<Payload>) -> Outcome<Erased> {
    let erased = |served: &Served<Payload>| {
        let &Served { ref value, age, ttl, stale, source } = served;
        Served { value: Erased { tagged: !value.tags().is_empty() }, age, ttl, stale, source }
    };
    match outcome {
        Outcome::Served(served) => Outcome::Served(erased(served)),
        Outcome::Private(served) => Outcome::Private(erased(served)),
        Outcome::Absent(absence) => Outcome::Absent(*absence),
        Outcome::Settled(settled) => Outcome::Settled(*settled),
        Outcome::Failed(failure) => Outcome::Failed(*failure),
        Outcome::Again => Outcome::Again,
    }
}
