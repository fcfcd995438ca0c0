//! Options that contradict each other: what is in the key, said twice.

use tideover::cached;

#[cached(key = "user:{user_id}", skip = [language])]
pub async fn name(user_id: u64, language: String) -> String {
    format!("user {user_id} ({language})")
}
