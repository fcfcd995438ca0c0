//! The wire against a scripted peer: what leaves together, and whose an answer is.

use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::store::redis::request::{Effect, Request};
use crate::store::redis::script::Script;

/// A connection and the other end of it.
fn connected(keeping: Keeping) -> (Arc<Link>, DuplexStream) {
    let (near, far) = duplex(1024 * 1024);
    (Arc::new(Link::start(Box::new(near), &keeping, Box::new(drop))), far)
}

fn keeping() -> Keeping {
    let hour = Duration::from_secs(3_600);
    Keeping {
        queue_max: 1_000,
        silence_max: hour,
        idle_max: hour,
        ping_max: hour,
        doubt_after: hour,
        merges: true,
        head: "*1\r\n$4\r\nHEAD\r\n".into(),
    }
}

type Asked = tokio::task::JoinHandle<Result<Reply, Fault>>;

fn ask(link: &Arc<Link>, request: Request) -> Asked {
    let link = Arc::clone(link);
    tokio::spawn(async move { link.ask(request, false, Instant::now() + Duration::from_secs(60)).await })
}

fn get(link: &Arc<Link>, key: &'static str) -> Asked {
    ask(link, Request::get(key))
}

fn set(link: &Arc<Link>, key: &str) -> Asked {
    ask(link, Request::new(Effect::Write, &[b"SET", key.as_bytes(), b"1"]))
}

/// The commands that have come, as words; waits for the first.
async fn arrived(far: &mut DuplexStream) -> Vec<String> {
    let mut bytes = BytesMut::new();
    far.read_buf(&mut bytes).await.expect("it is open");
    // The rest of what leaves in this turn.
    sleep(Duration::from_millis(1)).await;
    let mut more = BytesMut::with_capacity(64 * 1024);
    if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_millis(1), far.read_buf(&mut more)).await {
        bytes.extend_from_slice(&more);
    }
    let mut decoder = Decoder::default();
    let mut commands = Vec::new();
    while let Ok(Some(Reply::List(words))) = decoder.next(&mut bytes) {
        let word = |word: &Reply| match word {
            Reply::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("{other:?}"),
        };
        commands.push(words.iter().map(word).collect::<Vec<_>>().join(" "));
    }
    commands
}

async fn answer(far: &mut DuplexStream, text: &str) {
    far.write_all(text.as_bytes()).await.expect("it is open");
}

async fn outcome(asked: Asked) -> Result<Reply, Fault> {
    asked.await.expect("no panic")
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_in_one_turn_leaves_together_with_the_reads_as_one_at_its_end() {
    let (link, mut far) = connected(keeping());
    let (a, w, b) = (get(&link, "a"), set(&link, "w"), get(&link, "b"));
    assert_eq!(arrived(&mut far).await, ["SET w 1", "MGET a b"]);
    answer(&mut far, "+OK\r\n*2\r\n$1\r\nA\r\n$-1\r\n").await;
    assert_eq!(outcome(a).await.expect("answered"), Reply::Bytes("A".into()));
    assert_eq!(outcome(b).await.expect("answered"), Reply::Nil);
    assert_eq!(outcome(w).await.expect("answered"), Reply::Bytes("OK".into()));
}

#[tokio::test(start_paused = true)]
async fn requests_gather_while_as_many_batches_as_may_be_are_unanswered() {
    let (link, mut far) = connected(keeping());
    let mut first = Vec::new();
    for number in 0..BATCHES_MAX {
        first.push(get(&link, "first"));
        assert_eq!(arrived(&mut far).await, ["GET first"], "{number}");
    }
    let (a, b) = (get(&link, "a"), get(&link, "b"));
    let nothing = tokio::time::timeout(Duration::from_secs(1), arrived(&mut far)).await;
    assert!(nothing.is_err(), "{nothing:?}");
    // Each answer makes room for one batch, which takes all that has gathered.
    answer(&mut far, "$1\r\n1\r\n").await;
    assert_eq!(arrived(&mut far).await, ["MGET a b"]);
    answer(&mut far, &"$-1\r\n".repeat(BATCHES_MAX - 1)).await;
    answer(&mut far, "*2\r\n$1\r\nA\r\n$1\r\nB\r\n").await;
    assert_eq!(outcome(a).await.expect("answered"), Reply::Bytes("A".into()));
    assert_eq!(outcome(b).await.expect("answered"), Reply::Bytes("B".into()));
}

/// How many batches are on their way at last, if the answer to the first request takes `trip`, then so many come at once, and
/// then others one by one.
async fn batches_under_way(trip: Duration, crowd: usize) -> usize {
    let (link, mut far) = connected(keeping());
    let first = get(&link, "first");
    far.read_buf(&mut BytesMut::new()).await.expect("it is open");
    sleep(trip).await;
    answer(&mut far, "$-1\r\n").await;
    outcome(first).await.expect("answered");
    let mut callers: Vec<Asked> = (0..crowd).map(|_| get(&link, "crowd")).collect();
    assert_eq!(arrived(&mut far).await.len(), 1);
    for under_way in 1..=BATCHES_MAX {
        callers.push(get(&link, "one more"));
        if tokio::time::timeout(Duration::from_secs(1), arrived(&mut far)).await.is_err() {
            return under_way;
        }
    }
    panic!("there is no limit");
}

#[tokio::test(start_paused = true)]
async fn a_crowd_gathers_sooner_near_the_server() {
    assert_eq!(batches_under_way(Duration::ZERO, GATHER_FROM).await, NEAR_BATCHES_MAX);
    assert_eq!(batches_under_way(NEAR, GATHER_FROM).await, BATCHES_MAX, "far away, answers are waited for too long");
    assert_eq!(batches_under_way(Duration::ZERO, 1).await, BATCHES_MAX, "a few gain nothing");
}

/// So many callers, who read one after another for as long as they get answers, and the other end.
fn readers(count: usize) -> DuplexStream {
    let (link, far) = connected(keeping());
    let by = Instant::now() + Duration::from_secs(60);
    for _ in 0..count {
        let link = Arc::clone(&link);
        tokio::spawn(async move { while link.ask(Request::get("key"), false, by).await.is_ok() {} });
    }
    far
}

/// How many reads are in each batch that has come by now, and the answers to all of them.
async fn batches(far: &mut DuplexStream, input: &mut BytesMut) -> (Vec<usize>, String) {
    far.read_buf(input).await.expect("it is open");
    let (mut decoder, mut sizes, mut answers) = (Decoder::default(), Vec::new(), String::new());
    while let Ok(Some(Reply::List(words))) = decoder.next(input) {
        let keys = words.len() - 1;
        if keys > 1 {
            answers += &format!("*{keys}\r\n");
        }
        answers += &"$-1\r\n".repeat(keys);
        sizes.push(keys);
    }
    (sizes, answers)
}

#[tokio::test(start_paused = true)]
async fn a_crowd_near_the_server_goes_on_in_two_halves() {
    let (mut far, mut input, mut all) = (readers(64), BytesMut::new(), Vec::new());
    while all.len() < 20 {
        let (sizes, answers) = batches(&mut far, &mut input).await;
        // The callers have a turn, as they would if the server were a process of its own.
        tokio::task::yield_now().await;
        answer(&mut far, &answers).await;
        all.extend(sizes);
    }
    assert_eq!(all[10..20], [32; 10], "{all:?}");
}

/// On a worker of its own: there the task that was woken last runs first, so that the connection would be asked by one caller
/// before the others have had their turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn callers_that_were_answered_together_ask_again_together() {
    let (mut far, mut input) = (tokio::spawn(async { readers(GATHER_FROM) }).await.expect("no panic"), BytesMut::new());
    let mut rounds = Vec::new();
    for _ in 0..10 {
        let (mut round, mut all) = (Vec::new(), String::new());
        while round.iter().sum::<usize>() < GATHER_FROM {
            let (sizes, answers) = batches(&mut far, &mut input).await;
            round.extend(sizes);
            all += &answers;
        }
        answer(&mut far, &all).await;
        rounds.push(round);
    }
    assert!(rounds[1..].iter().all(|round| round[..] == [GATHER_FROM]), "{rounds:?}");
}

#[tokio::test(start_paused = true)]
async fn answers_that_came_before_the_end_of_the_connection_are_given() {
    let (link, mut far) = connected(keeping());
    let crowd: Vec<Asked> = (0..64).map(|_| get(&link, "crowd")).collect();
    assert_eq!(arrived(&mut far).await.len(), 1);
    answer(&mut far, &["*64\r\n", &"$-1\r\n".repeat(64)].concat()).await;
    drop(far);
    for asked in crowd {
        assert_eq!(outcome(asked).await.expect("answered"), Reply::Nil);
    }
}

#[tokio::test(start_paused = true)]
async fn callers_that_left_are_left_out_if_they_can_be_and_their_answers_are_discarded() {
    let (link, mut far) = connected(keeping());
    let gone = get(&link, "gone");
    assert_eq!(arrived(&mut far).await, ["GET gone"]);
    gone.abort();
    let (left, stays) = (set(&link, "left"), get(&link, "stays"));
    left.abort();
    assert_eq!(arrived(&mut far).await, ["GET stays"]);
    answer(&mut far, "$1\r\n1\r\n$1\r\n2\r\n").await;
    assert_eq!(outcome(stays).await.expect("answered"), Reply::Bytes("2".into()));
}

#[tokio::test(start_paused = true)]
async fn a_user_who_may_not_merge_reads_them_one_by_one_from_then_on() {
    let (link, mut far) = connected(keeping());
    let (a, b) = (get(&link, "a"), get(&link, "b"));
    assert_eq!(arrived(&mut far).await, ["MGET a b"]);
    answer(&mut far, "-NOPERM this user may not\r\n").await;
    assert_eq!(arrived(&mut far).await, ["GET a", "GET b"]);
    answer(&mut far, "$1\r\nA\r\n$1\r\nB\r\n").await;
    assert_eq!(outcome(a).await.expect("answered"), Reply::Bytes("A".into()));
    assert_eq!(outcome(b).await.expect("answered"), Reply::Bytes("B".into()));
    drop((get(&link, "c"), get(&link, "d")));
    assert_eq!(arrived(&mut far).await, ["GET c", "GET d"]);
}

#[tokio::test(start_paused = true)]
async fn answers_that_nobody_asked_for_or_that_are_cut_off_end_the_connection_for_all() {
    for bytes in ["+OK\r\n+OK\r\n", "$5\r\nab", "nonsense\r\n", ""] {
        let (link, mut far) = connected(keeping());
        let (a, b) = (get(&link, "a"), get(&link, "b"));
        assert_eq!(arrived(&mut far).await, ["MGET a b"]);
        answer(&mut far, bytes).await;
        drop(far);
        for asked in [a, b] {
            let fault = outcome(asked).await.expect_err("no answer");
            assert!(matches!(fault, Fault::Lost { sent: true, .. }), "{bytes:?}: {fault:?}");
        }
        assert!(!link.is_open(), "{bytes:?}");
        let fault = outcome(get(&link, "c")).await.expect_err("it has ended");
        assert!(matches!(fault, Fault::Lost { sent: false, .. }), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn answers_may_come_byte_by_byte_and_pushes_in_between() {
    let (link, mut far) = connected(keeping());
    let (a, b) = (get(&link, "a"), get(&link, "b"));
    assert_eq!(arrived(&mut far).await, ["MGET a b"]);
    for byte in b">2\r\n+invalidate\r\n_\r\n*2\r\n$2\r\n\r\n\r\n$-1\r\n" {
        far.write_all(&[*byte]).await.expect("it is open");
        tokio::task::yield_now().await;
    }
    assert_eq!(outcome(a).await.expect("answered"), Reply::Bytes("\r\n".into()));
    assert_eq!(outcome(b).await.expect("answered"), Reply::Nil);
}

#[tokio::test(start_paused = true)]
async fn silence_is_told_then_ends_the_connection_and_an_idle_one_is_tested() {
    let second = Duration::from_secs(1);
    let limits = Keeping {
        silence_max: 9 * second,
        idle_max: 5 * second,
        ping_max: 2 * second,
        doubt_after: second / 4,
        ..keeping()
    };
    let (link, mut far) = connected(limits.clone());
    sleep(5 * second - Duration::from_millis(1)).await;
    let begun = Instant::now();
    assert_eq!(arrived(&mut far).await, ["PING"]);
    assert!(begun.elapsed() < second);
    // Nothing of a caller's is unanswered: it is given up soon.
    sleep(2 * second + Duration::from_millis(10)).await;
    assert!(!link.is_open());

    let (link, mut far) = connected(limits);
    let asked = get(&link, "a");
    assert_eq!(arrived(&mut far).await, ["GET a"]);
    assert!(!link.is_silent());
    sleep(second / 4).await;
    assert!(link.is_silent() && link.is_open());
    sleep(8 * second).await;
    assert!(link.is_open(), "a request is waited for longer than a ping");
    let fault = outcome(asked).await.expect_err("no answer");
    assert!(matches!(fault, Fault::Lost { sent: true, why: Loss::Silent }), "{fault:?}");
}

fn heeding(link: &Arc<Link>, request: Request) -> tokio::task::JoinHandle<Result<Answered, Fault>> {
    let (link, request) = (Arc::clone(link), Request { heeds: true, ..request });
    tokio::spawn(async move { link.answer(request, false, Instant::now() + Duration::from_secs(60)).await })
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_log_is_asked_for_once_for_a_batch_and_waited_for() {
    let (link, mut far) = connected(keeping());
    let (a, b) = (heeding(&link, Request::get("a")), heeding(&link, Request::get("b")));
    let (alone, w) = (heeding(&link, Request::head()), set(&link, "w"));
    assert_eq!(arrived(&mut far).await, ["SET w 1", "MGET a b", "HEAD"]);
    answer(&mut far, "+OK\r\n*2\r\n$1\r\nA\r\n$-1\r\n").await;
    // Who does not heed it does not wait for it.
    assert_eq!(outcome(w).await.expect("answered"), Reply::Bytes("OK".into()));
    sleep(Duration::from_secs(1)).await;
    assert!(!a.is_finished() && !b.is_finished());
    answer(&mut far, "*1\r\n*2\r\n$3\r\n1-2\r\n*0\r\n").await;
    for (asked, reply) in [(a, Reply::Bytes("A".into())), (b, Reply::Nil), (alone, Reply::Nil)] {
        let answered = asked.await.expect("no panic").expect("answered");
        assert_eq!((answered.reply, answered.head.expect("the end").expect("known")), (reply, (1 << 20) + 2));
    }
    // The same answer is known when it comes again, in pieces or not, and another one is not taken for it.
    for (answers, newest) in [
        (&["$-1\r\n*1\r\n*2\r\n$3\r\n1-2\r\n*0\r\n"][..], (1 << 20) + 2),
        (&["$-1\r\n*1\r\n*2\r\n$3\r\n1-", "2\r\n*0\r\n"], (1 << 20) + 2),
        (&["$-1\r\n*1\r\n*2\r\n$3\r\n1-", "3\r\n*0\r\n"], (1 << 20) + 3),
        (&["$-1\r\n*0\r\n"], 0),
    ] {
        let again = heeding(&link, Request::get("a"));
        assert_eq!(arrived(&mut far).await, ["GET a", "HEAD"]);
        for piece in answers {
            answer(&mut far, piece).await;
            sleep(Duration::from_millis(1)).await;
        }
        let answered = again.await.expect("no panic").expect("answered");
        assert_eq!(answered.head.expect("the end").expect("known"), newest);
    }
    // Without anybody who heeds it, nothing is asked.
    let plain = get(&link, "a");
    assert_eq!(arrived(&mut far).await, ["GET a"]);
    plain.abort();
}

#[tokio::test(start_paused = true)]
async fn reads_that_may_not_be_merged_heed_the_log_all_the_same() {
    let (link, mut far) = connected(keeping());
    let (a, b) = (heeding(&link, Request::get("a")), heeding(&link, Request::get("b")));
    assert_eq!(arrived(&mut far).await, ["MGET a b", "HEAD"]);
    answer(&mut far, "-NOPERM no\r\n*0\r\n").await;
    assert_eq!(arrived(&mut far).await, ["GET a", "GET b", "HEAD"]);
    answer(&mut far, "$1\r\nA\r\n$1\r\nB\r\n-NOPERM no\r\n").await;
    for asked in [a, b] {
        let answered = asked.await.expect("no panic").expect("answered");
        assert!(matches!(answered.head, Some(Err(Fault::Refused(_)))), "{answered:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_before_the_end_of_the_log_has_come_is_lost() {
    let (link, mut far) = connected(keeping());
    let (read, head) = (heeding(&link, Request::get("a")), heeding(&link, Request::head()));
    assert_eq!(arrived(&mut far).await, ["GET a", "HEAD"]);
    answer(&mut far, "$1\r\nA\r\n").await;
    drop(far);
    for asked in [read, head] {
        let Err(fault) = asked.await.expect("no panic") else { panic!("answered") };
        assert!(matches!(fault, Fault::Lost { sent: true, .. }), "{fault:?}");
    }
}

static SCRIPT: Script = Script::new(Effect::Write, "for each key");
static OTHER: Script = Script::new(Effect::Write, "another");

/// A run for `key`, with one argument of its own.
fn run(link: &Arc<Link>, script: &'static Script, key: &'static str, common: &'static str) -> Asked {
    let link = Arc::clone(link);
    tokio::spawn(async move {
        let ask = |request| link.ask(request, false, Instant::now() + Duration::from_secs(60));
        script.run_for_many(key.as_bytes(), &Bytes::from_static(common.as_bytes()), &[b"arg"], ask).await
    })
}

#[tokio::test(start_paused = true)]
async fn scripts_that_leave_together_are_one_run_and_each_gets_its_own_item() {
    let (link, mut far) = connected(keeping());
    let (a, w, b) = (run(&link, &SCRIPT, "a", ""), set(&link, "w"), run(&link, &SCRIPT, "b", ""));
    let (c, d) = (run(&link, &SCRIPT, "c", "channel"), run(&link, &OTHER, "d", "channel"));
    let commands = arrived(&mut far).await;
    let words: Vec<Vec<&str>> = commands.iter().map(|command| command.split(' ').collect()).collect();
    assert_eq!(words[0], ["SET", "w", "1"]);
    assert_eq!(words[1][0], "EVALSHA");
    assert_eq!(words[1][2..], ["2", "a", "b", "", "arg", "arg"]);
    assert_eq!(words[2][2..], ["1", "c", "channel", "arg"]);
    assert_eq!(words[3][2..], ["1", "d", "channel", "arg"]);
    assert_eq!((words[1][1] == words[2][1], words[2][1] == words[3][1], words.len()), (true, false, 4));
    answer(&mut far, "+OK\r\n*2\r\n:1\r\n-OOM full\r\n*1\r\n:0\r\n*1\r\n:7\r\n").await;
    assert_eq!(outcome(w).await.expect("answered"), Reply::Bytes("OK".into()));
    assert_eq!(outcome(a).await.expect("answered"), Reply::Int(1));
    assert_eq!(outcome(b).await.expect_err("refused").code(), Some("OOM"));
    assert_eq!(outcome(c).await.expect("answered"), Reply::Int(0));
    assert_eq!(outcome(d).await.expect("answered"), Reply::Int(7));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_know_the_script_is_sent_its_text_once_for_all() {
    let (link, mut far) = connected(keeping());
    let (a, b) = (run(&link, &SCRIPT, "a", ""), run(&link, &SCRIPT, "b", ""));
    assert_eq!(arrived(&mut far).await.len(), 1);
    answer(&mut far, "-NOSCRIPT No matching script\r\n").await;
    assert_eq!(arrived(&mut far).await, ["EVAL for each key 2 a b  arg arg"]);
    answer(&mut far, "*2\r\n:1\r\n:0\r\n").await;
    assert_eq!(outcome(a).await.expect("answered"), Reply::Int(1));
    assert_eq!(outcome(b).await.expect("answered"), Reply::Int(0));
}

#[tokio::test(start_paused = true)]
async fn where_keys_may_not_be_merged_each_run_is_for_one() {
    let (link, mut far) = connected(Keeping { merges: false, ..keeping() });
    let (a, b) = (run(&link, &SCRIPT, "a", ""), run(&link, &SCRIPT, "b", ""));
    assert_eq!(arrived(&mut far).await.len(), 2);
    answer(&mut far, "*1\r\n:1\r\n*1\r\n:0\r\n").await;
    assert_eq!(outcome(a).await.expect("answered"), Reply::Int(1));
    assert_eq!(outcome(b).await.expect("answered"), Reply::Int(0));
    let (link, mut far) = connected(keeping());
    let (a, b) = (run(&link, &SCRIPT, "a", ""), run(&link, &SCRIPT, "b", ""));
    assert_eq!(arrived(&mut far).await.len(), 1);
    answer(&mut far, "-NOPERM this user may not access one of the keys\r\n").await;
    assert_eq!(arrived(&mut far).await.len(), 2);
    answer(&mut far, "*1\r\n:1\r\n-NOPERM not this one\r\n").await;
    assert_eq!(outcome(a).await.expect("answered"), Reply::Int(1));
    assert_eq!(outcome(b).await.expect_err("refused").code(), Some("NOPERM"));
}
