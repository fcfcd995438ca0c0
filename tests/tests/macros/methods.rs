//! Cached methods, and functions that belong to types.

use std::marker::PhantomData;
use std::sync::Arc;

use tideover::{Cache, cached};

use crate::database::{Db, DbError, User};

#[derive(Clone)]
struct Users {
    db: Db,
    tenant: &'static str,
}

impl Users {
    fn of(db: &Db, tenant: &'static str) -> Self {
        Self { db: db.clone(), tenant }
    }

    /// A user of the tenant.
    #[cached(key = "{self.tenant}:user:{id}", cache = self.db.cache, tags = ["tenant:{self.tenant}"])]
    async fn user(&self, id: u64) -> Result<User, DbError> {
        self.db.user(id).await
    }

    #[cached(key = "shared:{self.tenant}:{name}", cache = &self.db.cache)]
    async fn named(self: Arc<Self>, name: &str) -> Arc<String> {
        let _ = self.db.user(1).await;
        Arc::new(format!("{name} of {}", self.tenant))
    }

    #[cached(cache = db.cache, skip = [db], associated)]
    async fn anybody(db: &Db, id: u64) -> Result<User, DbError> {
        db.user(id).await
    }

    #[cached(key = "own:{self.tenant}", cache = self.db.cache)]
    async fn into_tenant(self) -> String {
        self.tenant.to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn a_method_finds_its_cache_and_parts_of_its_key_in_self() {
    let db = Db::new();
    let (one, other) = (Users::of(&db, "one"), Users::of(&db, "other"));
    for _ in 0..3 {
        assert_eq!(one.user(7).await.map(|user| user.read), Ok(1));
        assert_eq!(other.user(7).await.map(|user| user.read), Ok(2));
    }
    assert_eq!((one.key_user(7), one.tags_user(7)), ("one:user:7".to_owned(), vec!["tenant:one".to_owned()]));
    db.cache.invalidate_tag("tenant:one").await.expect("invalidated");
    assert_eq!((one.user(7).await.map(|user| user.read), other.user(7).await.map(|user| user.read)), (Ok(3), Ok(2)));
}

#[tokio::test(start_paused = true)]
async fn beside_a_method_stand_the_same_as_beside_a_function() {
    let users = Users::of(&Db::new(), "beside");
    users.user(7).await.expect("a user");
    assert!(users.peek_user(7).await.expect("an answer").is_some());
    users.invalidate_user(7).await.expect("it is removed");
    assert_eq!(users.fetch_user(7).await.expect("a user").value.read, 2);
    assert_eq!(users.refresh_user(7).await.map(|user| user.read), Ok(3));
    assert_eq!(users.uncached_user(7).await.map(|user| user.read), Ok(4));
    assert!(users.health_user().await.expect("a report").is_healthy());
    assert!(Users::stats_user().loads >= 3);
    Users::reset_stats_user();
}

#[derive(Clone)]
struct Orders<T> {
    db: Db,
    kind: PhantomData<T>,
}

impl<T: Clone + Send + Sync + 'static> Orders<T> {
    /// As another type of this module has it.
    #[cached(key = "order:{id}", cache = self.db.cache)]
    async fn user(&self, id: u64) -> Result<User, DbError> {
        if id == 0 { self.db.user(id).await } else { Err(DbError::Away) }
    }
}

#[tokio::test(start_paused = true)]
async fn methods_of_the_same_name_have_circuits_of_their_own() {
    let db = Db::new();
    let (orders, users) = (Orders::<u8> { db: db.clone(), kind: PhantomData }, Users::of(&db, "circuits"));
    for id in 1..=5 {
        assert_eq!(orders.user(id).await, Err(DbError::Away));
    }
    let health = orders.health_user().await.expect("a report");
    assert!(!health.is_healthy() && health.function.ends_with("methods::Orders::user"), "{}", health.function);
    assert_eq!(users.user(7).await.map(|user| user.id), Ok(7));
    let health = users.health_user().await.expect("a report");
    assert!(health.is_healthy() && health.function.ends_with("methods::Users::user"), "{}", health.function);
}

#[tokio::test(start_paused = true)]
async fn self_may_be_shared_or_given_away() {
    let db = Db::new();
    let users = Arc::new(Users::of(&db, "shared"));
    for _ in 0..2 {
        assert_eq!(*Arc::clone(&users).named("Ada").await, "Ada of shared");
    }
    assert_eq!(db.asked(), 1);
    assert_eq!(Users::clone(&users).into_tenant().await, "shared");
}

#[tokio::test(start_paused = true)]
async fn functions_without_self_belong_to_their_type() {
    let db = Db::new();
    assert_eq!(Users::anybody(&db, 7).await.map(|user| user.read), Ok(1));
    assert_eq!(Users::anybody(&db, 7).await.map(|user| user.read), Ok(1));
    assert!(Users::key_anybody(&db, 7).contains("Users"));
}

/// A repository for rows of any type.
#[derive(Clone)]
struct Rows<T> {
    cache: Cache,
    of: PhantomData<T>,
}

impl<T: Clone + Send + Sync + 'static> Rows<T> {
    #[cached(cache = self.cache)]
    async fn name(&self, id: u64) -> String {
        format!("{}:{id}", std::any::type_name::<T>())
    }
}

#[tokio::test(start_paused = true)]
async fn methods_of_generic_types_are_cached_for_each_type() {
    let cache = Db::new().cache;
    let (numbers, texts) =
        (Rows::<u8> { cache: cache.clone(), of: PhantomData }, Rows::<String> { cache, of: PhantomData });
    assert_eq!(numbers.name(1).await, "u8:1");
    assert_eq!(texts.name(1).await, "alloc::string::String:1");
    assert_eq!(numbers.name(1).await, "u8:1");
}
