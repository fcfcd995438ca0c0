//! `tideover serve`.

use tideover::gateway::{GatewayConfig, OriginUrl, serve};
use tideover::store::{RedisConfig, RedisStore};
use tideover::{Builder, Cache, Error};
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use super::args::{ServeArgs, ServeOptions};

pub(super) async fn run(args: ServeArgs) -> Result<(), Failure> {
    let options = args.settle()?;
    let origin: OriginUrl = options.origin.parse().map_err(|error| Failure::usage("--origin", error))?;
    let cache = cache(&options)?;
    let mut config = GatewayConfig::default();
    config.ttl = options.ttl;
    config.stale_while_revalidate = options.stale_while_revalidate;
    config.stale_if_error = options.stale_if_error;
    config.trust_forwarded = options.trust_forwarded;
    if let Some(body_bytes_max) = options.body_bytes_max {
        config.body_bytes_max = body_bytes_max;
    }
    let serving = serve(cache, origin, config, options.listen, options.admin_listen, told_to_stop()?);
    let gateway = serving.await.map_err(|error| Failure::World(error.to_string()))?;
    println!("listening on http://{}", gateway.address);
    if let Some(address) = gateway.admin_address.filter(|address| *address != gateway.address) {
        println!("health and metrics on http://{address}");
    }
    gateway.stopped().await;
    Ok(())
}

fn cache(options: &ServeOptions) -> Result<Cache, Failure> {
    let builder = Cache::builder().policy(options.policy.clone()).engine(options.engine);
    with_store(builder, options)?.build().map_err(|error| match error {
        Error::Config(error) => Failure::Usage(error.to_string()),
        error => Failure::World(error.to_string()),
    })
}

fn with_store(builder: Builder, options: &ServeOptions) -> Result<Builder, Failure> {
    let url = options.store.as_str();
    if url == "mem://" {
        return Ok(builder);
    }
    let mut config = RedisConfig::new(url);
    if let Some(namespace) = &options.namespace {
        config.namespace.clone_from(namespace);
    }
    let store = RedisStore::new(config).map_err(|error| Failure::usage("--store", error))?;
    Ok(builder.store(store))
}

/// Ready at the first SIGTERM or SIGINT.
fn told_to_stop() -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::World(format!("cannot listen for signals: {error}")));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
