//! A function that there is not, and one that is not cached.

use tideover::invalidates;

pub async fn profile(user_id: u64) -> u64 {
    user_id
}

#[invalidates(tags = ["user:{user_id}"], recache = [profil(user_id), profile(user_id)])]
pub async fn rename(user_id: u64, name: &str) {
    println!("{user_id} is {name}");
}
