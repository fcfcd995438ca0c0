//! Options that there are not, or whose values cannot be.

use tideover::{cached, invalidates};

#[cached(tll = "5m")]
async fn misspelt(id: u64) -> u64 {
    id
}

#[cached(colour = "red")]
async fn unknown(id: u64) -> u64 {
    id
}

#[cached(ttl = "5m", ttl = "6m")]
async fn twice(id: u64) -> u64 {
    id
}

#[cached(ttl = "five minutes")]
async fn duration(id: u64) -> u64 {
    id
}

#[cached(timeout = "short")]
async fn no_name(id: u64) -> u64 {
    id
}

#[cached(key = id)]
async fn no_text(id: u64) -> u64 {
    id
}

#[cached(skip = [db])]
async fn skipped(id: u64) -> u64 {
    id
}

#[cached(negative_ttl = "10s")]
async fn no_absence(id: u64) -> u64 {
    id
}

#[cached(unavailable_if = |_: &u64| true)]
async fn no_errors(id: u64) -> u64 {
    id
}

#[cached(retry_after = |_: &u64| None)]
async fn no_wait(id: u64) -> u64 {
    id
}

#[cached(retry_after)]
async fn no_value(id: u64) -> Result<u64, u64> {
    Ok(id)
}

#[cached(require_store)]
async fn no_way_to_fail(id: u64) -> u64 {
    id
}

#[cached(timeout = "1s")]
async fn no_way_to_say_that_it_took_too_long(id: u64) -> Option<u64> {
    Some(id)
}

#[cached(require_store = "yes")]
async fn no_flag(id: u64) -> Result<u64, String> {
    Ok(id)
}

#[cached(cache = 7)]
async fn no_cache(id: u64) -> u64 {
    id
}

#[cached(cache = self.cache)]
async fn no_self(id: u64) -> u64 {
    id
}

#[cached(cache = &self.caches[self::FIRST], associated)]
async fn no_self_of_a_type(id: u64) -> u64 {
    id
}

#[cached(cache = self::CACHE)]
async fn of_the_module(id: u64) -> u64 {
    id
}

#[invalidates(tags = ["users"], how = "delete")]
async fn how() {}

#[invalidates]
async fn without_effect() {}

#[invalidates(tags = ["users"], recache_max = 3)]
async fn recaches_nothing() {}

#[invalidates(recache = [misspelt])]
async fn no_call() {}

fn main() {}
