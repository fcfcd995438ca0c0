//! Stories replay to the answers that they explain, whatever else went on in the machine.

use core::time::Duration;

use tideover_core::cache::explain::{self, Erased, Input, Replayed, Story};
use tideover_core::entropy::Entropy;
use tideover_core::{
    Answer, Cache, Call, Class, Command, Entry, Event, FlightId, Instant, Invalidation, Launch, Left, LoadFailure,
    Loaded, Outcome, Policy, Served, Sharing, Step, StoreFailure, Tag, Value, Windows,
};

const TAG: Tag = Tag::named("tag");

#[derive(Debug, Clone, PartialEq)]
struct Tagged(bool);

impl Value for Tagged {
    fn tags(&self) -> &[Tag] {
        if self.0 { &[TAG] } else { &[] }
    }
}

fn policy() -> Policy {
    let mut policy = Policy::default();
    let options = [
        ("store", "true"),
        ("explain", "true"),
        ("ttl", "10s"),
        ("stale_while_revalidate", "5s"),
        ("stale_if_error", "30s"),
        ("keep", "60s"),
        ("load_attempts", "3"),
        ("ttl_jitter", "20"),
        ("negative_ttl", "5s"),
        ("unavailable_ttl", "2s"),
        ("leader_age_max", "20s"),
        ("private_for", "3s"),
        ("journal_max", "2"),
        ("soft_deadline", "1s"),
        ("store_breaker_failures", "2"),
        ("load_breaker_failures", "3"),
        ("loads_max", "2"),
        ("load_queue_max", "2"),
        ("refresh_ahead", "70"),
        ("early_refresh", "100"),
    ];
    for (name, value) in options {
        policy.set(name, value).expect("an option");
    }
    policy
}

/// A walk through everything that can happen to a few keys.
struct Walk {
    cache: Cache<u8, Tagged>,
    now: Instant,
    dice: Entropy,
    flying: Vec<(FlightId, Step<u8, Tagged>)>,
    told: u32,
    waited: u32,
    lengths: [u32; 12],
}

impl Walk {
    fn pick(&mut self, of: u64) -> u64 {
        self.dice.bits() % of
    }

    fn launch(&mut self, flight: FlightId, step: Step<u8, Tagged>) {
        match step {
            Step::Done { next } => self.follow(next),
            Step::Wait => self.waited += 1,
            Step::Land { ref outcome, next } => {
                if let Some(story) = self.cache.story(Some(flight)) {
                    let replayed = self.replay(&story);
                    assert_eq!(replayed.landed, Some(erased(outcome)), "{story}");
                }
                self.flying.push((flight, step));
                self.follow(next);
            }
            step => self.flying.push((flight, step)),
        }
    }

    fn follow(&mut self, next: Option<FlightId>) {
        if let Some(next) = next {
            let step = self.cache.resume(next, Event::Launched, self.now);
            self.launch(next, step);
        }
    }

    fn replay(&mut self, story: &Story) -> Replayed {
        let kept = postcard::to_allocvec(story).expect("a story is plain data");
        assert_eq!(postcard::from_bytes::<Story>(&kept).expect("the same story"), *story);
        self.told += 1;
        self.lengths[story.moments.len().min(11)] += 1;
        explain::replay(self.cache.policy(), story).unwrap_or_else(|other| panic!("{other}\n{story}"))
    }

    fn step(&mut self) {
        let key = self.pick(3) as u8;
        match self.pick(24) {
            0..=6 => self.lookup(key),
            7 => self.command(Command::Remove { key }),
            8 => {
                let value = Tagged(self.pick(2) == 0);
                self.command(Command::Put { key, value, windows: None });
            }
            9 => self.command(Command::Expire { key }),
            10 => self.command(Command::Invalidate { tag: TAG, how: Invalidation::Remove }),
            11 => self.command(Command::Invalidate { tag: TAG, how: Invalidation::Expire }),
            12 if self.pick(8) == 0 => self.command(Command::Clear),
            13 => {
                if let Some(Launch { flight, step }) = self.cache.maintain(self.now) {
                    self.launch(flight, step);
                }
            }
            14..=16 => self.now = self.now + Duration::from_millis(self.dice.bits() % 3_000),
            _ if self.flying.is_empty() => {}
            _ => {
                let place = self.pick(self.flying.len() as u64) as usize;
                let (flight, step) = self.flying.swap_remove(place);
                let event = self.event(&step);
                let step = self.cache.resume(flight, event, self.now);
                self.launch(flight, step);
            }
        }
    }

    fn lookup(&mut self, key: u8) {
        let max_age = if self.pick(5) == 0 { Some(Duration::from_secs(self.pick(12))) } else { None };
        let call = Call { read_only: self.pick(4) == 0, max_age, ..Call::default() };
        let lookup = self.cache.lookup(&key, call, self.now);
        match lookup.answer {
            Answer::Now(outcome) => {
                let story = self.cache.story(None).expect("told");
                let replayed = self.replay(&story);
                assert_eq!(replayed.answer, Some(erased(&outcome)), "{story}");
            }
            Answer::Pending { flight, .. } if lookup.launch.is_none() && self.pick(4) == 0 => {
                assert_eq!(self.cache.leave(flight), Left::Stays);
            }
            Answer::Pending { .. } | Answer::Refused(_) => {}
        }
        if let Some(Launch { flight, step }) = lookup.launch {
            self.launch(flight, step);
        }
    }

    fn command(&mut self, command: Command<u8, Tagged>) {
        let lookup = self.cache.command(command, self.now);
        if let Some(Launch { flight, step }) = lookup.launch {
            self.launch(flight, step);
        }
    }

    fn event(&mut self, step: &Step<u8, Tagged>) -> Event<Tagged> {
        if self.pick(20) == 0 {
            return if self.pick(2) == 0 { Event::Abandoned } else { Event::Resigned };
        }
        let result = match self.pick(6) {
            0 => Err(StoreFailure::Unavailable),
            1 => Err(StoreFailure::Rejected),
            _ => Ok(()),
        };
        match step {
            Step::ReadStore { .. } => Event::StoreRead(match (result, self.pick(3)) {
                (Err(failure), _) => Err(failure),
                (_, 0) => Ok(None),
                _ => {
                    let windows = Windows { ttl: Some(Duration::from_secs(10)), ..self.cache.policy().windows() };
                    let age = Duration::from_millis(self.pick(40_000));
                    Ok(Some(Entry { age, ..Entry::new(Tagged(false), windows) }))
                }
            }),
            Step::Load { .. } => Event::Loaded(match self.pick(12) {
                0 => Err(Class::Answer.into()),
                1 => Err(LoadFailure { class: Class::Unavailable, retry_after: Some(Duration::from_millis(300)) }),
                2 => Err(Class::Panicked.into()),
                3 => Err(Class::Isolated.into()),
                4 => Ok(Loaded::Absent { ttl: None }),
                5 => Ok(Loaded::NotModified { age: Duration::ZERO, windows: None }),
                roll => {
                    let sharing = match roll {
                        6 => Sharing::Private,
                        7 => Sharing::Share,
                        _ => Sharing::Store,
                    };
                    let value = Tagged(self.pick(2) == 0);
                    Ok(Loaded::Value { value, age: Duration::from_secs(1), windows: None, sharing })
                }
            }),
            Step::Sleep { until } => {
                self.now = self.now.max(*until);
                Event::Slept
            }
            Step::Wait => unreachable!("nobody flies it"),
            Step::Land { .. } | Step::Done { .. } => Event::Landed,
            Step::WriteStore { .. } => Event::StoreWritten(result),
            Step::RemoveStore { .. } => Event::StoreRemoved(result),
            Step::ClearStore { .. } => Event::StoreCleared(result),
        }
    }
}

fn erased(outcome: &Outcome<Tagged>) -> Outcome<Erased> {
    let served = |served: &Served<Tagged>| {
        let &Served { ref value, age, ttl, stale, source } = served;
        Served { value: Erased { tagged: value.0 }, age, ttl, stale, source }
    };
    match outcome {
        Outcome::Served(value) => Outcome::Served(served(value)),
        Outcome::Private(value) => Outcome::Private(served(value)),
        Outcome::Absent(absence) => Outcome::Absent(*absence),
        Outcome::Settled(settled) => Outcome::Settled(*settled),
        Outcome::Failed(failure) => Outcome::Failed(*failure),
        Outcome::Again => Outcome::Again,
    }
}

#[test]
fn every_story_replays_to_its_answer() {
    let (mut told, mut waited, mut lengths) = (0, 0, [0; 12]);
    for seed in 0..1_000 {
        let cache = Cache::new(policy(), seed).expect("a policy");
        let dice = Entropy::from_seed(seed);
        let mut walk =
            Walk { cache, now: Instant::ZERO, dice, flying: Vec::new(), told: 0, waited: 0, lengths: [0; 12] };
        for _ in 0..2_000 {
            walk.step();
        }
        told += walk.told;
        waited += walk.waited;
        lengths.iter_mut().zip(walk.lengths).for_each(|(sum, length)| *sum += length);
    }
    assert!(told > 400_000, "only {told} answers were explained");
    assert!(waited > 1_000, "only {waited} loads had to wait");
    assert!(lengths[1..7].iter().all(|stories| *stories > 100), "stories by length: {lengths:?}");
}

#[test]
fn a_story_that_was_altered_or_is_of_another_policy_is_found_out() {
    let mut cache: Cache<&str, &str> = Cache::new(policy(), 1).expect("a policy");
    let Some(Launch { flight, .. }) = cache.lookup(&"k", Call::default(), Instant::ZERO).launch else {
        panic!("the first to ask leads");
    };
    let step = cache.resume(flight, Event::StoreRead(Ok(None)), Instant::ZERO);
    assert!(matches!(step, Step::Load { .. }));
    let step = cache.resume(flight, Event::Loaded(Err(Class::Answer.into())), Instant::ZERO);
    assert!(matches!(step, Step::Land { .. }));
    let story = cache.story(Some(flight)).expect("told");
    assert!(explain::replay(cache.policy(), &story).is_ok());

    let mut altered = story.clone();
    altered.moments[2].input = Input::Event(Event::Loaded(Ok(Loaded::Absent { ttl: None })));
    assert_eq!(explain::replay(cache.policy(), &altered).expect_err("altered").moment, 2);

    let mut storeless = policy();
    storeless.store = false;
    let diverged = explain::replay(&storeless, &story).expect_err("another policy");
    assert!(matches!(diverged.instead.and_then(|then| then.step), Some(Step::Load { .. })));

    let text = story.to_string();
    assert_eq!(text.lines().count(), 3);
    assert!(!text.contains("\"k\""), "no key in a story");
}
