//! The options of `#[cached]`.

use std::sync::Arc;
use std::time::Duration;

use tideover::testing::{ScriptedStore, Weather};
use tideover::{Cache, CallError, Class, EngineKind, Error, LoadError, Stale, blocking, cached};
use tideover_tests::driving::{about, exact, millis, seconds};
use tokio::time::{Instant, advance};

use crate::database::{Db, DbError, User};

#[tokio::test(start_paused = true)]
async fn a_ttl_is_a_text_a_number_a_bucket_or_an_expression() {
    const LONG: Duration = Duration::from_secs(90);

    macro_rules! with_ttl {
        ($($name:ident = $ttl:expr,)+) => {
            $(#[allow(dead_code)]
            #[cached(key = "ttl:{name}", cache = db.cache, ttl = $ttl)]
            async fn $name(db: &Db, name: &str) -> Result<usize, DbError> {
                Ok(db.user(1).await?.read + name.len())
            })+
        };
    }
    with_ttl! {
        text = "1m30s",
        number = 90,
        constant = LONG,
        short = "short",
        long = "long",
        ever = "0",
    }

    #[cached(key = "ttl:{times}", cache = db.cache, ttl = LONG * *times)]
    async fn computed(db: &Db, times: u32) -> Result<u64, DbError> {
        Ok(db.user(1).await?.id + u64::from(times))
    }
    let db = Db::new();
    assert_eq!(text::fetch(&db, "text").await.expect("a value").ttl, Some(seconds(90)));
    assert_eq!(number::fetch(&db, "number").await.expect("a value").ttl, Some(seconds(90)));
    assert_eq!(constant::fetch(&db, "constant").await.expect("a value").ttl, Some(seconds(90)));
    assert_eq!(computed::fetch(&db, 2).await.expect("a value").ttl, Some(seconds(180)));
    assert_eq!(short::fetch(&db, "short").await.expect("a value").ttl, Some(seconds(30)));
    assert_eq!(long::fetch(&db, "long").await.expect("a value").ttl, Some(seconds(3_600)));
    assert_eq!(ever::fetch(&db, "ever").await.expect("a value").ttl, None);
}

#[cached(
    key = "windows:{id}",
    cache = db.cache,
    ttl = "10s",
    stale_while_revalidate = "5s",
    stale_if_error = "1h",
    unavailable_if = |error| *error == DbError::Away,
)]
async fn windowed(db: &Db, id: u64) -> Result<User, DbError> {
    db.user(id).await
}

#[tokio::test(start_paused = true)]
async fn stale_is_served_inside_its_windows_and_never_masks_an_answer() {
    let db = Db::new();
    windowed(&db, 7).await.expect("a user");
    advance(seconds(12)).await;
    let stale = windowed::fetch(&db, 7).await.expect("a user");
    assert_eq!((stale.stale, stale.value.read), (Some(Stale::WhileRevalidate), 1));
    tokio::time::sleep(seconds(2)).await;
    assert_eq!(windowed(&db, 7).await.map(|user| user.read), Ok(2), "it was refreshed behind");

    advance(seconds(60)).await;
    db.go_away(true);
    let stale = windowed::fetch(&db, 7).await.expect("a user");
    assert_eq!((stale.stale, stale.value.read), (Some(Stale::IfError), 2));
    assert!(matches!(windowed::fetch(&db, 8).await, Err(CallError::Loader(error)) if *error == DbError::Away));
}

#[tokio::test(start_paused = true)]
async fn a_class_says_the_same_in_more_words() {
    fn class(error: &DbError) -> Class {
        if *error == DbError::NoSuchUser { Class::Unavailable } else { Class::Answer }
    }

    #[cached(key = "class:{id}", cache = db.cache, ttl = "10s", stale_if_error = "1h", class = class)]
    async fn classified(db: &Db, id: u64) -> Result<User, DbError> {
        db.user(id).await
    }
    let db = Db::new();
    classified(&db, 7).await.expect("a user");
    advance(seconds(60)).await;
    db.go_away(true);
    assert_eq!(classified(&db, 7).await, Err(DbError::Away), "it is an answer, which nothing stale masks");
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_cache_is_what_it_says_it_is() {
    fn own(error: CallError<LoadError>) -> LoadError {
        error.loader().cloned().unwrap_or_else(|| LoadError::unavailable("the cache has no answer"))
    }

    #[cached(key = "own:{id}", cache = db.cache, ttl = "10s", stale_if_error = "1h", map_err = own)]
    async fn found(db: &Db, id: u64) -> Result<User, LoadError> {
        db.user(id).await.map_err(|error| match error {
            DbError::Away => LoadError::answer("the database has moved").with_detail("page".into()),
            _ => LoadError::unavailable("nobody"),
        })
    }

    #[cached(key = "outer:{id}", cache = db.cache, ttl = "10s", stale_if_error = "1h")]
    async fn outer(db: &Db, id: u64) -> Result<User, Error> {
        db.user(id).await.map_err(|_| Error::Load(Arc::new(LoadError::answer("the database has moved"))))
    }
    let db = Db::new();
    found(&db, 7).await.expect("a user");
    outer(&db, 7).await.expect("a user");
    advance(seconds(60)).await;
    db.go_away(true);
    let error = found(&db, 7).await.expect_err("it is an answer, which nothing stale masks");
    assert_eq!((error.class(), error.detail().as_ref()), (Class::Answer, &b"page"[..]));
    assert!(!outer(&db, 7).await.expect_err("it is an answer, too").is_unavailable());
}

#[tokio::test(start_paused = true)]
async fn an_origin_is_asked_again_when_its_error_says() {
    #[cached(
        key = "busy:{id}",
        cache = db.cache,
        class = |_: &DbError| Class::Unavailable,
        retry_after = |error: &DbError| (*error == DbError::NoSuchUser).then(|| seconds(3)),
    )]
    async fn patient(db: &Db, id: u64) -> Result<User, DbError> {
        db.user(id).await
    }
    let db = Db::with(&[("load_attempts", "2")]);
    let began = Instant::now();
    assert_eq!(patient(&db, 0).await, Err(DbError::NoSuchUser));
    assert_eq!(db.asked(), 2);
    assert!(about(began, seconds(5)), "two seconds for two questions and three between them: {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_to_be_stored_is_for_those_who_wait() {
    #[cached(key = "even:{id}", cache = db.cache, store_if = |user: &User| user.read % 2 == 0)]
    async fn even(db: &Db, id: u64) -> Result<User, DbError> {
        db.user(id).await
    }
    let db = Db::new();
    let (one, other) = tokio::join!(even(&db, 7), even(&db, 7));
    assert_eq!((one.map(|user| user.read), other.map(|user| user.read)), (Ok(1), Ok(1)));
    let mut read = Vec::new();
    for _ in 0..3 {
        read.push(even(&db, 7).await.expect("a user").read);
    }
    assert_eq!(read, [2, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn tags_are_said_by_a_function_or_an_expression() {
    fn tags_of(_db: &Db, id: &u64) -> Vec<String> {
        vec![format!("said:{id}"), "said".to_owned()]
    }

    #[cached(key = "said:{id}", cache = db.cache, tags = tags_of)]
    async fn said(db: &Db, id: u64) -> Result<User, DbError> {
        db.user(id).await
    }

    #[cached(key = "computed:{id}", cache = db.cache, tags = [format!("half:{}", id / 2), "org:{result.org}"])]
    async fn computed(db: &Db, id: u64) -> Result<User, DbError> {
        db.user(id).await
    }
    let db = Db::new();
    assert_eq!((said::tags(&db, 7).concat(), computed::tags(&db, 7).concat()), ("said:7said".into(), "half:3".into()));
    for (tag, read) in [("said:7", 3), ("half:3", 4), ("org:0", 6)] {
        said(&db, 7).await.expect("a user");
        computed(&db, 7).await.expect("a user");
        assert!(db.asked() <= read, "{tag}");
        db.cache.invalidate_tag(tag).await.expect("invalidated");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_has_an_age_that_it_accepts_and_an_end_to_its_patience() {
    #[cached(key = "age:{id}", cache = db.cache, ttl = "1h", max_age = "5s")]
    async fn recent(db: &Db, id: u64) -> Result<User, DbError> {
        db.user(id).await
    }

    #[cached(key = "patience:{id}", cache = db.cache, timeout = "200ms")]
    async fn hurried(db: &Db, id: u64) -> Result<User, DbError> {
        db.user(id).await
    }
    let db = Db::new();
    recent(&db, 7).await.expect("a user");
    advance(seconds(4)).await;
    assert_eq!(recent(&db, 7).await.map(|user| user.read), Ok(1));
    advance(seconds(2)).await;
    assert_eq!(recent(&db, 7).await.map(|user| user.read), Ok(2));

    let began = Instant::now();
    assert!(matches!(hurried(&db, 7).await, Err(DbError::Cache(_))));
    assert!(about(began, millis(200)), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_function_may_require_the_store() {
    #[cached(key = "tolerant:{id}", cache = _cache)]
    async fn tolerant(_cache: &Cache, id: u64) -> Result<u64, Error> {
        Ok(id)
    }

    #[cached(key = "strict:{id}", cache = _cache, require_store)]
    async fn strict(_cache: &Cache, id: u64) -> Result<u64, Error> {
        Ok(id)
    }

    #[cached(key = "not:{id}", cache = _cache, require_store = false)]
    async fn not_strict(_cache: &Cache, id: u64) -> u64 {
        id
    }
    let store = ScriptedStore::default();
    let cache = exact(EngineKind::Native, &[]).store(store.clone()).build().expect("a cache");
    assert_eq!(strict(&cache, 7).await.expect("the store answers"), 7);
    store.set(Weather::Away);
    assert_eq!(strict(&cache, 7).await.expect("memory has it"), 7);
    assert_eq!((tolerant(&cache, 8).await.expect("tolerated"), not_strict(&cache, 8).await), (8, 8));
    assert!(strict(&cache, 8).await.is_err_and(|error| error.is_store()));
    assert!(strict::refresh(&cache, 7).await.is_err_and(|error| error.is_store()));
}

#[test]
fn a_function_without_async_may_require_the_store_too() {
    #[cached(key = "strict:{id}", cache = _cache, require_store)]
    fn strict(_cache: &blocking::Cache, id: u64) -> Result<u64, Error> {
        Ok(id)
    }
    let store = ScriptedStore::default();
    let cache = exact(EngineKind::Native, &[]).store(store.clone()).build_blocking().expect("a cache");
    assert_eq!(strict(&cache, 7).expect("the store answers"), 7);
    store.set(Weather::Away);
    assert!(strict(&cache, 8).is_err_and(|error| error.is_store()));
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_no_home_for_the_caches_is_made_by_a_function() {
    #[derive(Debug)]
    struct Opaque(String);

    fn opaque(error: CallError<Opaque>) -> Opaque {
        match error {
            CallError::Loader(own) => Opaque(format!("own: {}", own.0)),
            CallError::Cache(error) => Opaque(error.to_string()),
        }
    }

    #[cached(key = "opaque:{id}", cache = db.cache, map_err = opaque)]
    async fn fails(db: &Db, id: u64) -> Result<u64, Opaque> {
        db.user(id).await.map(|user| user.id).map_err(|error| Opaque(format!("{error:?}")))
    }
    let db = Db::new();
    assert_eq!(fails(&db, 0).await.expect_err("nobody").0, "own: NoSuchUser");
    assert_eq!(fails(&db, 7).await.expect("a user"), 7);
}

/// The body below is what the attribute makes of it: items that come first stay first.
#[deny(clippy::items_after_statements)]
mod of_a_part {
    use super::*;

    #[derive(Clone)]
    pub(super) struct State {
        pub(super) cache: Cache,
    }

    #[cached(key = "part:{id}", cache = cache)]
    pub(super) async fn counted(State { cache }: &State, id: u64) -> u64 {
        const ONE: u64 = 1;
        id + ONE
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_of_an_argument_is_the_cache() {
    use of_a_part::{State, counted};

    let state = State { cache: exact(EngineKind::Native, &[]).build().expect("a cache") };
    assert_eq!([counted(&state, 1).await, counted(&state, 1).await], [2, 2]);
    let health = counted::health(&state).await.expect("its cache answers");
    assert_eq!(health.stats.hits, 1);
}
