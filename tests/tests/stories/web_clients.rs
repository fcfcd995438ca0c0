//! What clients of a tower layer do to each other, without meaning to: one leaves, two are told apart by credentials, one
//! changes what others read.

use std::time::Duration;

use hyper::header::{self, HeaderName};
use tideover::testing::ScriptedStore;
use tideover::web::Rule;
use tideover_tests::driving::{ENGINES, exact, millis, seconds};
use tideover_tests::http::response;

use super::web::{Front, Shop, a_minute, cache};

#[tokio::test(start_paused = true)]
async fn what_came_for_a_client_that_has_left_is_not_taken_for_new_later() {
    for &engine in ENGINES {
        let shop = Shop::that(|request, number| {
            let language =
                request.headers.get("accept-language").and_then(|value| value.to_str().ok()).unwrap_or("none");
            (seconds(2), Ok(response(200, &[("vary", "accept-language")], format!("{language} {number}"))))
        });
        let front = Front::of(&shop, &exact(engine, &[]).build().expect("a cache"), a_minute);
        let leader = tokio::spawn({
            let front = front.clone();
            async move { front.send("GET", "/", &[("accept-language", "fr")]).await }
        });
        tokio::time::sleep(seconds(1)).await;
        let follower = tokio::spawn({
            let front = front.clone();
            async move { front.send("GET", "/", &[("accept-language", "de")]).await }
        });
        tokio::time::sleep(millis(10)).await;
        leader.abort();
        assert_eq!(follower.await.expect("an answer").body, "de 1", "{engine:?}");
        tokio::time::sleep(seconds(3_600)).await;
        let later = front.send("GET", "/", &[("accept-language", "fr")]).await;
        assert_eq!((later.body.as_str(), later.header("age")), ("fr 2", "2"), "{engine:?}: not what came then");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_page_is_shared_by_nobody_whom_credentials_tell_apart() {
    let session = HeaderName::from_static("x-session");
    let shop = Shop::that(|request, _| {
        let who = ["authorization", "x-session"].iter().find_map(|name| request.headers.get(*name));
        let page = format!("sorry, {}", who.and_then(|value| value.to_str().ok()).unwrap_or("nobody"));
        let headers = [("retry-after", "9"), ("x-page", page.as_str()), ("vary", "cookie")];
        let headers = if request.uri.path() == "/vary" { &headers[..] } else { &headers[..2] };
        (seconds(1), Ok(response(500, headers, page.clone())))
    });
    let front = Front::of(&shop, &cache(), |layer| {
        a_minute(layer).credentials([session.clone()]).vary_on([header::AUTHORIZATION, session])
    });
    let plain = Front::of(&shop, &cache(), a_minute);
    for (front, target, name) in
        [(&front, "/me", "authorization"), (&front, "/mine", "x-session"), (&plain, "/vary", "x-other")]
    {
        let (ada, bob) = ([(name, "ada")], [(name, "bob")]);
        let (first, second) = tokio::join!(front.send("GET", target, &ada), front.send("GET", target, &bob));
        let expected = if target == "/vary" { "sorry, nobody" } else { "sorry, ada" };
        assert_eq!((first.status, first.body.as_str(), first.header("x-page")), (500, expected, expected), "{target}");
        assert_eq!((second.status, second.body.as_str(), second.header("x-page")), (500, "", ""), "{target}");
        assert_eq!(second.header("retry-after"), "9", "{target}");
    }
    assert_eq!(shop.count(), 3);
}

/// What is loaded when a change is told may be what was there before it, whether it is kept under its target or its variant.
#[tokio::test(start_paused = true)]
async fn a_tag_that_is_invalidated_during_the_first_load_reaches_its_variant() {
    for &engine in ENGINES {
        for (expire, vary) in [(false, "accept-language"), (true, "accept-language"), (false, "")] {
            let shop =
                Shop::that(move |_, number| (seconds(2), Ok(response(200, &[("vary", vary)], number.to_string()))));
            let cache = exact(engine, &[]).build().expect("a cache");
            let front = Front::of(&shop, &cache, |layer| a_minute(layer).rule(|_| Rule::new().tags(["prices"])));
            let (early, late) = tokio::join!(front.get("/"), async {
                tokio::time::sleep(seconds(1)).await;
                let told = if expire { cache.expire_tag("prices").await } else { cache.invalidate_tag("prices").await };
                told.expect("it is told");
                front.get("/").await
            });
            let next = front.get("/").await;
            let bodies = [&early, &late, &next].map(|answer| answer.body.parse::<usize>().ok());
            assert!(
                bodies[1..].iter().all(|body| body.is_some_and(|number| number > 0)),
                "{engine:?} {vary}: {bodies:?}"
            );
            assert!(bodies[0].is_some(), "{engine:?} {vary}: whoever asked before gets an answer, too: {}", early.body);
            let asked = shop.count();
            assert_eq!(front.get("/").await.body, next.body, "{engine:?} {vary}: and that is kept");
            assert_eq!(shop.count(), asked, "{engine:?} {vary}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn another_tag_costs_a_first_load_nothing_that_bears_none() {
    for &engine in ENGINES {
        let shop =
            Shop::that(|_, number| (seconds(2), Ok(response(200, &[("vary", "accept-language")], number.to_string()))));
        let cache = exact(engine, &[]).build().expect("a cache");
        let front = Front::of(&shop, &cache, a_minute);
        let (first, ()) = tokio::join!(front.get("/"), async {
            tokio::time::sleep(seconds(1)).await;
            cache.invalidate_tag("prices").await.expect("it is told");
        });
        assert_eq!((first.body.as_str(), front.get("/").await.body.as_str()), ("0", "0"), "{engine:?}");
        assert_eq!(shop.count(), 1, "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_among_too_many_requests_takes_effect_although_its_client_leaves() {
    for &engine in ENGINES {
        let shop = Shop::that(|request, number| {
            let wait = if request.uri.path() == "/slow" { seconds(5) } else { Duration::ZERO };
            (wait, Ok(response(200, &[], number.to_string())))
        });
        let store = ScriptedStore::default();
        let cache = exact(engine, &[("flights_max", "1")]).store(store).build().expect("a cache");
        let front = Front::of(&shop, &cache, a_minute);
        assert_eq!(front.get("/a").await.body, "0", "{engine:?}");
        tokio::time::sleep(seconds(1)).await;
        let slow = tokio::spawn({
            let front = front.clone();
            async move { front.get("/slow").await }
        });
        tokio::time::sleep(seconds(1)).await;
        let left = tokio::time::timeout(seconds(1), front.send("POST", "/a", &[])).await;
        assert!(left.is_err(), "{engine:?}: there is no room for the removal yet");
        assert_eq!(slow.await.expect("an answer").body, "1", "{engine:?}");
        tokio::time::sleep(seconds(1)).await;
        assert_eq!(front.get("/a").await.body, "3", "{engine:?}");
    }
}
