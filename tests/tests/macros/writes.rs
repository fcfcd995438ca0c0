//! Writes that invalidate what they outdate, and load it anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tideover::{Stale, cached, invalidates};
use tideover_tests::driving::seconds;
use tokio::time::{Instant, sleep};

use crate::database::{Db, DbError, User};

#[cached(key = "user:{id}", cache = db.cache, tags = ["user:{id}", "org:{result.org}"], stale_while_revalidate = "1h")]
async fn user(db: &Db, id: u64) -> Result<User, DbError> {
    db.user(id).await
}

#[cached(key = "profile:{id}", cache = db.cache)]
async fn profile(db: &Db, id: u64) -> Result<Arc<User>, DbError> {
    db.user(id).await.map(Arc::new)
}

/// How often the database was asked when what is cached was read.
async fn read(db: &Db, id: u64) -> usize {
    user(db, id).await.expect("a user").read
}

#[invalidates(tags = ["user:{id}"], cache = db.cache)]
async fn rename(db: &Db, id: u64, name: String) -> Result<String, DbError> {
    if name.is_empty() {
        return Err(DbError::Away);
    }
    Ok(name)
}

#[tokio::test(start_paused = true)]
async fn a_write_that_succeeded_invalidates_and_one_that_failed_does_not() {
    let db = Db::new();
    assert_eq!(read(&db, 7).await, 1);
    assert_eq!(rename(&db, 7, String::new()).await, Err(DbError::Away));
    assert_eq!(read(&db, 7).await, 1);
    assert_eq!(rename(&db, 7, "Ada".into()).await, Ok("Ada".into()));
    assert_eq!(read(&db, 7).await, 2);
}

#[tokio::test(start_paused = true)]
async fn names_are_keys_or_depend_on_what_was_written() {
    #[invalidates(keys = ["user:{id}"], cache = db.cache)]
    async fn by_key(db: &Db, id: u64) {
        let _ = (db, id);
    }

    #[invalidates(tags = ["org:{result.org}", format!("user:{}", result.id)], cache = db.cache)]
    async fn by_result(db: &Db, mut user: User) -> Result<User, DbError> {
        let _ = db;
        user.org = 0;
        Ok(user)
    }

    #[invalidates(tags = ["{kind}:{result.org}"], cache = db.cache)]
    async fn by_both(db: &Db, kind: String) -> User {
        let _ = (db, kind);
        User { id: 7, org: 0, read: 0 }
    }
    let db = Db::new();
    assert_eq!(read(&db, 7).await, 1);
    by_key(&db, 7).await;
    assert_eq!(read(&db, 7).await, 2);
    by_result(&db, User { id: 9, org: 1, read: 0 }).await.expect("written");
    assert_eq!(read(&db, 7).await, 3);
    by_both(&db, "org".into()).await;
    assert_eq!(read(&db, 7).await, 4);
}

#[tokio::test(start_paused = true)]
async fn a_pattern_reaches_the_keys_that_begin_with_the_same_values() {
    #[cached(key = "page:{name}:{number}", cache = db.cache)]
    async fn page(db: &Db, name: &str, number: u64) -> Result<User, DbError> {
        let _ = name;
        db.user(number).await
    }

    #[invalidates(matching = "page:{name}:*", cache = db.cache)]
    async fn rewrite(db: &Db, name: &str) -> Result<(), DbError> {
        let _ = (db, name);
        Ok(())
    }
    let db = Db::new();
    for (written, others) in [("7", "70"), ("*", "7"), ("a", "a:b"), (r"\", r"\\")] {
        for (name, number) in [(written, 1), (written, 2), (others, 1)] {
            page(&db, name, number).await.expect("a page");
        }
        rewrite(&db, written).await.expect("written");
        for (name, number, there) in [(written, 1, false), (written, 2, false), (others, 1, true)] {
            let found = page::peek(&db, name, number).await.expect("an answer");
            assert_eq!(found.is_some(), there, "{name}, page {number}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn patterns_are_several_and_may_depend_on_what_was_written() {
    #[invalidates(matching = ["pro*:{result.id}", "user:{id}"], cache = db.cache)]
    async fn update(db: &Db, id: u64) -> Result<User, DbError> {
        let _ = (db, id);
        Ok(User { id: 9, org: 0, read: 0 })
    }
    let db = Db::new();
    for id in [7, 8, 9, 70] {
        user(&db, id).await.expect("a user");
        profile(&db, id).await.expect("a profile");
    }
    update(&db, 7).await.expect("written");
    let (mut users, mut profiles) = (Vec::new(), Vec::new());
    for id in [7, 8, 9, 70] {
        users.push(user::peek(&db, id).await.expect("an answer").is_some());
        profiles.push(profile::peek(&db, id).await.expect("an answer").is_some());
    }
    assert_eq!((users, profiles), (vec![false, true, true, true], vec![true, true, false, true]));
}

#[tokio::test(start_paused = true)]
async fn names_are_computed_by_a_function_of_all_arguments() {
    fn tags_of(_db: &Db, id: &u64, _name: &str) -> [String; 1] {
        [format!("user:{id}")]
    }

    #[invalidates(tags = tags_of, cache = db.cache)]
    async fn rename(db: &Db, id: u64, name: &str) -> Option<()> {
        let _ = (db, id, name);
        None
    }
    let db = Db::new();
    assert_eq!(read(&db, 7).await, 1);
    rename(&db, 7, "Ada").await;
    assert_eq!(read(&db, 7).await, 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_expired_is_served_stale_while_it_is_read_anew() {
    #[invalidates(tags = ["user:{id}"], how = "expire", cache = db.cache)]
    async fn touch(db: &Db, id: u64) {
        let _ = (db, id);
    }
    let db = Db::new();
    assert_eq!(read(&db, 7).await, 1);
    touch(&db, 7).await;
    assert_eq!(user::fetch(&db, 7).await.expect("a user").stale, Some(Stale::WhileRevalidate));
    sleep(seconds(2)).await;
    assert_eq!(read(&db, 7).await, 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_write_outdated_is_loaded_anew_behind_it() {
    #[invalidates(tags = ["user:{id}"], keys = ["profile:{id}"], cache = db.cache, recache = [user(db, id), profile(db = db, id = id)])]
    async fn update(db: &Db, id: u64) -> Result<(), DbError> {
        let _ = (db, id);
        Ok(())
    }
    let db = Db::new();
    assert_eq!(read(&db, 7).await, 1);
    let began = Instant::now();
    update(&db, 7).await.expect("written");
    assert!(began.elapsed() < seconds(1), "nobody waited for it");
    sleep(seconds(2)).await;
    assert_eq!(db.asked(), 3);
    let (user, profile) = (user::peek(&db, 7).await, profile::peek(&db, 7).await);
    assert!(user.expect("an answer").is_some() && profile.expect("an answer").is_some());
}

#[tokio::test(start_paused = true)]
async fn so_many_warmers_run_at_once_and_one_that_fails_stops_no_other() {
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);

    #[cached(key = "part:{id}", cache = db.cache)]
    async fn part(db: &Db, id: u64) -> Result<u64, DbError> {
        MOST.fetch_max(RUNNING.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let user = db.user(id).await;
        RUNNING.fetch_sub(1, Ordering::SeqCst);
        assert!(id != 3, "a warmer may panic");
        Ok(user?.id)
    }

    #[invalidates(
        cache = db.cache,
        recache = [part(db, 0), part(db, first), part(db, first + 1), part(db, 3), part(db, result.id), part(db, 5)],
        recache_max = 2,
        recache_wait = true,
    )]
    async fn update(db: &Db, first: u64) -> Result<User, DbError> {
        let _ = db;
        Ok(User { id: first + 3, org: 0, read: 0 })
    }
    let db = Db::new();
    update(&db, 1).await.expect("written");
    assert_eq!((db.asked(), MOST.load(Ordering::SeqCst)), (6, 2));
    let mut warm = Vec::new();
    for id in 0..6 {
        warm.push(part::peek(&db, id).await.expect("an answer").is_some());
    }
    assert_eq!(warm, [false, true, true, false, true, true]);
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_cannot_be_reached_does_not_fail_the_write() {
    let db = Db::new();
    db.cache.shutdown().await;
    assert_eq!(rename(&db, 7, "Ada".into()).await, Ok("Ada".into()));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_after_the_write_cancels_no_invalidation() {
    use tideover::testing::{ScriptedStore, Weather};
    use tideover::{Cache, EngineKind};
    use tideover_tests::driving::exact;

    #[invalidates(keys = ["one", "other"], cache = cache)]
    async fn write(cache: &Cache) {
        let _ = cache;
    }
    let store = ScriptedStore::default();
    let cache = exact(EngineKind::Native, &[]).store(store.clone()).build().expect("a cache");
    for key in ["one", "other"] {
        cache.put(key, "old", None).await.expect("it is kept");
    }
    store.set(Weather::Slow(seconds(1) / 2));
    assert!(tokio::time::timeout(seconds(1) / 10, write(&cache)).await.is_err(), "it had to wait");
    sleep(seconds(1)).await;
    store.set(Weather::Fair);
    let other_process = exact(EngineKind::Native, &[]).store(store).build().expect("a cache");
    for key in ["one", "other"] {
        assert!(other_process.get(key).await.expect("an answer").is_none(), "{key}");
    }
}

/// A program may poll with whatever it likes.
#[test]
fn a_transaction_collects_without_a_runtime_too() {
    use futures_util::FutureExt;
    use tideover::writes::transaction;

    #[invalidates(keys = ["k"], cache = cache)]
    async fn write(cache: &tideover::Cache) {
        let _ = cache;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let cache = runtime.block_on(async { tideover::Cache::builder().build().expect("a cache") });
    runtime.block_on(cache.put("k", "v", None)).expect("it is kept");
    let undone = transaction(async {
        write(&cache).await;
        Err::<(), _>("rolled back")
    });
    assert!(undone.now_or_never().expect("it waits for nothing").is_err());
    assert!(runtime.block_on(cache.get("k")).expect("an answer").is_some(), "nothing of it happened");
}

#[derive(Clone)]
struct Users {
    db: Db,
}

impl Users {
    #[cached(key = "method:{id}", cache = self.db.cache)]
    async fn user(&self, id: u64) -> Result<User, DbError> {
        self.db.user(id).await
    }

    #[invalidates(keys = ["method:{id}"], cache = self.db.cache, recache = [self.user(id)], recache_wait = true)]
    async fn rename(&self, id: u64, name: &str) -> Result<usize, DbError> {
        Ok(name.len())
    }

    #[invalidates(keys = ["method:{id}"], cache = self.db.cache)]
    async fn change(&mut self, id: u64) -> Result<(), DbError> {
        self.db = self.db.clone();
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn methods_write_too() {
    let mut users = Users { db: Db::new() };
    assert_eq!(users.user(7).await.map(|user| user.read), Ok(1));
    assert_eq!(users.rename(7, "Ada").await, Ok(3));
    assert_eq!(users.peek_user(7).await.expect("an answer").expect("a user").value.read, 2);
    users.change(7).await.expect("written");
    assert_eq!(users.user(7).await.map(|user| user.read), Ok(3));
}

/// An alias under which a result is not seen by its name.
type Outcome<T> = Result<T, DbError>;

#[tokio::test(start_paused = true)]
async fn a_failure_under_another_name_is_one() {
    #[invalidates(tags = ["user:{id}"], cache = db.cache)]
    async fn fails(db: &Db, id: u64) -> Outcome<u64> {
        let _ = (db, id);
        Err(DbError::Away)
    }
    let db = Db::new();
    assert_eq!(read(&db, 7).await, 1);
    fails(&db, 7).await.expect_err("it fails");
    assert_eq!(read(&db, 7).await, 1);
}

#[test]
fn writes_without_async_invalidate_before_they_return() {
    static VERSION: AtomicUsize = AtomicUsize::new(1);

    #[cached(key = "version:{name}")]
    fn version(name: &str) -> usize {
        let _ = name;
        VERSION.load(Ordering::SeqCst)
    }

    #[invalidates(keys = ["version:{name}"], recache = [version(name)], recache_wait = true)]
    fn raise(name: &str, fail: bool) -> Result<usize, String> {
        if fail {
            Err("no")?;
        }
        Ok(VERSION.fetch_add(1, Ordering::SeqCst))
    }
    assert_eq!(version("it"), 1);
    raise("it", true).expect_err("it fails");
    raise("it", false).expect("written");
    assert_eq!(version::peek("it").expect("an answer").map(|fetched| *fetched.value), Some(2), "it was loaded anew");
    assert_eq!(version("it"), 2);
}
