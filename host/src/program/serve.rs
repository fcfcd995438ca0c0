//! `tideover serve`.

use tideover::gateway::{GatewayConfig, OriginUrl, serve};
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use super::args::ServeArgs;

pub(super) async fn run(args: ServeArgs) -> Result<(), Failure> {
    let options = args.settle()?;
    let origin: OriginUrl = options.origin.parse().map_err(|error| Failure::usage("--origin", error))?;
    let cache = if options.must_be_ready { options.config.connect().await? } else { options.config.build()? };
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
