//! For one process an outage is as if nothing had happened: it gets the answers of a store that was never away, and
//! that is what is in the store when it is back.

use tideover_core::entropy::Entropy;

use super::*;
use crate::store::{MemoryStore, Store, When};

const KEYS: [&str; 4] = ["a", "b", "ab", "n"];

/// What happens, drawn from a seed.
struct Draw(Entropy);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0.bits() % limit
    }

    fn key(&mut self) -> &'static str {
        KEYS[self.below(4) as usize]
    }

    fn ttl(&mut self) -> Option<Duration> {
        (self.below(2) == 0).then(|| seconds(self.below(20)))
    }

    fn value(&mut self) -> Bytes {
        if self.below(3) == 0 { "text".into() } else { self.below(9).to_string().into() }
    }
}

fn told<T: std::fmt::Debug>(answer: Result<Answer<T>, Error>) -> String {
    match answer {
        Ok(answer) => format!("{:?}", answer.value),
        Err(Error::StoreRefused { error, .. }) => error.to_string(),
        Err(error) => panic!("{error}"),
    }
}

fn meant<T: std::fmt::Debug>(answer: Result<T, crate::store::StoreError>) -> String {
    answer.map_or_else(|error| error.to_string(), |value| format!("{value:?}"))
}

/// One operation on both: what was told, and what was meant.
async fn operate(draw: &mut Draw, direct: &Direct, model: &MemoryStore) -> (String, String, String) {
    let (key, ttl, value) = (draw.key(), draw.ttl(), draw.value());
    let kind = draw.below(11);
    let (told, meant) = match kind {
        0 => (told(direct.get(key).await), meant(model.read(key).await)),
        1 => (told(direct.put(key, value.clone(), ttl).await), meant(model.write(key, value, ttl).await)),
        2 => (
            told(direct.put_if_absent(key, value.clone(), ttl).await),
            meant(model.write_when(key, value, ttl, When::Absent).await),
        ),
        3 => (
            told(direct.put_if_present(key, value.clone(), ttl).await),
            meant(model.write_when(key, value, ttl, When::Present).await),
        ),
        4 => (told(direct.take(key).await), meant(model.take(key).await)),
        5 => (told(direct.remove(key).await), meant(model.delete(key).await)),
        6 | 7 => (told(direct.increment(key, 3, ttl).await), meant(model.increment(key, 3, ttl).await)),
        8 => (told(direct.set_ttl(key, ttl).await), meant(model.expire(key, ttl).await)),
        9 => (told(direct.remaining(key).await), meant(model.remaining(key).await)),
        _ => (told(direct.remove_matching("a*").await), meant(model.remove_matching("a*").await)),
    };
    (format!("operation {kind} on {key} for {ttl:?}"), told, meant)
}

async fn story(seed: u64) {
    let (mut draw, store, model) = (Draw(Entropy::from_seed(seed)), ScriptedStore::default(), MemoryStore::new(100));
    let direct = direct(&store);
    let mut history = Vec::new();
    for _ in 0..120 {
        match draw.below(12) {
            kind @ 0..=2 => {
                let weather = if kind < 2 { Weather::Away } else { Weather::Fair };
                history.push(format!("{weather:?}"));
                store.set(weather);
            }
            3 => {
                let time = Duration::from_millis(draw.below(8_000));
                history.push(format!("after {time:?}"));
                sleep(time).await;
            }
            _ => {
                let (operation, told, meant) = operate(&mut draw, &direct, &model).await;
                history.push(format!("{operation}: {told}"));
                assert_eq!(told, meant, "seed {seed}: {history:#?}");
            }
        }
    }
    store.set(Weather::Fair);
    sleep(seconds(40)).await;
    assert_eq!(direct.stats().owed, 0, "seed {seed}");
    let successor = super::direct(&store);
    for key in KEYS {
        let (found, meant) = (told(successor.get(key).await), meant(model.read(key).await));
        assert_eq!(found, meant, "seed {seed}: {key} in the end, after {history:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_as_if_nothing_had_happened() {
    for seed in 0..150 {
        story(seed).await;
    }
}
