//! The machine in a host of one's own: world `policy` in plain wasmtime, with a loop that does what the steps say.
//!
//! Any language with a component runtime does the same; `wit/policy.wit` is the whole contract. This host has a loader and
//! no store, and serves one caller after another.
//!
//! ```sh
//! cargo run -p tideover-examples --features component --example wasmtime_host
//! ```

use std::time::{Duration, Instant};

use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, Store};

mod world {
    wasmtime::component::bindgen!({ path: "../wit", world: "policy" });
}

use world::exports::tideover::cache::machine::{Answer, Call, Event, Landing, Step};
use world::tideover::cache::types::{FailureClass, LoadFailure, Loaded, LoadedValue, Outcome, Setting, Sharing};

type Failure = Box<dyn std::error::Error>;

/// The origin of truth: here it is there or it is not.
type Origin<'a> = &'a dyn Fn() -> Result<&'static str, ()>;

struct Host {
    store: Store<()>,
    world: world::Policy,
    began: Instant,
}

impl Host {
    fn new(settings: &[(&str, &str)]) -> Result<Self, Failure> {
        // The machine never waits, so its engine needs no concurrency; without it each call is three times as fast.
        let engine = Engine::new(Config::new().concurrency_support(false))?;
        let component = Component::new(&engine, tideover::engine::POLICY_COMPONENT)?;
        let mut store = Store::new(&engine, ());
        let world = world::Policy::instantiate(&mut store, &component, &Linker::new(&engine))?;
        let setting = |&(name, value): &(&str, &str)| Setting { name: name.into(), value: value.into() };
        let settings: Vec<_> = settings.iter().map(setting).collect();
        let configured = world.tideover_cache_machine().call_configure(&mut store, &settings, 7, 0)?;
        configured.map_err(|refused| format!("{}: {}", refused.name, refused.reason))?;
        Ok(Self { store, world, began: Instant::now() })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The whole driver: what the step says is done, and what became of it is handed back.
    fn get(&mut self, key: &str, origin: Origin<'_>) -> Result<Outcome, Failure> {
        let call = Call { deadline: None, read_only: false, max_age: None, explain: false, within: Vec::new() };
        let now = self.now();
        let looked_up = self.world.tideover_cache_machine().call_lookup(&mut self.store, key, &call, now)?;
        let mut answer = match looked_up.answer {
            Answer::Now(outcome) => Some(outcome),
            Answer::Pending(_) => None,
            Answer::Refused(refusal) => return Err(format!("{refusal:?}").into()),
        };
        let Some(launch) = looked_up.launch else { return answer.ok_or_else(|| "nobody flies".into()) };
        let mut step = launch.step;
        loop {
            let event = match step {
                Step::Load(_) => Event::Loaded(load(origin)),
                Step::Sleep(until) => {
                    std::thread::sleep(Duration::from_nanos(until.saturating_sub(self.now())));
                    Event::Slept
                }
                Step::Land(Landing { outcome, .. }) => {
                    answer.get_or_insert(outcome);
                    Event::Landed
                }
                Step::Done(_) => return answer.ok_or_else(|| "it never landed".into()),
                step => return Err(format!("without a store there is no {step:?}").into()),
            };
            let now = self.now();
            step = self.world.tideover_cache_machine().call_resume(&mut self.store, launch.flight, &event, now)?;
        }
    }
}

fn load(origin: Origin<'_>) -> Result<Loaded, LoadFailure> {
    let failure = |()| LoadFailure { class: FailureClass::Unavailable, retry_after: None };
    let value = origin().map_err(failure)?;
    let (value, sharing) = (value.as_bytes().to_vec(), Sharing::Store);
    Ok(Loaded::Value(LoadedValue { value, tags: Vec::new(), age: 0, windows: None, sharing }))
}

fn main() -> Result<(), Failure> {
    let mut host = Host::new(&[("ttl", "50ms"), ("stale_if_error", "1h"), ("load_breaker_failures", "3")])?;
    let there: Origin<'_> = &|| Ok("hello");
    let away: Origin<'_> = &|| Err(());

    say("the origin is there", &host.get("greeting", there)?);
    say("from memory", &host.get("greeting", away)?);
    std::thread::sleep(Duration::from_millis(60));
    say("expired, and the origin is away", &host.get("greeting", away)?);
    say("a key that nobody has, the origin away", &host.get("other", away)?);

    let began = Instant::now();
    for _ in 0..10_000 {
        host.get("greeting", away)?;
    }
    println!("{:<40} {:?} each", "10 000 calls into the sandbox:", began.elapsed() / 10_000);
    Ok(())
}

fn say(what: &str, outcome: &Outcome) {
    match outcome {
        Outcome::Served(served) => {
            let value = String::from_utf8_lossy(&served.value);
            println!("{what:<40} {value:?}, from {:?}, stale: {:?}", served.source, served.stale);
        }
        outcome => println!("{what:<40} {outcome:?}"),
    }
}
