//! A Redis server of one's own, to be killed, frozen and brought back; alone, with [TLS](Certificates), as a
//! [Cluster](RedisCluster) or watched by [Sentinels](RedisSentinels).
//!
//! ```no_run
//! use tideover_tests::redis_server::RedisServer;
//!
//! let mut server = RedisServer::start();
//! assert_eq!(server.command(&["SET", "user:7", "Ada"]), "OK");
//! server.kill();
//! server.restart();
//! assert_eq!(server.command(&["GET", "user:7"]), "(nil)");
//! ```

mod certificates;
mod cluster;
mod sentinel;

pub use self::certificates::Certificates;
pub use self::cluster::RedisCluster;
pub use self::sentinel::RedisSentinels;

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Ports tried before giving up; between finding one free and the server's bind, another process may take it.
const STARTS_MAX: u32 = 10;

/// How long a server may take to answer after its start.
const START_MAX: Duration = Duration::from_secs(10);

/// How long several servers may take to agree.
const SETTLE_MAX: Duration = Duration::from_secs(30);

/// How long one command of [`RedisServer::command`] may take.
const COMMAND_MAX: Duration = Duration::from_secs(5);

/// A running `redis-server` on 127.0.0.1 with a port and a folder of its own, without persistence unless it was
/// started with it.
///
/// All methods block, for milliseconds as a rule, and panic when they fail. Dropping it kills the server, frozen or
/// not, and removes the folder.
pub struct RedisServer {
    process: Child,
    port: u16,
    folder: PathBuf,
    password: Option<String>,
    /// The port for TLS, if it has one.
    tls_port: Option<u16>,
    arguments: Vec<String>,
}

/// What becomes of a port and a folder: the arguments of `redis-server`.
type Arguments<'a> = &'a dyn Fn(u16, &Path) -> Vec<String>;

impl RedisServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    ///
    /// When `redis-server` is not installed, or answers on none of ten ports.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(None, &[])
    }

    /// As [`start`](Self::start), with a server that wants `password` of its clients; letters and digits only, as
    /// [`url`](Self::url) does not encode it.
    #[must_use]
    pub fn start_with_password(password: &str) -> Self {
        Self::start_with(Some(password.to_owned()), &[])
    }

    /// As [`start`](Self::start), with further arguments of `redis-server`, which overrule the usual ones and hold for
    /// restarts too: `["--appendonly", "yes"]` keeps what was written over [`restart`](Self::restart).
    #[must_use]
    pub fn start_with_arguments(arguments: &[&str]) -> Self {
        Self::start_with(None, arguments)
    }

    /// A server that takes TLS connections on a port of its own beside the plain one, and shows the certificate of
    /// `certificates`. With `mutual` it wants one of the same authority from clients.
    #[must_use]
    pub fn start_with_tls(certificates: &Certificates, mutual: bool) -> Self {
        let tls_port = free_port();
        let mut server = Self::start_as(None, &|port, folder| {
            let auth = if mutual { "yes" } else { "no" }.to_owned();
            let auth = ["--tls-auth-clients".to_owned(), auth];
            [plain(port, folder), certificates.arguments(tls_port, folder), auth.to_vec()].concat()
        });
        server.tls_port = Some(tls_port);
        server
    }

    fn start_with(password: Option<String>, more: &[&str]) -> Self {
        let more: Vec<String> = more.iter().map(|&argument| argument.to_owned()).collect();
        Self::start_as(password.as_deref(), &|port, folder| {
            let mut arguments = plain(port, folder);
            if let Some(password) = &password {
                arguments.extend(["--requirepass".to_owned(), password.clone()]);
            }
            [arguments, more.clone()].concat()
        })
    }

    fn start_as(password: Option<&str>, arguments: Arguments<'_>) -> Self {
        for _ in 0..STARTS_MAX {
            let port = free_port();
            let folder = std::env::temp_dir().join(format!("tideover-redis-{}-{port}", std::process::id()));
            fs::create_dir_all(&folder).expect("the temporary folder is writable");
            let arguments = arguments(port, &folder);
            let password = password.map(str::to_owned);
            let mut server = Self { process: spawn(&arguments), port, folder, password, tls_port: None, arguments };
            if server.answers() {
                return server;
            }
        }
        panic!("redis-server answered on none of {STARTS_MAX} ports");
    }

    /// The URL for clients, with the password if there is one.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}", self.port),
            None => format!("redis://127.0.0.1:{}", self.port),
        }
    }

    /// The URL of the server's unix socket, for a server without a password.
    #[must_use]
    pub fn unix_url(&self) -> String {
        format!("redis+unix://{}", socket(&self.folder).display())
    }

    /// The URL of the port for TLS.
    ///
    /// # Panics
    ///
    /// When the server was started without one.
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("rediss://localhost:{}", self.tls_port.expect("a server with TLS"))
    }

    /// The TCP port, the same for life, restarts included.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process that serves.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Kills the server as `kill -9` does: connections break, data is lost.
    pub fn kill(&mut self) {
        self.process.kill().expect("the server is a child of this process");
        self.process.wait().expect("the server is a child of this process");
    }

    /// Kills the server if it runs, and starts it anew on the same port: empty, or with what it has persisted.
    ///
    /// It answers when this returns, if only that it is loading its data.
    ///
    /// # Panics
    ///
    /// When it does not answer within ten seconds.
    pub fn restart(&mut self) {
        self.kill();
        self.process = spawn(&self.arguments);
        assert!(self.answers(), "redis-server does not answer on port {}", self.port);
    }

    /// Stops the server in its tracks: the kernel goes on accepting connections and bytes, but nothing is answered.
    pub fn freeze(&mut self) {
        self.signal(libc::SIGSTOP);
        self.wait_until_stopped();
    }

    /// Lets a frozen server go on; it works off what came in meanwhile.
    pub fn thaw(&mut self) {
        self.signal(libc::SIGCONT);
    }

    /// Leaves everything unanswered for so long, as `CLIENT PAUSE` does; what came in is worked off after it.
    pub fn pause(&self, time: Duration) {
        self.orders(&["CLIENT", "PAUSE", &time.as_millis().to_string(), "ALL"]);
    }

    /// Makes the server a replica of a primary that is not there: it keeps what it has, serves it, and takes no writes.
    pub fn become_orphaned_replica(&self) {
        // Nobody listens on the port for port multiplexing.
        self.orders(&["REPLICAOF", "127.0.0.1", "1"]);
    }

    /// Makes the server a primary again.
    pub fn become_primary(&self) {
        self.orders(&["REPLICAOF", "NO", "ONE"]);
    }

    /// Sets a choice of the server's configuration while it runs.
    pub fn configure(&self, choice: &str, value: &str) {
        self.orders(&["CONFIG", "SET", choice, value]);
    }

    /// Changes the password that the server wants of new connections; [`url`](Self::url) names it from now on. Those
    /// that are there keep their rights until they are [cut](Self::cut_clients).
    pub fn change_password(&mut self, password: &str) {
        self.configure("requirepass", password);
        self.password = Some(password.to_owned());
    }

    /// Closes all connections of clients.
    pub fn cut_clients(&self) {
        let _how_many = self.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    }

    /// Whether the server answers, but only that it is loading its data.
    #[must_use]
    pub fn is_loading(&self) -> bool {
        self.command(&["INFO", "persistence"]).contains("loading:1\r")
    }

    fn orders(&self, words: &[&str]) {
        assert_eq!(self.command(words), "OK", "{words:?}");
    }

    /// Sends a command on a connection of its own and returns the answer: bytes as text, numbers in decimal, `(nil)`,
    /// errors after `(error) `, and the items of a list each on a line.
    ///
    /// # Panics
    ///
    /// When the server does not answer within five seconds.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> String {
        self.try_command(words).expect("the server answers")
    }

    fn try_command(&self, words: &[&str]) -> io::Result<String> {
        let stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, self.port).into(), COMMAND_MAX)?;
        stream.set_read_timeout(Some(COMMAND_MAX))?;
        stream.set_write_timeout(Some(COMMAND_MAX))?;
        let mut stream = BufReader::new(stream);
        if let Some(password) = &self.password {
            ask(&mut stream, &["AUTH", password])?;
        }
        ask(&mut stream, words)
    }

    /// Waits for the first answer; `false` if the process ended (its port was taken, as a rule) or time is up.
    /// An answer counts only if it is from this very process: another test's server may have got the port.
    fn answers(&mut self) -> bool {
        let deadline = Instant::now() + START_MAX;
        let itself = format!("process_id:{}\r", self.process.id());
        while self.runs() && Instant::now() < deadline {
            if self.try_command(&["INFO", "server"]).is_ok_and(|answer| answer.contains(&itself)) {
                return true;
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    }

    fn runs(&mut self) -> bool {
        self.process.try_wait().expect("the server is a child of this process").is_none()
    }

    fn signal(&mut self, signal: libc::c_int) {
        assert!(self.runs(), "the server was killed");
        // SAFETY: `kill` takes no pointers. The child runs and was not waited for, so its id is nobody else's.
        let outcome = unsafe { libc::kill(self.process_id(), signal) };
        assert_eq!(outcome, 0, "the server is a child of this process");
    }

    /// A signal is only queued when `kill` returns; the server might still answer one more command.
    fn wait_until_stopped(&self) {
        let mut status = 0;
        // SAFETY: `status` outlives the call. WUNTRACED reports the stop of our own child and reaps nothing.
        let stopped = unsafe { libc::waitpid(self.process_id(), &raw mut status, libc::WUNTRACED) };
        assert!(stopped == self.process_id() && libc::WIFSTOPPED(status), "the server stopped");
    }

    fn process_id(&self) -> libc::pid_t {
        self.process.id().cast_signed()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // A test that fails is unwinding here; what cannot be cleaned up must not hide why.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound address").port()
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("redis.sock")
}

/// A server on loopback without persistence.
fn plain(port: u16, folder: &Path) -> Vec<String> {
    let (port, folder, socket) = (port.to_string(), folder.display().to_string(), socket(folder).display().to_string());
    let words = ["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"];
    let rest = ["--dir", &folder, "--unixsocket", &socket, "--repl-diskless-sync-delay", "0"];
    words.into_iter().chain(rest).map(str::to_owned).collect()
}

fn spawn(arguments: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    command.args(arguments);
    match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
        Ok(process) => process,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            panic!("redis-server is not installed; ./test installs it")
        }
        Err(error) => panic!("redis-server does not start: {error}"),
    }
}

/// Waits until `holds`, and panics with what was waited for when that takes too long.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SETTLE_MAX;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn ask(stream: &mut BufReader<TcpStream>, words: &[&str]) -> io::Result<String> {
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request += &format!("${}\r\n{word}\r\n", word.len());
    }
    stream.get_mut().write_all(request.as_bytes())?;
    read_answer(stream)
}

fn read_answer(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "not an answer of Redis");
    let (kind, rest) = line.trim_end().split_at_checked(1).ok_or_else(malformed)?;
    let count = || rest.parse::<usize>().map_err(|_| malformed());
    match kind {
        "+" | ":" => Ok(rest.to_owned()),
        "-" => Ok(format!("(error) {rest}")),
        "$" | "*" if rest == "-1" => Ok("(nil)".to_owned()),
        "$" => {
            let mut bytes = vec![0; count()? + 2];
            stream.read_exact(&mut bytes)?;
            bytes.truncate(bytes.len() - 2);
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        "*" => {
            let items: io::Result<Vec<String>> = (0..count()?).map(|_| read_answer(stream)).collect();
            Ok(items?.join("\n"))
        }
        _ => Err(malformed()),
    }
}
