//! The server dies, hangs, or is not ready.

use std::time::{Duration, Instant};

use tideover::store::RedisConfig;
use tideover_tests::redis_server::RedisServer;

use tokio::time::sleep;

use crate::trial::{HANG, SHORT_WAITS, Trial};

const BACK_MAX: Duration = Duration::from_secs(10);

async fn begin(fault: &'static str, server: &RedisServer) -> Trial {
    Trial::begin(fault, RedisConfig::new(server.url()), SHORT_WAITS).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_empty_gets_what_was_changed_meanwhile() {
    let mut server = RedisServer::start();
    let mut trial = begin("killed, restarted empty", &server).await;
    server.kill();
    trial.all_keys_are_used().await;
    trial.lasts(Duration::from_secs(1)).await;
    server.restart();
    trial.ends(&server).await.is_an_outage_survived_within(BACK_MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_with_old_data_does_not_bring_it_back() {
    let mut server = RedisServer::start_with_arguments(&["--appendonly", "yes"]);
    let mut trial = begin("killed, restarted with its data", &server).await;
    server.kill();
    trial.all_keys_are_used().await;
    trial.lasts(Duration::from_secs(1)).await;
    server.restart();
    assert_ne!(server.command(&["DBSIZE"]), "0", "it has no data");
    trial.ends(&server).await.is_an_outage_survived_within(BACK_MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_again_and_again_is_survived_each_time() {
    let mut server = RedisServer::start_with_arguments(&["--appendonly", "yes"]);
    let mut trial = begin("killed and restarted five times", &server).await;
    for _ in 0..4 {
        server.kill();
        sleep(Duration::from_millis(300)).await;
        server.restart();
        trial.all_keys_are_used().await;
    }
    server.kill();
    trial.lasts(Duration::from_millis(300)).await;
    server.restart();
    trial.ends(&server).await.is_survived_within(BACK_MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_works_off_what_it_was_left_with_and_undoes_nothing() {
    let mut server = RedisServer::start();
    let mut trial = begin("frozen for 3 s", &server).await;
    server.freeze();
    trial.lasts(Duration::from_secs(3)).await;
    server.thaw();
    trial.ends(&server).await.is_an_outage_survived_within(BACK_MAX);
}

/// With the waits that everybody has who changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn ten_seconds_of_frost_are_over_by_the_next_probe() {
    let mut server = RedisServer::start();
    let mut trial = Trial::begin("frozen for 10 s, default waits", RedisConfig::new(server.url()), &[]).await;
    server.freeze();
    trial.lasts(Duration::from_secs(10)).await;
    server.thaw();
    // The waits of 1, 2, 4 and 8 s, moved by a fifth, have begun by then at the latest.
    trial.ends(&server).await.is_survived_within(Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_pauses_its_clients_is_as_good_as_frozen() {
    let server = RedisServer::start();
    let mut trial = begin("CLIENT PAUSE for 2 s", &server).await;
    server.pause(Duration::from_secs(2));
    trial.lasts(Duration::from_secs(2)).await;
    trial.ends(&server).await.is_an_outage_survived_within(BACK_MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_loading_its_data_is_away_until_it_has_it() {
    let slow = ["--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024"];
    let debug = ["--enable-debug-command", "yes"];
    let mut server = RedisServer::start_with_arguments(&[slow.as_slice(), &debug].concat());
    let mut trial = begin("killed, then LOADING", &server).await;
    assert_eq!(server.command(&["DEBUG", "POPULATE", "1000", "filler", "100"]), "OK");
    assert_eq!(server.command(&["SAVE"]), "OK");
    server.kill();
    server.restart();
    assert!(server.is_loading(), "it was ready at once");
    trial.lasts(Duration::from_secs(1)).await;
    let began = Instant::now();
    while server.is_loading() {
        assert!(began.elapsed() < HANG, "it is never ready");
        sleep(Duration::from_millis(20)).await;
    }
    trial.ends(&server).await.is_an_outage_survived_within(BACK_MAX);
}
