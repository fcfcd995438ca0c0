//! An axum service before a slow database, with Redis behind its memory: typed reads, a write that invalidates, health,
//! metrics for Prometheus, and a stop that drains.
//!
//! ```sh
//! CACHE_URL=redis://127.0.0.1:6379 cargo run -p tideover-examples --example axum_service
//! curl -i localhost:3000/users/7; curl -X PUT localhost:3000/users/7 -d 'Lovelace'; curl localhost:3000/users/7
//! curl localhost:3000/health; curl localhost:3000/metrics
//! ```
//!
//! Without `CACHE_URL` memory is all there is. Kill and freeze the Redis while `wrk` asks: nobody sees an error.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tideover::web::axum::Lifecycle;
use tideover::{Cache, CallError, Class, Invalidate, Typed};
use tokio::net::TcpListener;

#[derive(Clone, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
}

/// What stands for a database: each query takes its time.
#[derive(Clone, Default)]
struct Database(Arc<Mutex<HashMap<u64, String>>>);

#[derive(Debug)]
struct NoSuchUser;

impl Database {
    const QUERY: Duration = Duration::from_millis(200);

    async fn user(&self, id: u64) -> Result<User, NoSuchUser> {
        tokio::time::sleep(Self::QUERY).await;
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = names.get(&id).cloned().or_else(|| (id < 1_000).then(|| format!("user {id}")));
        name.map(|name| User { id, name }).ok_or(NoSuchUser)
    }

    async fn rename(&self, id: u64, name: String) {
        tokio::time::sleep(Self::QUERY).await;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, name);
    }
}

#[derive(Clone)]
struct Service {
    users: Typed<User>,
    database: Database,
}

async fn user(State(service): State<Service>, Path(id): Path<u64>) -> Response {
    let database = service.database.clone();
    let load = move |_| {
        let database = database.clone();
        async move { database.user(id).await }
    };
    match service.users.get_or_load(&format!("user:{id}"), load).await {
        Ok(user) => {
            let said = format!("{:?}, age {:?}, stale: {}", user.source, user.age, user.is_stale());
            ([("x-from", said)], Json(User::clone(&user.value))).into_response()
        }
        Err(CallError::Loader(_no_such_user)) => StatusCode::NOT_FOUND.into_response(),
        Err(CallError::Cache(error)) => error.into_response(),
    }
}

async fn rename(State(service): State<Service>, Path(id): Path<u64>, name: String) -> StatusCode {
    service.database.rename(id, name).await;
    service.users.cache().invalidate(Invalidate::new().key(format!("user:{id}"))).await;
    StatusCode::NO_CONTENT
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_env_filter("tideover=info").init();
    // Installed before the cache is made, so that nothing is missed.
    let prometheus = metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder()?;

    let cache = Cache::from_env()?;
    let users = cache.typed::<User>().loader("users").classify(|_: &NoSuchUser| Class::Answer);
    let lifecycle = Lifecycle::of(&cache);
    let metrics = get({
        let cache = cache.clone();
        move || async move {
            // They are brought up to date twice a second; a look is worth the present state.
            let _the_engine_was_just_replaced = cache.update_metrics().await;
            prometheus.render()
        }
    });
    let app = Router::new()
        .route("/users/{id}", get(user).put(rename))
        .with_state(Service { users, database: Database::default() })
        .route("/health", lifecycle.health_route())
        .route("/metrics", metrics);

    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    let stop = async { _ = tokio::signal::ctrl_c().await };
    lifecycle.serve(stop, |stop| axum::serve(listener, app).with_graceful_shutdown(stop)).await?;
    Ok(())
}
