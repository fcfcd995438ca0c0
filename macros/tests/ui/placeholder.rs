//! Placeholders that name no argument, or that nobody could read.

use tideover::{cached, invalidates};

#[cached(key = "org:{org}:user:{user}")]
async fn profile(org_id: u64, user_id: u64) -> u64 {
    org_id + user_id
}

#[cached(key = "user:{user_id")]
async fn without_end(user_id: u64) -> u64 {
    user_id
}

#[cached(key = "user:{user_id:?}")]
async fn with_format(user_id: u64) -> u64 {
    user_id
}

#[cached(key = "user:{user_id + 1}")]
async fn with_expression(user_id: u64) -> u64 {
    user_id
}

#[cached(key = "{org}{user}")]
async fn side_by_side(org: u64, user: u64) -> u64 {
    org + user
}

#[cached(key = "user:{user_id}", tags = ["user:{id}", "org:{result.org}"])]
async fn tagged(user_id: u64) -> u64 {
    user_id
}

#[cached(key = "user:{user.nmae}")]
async fn field(user: User) -> u64 {
    user.name
}

#[cached(key = "user:{name}")]
async fn optional(name: Option<u64>) -> u64 {
    name.unwrap_or_default()
}

#[derive(Clone)]
struct User {
    name: u64,
}

#[invalidates(tags = ["user:{usr_id}"])]
async fn write(user_id: u64) {
    let _ = user_id;
}

#[invalidates(matching = "user:{usr_id}:*")]
async fn write_all(user_id: u64) {
    let _ = user_id;
}

#[invalidates(matching = [r"page:*", r"user:\{user_id}"])]
async fn escaped(user_id: u64) {
    let _ = user_id;
}

#[invalidates(matching = "user:{user_id}*")]
async fn without_an_end(user_id: u64) {
    let _ = user_id;
}

fn main() {}
