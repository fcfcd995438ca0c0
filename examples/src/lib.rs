//! The snippets of the guide in `docs/guide`, compiled and run as documentation tests.

macro_rules! pages {
    ($($name:ident: $file:literal,)+) => {
        $(
            #[cfg(doctest)]
            #[doc = include_str!(concat!("../../docs/guide/", $file))]
            mod $name {}
        )+
    };
}

pages! {
    getting_started: "getting-started.md",
    patterns: "patterns.md",
    redis: "redis.md",
    tuning: "tuning.md",
    outage: "outage.md",
    migrating: "migrating.md",
    functions: "functions.md",
    writes: "writes.md",
    values: "values.md",
    direct: "direct.md",
    configuring: "configuring.md",
    testing: "testing.md",
    observing: "observing.md",
    frameworks: "frameworks.md",
    recipes: "recipes.md",
}
