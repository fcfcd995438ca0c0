//! A value that cannot be cloned for each caller.

use std::sync::Mutex;

use tideover::cached;

#[cached(key = "user:{id}")]
pub async fn user(id: u64) -> Result<Mutex<u64>, tideover::Error> {
    Ok(Mutex::new(id))
}
