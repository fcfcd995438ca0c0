//! The server is well, the way to it is not.

use std::time::Duration;

use tideover::store::RedisConfig;
use tideover_tests::proxy::{Fault, Proxy};
use tideover_tests::redis_server::RedisServer;

use tokio::time::sleep;

use crate::trial::{Record, SHORT_WAITS, Trial};

const BACK_MAX: Duration = Duration::from_secs(10);

/// How long a connection may be silent before it is given up. Only that ends a half-open one.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// Deadlines that a busy machine alone does not miss.
const PATIENT: &[(&str, &str)] = &[("store_read_deadline", "2s"), ("store_write_deadline", "2s")];

fn through(proxy: &Proxy) -> RedisConfig {
    let url = format!("redis://{}", proxy.address());
    RedisConfig { silence_max: SILENCE_MAX, ..RedisConfig::new(url) }
}

/// What becomes of this fault when it lasts for so long.
async fn survives(name: &'static str, fault: Fault, time: Duration) -> Record {
    survives_with(SHORT_WAITS, name, fault, time).await
}

async fn survives_with(options: &[(&str, &str)], name: &'static str, fault: Fault, time: Duration) -> Record {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.port());
    let mut trial = Trial::begin(name, through(&proxy), options).await;
    proxy.does(fault);
    trial.lasts(time).await;
    proxy.does(Fault::None);
    let record = trial.ends(&server).await;
    record.is_survived_within(BACK_MAX);
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_come_one_byte_at_a_time_are_replies() {
    let record = survives_with(PATIENT, "replies one byte at a time", Fault::ByteByByte, Duration::from_secs(1)).await;
    assert_eq!((record.trips, record.journaled), (0, 0), "a whole server is given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_in_the_midst_of_a_reply_cost_no_answer() {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.port());
    let mut trial = Trial::begin("cut mid-reply, every 307 bytes", through(&proxy), SHORT_WAITS).await;
    // Past the greeting, and in the midst of a value as a rule.
    proxy.does(Fault::CutReplies { after: 307 });
    trial.lasts(Duration::from_secs(1)).await;
    proxy.does(Fault::None);
    trial.ends(&server).await.is_survived_within(BACK_MAX);
    assert!(proxy.accepted() > 3, "{} connections are no trial", proxy.accepted());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_now_and_then_is_made_anew_within_the_call() {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.port());
    let mut trial = Trial::begin("connection lost five times", through(&proxy), PATIENT).await;
    for _ in 0..5 {
        server.cut_clients();
        trial.all_keys_are_used().await;
    }
    trial.lasts(Duration::ZERO).await;
    let record = trial.ends(&server).await;
    record.is_survived_within(BACK_MAX);
    assert_eq!((proxy.accepted(), record.trips, record.journaled), (6, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_in_the_midst_of_the_greeting_are_an_outage() {
    let record = survives("cut in the first reply", Fault::CutReplies { after: 2 }, Duration::from_secs(1)).await;
    assert!(record.trips > 0 && record.journaled > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_requests_vanish_is_given_up_in_time() {
    let record = survives("half-open: requests vanish", Fault::SwallowRequests, Duration::from_secs(2)).await;
    assert!(record.trips > 0 && record.journaled > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_replies_vanish_is_given_up_in_time() {
    let record = survives("half-open: replies vanish", Fault::SwallowReplies, Duration::from_secs(2)).await;
    assert!(record.trips > 0 && record.journaled > 0);
}

/// Only the connections that there are go silent; whoever connects anew is served.
#[tokio::test(flavor = "multi_thread")]
async fn a_moment_in_which_bytes_vanish_is_over_when_the_silence_is_noticed() {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.port());
    let mut trial = Trial::begin("half-open: a moment's loss", through(&proxy), SHORT_WAITS).await;
    proxy.does(Fault::SwallowRequests);
    sleep(Duration::from_millis(50)).await;
    proxy.does(Fault::None);
    trial.lasts(Duration::ZERO).await;
    let record = trial.ends(&server).await;
    record.is_survived_within(BACK_MAX);
    assert!(proxy.accepted() > 1, "nobody connected anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn latency_below_the_deadlines_is_only_waited_for() {
    let record = survives_with(
        PATIENT,
        "latency 50 ms each way",
        Fault::Latency(Duration::from_millis(50)),
        Duration::from_secs(1),
    )
    .await;
    assert_eq!(record.trips, 0, "a slow server is given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn latency_close_to_the_read_deadline_undoes_nothing() {
    survives("latency 100 ms each way", Fault::Latency(Duration::from_millis(100)), Duration::from_secs(1)).await;
}

/// Reads fail and writes do not: half a store.
#[tokio::test(flavor = "multi_thread")]
async fn latency_beyond_the_read_deadline_undoes_nothing() {
    survives("latency 400 ms each way", Fault::Latency(Duration::from_millis(400)), Duration::from_secs(2)).await;
}

/// Everything fails by its deadline, and arrives after it.
#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_after_it_was_given_up_undoes_nothing() {
    let latency = Fault::Latency(Duration::from_millis(900));
    let record = survives("latency 900 ms each way", latency, Duration::from_secs(3)).await;
    assert!(record.trips > 0 && record.journaled > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrow_way_undoes_nothing() {
    survives("bandwidth 20 kB/s", Fault::Bandwidth(20_000), Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_reset_are_an_outage() {
    let record = survives("connections reset", Fault::Reset, Duration::from_secs(1)).await;
    assert!(record.trips > 0 && record.journaled > 0);
}

/// Every connection is lost, and those made anew meet this fault.
async fn is_an_outage_to_new_connections(name: &'static str, fault: Fault) {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.port());
    let mut trial = Trial::begin(name, through(&proxy), SHORT_WAITS).await;
    proxy.does(fault);
    server.cut_clients();
    trial.lasts(Duration::from_secs(1)).await;
    proxy.does(Fault::None);
    trial.ends(&server).await.is_an_outage_survived_within(BACK_MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_connections_are_an_outage() {
    is_an_outage_to_new_connections("connection lost, new ones refused", Fault::Refuse).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_lead_nowhere_are_an_outage() {
    is_an_outage_to_new_connections("connection lost, new ones lead nowhere", Fault::Mute).await;
}
