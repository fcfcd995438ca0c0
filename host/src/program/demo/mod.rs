//! `tideover demo`: a story on loopback, told by its callers. A moody origin, a store that is really killed where a
//! `redis-server` is installed, a gateway between them and its callers, and a table of what they saw.

mod callers;
mod origin;
mod store;

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use tideover::gateway::{GatewayConfig, Listening, OriginUrl, serve};
use tideover::{Cache, EngineKind};
use tokio::sync::oneshot;

use self::callers::{Act, Callers, Seen};
use self::origin::{Mood, Origin};
use self::store::DemoStore;
use super::Failure;
use super::args::DemoArgs;

/// Callers of the cold key.
const CROWD: usize = 500;

pub(super) async fn run(options: DemoArgs) -> Result<(), Failure> {
    let origin = Origin::start().await.map_err(|error| Failure::World(format!("cannot start the origin: {error}")))?;
    let mut store = DemoStore::start().await?;
    let (stop, stopped) = oneshot::channel::<()>();
    let gateway = gateway(options.engine.into(), &origin, &store, stopped).await?;
    println!(
        "engine {:?}, origin {}, store {}, gateway http://{}",
        EngineKind::from(options.engine),
        origin.url(),
        store.describe(),
        gateway.address
    );
    let told = tell(&origin, &mut store, gateway.address).await;
    // The gateway stops when the sender is gone, too.
    let _ = stop.send(());
    gateway.stopped().await;
    store.stop().await;
    let acts = told?;
    print!("\n{}", table(&acts));
    judge(&acts)
}

async fn gateway(
    engine: EngineKind,
    origin: &Origin,
    store: &DemoStore,
    stopped: oneshot::Receiver<()>,
) -> Result<Listening, Failure> {
    let world = |error: &dyn std::fmt::Display| Failure::World(error.to_string());
    let cache = store.attach(Cache::builder().engine(engine))?;
    let cache = cache.set("key_bytes_max", "9216").and_then(|builder| builder.build()).map_err(|e| world(&e))?;
    let url: OriginUrl = origin.url().parse().map_err(|error| world(&error))?;
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let stop = async move { drop(stopped.await) };
    serve(cache, url, GatewayConfig::default(), listen, None, stop).await.map_err(|error| world(&error))
}

/// Plays the acts in order.
async fn tell(origin: &Origin, store: &mut DemoStore, gateway: SocketAddr) -> Result<Vec<Act>, Failure> {
    let callers = Callers::new(gateway);
    let mut acts = Vec::new();
    let seconds = Duration::from_secs;

    acts.push(play("warm-up", origin, callers.browse("/page", seconds(3))).await);
    origin.set_mood(Mood::Slow(Duration::from_millis(500)));
    acts.push(play("500 callers, one cold key", origin, callers.crowd("/cold", CROWD)).await);
    origin.set_mood(Mood::Slow(Duration::from_millis(1_500)));
    acts.push(play("origin slow", origin, callers.browse("/page", seconds(4))).await);
    origin.set_mood(Mood::Down);
    acts.push(play("origin down", origin, callers.browse("/page", seconds(4))).await);
    origin.set_mood(Mood::Fine);
    store.take_away().await?;
    acts.push(play("store away", origin, callers.browse("/page", seconds(4))).await);
    store.bring_back().await?;
    acts.push(play("everything back", origin, callers.browse("/page", seconds(3))).await);
    Ok(acts)
}

/// Plays one act, with a line that shows how it goes.
async fn play(name: &'static str, origin: &Origin, act: impl Future<Output = Seen>) -> Act {
    const TURN: Duration = Duration::from_millis(100);
    let loads_before = origin.loads();
    let live = std::io::stdout().is_terminal();
    let mut act = std::pin::pin!(act);
    let mut turns = 0;
    if !live {
        println!("  {name} ...");
    }
    let seen = loop {
        tokio::select! {
            seen = &mut act => break seen,
            () = tokio::time::sleep(TURN) => turns += 1,
        }
        if live {
            let dots = ".".repeat(turns % 40);
            print!("\r\x1b[K  {name} {dots} {} loads at the origin", origin.loads() - loads_before);
            // A terminal that does not take the line misses nothing.
            let _ = std::io::stdout().flush();
        }
    };
    if live {
        print!("\r\x1b[K");
    }
    Act { name, seen, loads: origin.loads() - loads_before }
}

fn table(acts: &[Act]) -> String {
    let mut text = format!(
        "{:<26} {:>9} {:>9} {:>9} {:>7} {:>7} {:>9} {:>9}\n",
        "what callers saw", "requests", "hits", "stale", "loads", "errors", "p50", "p99"
    );
    for Act { name, seen, loads } in acts {
        let (p50, p99) = (millis(seen.percentile(50)), millis(seen.percentile(99)));
        let Seen { hits, stale, errors, .. } = seen;
        let requests = seen.requests();
        text += &format!("{name:<26} {requests:>9} {hits:>9} {stale:>9} {loads:>7} {errors:>7} {p50:>9} {p99:>9}\n");
    }
    text
}

fn millis(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1_000.0)
}

/// The story has a moral; when it does not come out, that is a failure.
fn judge(acts: &[Act]) -> Result<(), Failure> {
    let errors: usize = acts.iter().map(|act| act.seen.errors).sum();
    if errors > 0 {
        return Err(Failure::World(format!("{errors} callers saw an error; none should have")));
    }
    match acts.iter().find(|act| act.seen.requests() == CROWD && act.loads != 1) {
        Some(crowd) => Err(Failure::World(format!("{CROWD} callers caused {} loads instead of one", crowd.loads))),
        None => Ok(()),
    }
}
