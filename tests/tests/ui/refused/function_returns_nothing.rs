//! A function that returns nothing.

use tideover::cached;

#[cached(key = "user:{user_id}")]
pub async fn greet(user_id: u64) {
    println!("Good morning, {user_id}");
}
