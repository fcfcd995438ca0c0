//! The program `tideover` from outside: what it prints, and how it exits.
#![cfg(all(feature = "gateway", feature = "component"))]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Catches a hang.
const HANG: Duration = Duration::from_secs(30);

fn tideover(arguments: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_tideover"));
    program.args(arguments).stdin(Stdio::null());
    program
}

fn run(arguments: &[&str]) -> Output {
    tideover(arguments).output().expect("the program runs")
}

/// One line on stderr that holds every word, and this exit code.
fn refused(arguments: &[&str], code: i32, words: &[&str]) {
    let output = run(arguments);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{arguments:?}: {text}");
    for word in words {
        assert!(text.contains(word), "{arguments:?}: {text}");
    }
}

struct Serving {
    process: Child,
    address: String,
}

impl Serving {
    fn start(arguments: &[&str]) -> Self {
        let mut process = tideover(&[&["serve", "--listen", "127.0.0.1:0"], arguments].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program runs");
        let mut line = String::new();
        let output = process.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("listening on http://").expect("where it listens").to_owned();
        Self { process, address }
    }

    fn get(&self, target: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        write!(stream, "GET {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("a response");
        text
    }

    /// SIGTERM, and the code that the program exits with.
    fn terminate(mut self) -> Option<i32> {
        let kill = Command::new("kill").arg(self.process.id().to_string()).status().expect("kill runs");
        assert!(kill.success());
        let began = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("its status") {
                return status.code();
            }
            assert!(began.elapsed() < HANG, "it does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn mistakes_are_one_clear_line() {
    refused(&[], 2, &["subcommand", "serve", "config", "demo"]);
    refused(&["serve"], 2, &["--origin"]);
    refused(&["serve", "--origin", "ftp://a"], 2, &["--origin", "ftp"]);
    refused(&["serve", "--origin", "http://a/path"], 2, &["--origin", "HOST:PORT"]);
    refused(&["serve", "--origin", "http://a", "--ttl", "soon"], 2, &["--ttl", "soon"]);
    refused(&["serve", "--origin", "http://a", "--engine", "steam"], 2, &["steam"]);
    refused(&["serve", "--origin", "http://a", "--store", "mongo://b"], 2, &["--store"]);
    refused(&["serve", "--origin", "http://a", "--set", "tll=5s"], 2, &["tll"]);
    refused(&["serve", "--origin", "http://a", "--set", "load_deadline=0"], 2, &["load_deadline"]);
    refused(&["serve", "--origin", "http://a", "--listen", "nowhere"], 2, &["--listen"]);
    refused(&["frobnicate"], 2, &["frobnicate"]);
}

#[test]
fn a_password_is_never_repeated() {
    let arguments = ["serve", "--origin", "http://a", "--store", "redis://user:hush@host:port/0"];
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(2));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("hush"));
}

#[test]
fn a_port_in_use_is_a_failure_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let output = run(&["serve", "--origin", "http://127.0.0.1:1", "--listen", &address]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&address), "{text}");
}

#[test]
fn the_configuration_file_stands_behind_the_command_line() {
    let folder = std::env::temp_dir().join(format!("tideover-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let typo = file("typo.toml", "origin = \"http://a\"\norigni = \"http://b\"\n");
    refused(&["serve", "--config", &typo], 2, &["typo.toml:2", "origni", "did you mean origin?"]);
    let policy = file("policy.toml", "origin = \"http://a\"\n[policy]\nload_attempts = 0\n");
    refused(&["serve", "--config", &policy], 2, &["load_attempts = 0", "policy.toml:3"]);
    let table = file("table.toml", "[serve]\norigin = \"http://a\"\nlisten = \"nowhere\"\n");
    refused(&["serve", "--config", &table], 2, &["table.toml:3", "socket address"]);
    refused(&["serve", "--config", "/nowhere.toml"], 2, &["/nowhere.toml"]);
    let good = file("good.toml", "origin = \"http://127.0.0.1:1\"\nttl = \"60s\"\nengine = \"native\"\n");
    let serving = Serving::start(&["--config", &good]);
    assert!(serving.get("/-/health").contains("\"engine\": \"native\""));
    let serving = Serving::start(&["--config", &good, "--engine", "policy"]);
    assert!(serving.get("/-/health").contains("\"engine\": \"policy\""));
    let nested = file("nested.toml", "[serve]\norigin = \"http://127.0.0.1:1\"\n[cache]\nengine = \"native\"\n");
    let serving = Serving::start(&["--config", &nested]);
    assert!(serving.get("/-/health").contains("\"engine\": \"native\""));
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

#[test]
fn a_configuration_is_checked_and_shown_without_running_it() {
    let folder = std::env::temp_dir().join(format!("tideover-check-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let check = |path: &str| {
        let output = run(&["config", "check", path, "--no-environment"]);
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).expect("text"))
    };
    let bad = file("bad.toml", "url = \"redis://app:hush@h:x\"\n[policy]\ntll = \"5s\"\nload_attempts = 0\n");
    let (code, text) = check(&bad);
    assert_eq!((code, text.lines().count()), (Some(2), 3), "{text}");
    assert!(text.lines().all(|line| line.starts_with("error: ")), "{text}");
    assert!(text.contains("did you mean ttl?") && text.contains("bad.toml:4") && !text.contains("hush"), "{text}");

    let doubtful = file("doubtful.toml", "origin = \"http://a\"\n[policy]\nlease_ttl = \"5s\"\n");
    let (code, text) = check(&doubtful);
    assert_eq!((code, text.lines().count()), (Some(0), 1), "{text}");
    assert!(text.starts_with("warning: lease_ttl = 5s"), "{text}");

    let good = file("good.toml", "preset = \"edge\"\nurl = \"redis://app:hush@cache\"\n[ttl]\nlong = \"2h\"\n");
    assert_eq!(check(&good), (Some(0), format!("{good}: nothing is wrong\n")));

    let mut show = tideover(&["config", "show", &good]);
    let shown = show.env("CACHE_VERSION", "7").env_remove("CACHE_URL").output().expect("the program runs");
    let text = String::from_utf8(shown.stdout).expect("text");
    let row = |option: &str| {
        let row = text.lines().find(|line| line.split_whitespace().next() == Some(option)).expect(option);
        row.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row("url"), format!("redis://***@cache {good}:2"));
    assert_eq!(row("namespace"), "tideover@7: CACHE_VERSION");
    assert_eq!(row("ttl.long"), format!("2h {good}:4"));
    assert_eq!(row("store_attempts"), "1 preset edge");
    assert_eq!(row("load_attempts"), "1 default");
    assert!(!text.contains("hush"), "{text}");
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

#[test]
fn whoever_wants_a_store_that_is_ready_is_told_that_it_is_not() {
    let away =
        ["serve", "--listen", "127.0.0.1:0", "--origin", "http://127.0.0.1:1", "--store", "redis://:hush@127.0.0.1:1"];
    let arguments = [&away[..], &["--must-be-ready"]].concat();
    refused(&arguments, 1, &["url = redis://", "127.0.0.1:1", "--store", "the store is not ready"]);
    assert!(!String::from_utf8_lossy(&run(&arguments).stderr).contains("hush"));
    // In memory there is nothing to wait for.
    let serving = Serving::start(&["--origin", "http://127.0.0.1:1", "--must-be-ready"]);
    assert_eq!(serving.terminate(), Some(0));
}

#[test]
fn origin_and_store_that_are_away_are_no_reason_not_to_start() {
    let serving = Serving::start(&["--origin", "http://127.0.0.1:1", "--store", "redis://127.0.0.1:1"]);
    let health = serving.get("/-/health");
    assert!(health.contains("\"degraded\"") && health.contains("\"component\""), "{health}");
    assert!(serving.get("/page").starts_with("HTTP/1.1 502"));
    assert_eq!(serving.terminate(), Some(0));
}
