//! Types that are not what a cached function needs.

use tideover::cached;

struct NotClone;

struct Service;

impl Service {
    #[cached(key = "service:{id}")]
    async fn not_clone(&self, id: u64) -> u64 {
        id
    }
}

#[cached(key = "user:{id}")]
async fn error(id: u64) -> Result<u64, NotClone> {
    Ok(id)
}

#[derive(serde::Serialize, serde::Deserialize)]
struct NotCloneValue(u64);

#[cached(key = "user:{id}")]
async fn value(id: u64) -> Result<NotCloneValue, tideover::Error> {
    Ok(NotCloneValue(id))
}

#[cached]
async fn argument(handle: std::rc::Rc<u64>) -> u64 {
    *handle
}

#[derive(Clone)]
struct Handle;

#[cached]
async fn no_key_part(handle: &Handle) -> u64 {
    let _ = handle;
    7
}

fn main() {}
