//! House rules as tests.

use std::fs;
use std::path::{Path, PathBuf};

use tideover::config::{Config, Preset, options};
use tideover::direct::DirectStats;
use tideover::observe::{METRICS, SPANS, SpanDoc, troubles};
use tideover_core::policy::OptionDoc;
use tideover_core::{Policy, cache, memory};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust source of the workspace, as a path from its root.
fn sources() -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["core", "wasm-guest", "macros", "host", "tests", "benches", "examples"] {
        collect(&root().join(folder), folder, ".rs", &mut found);
    }
    found
}

fn collect(folder: &Path, name: &str, ending: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let name = format!("{name}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().expect("its type").is_dir() {
            collect(&entry.path(), &name, ending, found);
        } else if name.ends_with(ending) {
            found.push(name);
        }
    }
}

/// Compares a generated document with the file; `UPDATE_DOCS=1` writes it instead.
fn generated(path: &str, text: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(root().join(path), text).expect("the document is written");
    }
    assert!(read(path) == text, "{path} is not what the code says; run UPDATE_DOCS=1 cargo test -p tideover-tests");
}

#[test]
fn the_table_of_options_is_the_codes() {
    let mut text = String::from(
        "# Options\n\nMade from the code by `UPDATE_DOCS=1 cargo test -p tideover-tests --test tidy`. Each is a field of \
         `Policy`, a name for\n`Builder::set`, an argument of `serve --set`, a key of `[policy]` in a configuration file, \
         and a `setting` of the components.\nDurations are written as `250ms`, `60s` or `1h30m`.\n\n\
         | option | default | meaning |\n|---|---|---|\n",
    );
    for option in Policy::OPTIONS {
        let OptionDoc { name, doc, .. } = option;
        text += &format!("| `{name}` | {} | {} |\n", option.default_text(), doc.trim());
    }
    text += "\n# Counts\n\nMetrics carry them as `tideover_NAME`, with `_total` where they only grow.\n\n\
             | count | meaning |\n|---|---|\n";
    for (name, doc) in cache::Stats::NAMES.iter().chain(memory::MemoryStats::NAMES).chain(DirectStats::NAMES) {
        text += &format!("| `{name}` | {} |\n", doc.trim());
    }
    generated("docs/options.md", &text);
}

/// What `docs/configuration.md` says before its tables.
const CONFIGURATION: &str = "\
# Configuration

Made from the code by `UPDATE_DOCS=1 cargo test -p tideover-tests --test tidy`. What is said in code overrules the
environment, that overrules files, those overrule the preset, and that the defaults.

```toml
preset = \"production\"
url = \"redis://cache.internal:6379/0\"
prefix = \"shop\"

[ttl]
short = \"10s\"

[redis]
backplane = \"tracking\"

[policy]
stale_if_error = \"6h\"
```

- `tideover config check FILE` says what is wrong with a file, `tideover config show FILE` what comes of it and from where.
- The keys of the top level may lie in a table `[cache]` instead, and the tables in `[cache.ttl]` and so on. Keys and tables
  of others are refused unless `ConfigBuilder::other_keys` names them; the program knows `[serve]`, the gateway's.
- Unknown names are refused. Variables that begin with `CACHE_` may be somebody else's: only one that looks like a slip of
  the pen is a warning. `REDIS_URL` counts where `CACHE_URL` is not set. A variable that is set and empty is refused.
- Durations are written as `250ms`, `60s` or `1h30m`. Lifetimes may be bare numbers of seconds; 0 never expires.
- Keys in a store begin with `PREFIX:`, or with `PREFIX@VERSION:` where a version is set. No such namespace is the beginning
  of another, so versions do not see each other, and clearing one leaves the others alone.

";

#[test]
fn the_names_of_configurations_are_the_codes() {
    let of_policy = |name: &str| Policy::OPTIONS.iter().any(|option| option.name == name);
    let of_redis = |name: &str| name.starts_with("redis.");
    let text = [
        CONFIGURATION.to_owned(),
        names_of("The cache as a whole", &|name| !of_policy(name) && !of_redis(name)),
        names_of("Redis", &of_redis),
        names_of("The policy", &of_policy),
        presets(),
    ];
    generated("docs/configuration.md", &text.concat());
    let example = CONFIGURATION.split("```").nth(1).and_then(|block| block.strip_prefix("toml\n")).expect("an example");
    let config = Config::builder().toml("example", example).read().expect("the example can be");
    assert_eq!(config.warnings(), []);
}

/// The options that belong to a part, with all their names.
fn names_of(part: &str, belongs: &dyn Fn(&str) -> bool) -> String {
    let mut text = format!("## {part}\n\n| option | in the environment | in a file | default | meaning |\n");
    text += "|---|---|---|---|---|\n";
    let code = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    for option in options().iter().filter(|option| belongs(option.name)) {
        let (variables, keys) = (code(&option.variables), code(&option.keys));
        text += &format!("| `{}` | {variables} | {keys} | {} | {} |\n", option.name, option.default, option.doc);
    }
    text + "\n"
}

fn presets() -> String {
    let mut text = String::from(
        "## Presets\n\nTo start from, by `preset` or `CACHE_PRESET`. Whatever anybody says beside it overrules it.\n",
    );
    for preset in Preset::ALL {
        text += &format!("\n### {}\n\n{}\n\n", preset.name(), preset.doc());
        text += "| option | value | why |\n|---|---|---|\n";
        for choice in preset.choices() {
            text += &format!("| `{}` | {} | {} |\n", choice.option, choice.value, choice.why);
        }
    }
    text
}

#[test]
fn the_table_of_metrics_is_the_codes() {
    let mut text = String::from(
        "# What is seen of a cache\n\nMade from the code by `UPDATE_DOCS=1 cargo test -p tideover-tests --test tidy`.\n\n\
         ## Metrics\n\nWith the feature `metrics` they reach whatever recorder of the crate `metrics` is installed, twice a \
         second and\nwhen `Cache::update_metrics` is called; a hit pays nothing for them. Install the recorder before the \
         cache is made: what\nwas counted before is not told. Each metric has the label `cache`, the name given by \
         `Builder::name`. Names are written as\nOpenTelemetry writes them; Prometheus exporters make `_` of the dots, and may \
         add the unit and `_total`:\n`tideover_cache_hits_total`. Stale hits are a series of their own and never among the \
         hits.\n\nWithout any recorder, the route `/metrics` of `web::axum` and `/-/metrics` of the gateway show all but \
         the durations, as\n`tideover_cache_hits_total{cache=\"NAME\"}`.\n\n| metric | kind | unit | labels | meaning |\n|---|---|---|---|---|\n",
    );
    for metric in METRICS {
        let labels: Vec<String> = metric.labels().iter().map(|label| format!("`{label}`")).collect();
        let values: Vec<String> = metric.label_values().iter().map(|value| format!("`{value}`")).collect();
        let labels =
            if values.is_empty() { labels.join(", ") } else { format!("{}: {}", labels[0], values.join(", ")) };
        let (name, kind, unit, doc) = (metric.name, metric.kind.name(), metric.unit, metric.doc);
        text += &format!("| `{name}` | {kind} | `{unit}` | {labels} | {doc} |\n");
    }
    text += "\n## Spans\n\nOf the level `DEBUG` and the target `tideover`. A flight lies inside the span of the caller that \
             launched it, loads and store\noperations inside their flight, and what a loader does inside its load. The \
             engine `component` shows no flights, and its\nloads lie inside their caller. The field `key` is there if \
             `Builder::reveal_keys` asks for it; values never are.\n\n| span | fields | meaning |\n|---|---|---|\n";
    for SpanDoc { name, fields, doc } in SPANS {
        let fields: Vec<String> = fields.iter().map(|field| format!("`{field}`")).collect();
        text += &format!("| `{name}` | {} | {doc} |\n", fields.join(", "));
    }
    text += "\n## Log lines\n\nHowever often something fails, it writes one line (`WARN`) when that begins, at most one each \
             30 seconds while it goes on, with\nthe number of `failures` since the one before, and one (`INFO`) when it is \
             over, with the number of all. Fields: `cache`, `trouble`,\n`reason`, `failures`, `lasted`.\n\n\
             | trouble | when it begins | while it goes on | when it is over |\n|---|---|---|---|\n";
    for (name, [begins, goes_on, over]) in troubles() {
        text += &format!("| `{name}` | {begins} | {goes_on} | {over} |\n");
    }
    generated("docs/metrics.md", &text);
}

/// time, entropy, failure ← policy ← entry, memory, backoff, breaker ← step, flight, journal, envelope ← cache.
/// The policy names the shapes of the machines it configures, so those stand below it.
#[test]
fn the_core_imports_in_one_direction() {
    const LAYERS: [&[&str]; 7] = [
        &["time", "entropy", "failure", "counts", "value", "storage", "seal", "stamp", "pattern"],
        &["entry", "backoff", "breaker", "budget", "civil", "eviction", "latency", "limit", "tags"],
        &["memory", "step", "envelope"],
        &["policy"],
        &["direct", "flight", "journal", "outdated"],
        &["cache"],
        &["shared"],
    ];
    let layer = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    for path in sources().iter().filter(|path| path.starts_with("core/src/") && !path.ends_with("lib.rs")) {
        let room = path.trim_start_matches("core/src/").split(['/', '.']).next().unwrap_or_default();
        let own = layer(room).unwrap_or_else(|| panic!("{path} is in no layer"));
        for line in read(path).lines().filter_map(|line| line.strip_prefix("use crate::")) {
            let used = line.split([':', ';']).next().unwrap_or_default();
            let used_layer = layer(used).unwrap_or_else(|| panic!("{path} uses {used}, which is in no layer"));
            assert!(used_layer <= own && (used_layer < own || used != room), "{path} must not use {used}");
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for path in sources() {
        assert!(read(&path).starts_with("//! "), "{path} has no documentation line");
    }
}

#[test]
fn files_are_one_room_each() {
    for path in sources() {
        let lines = read(&path).lines().count();
        assert!(lines <= 700, "{path} has {lines} lines: is it still one room?");
    }
}

/// Each row of the table of laws names tests that exist.
#[test]
fn each_law_is_guarded_by_tests_that_exist() {
    let architecture = read("ARCHITECTURE.md");
    let all: String = sources().iter().map(|path| read(path)).collect();
    let scenarios: Vec<String> = fs::read_dir(root().join("tests/scenarios"))
        .expect("the scenarios")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    let laws: Vec<&str> =
        architecture.lines().filter(|line| line.starts_with("| ") && law_number(line).is_some()).collect();
    assert_eq!(laws.len(), 12, "there are twelve laws");
    for law in laws {
        let guards: Vec<&str> = law.rsplit('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2).collect();
        assert!(!guards.is_empty(), "no test guards: {law}");
        for guard in guards {
            let exists = all.contains(&format!("fn {guard}(")) || scenarios.iter().any(|name| name == guard);
            assert!(exists, "there is no test {guard}, named in: {law}");
        }
    }
}

fn law_number(line: &str) -> Option<u32> {
    line.split('|').nth(1)?.trim().parse().ok()
}

#[test]
fn the_core_has_no_unsafe_code_and_no_standard_library() {
    let core = read("core/src/lib.rs");
    assert!(core.contains("#![forbid(unsafe_code)]") && core.contains("#![no_std]"));
}

/// The pages of the book, as paths from the root.
fn pages() -> Vec<String> {
    let mut found = Vec::new();
    collect(&root().join("docs"), "docs", ".md", &mut found);
    found.retain(|page| !page.starts_with("docs/book/"));
    found
}

/// A document without its blocks of code.
fn prose(path: &str) -> String {
    let text = read(path);
    let parts: Vec<&str> = text.split("\n```").step_by(2).collect();
    parts.join("\n")
}

/// Where the links of a document lead, other sites left out.
fn links(path: &str) -> Vec<String> {
    let prose = prose(path);
    // Code in a line may have brackets of its own.
    let plain: String = prose.split('`').step_by(2).collect();
    let ends = plain.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    let definitions = plain.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: ").map(|(_, end)| end));
    ends.chain(definitions).filter(|end| !end.contains("://")).map(str::to_owned).collect()
}

/// The anchors that a page has for its headings, as GitHub and mdBook make them.
fn anchors(path: &str) -> Vec<String> {
    let keeps = |letter: &char| letter.is_alphanumeric() || ['-', '_', ' '].contains(letter);
    let anchor = |heading: &str| heading.to_lowercase().chars().filter(keeps).collect::<String>().replace(' ', "-");
    let prose = prose(path);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

/// `folder/../page` without the detour.
fn resolved(from: &str, end: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in end.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let others = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(str::to_owned);
    let mut followed = 0;
    for from in pages().into_iter().chain(others) {
        for link in links(&from) {
            let (end, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let end = if end.is_empty() { from.clone() } else { resolved(&from, end) };
            assert!(root().join(&end).exists(), "{from} leads to {link}, which does not exist");
            assert!(anchor.is_empty() || anchors(&end).iter().any(|known| known == anchor), "{from}: {link}");
            followed += 1;
        }
    }
    assert!(followed > 30, "are these all links? {followed}");
}

/// In a built book only its own pages are there, and only those that the summary names are built.
#[test]
fn the_links_of_the_book_stay_inside_it() {
    assert!(read("docs/book.toml").contains("\nsrc = \".\"\n"), "pages have the same paths as in the repository");
    let named: Vec<String> = links("docs/SUMMARY.md").iter().map(|link| resolved("docs/SUMMARY.md", link)).collect();
    for page in pages().iter().filter(|page| *page != "docs/SUMMARY.md") {
        assert!(named.contains(page), "docs/SUMMARY.md does not name {page}");
        for link in links(page) {
            let end = resolved(page, link.split('#').next().unwrap_or_default());
            assert!(link.starts_with('#') || named.contains(&end), "{page} leads to {link}, out of the book");
        }
    }
}

/// Each page of the guide has its snippets compiled.
#[test]
fn every_page_of_the_guide_is_compiled() {
    let compiled = read("examples/src/lib.rs");
    for page in pages().iter().filter_map(|page| page.strip_prefix("docs/guide/")) {
        assert!(compiled.contains(&format!("\"{page}\"")), "examples/src/lib.rs does not name {page}");
    }
}
