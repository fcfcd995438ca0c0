//! What counts of what was said, and what is refused. Nothing here reads the environment of the process.

use std::time::Duration;

use tideover_core::entropy::Entropy;

use super::*;

/// What a configuration with these sources says is wrong.
fn refused(builder: ConfigBuilder) -> Vec<String> {
    match builder.read() {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(error) => error.refusals().iter().map(Finding::to_string).collect(),
    }
}

/// What it doubts, and nothing that it refuses.
fn doubted(builder: ConfigBuilder) -> Vec<String> {
    let config = builder.read().unwrap_or_else(|error| panic!("{error}"));
    config.warnings().iter().map(Finding::to_string).collect()
}

fn file(text: &str) -> ConfigBuilder {
    Config::builder().toml("c.toml", text)
}

fn environment(variables: &[(&str, &str)]) -> ConfigBuilder {
    Config::builder().variables(variables.iter().copied())
}

fn value(config: &Config, option: &str) -> (String, String) {
    let value = config.values().find(|value| value.option == option).unwrap_or_else(|| panic!("{option}"));
    (value.value, value.origin.to_string())
}

fn said(value: &str, origin: &str) -> (String, String) {
    (value.to_owned(), origin.to_owned())
}

#[test]
fn with_nothing_said_everything_is_the_default() {
    let config = environment(&[("PATH", "/bin"), ("HOME", "/root")]).read().expect("nothing is wrong");
    assert_eq!(config.policy(), &Policy::default());
    assert_eq!(config.namespace(), "tideover:");
    assert_eq!(Ttl::ALL.map(|ttl| config.ttl_of(ttl).as_secs()), [30, 300, 3600]);
    assert_eq!((config.engine(), config.preset()), (EngineKind::Native, None));
    assert!(config.values().all(|value| value.origin == Origin::Default));
    assert!(config.warnings().is_empty());
    assert_eq!(value(&config, "url"), said("mem://", "default"));
}

#[test]
fn code_overrules_the_environment_that_overrules_files_those_the_preset_and_that_the_default() {
    let default = Config::builder;
    let preset = || default().toml("a.toml", "preset = 'production'");
    let first = || preset().toml("b.toml", "[policy]\nload_attempts = 3");
    let second = || first().toml("c.toml", "# later\n[policy]\nload_attempts = 4");
    let environment = || second().variables([("TIDEOVER_LOAD_ATTEMPTS", "5")]);
    let code = || environment().set("load_attempts", "6").set("load_attempts", "7");
    for (builder, (attempts, origin)) in [
        (default(), ("1", "default")),
        (preset(), ("2", "preset production")),
        (first(), ("3", "b.toml:2")),
        (second(), ("4", "c.toml:3")),
        (environment(), ("5", "TIDEOVER_LOAD_ATTEMPTS")),
        (code(), ("7", "code")),
    ] {
        let config = builder.read().expect("nothing is wrong");
        assert_eq!(value(&config, "load_attempts"), said(attempts, origin));
        assert_eq!(config.policy().load_attempts.to_string(), attempts);
    }
}

#[test]
fn the_preset_itself_is_an_option_with_sources() {
    let file = || file("preset = 'edge'");
    assert_eq!(file().read().expect("good").preset(), Some(Preset::Edge));
    let environment = || file().variables([("CACHE_PRESET", "production")]);
    assert_eq!(environment().read().expect("good").preset(), Some(Preset::Production));
    let code = environment().preset(Preset::Development).read().expect("good");
    assert_eq!((code.preset(), code.policy().explain), (Some(Preset::Development), true));
    assert_eq!(
        refused(Config::builder().set("preset", "staging")),
        ["preset = staging (code): expected development, production or edge"]
    );
}

#[test]
fn every_preset_holds_by_itself_with_and_without_a_store() {
    for preset in Preset::ALL {
        for url in ["mem://", "redis://cache"] {
            let config = Config::builder().preset(preset).url(url).read();
            let config = config.unwrap_or_else(|error| panic!("{preset:?} {url}: {error}"));
            assert_eq!(config.warnings(), [], "{preset:?} {url}");
            for choice in preset.choices() {
                assert_eq!(value(&config, choice.option), said(choice.value, &format!("preset {}", preset.name())));
                let default = &options::named(choice.option).expect("an option").default;
                assert_ne!(choice.value, default, "{} is the default", choice.option);
            }
        }
    }
}

#[test]
fn lifetimes_are_durations_or_bare_seconds() {
    let config = environment(&[("CACHE_TTL_SHORT", "15"), ("CACHE_TTL_DEFAULT", "1h30m"), ("CACHE_TTL_LONG", "0")]);
    let config = config.read().expect("good");
    assert_eq!(Ttl::ALL.map(|ttl| config.ttl_of(ttl).as_secs()), [15, 5400, 0]);
    assert_eq!(config.policy().ttl, Some(Duration::from_secs(5400)));
    let config = file("[ttl]\nshort = 15\ndefault = '2m'\nlong = '2h'").read().expect("good");
    assert_eq!(Ttl::ALL.map(|ttl| config.ttl_of(ttl).as_secs()), [15, 120, 7200]);
    let config = environment(&[("CACHE_TTL_DEFAULT", "60"), ("TIDEOVER_TTL", "1m")]).read().expect("they say the same");
    assert_eq!(config.policy().ttl, Some(Duration::from_secs(60)));
    let wrong = environment(&[("CACHE_TTL_SHORT", "-1"), ("CACHE_TTL_DEFAULT", "soon"), ("CACHE_TTL_LONG", "1.5h")]);
    let expected = "expected a duration such as 250ms, 60s or 1h30m";
    assert_eq!(
        refused(wrong),
        [
            format!("ttl.short = -1 (CACHE_TTL_SHORT): {expected}"),
            format!("ttl.long = 1.5h (CACHE_TTL_LONG): {expected}"),
            format!("ttl = soon (CACHE_TTL_DEFAULT): {expected}"),
        ]
    );
}

#[test]
fn redis_url_is_a_fall_back() {
    let url = |variables: &[(&str, &str)]| value(&environment(variables).read().expect("good"), "url");
    let fall_back = ("REDIS_URL", "redis://app:hush@queue/1");
    assert_eq!(url(&[fall_back]), said("redis://***@queue/1", "REDIS_URL"));
    assert_eq!(url(&[fall_back, ("CACHE_URL", "redis://cache")]), said("redis://cache", "CACHE_URL"));
    assert_eq!(url(&[("REDIS_URL", "")]), said("mem://", "default"));
    assert_eq!(url(&[("REDIS_URL", "http://x"), ("CACHE_URL", "mem://")]), said("mem://", "CACHE_URL"));
    let doubts = doubted(file("url = 'redis://cache'").variables([fall_back]));
    assert!(doubts[0].starts_with("url = redis://***@queue/1 (REDIS_URL): overrules a file"), "{doubts:?}");
}

#[test]
fn the_switch_switches_both_breakers() {
    let config = environment(&[("CACHE_BREAKER", "off")]).read().expect("good");
    assert!(!config.policy().store_breaker && !config.policy().load_breaker);
    assert_eq!(value(&config, "load_breaker"), said("false", "CACHE_BREAKER"));
    let config = file("breaker = false\n").set("breaker", "on").read().expect("good");
    assert!(config.policy().store_breaker && config.policy().load_breaker);
    assert_eq!(
        refused(environment(&[("CACHE_BREAKER", "ajar")])),
        ["breaker = ajar (CACHE_BREAKER): expected on or off"]
    );
    let both = environment(&[("CACHE_BREAKER", "off"), ("TIDEOVER_LOAD_BREAKER", "true")]);
    assert_eq!(refused(both).len(), 1);
}

#[test]
fn no_namespace_is_the_beginning_of_another() {
    let names = ["a", "a.b", "ab", "a-b", "b"];
    let mut namespaces = Vec::new();
    for prefix in names {
        for version in [None, Some("a"), Some("1"), Some("1.2"), Some("12")] {
            let builder = Config::builder().set("prefix", prefix);
            let builder = version.into_iter().fold(builder, |builder, version| builder.set("version", version));
            namespaces.push(builder.read().expect("good").namespace().to_owned());
        }
    }
    namespaces.push(Config::builder().read().expect("good").namespace().to_owned());
    for one in &namespaces {
        assert_eq!(namespaces.iter().filter(|other| other.starts_with(one.as_str())).count(), 1, "{one}");
    }
    for (option, text) in [("prefix", "a:b"), ("prefix", "a@b"), ("version", "1:"), ("prefix", "{a}"), ("version", "é")]
    {
        assert_eq!(refused(Config::builder().set(option, text)).len(), 1, "{option} {text}");
    }
    assert_eq!(
        refused(environment(&[("CACHE_PREFIX", "shop:")])),
        ["prefix = shop: (CACHE_PREFIX): ends with the colon that is put after it; write shop"]
    );
}

#[test]
fn a_namespace_to_the_letter_stands_in_place_of_prefix_and_version() {
    let config = file("prefix = 'shop'").set("namespace", "old:").read().expect("code is stronger");
    assert_eq!((config.namespace(), value(&config, "namespace")), ("old:", said("old:", "code")));
    let both = refused(file("namespace = 'old:'\nprefix = 'shop'"));
    assert_eq!(both, ["namespace = old: (c.toml:1): contradicts prefix (c.toml:2), which says the same in parts"]);
    let why = "must have one colon, at its end, else one might reach into another";
    for (namespace, better) in [("shop", "shop:"), ("shop:eu:", "shop.eu:"), (":a:b", "a.b:")] {
        let expected = format!("namespace = {namespace} (c.toml:1): {why}: write {better}");
        assert_eq!(refused(file(&format!("namespace = '{namespace}'"))), [expected]);
    }
}

#[test]
fn every_mistake_is_refused_at_once_each_by_name_value_place_and_reason() {
    let file = file(
        "prefx = 'shop'\nlease = true\nurl = 'redis://app:hush@cache:port'\n[policy]\nload_attempts = 0\nttl = 'soon'\n\
         refresh_ahead = 101\nnegative_ttl = 1.5\n[ttl]\nbrief = '1s'\n[redis]\nbackplane = 'drum'\npasword = 'hush'\n",
    );
    let builder = file
        .variables([("TIDEOVER_TLL", "5s"), ("CACHE_VERSION", ""), ("TIDEOVER_LOADS_MIN", "x")])
        .set("stale_if_eror", "1h");
    let mut found = refused(builder);
    found.sort();
    let mut expected = [
        "prefx (c.toml:1): there is no such key; did you mean prefix?",
        "lease (c.toml:2): belongs into the table [policy]",
        "load_attempts = 0 (c.toml:5): must be at least 1",
        "ttl = soon (c.toml:6): expected a duration such as 250ms, 60s or 1h30m",
        "refresh_ahead = 101 (c.toml:7): is a percentage, at most 100",
        "[policy] negative_ttl (c.toml:8): is a fraction; expected text, a whole number, true or false",
        "[ttl] brief (c.toml:10): there is no such key",
        "redis.backplane = drum (c.toml:12): expected tracking, pubsub or off",
        "[redis] pasword (c.toml:13): there is no such key",
        "TIDEOVER_TLL: there is no such variable; did you mean TIDEOVER_TTL?",
        "version (CACHE_VERSION): is empty; unset the variable, or give it a value",
        "loads_min = x (TIDEOVER_LOADS_MIN): expected a whole number",
        "stale_if_eror (code): there is no such option; did you mean stale_if_error?",
        "url = redis://*** (c.toml:3): the URL cannot be used: a port is not a number; or mem:// for none",
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_nothing_is_concluded_from_it() {
    let [missing] = &refused(Config::builder().file("/nowhere/c.toml").set("lease", "true"))[..] else { panic!() };
    assert!(missing.starts_with("/nowhere/c.toml: the file cannot be read"), "{missing}");
    let errors = refused(file("url = 'mem://'\nprefix = \n[policy\nlease = true").set("lease", "true"));
    assert!(errors[0].starts_with("c.toml:2: is not TOML: "), "{errors:?}");
    let twice = refused(file("prefix = 'a'\nprefix = 'b'"));
    assert!(twice[0].starts_with("c.toml:2: is not TOML: "), "{twice:?}");
    assert_eq!(
        refused(file("[cache]\nprefix = 'a'").toml("d.toml", "policy = 3")),
        ["policy (d.toml:1): is a table: write [policy]"]
    );
    assert_eq!(
        refused(file("prefix = 'a'\n[cache]\nprefix = 'b'")),
        ["prefix = a (c.toml:1): contradicts b (c.toml:3)"]
    );
}

#[test]
fn a_table_cache_stands_for_the_top_level_in_a_file_of_others() {
    let text =
        "[server]\nport = 80\n[cache]\nprefix = 'shop'\n[cache.ttl]\nshort = '1s'\n[cache.policy]\nload_attempts = 2\n";
    let config = file(text).other_keys(["server"]).read().expect("good");
    assert_eq!((config.namespace(), config.policy().load_attempts), ("shop:", 2));
    assert_eq!(config.ttl_of(Ttl::Short), Duration::from_secs(1));
    assert_eq!(refused(file(text)), ["server (c.toml:1): there is no such key"]);
}

#[test]
fn what_is_overruled_and_wrong_is_doubtful_not_refused() {
    let doubts = doubted(file("[policy]\nload_attempts = 'many'").variables([("TIDEOVER_LOAD_ATTEMPTS", "2")]));
    assert_eq!(
        doubts,
        ["load_attempts = many (c.toml:2): expected a whole number; TIDEOVER_LOAD_ATTEMPTS overrules it"]
    );
}

#[test]
fn two_variables_that_contradict_each_other_are_refused() {
    let two = environment(&[("CACHE_TTL_DEFAULT", "60"), ("TIDEOVER_TTL", "2m")]);
    assert_eq!(refused(two), ["ttl = 60 (CACHE_TTL_DEFAULT): contradicts 2m (TIDEOVER_TTL)"]);
    let other = environment(&[("CACHE_URL", "redis://a"), ("CACHE_REDIS_URL", "redis://:hush@b")]);
    assert_eq!(
        refused(other),
        ["CACHE_REDIS_URL: is not read, and contradicts CACHE_URL, which is; unset one of them"]
    );
    let alone =
        doubted(environment(&[("CACHE_REDIS_URL", "redis://b"), ("CACHE_TTL_SHROT", "1"), ("CACHE_DIR", "/tmp")]));
    assert_eq!(
        alone,
        [
            "CACHE_REDIS_URL: is not read; did you mean CACHE_URL?",
            "CACHE_TTL_SHROT: is not read; did you mean CACHE_TTL_SHORT?",
        ]
    );
}

#[test]
fn a_lease_needs_a_store_unless_a_stronger_voice_did_without_one() {
    let [refusal] = &refused(file("[policy]\nlease = true"))[..] else { panic!("one refusal") };
    assert_eq!(refusal, "lease = true (c.toml:2): needs a shared store, and url is mem:// (default)");
    let doubts = doubted(file("[policy]\nlease = true").variables([("CACHE_URL", "mem://")]));
    assert_eq!(doubts, ["lease = true (c.toml:2): needs a shared store, and url is mem:// (CACHE_URL)"]);
    assert!(doubted(file("url = 'redis://cache'\n[policy]\nlease = true")).is_empty());
}

#[test]
fn windows_without_an_end_of_freshness_are_refused_unless_a_preset_chose_them() {
    let both = "[ttl]\ndefault = 0\nlong = 0\n[policy]\nstale_if_error = '1h'";
    assert_eq!(
        refused(file(both)),
        ["stale_if_error = 1h (c.toml:5): begins when ttl ends, and ttl is 0: it never does"]
    );
    assert!(doubted(file("preset = 'production'\n[ttl]\ndefault = 0\nlong = 0")).is_empty());
}

#[test]
fn limits_that_other_limits_make_pointless_are_doubted() {
    let doubts = |text: &str| doubted(file(&format!("[policy]\n{text}")));
    for (text, option, word) in [
        ("load_deadline = '20s'\nleader_age_max = '15s'", "load_deadline", "leader_age_max"),
        ("call_deadline = '5s'", "load_deadline", "call_deadline"),
        ("load_attempts = 4", "load_attempts", "call_deadline"),
        ("soft_deadline = '1s'", "soft_deadline", "stale_if_error"),
        ("soft_deadline = '1m'\nstale_if_error = '1h'", "soft_deadline", "call_deadline"),
        ("lease_ttl = '5s'", "lease_ttl", "lease = false"),
        ("retry_base = '1s'", "retry_base", "load_attempts = 1"),
        ("load_queue_max = 5", "load_queue_max", "loads_max = 0"),
        ("loads_min = 5", "loads_min", "loads_adaptive"),
        ("load_breaker = false\nload_breaker_rate = 20", "load_breaker_rate", "load_breaker = false"),
        ("ttl = '2h'", "ttl", "ttl.long"),
        ("store = true", "store", "follows"),
    ] {
        let [doubt] = &doubts(text)[..] else { panic!("{text}: {:?}", doubts(text)) };
        assert!(doubt.starts_with(&format!("{option} = ")) && doubt.contains(word), "{doubt}");
    }
    let hurry =
        file("url = 'redis://cache'\n[policy]\nlease = true\nlease_wait_max = '1m'\nstore_read_deadline = '1m'");
    assert_eq!(doubted(hurry).len(), 2);
    let switched_off = file("[policy]\nload_breaker_rate = 20").variables([("CACHE_BREAKER", "off")]);
    assert!(doubted(switched_off).is_empty(), "who switches off in an emergency knows");
}

#[test]
fn what_the_store_refuses_is_blamed_on_who_said_it() {
    let refusal = |text: &str| refused(file(text)).join("; ");
    let tls = refusal("url = 'redis://cache'\n[redis]\ntls_server_name = 'cache'");
    assert!(tls.starts_with("redis.tls_server_name = cache (c.toml:3)") && tls.contains("rediss://"), "{tls}");
    let replicas = refusal("url = 'redis://cache'\n[redis]\nread_from_replicas = true");
    assert!(replicas.starts_with("redis.read_from_replicas = true (c.toml:3)"), "{replicas}");
    let zero = refusal("url = 'redis://cache'\n[redis]\ncall_timeout = 0");
    assert!(zero.starts_with("redis.call_timeout = 0 (c.toml:3)"), "{zero}");
    let sentinel = refusal("url = 'redis+sentinel://a/main'\n[redis]\nsentinel_username = 'hush'");
    assert!(sentinel.starts_with("redis.sentinel_username = *** (c.toml:3)"), "{sentinel}");
    let certificate = refusal("url = 'rediss://cache'\n[redis]\ntls_ca_file = '/nowhere.pem'");
    assert!(
        certificate.starts_with("redis.tls_ca_file = /nowhere.pem (c.toml:3): the file cannot be read"),
        "{certificate}"
    );
    let unused = doubted(file("[redis]\nbackplane = 'off'"));
    assert_eq!(unused, ["redis.backplane = off (c.toml:2): is of no use: url is mem:// (default)"]);
    let older = doubted(file("url = 'redis://cache?protocol=resp2'\n[redis]\nbackplane = 'tracking'"));
    assert!(older[0].contains("RESP3"), "{older:?}");
}

#[test]
fn the_gateways_defaults_are_overruled_by_anybody() {
    let gateway = || Config::builder().default_value("key_bytes_max", "9216");
    let config = gateway().read().expect("good");
    assert_eq!((config.policy().key_bytes_max, value(&config, "key_bytes_max").1.as_str()), (9216, "default"));
    assert_eq!(gateway().set("key_bytes_max", "1").read().expect("good").policy().key_bytes_max, 1);
}

#[test]
fn secrets_are_nowhere() {
    let secrets = [
        ("CACHE_URL", "rediss+sentinel://app:hush1@a,b/main"),
        ("TIDEOVER_REDIS_SENTINEL_USERNAME", "hush2"),
        ("TIDEOVER_REDIS_SENTINEL_PASSWORD", "hush3"),
    ];
    let config = environment(&secrets).read().expect("good");
    let shown = format!("{config:?} {:?}", config.values().collect::<Vec<_>>());
    assert!(shown.contains("rediss+sentinel://***@a,b/main") && !shown.contains("hush"), "{shown}");
    for (name, value) in [
        ("CACHE_URL", "redis://hush1@"),
        ("CACHE_URL", "hush1"),
        ("CACHE_URL", "mongo://app:hush1@b"),
        ("CACHE_URL", "redis://app:hush1@b/x"),
        ("TIDEOVER_STORE", "redis://app:hush1@b"),
        ("TIDEOVER_PASSWORD", "hush1"),
        ("CACHE_PREFIX", "redis://app:hush1@b"),
    ] {
        let error = environment(&secrets[1..]).set("redis.call_timeout", "0").variables([(name, value)]).read();
        let error = error.expect_err(name);
        assert!(!format!("{error} {error:?}").contains("hush"), "{name}: {error}");
    }
    let odd = file("'redis://app:hush1@b' = 1\nurl = redis://app:hush2@b\nprefix = 'a'").read().expect_err("no TOML");
    assert!(!format!("{odd} {odd:?}").contains("hush"), "{odd}");
}

#[test]
fn no_text_makes_it_panic_and_each_answer_is_a_configuration_or_a_list_of_refusals() {
    const SEED: u64 = 0x7064_6521;
    const PIECES: &[&str] = &[
        "[cache]",
        "[policy]",
        "[redis]",
        "[ttl]",
        "[[ttl]]",
        "\n",
        "=",
        "url",
        "prefix",
        "lease",
        "ttl",
        "short",
        "'",
        "\"",
        "redis://u:p@h:1/2",
        "mem://",
        "0x1F",
        "1e9",
        "99999999999999999999999999",
        "-1",
        "true",
        "2020-01-01",
        "{",
        "}",
        ",",
        "[",
        "]",
        ".",
        "#",
        "\u{0}",
        "é",
        "\\u0000",
        "'''",
        "\r",
        "off",
        "preset",
        "edge",
        "load_attempts",
        " ",
        "1h30m",
    ];
    let mut entropy = Entropy::from_seed(SEED);
    let mut below = |end: usize| entropy.bits() as usize % end;
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..1_000 {
        let count = below(24);
        let pieces: String = (0..count).map(|_| PIECES[below(PIECES.len())]).collect();
        // Every other text is nearly one of ours.
        let text =
            if round % 2 == 0 { pieces } else { format!("prefix = 'a'\n[policy]\nload_attempts = 2\n{pieces}\n") };
        let variables = [("CACHE_URL", text.clone()), ("TIDEOVER_TTL", text.clone()), ("CACHE_VERSION", text.clone())];
        let answers = [file(&text).read(), Config::builder().variables(variables).read()];
        for answer in answers {
            match answer {
                Ok(_) => accepted += 1,
                Err(error) => {
                    assert!(!error.refusals().is_empty(), "seed {SEED}, round {round}: {text:?}");
                    assert_eq!(error.to_string().lines().count(), error.refusals().len(), "{error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(accepted > 10 && refused > 500, "{accepted} accepted, {refused} refused");
}
