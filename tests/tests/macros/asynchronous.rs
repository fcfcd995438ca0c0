//! Cached functions that are `async`: what their callers get, and what is offered beside them.

use std::sync::Arc;

use tideover::{CallError, Error, Source, cached};
use tideover_tests::driving::{millis, seconds};
use tokio::task::JoinSet;
use tokio::time::{Instant, advance};

use crate::database::{Db, DbError, User};

/// Reads a user.
#[cached(key = "user:{id}", cache = db.cache, tags = ["users", "org:{result.org}"])]
async fn user(db: &Db, id: u64) -> Result<User, DbError> {
    let user = db.user(id).await?;
    Ok(user)
}

#[tokio::test(start_paused = true)]
async fn a_stampede_is_one_load_and_waits_no_longer_than_it_takes() {
    let (db, began) = (Db::new(), Instant::now());
    let mut callers = JoinSet::new();
    for _ in 0..1_000 {
        let db = db.clone();
        callers.spawn(async move { user(&db, 7).await });
    }
    let users = callers.join_all().await;
    assert!(users.iter().all(|user| user.as_ref().is_ok_and(|user| user.read == 1)));
    assert_eq!((db.asked(), began.elapsed()), (1, seconds(1)));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_takes_nobody_with_it() {
    let db = Db::new();
    let leader = tokio::spawn({
        let db = db.clone();
        async move { user(&db, 7).await }
    });
    tokio::time::sleep(millis(500)).await;
    let (follower, ()) = tokio::join!(user(&db, 7), async { leader.abort() });
    assert_eq!((follower.map(|user| user.read), db.asked()), (Ok(1), 1));
}

#[tokio::test(start_paused = true)]
async fn the_functions_own_error_passes_untouched_and_is_not_kept() {
    let db = Db::new();
    assert_eq!(user(&db, 0).await, Err(DbError::NoSuchUser));
    assert_eq!(user(&db, 0).await, Err(DbError::NoSuchUser));
    assert_eq!(db.asked(), 2);
    let fetched = user::fetch(&db, 0).await.expect_err("nobody");
    assert!(matches!(fetched, CallError::Loader(error) if *error == DbError::NoSuchUser));
}

#[tokio::test(start_paused = true)]
async fn what_the_cache_has_to_say_comes_as_the_functions_own_error() {
    let db = Db::new();
    db.cache.shutdown().await;
    let refused = user(&db, 7).await.expect_err("it is shut down");
    assert_eq!(refused, DbError::Cache(Error::Closed.to_string()));
}

#[tokio::test(start_paused = true)]
async fn what_is_fetched_says_where_it_comes_from() {
    let db = Db::new();
    let loaded = user::fetch(&db, 7).await.expect("a user");
    advance(seconds(3)).await;
    let again = user::fetch(&db, 7).await.expect("a user");
    assert_eq!((loaded.source, again.source, again.age), (Source::Load, Source::Memory, seconds(3)));
    assert!(Arc::ptr_eq(&again.value, &user::fetch(&db, 7).await.expect("a user").value), "no copy is made");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_asks_although_something_fresh_is_there() {
    let db = Db::new();
    let read = [user(&db, 7).await, user::refresh(&db, 7).await, user(&db, 7).await];
    assert_eq!(read.map(|user| user.map(|user| user.read)), [Ok(1), Ok(2), Ok(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_peek_loads_nothing() {
    let db = Db::new();
    assert!(user::peek(&db, 7).await.expect("an answer").is_none());
    user(&db, 7).await.expect("a user");
    let peeked = user::peek(&db, 7).await.expect("an answer").expect("a user");
    assert_eq!((peeked.value.read, db.asked()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_invalidated_is_read_anew() {
    let db = Db::new();
    user(&db, 7).await.expect("a user");
    user::invalidate(&db, 7).await.expect("it is removed");
    assert_eq!(user(&db, 7).await.map(|user| user.read), Ok(2));
}

#[tokio::test(start_paused = true)]
async fn tags_reach_what_bears_them_and_may_name_the_value() {
    let db = Db::new();
    for id in [7, 8, 17] {
        user(&db, id).await.expect("a user");
    }
    db.cache.invalidate_tag("org:0").await.expect("invalidated");
    let mut read = Vec::new();
    for id in [7, 8, 17] {
        read.push(user(&db, id).await.expect("a user").read);
    }
    assert_eq!(read, [4, 5, 3]);
    assert_eq!((user::key(&db, 7), user::tags(&db, 7)), ("user:7".to_owned(), vec!["users".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn uncached_is_the_function_itself() {
    let db = Db::new();
    user(&db, 7).await.expect("a user");
    assert_eq!(user::uncached(&db, 7).await.map(|user| user.read), Ok(2));
    assert_eq!(user(&db, 7).await.map(|user| user.read), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn each_function_counts_its_own_calls() {
    #[cached(cache = db.cache, skip = [db], ttl = "10s", stale_while_revalidate = "10s")]
    async fn counted(db: &Db, id: u64) -> Result<User, DbError> {
        db.user(id).await
    }
    let db = Db::new();
    for _ in 0..3 {
        counted(&db, 7).await.expect("a user");
    }
    counted(&db, 0).await.expect_err("nobody");
    advance(seconds(12)).await;
    counted(&db, 7).await.expect("a stale user");
    let stats = counted::stats();
    assert_eq!((stats.hits, stats.stale_hits, stats.misses, stats.errors, stats.uncached), (2, 1, 2, 1, 0));
    assert_eq!(stats.hit_rate(), 0.6);
    tokio::time::sleep(seconds(2)).await;
    assert_eq!(counted::stats().loads, 3, "one of them behind a stale answer");
    let health = counted::health(&db).await.expect("a report");
    assert!(health.is_healthy() && health.function.ends_with("::counted"), "{}", health.function);
    counted::reset_stats();
    assert_eq!(counted::stats(), tideover::FunctionStats::default());
}

#[tokio::test(start_paused = true)]
async fn values_that_cannot_be_cloned_are_shared() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Large(u64);

    #[cached(key = "large:{id}", cache = db.cache)]
    async fn large(db: &Db, id: u64) -> Result<Arc<Large>, DbError> {
        Ok(Arc::new(Large(db.user(id).await?.id)))
    }

    #[cached(key = "plain:{id}", cache = db.cache)]
    async fn plain(db: &Db, id: u64) -> Arc<Large> {
        let _ = db.user(id).await;
        Arc::new(Large(id))
    }
    let db = Db::new();
    let (one, other) = (large(&db, 7).await.expect("a value"), large(&db, 7).await.expect("a value"));
    assert_eq!((one.0, other.0, db.asked()), (7, 7, 1));
    assert!(Arc::ptr_eq(&other, &large(&db, 7).await.expect("a value")));
    assert_eq!((plain(&db, 8).await.0, plain(&db, 8).await.0, db.asked()), (8, 8, 2));
}

#[tokio::test(start_paused = true)]
async fn a_function_that_cannot_fail_runs_by_itself_when_the_cache_cannot_answer() {
    #[cached(key = "number:{id}", cache = db.cache)]
    async fn number(db: &Db, id: u64) -> usize {
        let _ = db.user(id).await;
        db.asked()
    }
    let db = Db::new();
    assert_eq!((number(&db, 7).await, number(&db, 7).await), (1, 1));
    db.cache.shutdown().await;
    assert_eq!((number(&db, 7).await, number(&db, 7).await), (2, 3));
    assert_eq!((number::stats().hits, number::stats().uncached), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn an_absence_is_a_value_or_remembered_for_its_own_time() {
    #[cached(key = "kept:{id}", cache = db.cache)]
    async fn kept(db: &Db, id: u64) -> Option<User> {
        db.user(id).await.ok()
    }

    #[cached(key = "absent:{id}", cache = db.cache, negative_ttl = "2s")]
    async fn absent(db: &Db, id: u64) -> Option<User> {
        db.user(id).await.ok()
    }

    #[cached(key = "maybe:{id}", cache = db.cache, negative_ttl = "2s")]
    async fn maybe(db: &Db, id: u64) -> Result<Option<Arc<User>>, DbError> {
        match db.user(id).await {
            Err(DbError::NoSuchUser) => Ok(None),
            user => user.map(|user| Some(Arc::new(user))),
        }
    }
    let db = Db::new();
    assert_eq!((kept(&db, 0).await, kept(&db, 0).await, db.asked()), (None, None, 1));
    assert_eq!((absent(&db, 0).await, absent(&db, 0).await, db.asked()), (None, None, 2));
    assert_eq!((maybe(&db, 0).await, maybe(&db, 0).await, db.asked()), (Ok(None), Ok(None), 3));
    advance(seconds(2)).await;
    assert_eq!((kept(&db, 0).await, db.asked()), (None, 3));
    assert_eq!((absent(&db, 0).await, db.asked()), (None, 4));
    assert_eq!((maybe(&db, 0).await, db.asked()), (Ok(None), 5));
    assert_eq!(absent(&db, 7).await.map(|user| user.id), Some(7));
    assert_eq!(maybe(&db, 7).await.map(|user| user.map(|user| user.id)), Ok(Some(7)));
    assert!(maybe::fetch(&db, 0).await.expect("an answer").is_none());
}

#[tokio::test(start_paused = true)]
async fn an_absence_is_forgotten_with_its_tags() {
    #[cached(key = "user:{id}", cache = db.cache, negative_ttl = "1h", tags = ["users", "user:{id}", "read:{result.read}"])]
    async fn user(db: &Db, id: u64) -> Option<User> {
        db.user(id).await.ok()
    }
    let db = Db::new();
    assert_eq!((user(&db, 0).await, user(&db, 0).await, db.asked()), (None, None, 1));
    for (tag, asked) in [("user:1", 1), ("users", 2), ("user:0", 3)] {
        db.cache.invalidate_tag(tag).await.expect("an invalidation");
        assert_eq!((user(&db, 0).await, db.asked()), (None, asked), "{tag}");
    }
}

/// Functions and what stands beside them are where any function can be.
mod inner {
    pub(crate) mod deeper {
        use tideover::cached;

        use crate::database::Db;

        #[cached(key = "deep:{id}", cache = db.cache)]
        pub(crate) async fn deep(db: &Db, id: u64) -> u64 {
            let _ = db.user(id).await;
            super::doubled(id)
        }
    }

    fn doubled(id: u64) -> u64 {
        id * 2
    }
}

#[tokio::test(start_paused = true)]
async fn functions_of_nested_modules_are_used_from_outside() {
    use inner::deeper::deep;
    let db = Db::new();
    assert_eq!((deep(&db, 7).await, deep(&db, 7).await, db.asked()), (14, 14, 1));
    deep::invalidate(&db, 7).await.expect("it is removed");
    assert_eq!((deep(&db, 7).await, db.asked()), (14, 2));
}

#[tokio::test]
async fn the_cache_of_the_process_outlives_the_runtimes_that_use_it() {
    use std::sync::atomic::{AtomicUsize, Ordering};

    static LOADS: AtomicUsize = AtomicUsize::new(0);

    #[cached]
    async fn shared(id: u64) -> u64 {
        LOADS.fetch_add(1, Ordering::Relaxed);
        id
    }
    let in_a_runtime_of_its_own = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(shared(7))
    };
    for _ in 0..3 {
        assert_eq!(std::thread::spawn(in_a_runtime_of_its_own).join().expect("a number"), 7);
    }
    assert_eq!((shared(7).await, LOADS.load(Ordering::Relaxed)), (7, 1));
    assert!(shared::health().await.expect("a report").is_healthy());
}
