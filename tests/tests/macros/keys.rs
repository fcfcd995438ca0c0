//! Keys: what differs never shares an entry, whatever the arguments look like.

use std::collections::HashMap;
use std::fmt::Display;

use serde::Serialize;
use tideover::cached;

#[derive(Clone, Serialize)]
struct Org {
    id: u64,
    place: (String, u8),
}

#[cached]
async fn of_type<T: Clone + Send + Sync + Serialize + 'static>(value: T) -> String {
    let _ = value;
    std::any::type_name::<T>().to_owned()
}

#[tokio::test]
async fn numbers_of_different_types_are_different_calls() {
    assert_eq!(of_type(1_u32).await, "u32");
    assert_eq!(of_type(1_i64).await, "i64");
    assert_eq!(of_type(1.0_f64).await, "f64");
    assert_eq!(of_type(true).await, "bool");
    assert_eq!(of_type(1_u32).await, "u32");
}

/// Nothing but the type says which call it is.
#[cached]
async fn type_alone<T: 'static>() -> String {
    std::any::type_name::<T>().to_owned()
}

#[tokio::test]
async fn types_that_no_argument_shows_are_part_of_the_key() {
    assert_eq!(type_alone::<u32>().await, "u32");
    assert_eq!(type_alone::<i64>().await, "i64");
    type_alone::invalidate::<u32>().await.expect("it is removed");
}

#[cached]
async fn pair(one: &str, other: &str) -> String {
    format!("{one} and {other}")
}

#[cached]
async fn maybe(name: Option<&str>) -> String {
    format!("{name:?}")
}

#[tokio::test]
async fn separators_in_texts_do_not_confuse_positions() {
    assert_eq!(pair("a:b", "c").await, "a:b and c");
    assert_eq!(pair("a", "b:c").await, "a and b:c");
    assert_eq!(pair("a\",\"b", "c").await, "a\",\"b and c");
    assert_eq!(maybe(None).await, "None");
    assert_eq!(maybe(Some("None")).await, "Some(\"None\")");
}

#[cached]
async fn sum(numbers: &[u64], weights: HashMap<String, u64>) -> u64 {
    numbers.iter().chain(weights.values()).sum()
}

#[tokio::test]
async fn slices_and_maps_are_arguments_as_any_others() {
    let weights = |order: &[u64]| order.iter().map(|number| (number.to_string(), *number)).collect::<HashMap<_, _>>();
    let (up, down) = (weights(&[1, 2, 3, 4]), weights(&[4, 3, 2, 1]));
    assert_eq!(sum::key(&[1, 2], up.clone()), sum::key(&[1, 2], down));
    assert_ne!(sum::key(&[1, 2], up.clone()), sum::key(&[2, 1], up.clone()));
    assert_eq!(sum(&[1, 2], up).await, 13);
}

#[cached(key = "org:{org.id}:{{{pair.0}}}:{org.place.1}:{name}")]
async fn templated(org: &Org, pair: (u64, u64), name: &str) -> u64 {
    org.id + pair.1 + name.len() as u64
}

#[cached(key = ("user", "profile", "{user_id}"))]
async fn parts(user_id: u64) -> u64 {
    user_id
}

#[cached(key = "{one}:{other}")]
async fn two_texts(one: &str, other: &str) -> String {
    format!("{one}+{other}")
}

#[tokio::test]
async fn templates_name_arguments_fields_and_places_in_tuples() {
    let org = Org { id: 3, place: ("x".to_owned(), 9) };
    assert_eq!(templated::key(&org, (5, 6), "Ada"), "org:3:{5}:9:Ada");
    assert_eq!(
        (templated(&org, (5, 6), "Ada").await, parts::key(7), parts(7).await),
        (12, "user:profile:7".to_owned(), 7)
    );
}

#[tokio::test]
async fn a_value_in_a_template_does_not_reach_into_the_next_one() {
    assert_eq!(two_texts::key("a", "b:c"), "a:b%3Ac");
    assert_eq!(two_texts::key("a:b", "c"), "a%3Ab:c");
    assert_eq!(two_texts("a", "b:c").await, "a+b:c");
    assert_eq!(two_texts("a:b", "c").await, "a:b+c");
}

#[cached(key = "user:{id}", tags = ["user:{id}"])]
async fn user(id: &str) -> String {
    format!("user {id}")
}

#[cached(key = ("user", "{id}", "posts"))]
async fn posts(id: &str) -> String {
    format!("posts of {id}")
}

/// An id may come from anybody.
#[tokio::test]
async fn no_id_makes_one_functions_key_that_of_another() {
    assert_eq!(posts("7").await, "posts of 7");
    assert_eq!(user("7:posts").await, "user 7:posts");
    assert_eq!((user::key("7:posts"), posts::key("7")), ("user:7%3Aposts".to_owned(), "user:7:posts".to_owned()));
    assert_eq!(user::tags("7:posts"), ["user:7%3Aposts"], "as a resource has it");
}

#[cached(key = "sum:{left}:{right}:{count}")]
async fn patterns((left, mut right): (u64, u64), Wrapped(count): Wrapped, mut times: u64) -> u64 {
    right += 1;
    times += 1;
    (left + right) * count * times
}

#[derive(Clone, Copy)]
struct Wrapped(u64);

#[tokio::test]
async fn arguments_may_be_patterns_and_mutable() {
    assert_eq!(patterns::key((1, 2), Wrapped(3), 4), "sum:1:2:3");
    assert_eq!(patterns((1, 2), Wrapped(3), 4).await, 60);
}

#[cached(key = "shown:{what}")]
async fn shown(what: impl Display + Clone + Send + Sync + 'static) -> String {
    what.to_string()
}

#[cached]
async fn of_trait(what: impl Serialize + Clone + Send + Sync + 'static) -> u64 {
    let _ = what;
    1
}

#[tokio::test]
async fn arguments_may_be_of_any_type_that_has_a_trait() {
    assert_eq!((shown(7).await, shown("x").await), ("7".to_owned(), "x".to_owned()));
    assert_ne!(of_trait::key(1_u32), of_trait::key(1_i64));
    assert_eq!(of_trait(1_u32).await, 1);
}

#[tokio::test]
async fn functions_of_one_name_in_different_places_are_different_functions() {
    let here = {
        #[cached]
        async fn same(id: u64) -> u64 {
            id
        }
        (same::key(7), same(7).await)
    };
    let there = other_place().await;
    assert_eq!((here.1, there.1), (7, 14));
    assert_ne!(here.0, there.0);
}

async fn other_place() -> (String, u64) {
    #[cached]
    async fn same(id: u64) -> u64 {
        id * 2
    }
    (same::key(7), same(7).await)
}

#[tokio::test]
async fn a_key_past_its_limit_is_no_error_the_function_runs() {
    #[cached(key = "{name}")]
    async fn length(name: &str) -> Result<usize, tideover::Error> {
        Ok(name.len())
    }
    let name = "x".repeat(5_000);
    assert_eq!(length(&name).await.expect("a length"), 5_000);
    assert_eq!(length("").await.expect("a length"), 0);
    assert_eq!((length::stats().uncached, length::stats().loads), (2, 0));
    assert!(length::fetch(&name).await.expect("a length").private);
    // Without a template a digest stands for what is long.
    assert!(pair::key(&name, &name).len() < 200);
    assert_ne!(pair::key(&name, "x"), pair::key(&name, "y"));
}
