//! A TCP proxy of one's own before a server, to do to its connections what networks do.
//!
//! What it does can be changed at any time, and holds at once for the connections that there are. Two things are not
//! taken back, as no network takes them back: a connection that was cut is gone, and one that has swallowed bytes
//! swallows all that come after them, since a stream never goes on behind a gap.
//!
//! ```
//! use tideover_tests::proxy::{Fault, Proxy};
//! use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
//! use tokio::net::{TcpListener, TcpStream};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let server = TcpListener::bind("127.0.0.1:0").await?;
//! let proxy = Proxy::before(server.local_addr()?.port());
//! let mut client = TcpStream::connect(proxy.address()).await?;
//! let (mut served, _) = server.accept().await?;
//!
//! proxy.does(Fault::CutReplies { after: 4 });
//! served.write_all(b"a long reply").await?;
//! let mut got = Vec::new();
//! client.read_to_end(&mut got).await?;
//! assert_eq!(got, b"a lo");
//! assert_eq!((proxy.accepted(), proxy.replied()), (1, 4));
//! # Ok(())
//! # }
//! ```

use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 1_024;

/// Pieces of a stream that may be under way in one direction; past it, the sender waits.
const PIECES_MAX: usize = 256;

/// Bytes of one piece.
const PIECE_MAX: usize = 16 * 1_024;

/// Under a limited bandwidth a piece is passed on in so many portions a second.
const PORTIONS: u64 = 50;

/// What a [`Proxy`] does to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing: everything passes.
    #[default]
    None,
    /// Every byte arrives so much later, in either direction; how many are under way is not limited by it.
    Latency(Duration),
    /// No more than so many bytes a second pass in either direction of a connection.
    Bandwidth(u64),
    /// Replies arrive one byte at a time, each in a segment of its own.
    ByteByByte,
    /// A connection is cut, without a word, when so many further bytes of replies have passed: in the midst of one,
    /// if the number is well chosen.
    CutReplies {
        /// Bytes that pass, counted for each connection from now or from its beginning, whichever comes later.
        after: u64,
    },
    /// Half-open: what the client sends vanishes, and the connection stays.
    SwallowRequests,
    /// Half-open: the server does what it is asked, but its replies vanish, and the connection stays.
    SwallowReplies,
    /// Connections are reset, those that there are and new ones as soon as they are accepted.
    Reset,
    /// Nobody listens: new connections are refused. Those that there are stay.
    Refuse,
    /// New connections are accepted, but lead nowhere; not one byte comes. Those that there are stay.
    Mute,
}

/// What has passed on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that the client sent and the server got.
    pub requested: u64,
    /// Bytes that the server sent and the client got.
    pub replied: u64,
    /// Whether it is still there.
    pub open: bool,
}

/// A proxy on loopback before one server. Its methods do not wait; a fault takes hold within a moment.
///
/// To be made inside a tokio runtime. Dropping it ends it, and all connections through it.
pub struct Proxy {
    address: SocketAddr,
    faults: watch::Sender<Fault>,
    counts: Arc<Mutex<Vec<Arc<Counts>>>>,
    accepting: AbortHandle,
}

#[derive(Default)]
struct Counts {
    requested: AtomicU64,
    replied: AtomicU64,
    ended: AtomicBool,
}

impl Proxy {
    /// A proxy on a free port before the server on `port` of 127.0.0.1, which need not be there yet.
    ///
    /// # Panics
    ///
    /// When there is no free port, or no tokio runtime.
    #[must_use]
    pub fn before(port: u16) -> Self {
        // Bound and never listening, it keeps the port for this proxy while connections are refused.
        let keeper = bound((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let address = keeper.local_addr().expect("a bound address");
        let listener = listen(address).expect("a port of one's own");
        let (faults, _) = watch::channel(Fault::None);
        let counts = Arc::default();
        let door =
            Door { _keeper: keeper, address, server: (Ipv4Addr::LOCALHOST, port).into(), counts: Arc::clone(&counts) };
        let accepting = tokio::spawn(door.keep(listener, faults.subscribe())).abort_handle();
        Self { address, faults, counts, accepting }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it does this, in place of what it did.
    pub fn does(&self, fault: Fault) {
        self.faults.send_replace(fault);
    }

    /// What has passed on each connection that it ever accepted, in their order.
    #[must_use]
    pub fn traffic(&self) -> Vec<Traffic> {
        lock(&self.counts).iter().map(|counts| counts.traffic()).collect()
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        lock(&self.counts).len()
    }

    /// Connections that are there now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.traffic().iter().filter(|traffic| traffic.open).count()
    }

    /// Bytes of requests that the server got, over all connections.
    #[must_use]
    pub fn requested(&self) -> u64 {
        self.traffic().iter().map(|traffic| traffic.requested).sum()
    }

    /// Bytes of replies that clients got, over all connections.
    #[must_use]
    pub fn replied(&self) -> u64 {
        self.traffic().iter().map(|traffic| traffic.replied).sum()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Counts {
    fn traffic(&self) -> Traffic {
        Traffic {
            requested: self.requested.load(Ordering::Relaxed),
            replied: self.replied.load(Ordering::Relaxed),
            open: !self.ended.load(Ordering::Relaxed),
        }
    }
}

/// Marks its connection as ended, however it ends.
struct Ending(Arc<Counts>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

/// Where connections come in, and where they are led.
struct Door {
    _keeper: TcpSocket,
    address: SocketAddr,
    server: SocketAddr,
    counts: Arc<Mutex<Vec<Arc<Counts>>>>,
}

impl Door {
    async fn keep(self, listener: TcpListener, mut faults: watch::Receiver<Fault>) {
        let mut listener = Some(listener);
        // Dropped with this task, and with it every connection.
        let mut connections = JoinSet::new();
        loop {
            let refuses = *faults.borrow_and_update() == Fault::Refuse;
            listener = match listener {
                _ if refuses => None,
                None => Some(listen(self.address).expect("the port was kept")),
                listening => listening,
            };
            tokio::select! {
                changed = faults.changed() => if changed.is_err() { return },
                client = accept(listener.as_ref()) => drop(connections.spawn(self.connection(client, faults.clone()))),
                Some(_) = connections.join_next() => {}
            }
        }
    }

    fn connection(
        &self,
        client: TcpStream,
        faults: watch::Receiver<Fault>,
    ) -> impl Future<Output = io::Result<()>> + use<> {
        let counts = Arc::new(Counts::default());
        lock(&self.counts).push(Arc::clone(&counts));
        lead(client, self.server, faults, Ending(counts))
    }
}

/// A socket that shares its port with others of this proxy that do not listen.
fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    bound(address)?.listen(BACKLOG)
}

/// The next connection; never, while nobody listens.
async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else { return pending().await };
    loop {
        if let Ok((client, _)) = listener.accept().await {
            return client;
        }
    }
}

/// One connection from its beginning to its end, which is that of either side.
async fn lead(
    mut client: TcpStream,
    server: SocketAddr,
    mut faults: watch::Receiver<Fault>,
    ending: Ending,
) -> io::Result<()> {
    let fault = *faults.borrow_and_update();
    match fault {
        Fault::Reset => return client.set_zero_linger(),
        Fault::Mute => return pending().await,
        _ => {}
    }
    let mut server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let requests = Way::new(Direction::Requests, &faults, &ending.0.requested);
    let replies = Way::new(Direction::Replies, &faults, &ending.0.replied);
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    let reset = tokio::select! {
        _ = requests.carry(from_client, to_server) => false,
        _ = replies.carry(from_server, to_client) => false,
        reset = faults.wait_for(|fault| *fault == Fault::Reset) => reset.is_ok(),
    };
    if reset { client.set_zero_linger() } else { Ok(()) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Requests,
    Replies,
}

/// One direction of one connection.
struct Way<'a> {
    direction: Direction,
    faults: watch::Receiver<Fault>,
    passed: &'a AtomicU64,
    /// Of `passed`, what came under an earlier fault.
    passed_before: u64,
    /// Bytes were swallowed, so that none can follow.
    broken: bool,
}

/// Bytes, and when they arrive.
type Piece = (Instant, Vec<u8>);

impl<'a> Way<'a> {
    fn new(direction: Direction, faults: &watch::Receiver<Fault>, passed: &'a AtomicU64) -> Self {
        Self { direction, faults: faults.clone(), passed, passed_before: 0, broken: false }
    }

    /// Passes on what comes, until either end is closed or the connection is to be cut.
    async fn carry(self, from: ReadHalf<'_>, to: WriteHalf<'_>) -> io::Result<()> {
        let (line, pieces) = mpsc::channel(PIECES_MAX);
        let faults = self.faults.clone();
        tokio::try_join!(take(from, faults, line), self.deliver(pieces, to)).map(drop)
    }

    async fn deliver(mut self, mut pieces: mpsc::Receiver<Piece>, mut to: WriteHalf<'_>) -> io::Result<()> {
        while let Some((arrives_at, bytes)) = pieces.recv().await {
            sleep_until(arrives_at).await;
            self.pass(&bytes, &mut to).await?;
        }
        Ok(())
    }

    async fn pass(&mut self, mut bytes: &[u8], to: &mut WriteHalf<'_>) -> io::Result<()> {
        while !bytes.is_empty() {
            // Asked again for each portion: what holds may change in the midst of a long one.
            let portion = match (self.fault(), self.direction) {
                (Fault::SwallowRequests, Direction::Requests) | (Fault::SwallowReplies, Direction::Replies) => {
                    self.broken = true;
                    0
                }
                (Fault::ByteByByte, Direction::Replies) => 1,
                (Fault::Bandwidth(per_second), _) => {
                    sleep(Duration::from_secs(1) / PORTIONS as u32).await;
                    (per_second / PORTIONS).max(1)
                }
                (Fault::CutReplies { after }, Direction::Replies) => {
                    let left = after.saturating_sub(self.passed.load(Ordering::Relaxed) - self.passed_before);
                    if left == 0 {
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                    left
                }
                _ => u64::MAX,
            };
            if self.broken {
                return Ok(());
            }
            let length = usize::try_from(portion).map_or(bytes.len(), |portion| portion.min(bytes.len()));
            let (now, later) = bytes.split_at(length);
            to.write_all(now).await?;
            self.passed.fetch_add(now.len() as u64, Ordering::Relaxed);
            bytes = later;
        }
        Ok(())
    }

    /// What holds now. A cut counts from when it was asked for.
    fn fault(&mut self) -> Fault {
        if self.faults.has_changed().unwrap_or(false) {
            self.passed_before = self.passed.load(Ordering::Relaxed);
        }
        *self.faults.borrow_and_update()
    }
}

/// Reads what comes, and says when it is to arrive.
async fn take(mut from: ReadHalf<'_>, faults: watch::Receiver<Fault>, line: mpsc::Sender<Piece>) -> io::Result<()> {
    let mut piece = vec![0; PIECE_MAX];
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return Ok(());
        }
        let latency = match *faults.borrow() {
            Fault::Latency(latency) => latency,
            _ => Duration::ZERO,
        };
        let Ok(()) = line.send((Instant::now() + latency, piece[..length].to_vec())).await else { return Ok(()) };
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a hang.
    const HANG: Duration = Duration::from_secs(10);

    /// A server that sends back what it gets, and how much it got.
    async fn echo() -> (u16, Arc<AtomicU64>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (port, got) = (listener.local_addr().expect("a bound address").port(), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&got);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let got = Arc::clone(&counted);
                tokio::spawn(async move {
                    let mut bytes = vec![0; PIECE_MAX];
                    while let Ok(length @ 1..) = stream.read(&mut bytes).await {
                        got.fetch_add(length as u64, Ordering::Relaxed);
                        if stream.write_all(&bytes[..length]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        (port, got)
    }

    async fn proxied() -> (Proxy, Arc<AtomicU64>) {
        let (port, got) = echo().await;
        (Proxy::before(port), got)
    }

    async fn client(proxy: &Proxy) -> TcpStream {
        TcpStream::connect(proxy.address()).await.expect("accepted")
    }

    async fn ask(client: &mut TcpStream, request: &[u8]) -> io::Result<Vec<u8>> {
        client.write_all(request).await?;
        let mut reply = vec![0; request.len()];
        tokio::time::timeout(HANG, client.read_exact(&mut reply)).await.expect("no hang")?;
        Ok(reply)
    }

    /// Nothing comes for a tenth of a second.
    async fn is_silent(client: &mut TcpStream) -> bool {
        tokio::time::timeout(Duration::from_millis(100), client.read(&mut [0; 1])).await.is_err()
    }

    async fn until(what: impl Fn() -> bool) {
        let began = Instant::now();
        while !what() {
            assert!(began.elapsed() < HANG, "it never came to be");
            sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn what_passes_is_whole_and_counted() {
        let (proxy, _) = proxied().await;
        let long: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
        let (mut one, mut other) = (client(&proxy).await, client(&proxy).await);
        let (mut from, mut to) = one.split();
        let mut back = vec![0; long.len()];
        let (sent, got) = tokio::join!(to.write_all(&long), from.read_exact(&mut back));
        sent.expect("sent");
        got.expect("got");
        assert!(back == long);
        assert_eq!(ask(&mut other, b"short").await.expect("a reply"), b"short");
        until(|| proxy.replied() == 1_000_005).await;
        assert_eq!(proxy.traffic()[1], Traffic { requested: 5, replied: 5, open: true });
        drop(other);
        until(|| proxy.open() == 1).await;
        assert_eq!((proxy.accepted(), proxy.requested()), (2, 1_000_005));
    }

    #[tokio::test]
    async fn latency_delays_either_way_and_limits_nothing_else() {
        let (proxy, _) = proxied().await;
        proxy.does(Fault::Latency(Duration::from_millis(50)));
        let mut client = client(&proxy).await;
        let began = Instant::now();
        client.write_all(&[7; 100_000]).await.expect("sent");
        client.read_exact(&mut [0; 100_000]).await.expect("a reply");
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(100) && took < HANG, "{took:?}");
    }

    #[tokio::test]
    async fn bandwidth_limits_how_much_comes() {
        let (proxy, _) = proxied().await;
        proxy.does(Fault::Bandwidth(50_000));
        let began = Instant::now();
        ask(&mut client(&proxy).await, &[7; 10_000]).await.expect("a reply");
        assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn bytes_come_one_at_a_time() {
        let (proxy, _) = proxied().await;
        proxy.does(Fault::ByteByByte);
        assert_eq!(ask(&mut client(&proxy).await, b"a reply").await.expect("a reply"), b"a reply");
    }

    #[tokio::test]
    async fn a_cut_counts_for_each_connection_from_when_it_was_asked_for() {
        let (proxy, _) = proxied().await;
        let mut old = client(&proxy).await;
        ask(&mut old, b"before").await.expect("a reply");
        proxy.does(Fault::CutReplies { after: 3 });
        for mut client in [old, client(&proxy).await] {
            client.write_all(b"abcdef").await.expect("sent");
            let mut got = Vec::new();
            // The proxy may have left requests unread, so that its end is a reset.
            let _ = client.read_to_end(&mut got).await;
            assert_eq!(got, b"abc");
        }
        until(|| proxy.open() == 0).await;
        proxy.does(Fault::None);
        ask(&mut client(&proxy).await, b"after").await.expect("a reply");
    }

    #[tokio::test]
    async fn a_half_open_connection_stays_so_and_others_do_not() {
        let (proxy, got) = proxied().await;
        for (fault, served) in [(Fault::SwallowRequests, 0), (Fault::SwallowReplies, 4)] {
            let (mut half, got_before) = (client(&proxy).await, got.load(Ordering::Relaxed));
            proxy.does(fault);
            half.write_all(b"lost").await.expect("the kernel takes it");
            assert!(is_silent(&mut half).await);
            assert_eq!(got.load(Ordering::Relaxed) - got_before, served, "{fault:?}");
            proxy.does(Fault::None);
            half.write_all(b"more").await.expect("the kernel takes it");
            assert!(is_silent(&mut half).await, "{fault:?}: a stream goes on behind a gap");
            ask(&mut client(&proxy).await, b"whole").await.expect("a reply");
        }
    }

    #[tokio::test]
    async fn a_reset_takes_old_connections_and_new_ones() {
        let (proxy, _) = proxied().await;
        let mut old = client(&proxy).await;
        ask(&mut old, b"before").await.expect("a reply");
        proxy.does(Fault::Reset);
        assert_eq!(old.read(&mut [0; 1]).await.expect_err("reset").kind(), io::ErrorKind::ConnectionReset);
        if let Ok(mut new) = TcpStream::connect(proxy.address()).await {
            assert!(ask(&mut new, b"in vain").await.is_err());
        }
        proxy.does(Fault::None);
        ask(&mut client(&proxy).await, b"after").await.expect("a reply");
    }

    #[tokio::test]
    async fn new_connections_are_refused_and_the_port_is_kept() {
        let (proxy, _) = proxied().await;
        let mut old = client(&proxy).await;
        ask(&mut old, b"before").await.expect("a reply");
        for _ in 0..3 {
            proxy.does(Fault::Refuse);
            until(|| std::net::TcpStream::connect(proxy.address()).is_err()).await;
            let error = TcpStream::connect(proxy.address()).await.expect_err("nobody listens");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            ask(&mut old, b"still").await.expect("a reply");
            proxy.does(Fault::None);
            until(|| std::net::TcpStream::connect(proxy.address()).is_ok()).await;
        }
        ask(&mut client(&proxy).await, b"after").await.expect("a reply");
    }

    #[tokio::test]
    async fn a_mute_one_accepts_and_says_nothing() {
        let (proxy, got) = proxied().await;
        proxy.does(Fault::Mute);
        let mut mute = client(&proxy).await;
        mute.write_all(b"hello?").await.expect("the kernel takes it");
        assert!(is_silent(&mut mute).await);
        assert_eq!((got.load(Ordering::Relaxed), proxy.open()), (0, 1));
    }

    #[tokio::test]
    async fn its_end_is_that_of_all_connections() {
        let (proxy, _) = proxied().await;
        let (address, mut old) = (proxy.address(), client(&proxy).await);
        ask(&mut old, b"before").await.expect("a reply");
        drop(proxy);
        assert!(matches!(old.read(&mut [0; 1]).await, Ok(0) | Err(_)));
        until(|| std::net::TcpStream::connect(address).is_err()).await;
    }
}
