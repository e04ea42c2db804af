//! A process with many clients is killed without warning, at a random moment, again and again. What its clients and
//! watches saw, and what is there afterwards, must be one linearizable history. The process is this test binary again,
//! told by an environment variable. `CORACLE_STORE_KILLS` sets how often.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use coracle_clock::Clock;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::testing::clients::Client;
use crate::testing::history::{Ideal, Recorder, check, of_killed};
use crate::{Embedded, EmbeddedOptions, HistoryLimits, Store};

const DIRECTORY: &str = "CORACLE_STORE_CRASH_DIRECTORY";
/// The revision that its watches go on from.
const SEEN: &str = "CORACLE_STORE_CRASH_SEEN";
const SEED: &str = "CORACLE_STORE_CRASH_SEED";
const KILLS: u64 = 40;

fn options() -> EmbeddedOptions {
    // A small window, so that rows are removed all the time.
    let history = HistoryLimits {
        commits: 400,
        ..Default::default()
    };
    EmbeddedOptions {
        history,
        ..Default::default()
    }
}

/// Clients and watches, until it is killed.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let number = |name| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let (seen, seed) = (number(SEEN), number(SEED));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store: Arc<dyn Store> = Arc::new(Embedded::open(directory, options()).await.unwrap());
        let recorder = Arc::new(Recorder::writing(std::io::stdout()));
        let client = |name: u64| Client {
            store: store.clone(),
            recorder: recorder.clone(),
            name: 100 * seed + name,
        };
        for prefix in ["", "/a/"] {
            tokio::spawn(client(0).watch(prefix, seen));
        }
        futures::future::join_all((1..6).map(|name| tokio::spawn(client(name).run(u64::MAX)))).await;
    });
}

struct Victim {
    process: Child,
    lines: Receiver<String>,
}

impl Victim {
    fn start(directory: &Path, seen: u64, seed: u64) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "embedded::tests::crash::child", "--nocapture"])
            .env(DIRECTORY, directory)
            .env(SEEN, seen.to_string())
            .env(SEED, seed.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || {
            let wanted = output
                .lines()
                .map_while(Result::ok)
                .filter(|line| line.starts_with('{'));
            wanted.for_each(|line| drop(send.send(line)));
        });
        Self { process, lines }
    }

    /// Kills it after so many lines, or after so much time; its lines.
    fn kill(mut self, after: usize, patience: Duration) -> Vec<String> {
        let clock = Clock::system();
        let deadline = clock.instant() + patience;
        let mut seen = Vec::new();
        while seen.len() < after {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(clock.instant()))
            {
                Ok(line) => seen.push(line),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => panic!("it ended by itself"),
            }
        }
        self.process.kill().unwrap();
        assert!(!self.process.wait().unwrap().success(), "it was killed");
        seen.extend(self.lines.iter());
        seen
    }
}

#[tokio::test]
async fn no_acknowledged_write_is_lost_when_the_process_is_killed_at_any_moment() {
    let kills = std::env::var("CORACLE_STORE_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let mut rng = StdRng::seed_from_u64(7);
    let mut state = Ideal::new(1);
    let mut operations = 0;
    for round in 0..kills {
        let victim = Victim::start(directory.path(), state.revision(), round);
        // Some are killed while they open the store.
        let (after, patience) = match rng.random_range(0..4) {
            0 => (usize::MAX, Duration::from_millis(rng.random_range(0..30))),
            _ => (rng.random_range(0..250), Duration::from_secs(20)),
        };
        let lines = victim.kill(after, patience);
        let mut history = of_killed(lines.iter().map(String::as_str));
        operations += history.len();

        let store: Arc<dyn Store> = Arc::new(Embedded::open(directory.path(), options()).await.unwrap());
        let recorder = Arc::new(Recorder::after(&history));
        let witness = Client {
            store: store.clone(),
            recorder: recorder.clone(),
            name: 0,
        };
        witness.list("", &mut Default::default()).await;
        let status = store.status().await.unwrap();
        if status.compacted <= state.revision() {
            witness.replay(state.revision(), status.revision).await.unwrap();
        }
        history.extend(recorder.take());
        let checked = check(state, &history).unwrap_or_else(|why| panic!("round {round}: {why}"));
        state = checked.without_past();
        assert_eq!(state.revision(), status.revision);
    }
    println!("{kills} kills, {operations} operations, revision {}", state.revision());
    assert!(operations as u64 > 20 * kills && state.revision() > 5 * kills);
}
