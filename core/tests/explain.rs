//! Stories replay to the answers that they explain, whatever else went on in the machine.

mod walk;

use tideover_core::cache::explain::{self, Erased, Input, Replayed, Story};
use tideover_core::{
    Answer, Cache, Call, Class, Command, Event, FlightId, Found, Instant, Launch, Left, Loaded, Lookup, News, Outcome,
    Served, Step,
};

use self::walk::{Subject, Tagged, Walk, policy};

/// A cache whose every story is replayed.
struct Explained {
    cache: Cache<u8, Tagged>,
    told: u32,
    lengths: [u32; 12],
}

impl Explained {
    fn replay(&mut self, story: &Story) -> Replayed {
        let kept = postcard::to_allocvec(story).expect("a story is plain data");
        assert_eq!(postcard::from_bytes::<Story>(&kept).expect("the same story"), *story);
        self.told += 1;
        self.lengths[story.moments.len().min(11)] += 1;
        explain::replay(self.cache.policy(), story).unwrap_or_else(|other| panic!("{other}\n{story}"))
    }
}

impl Subject for Explained {
    fn policy(&self) -> &tideover_core::Policy {
        self.cache.policy()
    }
    fn lookup(&mut self, key: &u8, call: Call<'_>, now: Instant) -> Lookup<u8, Tagged> {
        self.cache.lookup(key, call, now)
    }
    fn command(&mut self, command: Command<u8, Tagged>, now: Instant) -> Lookup<u8, Tagged> {
        self.cache.command(command, now)
    }
    fn resume(&mut self, flight: FlightId, event: Event<Tagged>, now: Instant) -> Step<u8, Tagged> {
        self.cache.resume(flight, event, now)
    }
    fn leave(&mut self, flight: FlightId) -> Left {
        self.cache.leave(flight)
    }
    fn expire(&mut self, flight: FlightId, deadline: Instant, now: Instant) -> Answer<Tagged> {
        self.cache.expire(flight, deadline, now)
    }
    fn maintain(&mut self, now: Instant) -> Option<FlightId> {
        self.cache.maintain(now)
    }
    fn learn(&mut self, news: News, now: Instant) {
        self.cache.learn(news, now);
    }
    fn answered(&mut self, outcome: &Outcome<Tagged>) {
        let story = self.cache.story(None).expect("told");
        assert_eq!(self.replay(&story).answer, Some(erased(outcome)), "{story}");
    }
    fn landed(&mut self, flight: FlightId, outcome: &Outcome<Tagged>) {
        if let Some(story) = self.cache.story(Some(flight)) {
            assert_eq!(self.replay(&story).landed, Some(erased(outcome)), "{story}");
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
        let mut policy = policy();
        policy.store_log = seed % 3 > 0;
        policy.lease = seed % 4 == 0;
        let cache = Cache::new(policy, seed).expect("a policy");
        let mut walk = Walk::new(Explained { cache, told: 0, lengths: [0; 12] }, seed);
        for _ in 0..2_000 {
            walk.step();
        }
        told += walk.subject.told;
        waited += walk.waited;
        lengths.iter_mut().zip(walk.subject.lengths).for_each(|(sum, length)| *sum += length);
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
    let step = cache.resume(flight, Event::StoreRead(Ok(Found::NOTHING)), Instant::ZERO);
    assert!(matches!(step, Step::Load { .. }));
    let step = cache.resume(flight, Event::Loaded(Err(Class::Answer.into())), Instant::ZERO);
    assert!(matches!(step, Step::Land { .. }));
    let story = cache.story(Some(flight)).expect("told");
    assert!(explain::replay(cache.policy(), &story).is_ok());

    let mut altered = story.clone();
    altered.moments[2].input = Input::Event(Event::Loaded(Ok(Loaded::absent(None, &[]))));
    assert_eq!(explain::replay(cache.policy(), &altered).expect_err("altered").moment, 2);

    let mut storeless = policy();
    storeless.store = false;
    let diverged = explain::replay(&storeless, &story).expect_err("another policy");
    assert!(matches!(diverged.instead.and_then(|then| then.step), Some(Step::Load { .. })));

    let text = story.to_string();
    assert_eq!(text.lines().count(), 3);
    assert!(!text.contains("\"k\""), "no key in a story");
}
