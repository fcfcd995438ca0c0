//! What clients of a tower layer do to each other, without meaning to: one leaves.

use tideover_tests::driving::{ENGINES, exact, millis, seconds};
use tideover_tests::http::response;

use super::web::{Front, Shop, a_minute};

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
        assert_eq!((later.body.as_str(), later.header("age")), ("fr 2", "0"), "{engine:?}: not what came then");
    }
}
