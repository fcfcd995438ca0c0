//! Arguments that are there for the attribute alone.

#![deny(unused_variables)]

use tideover::codec::Codec;
use tideover::{Cache, cached};

#[cached(key = "user:{user_id}", cache = cache)]
pub async fn name(cache: &Cache, user_id: u64) -> String {
    format!("user {user_id}")
}

#[cached(key = "page:{number}", codec = codec.clone())]
pub fn page((codec, _version): (Codec, u64), number: u64) -> String {
    format!("page {number}")
}

#[derive(Clone)]
pub struct State {
    cache: Cache,
}

#[cached(key = "state:{number}", cache = cache)]
pub async fn of_state(State { cache }: &State, number: u64) -> String {
    format!("state {number}")
}

pub async fn is_healthy(state: &State) -> bool {
    of_state::health(state).await.is_ok()
}
