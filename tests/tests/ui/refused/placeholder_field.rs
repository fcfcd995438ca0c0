//! A placeholder with a field that its argument has not.

use tideover::cached;

#[derive(Clone)]
pub struct User {
    pub name: String,
}

#[cached(key = "user:{user.nmae}", ttl = "5m")]
pub async fn greeting(user: User) -> String {
    format!("Good morning, {}", user.name)
}
