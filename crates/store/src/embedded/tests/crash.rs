//! A child process writes and says what was acknowledged; it is killed without warning; what it said must be there.
//! The child is this test binary again, told by an environment variable.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::testing::contents;
use crate::{Embedded, EmbeddedOptions, HistoryLimits, Op, Store, Txn, TxnResult};

const DIRECTORY: &str = "CORACLE_STORE_CRASH_DIRECTORY";
const ROUNDS: u64 = 40;

fn options() -> EmbeddedOptions {
    // A small window, so that rows are removed all the time.
    let history = HistoryLimits {
        commits: 50,
        ..Default::default()
    };
    EmbeddedOptions {
        history,
        ..Default::default()
    }
}

/// Writes until it is killed: four writers, each one key after the other, a transaction of two keys each time.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = std::sync::Arc::new(Embedded::open(directory, options()).await.unwrap());
        println!("open");
        let write = |writer: u64| {
            let store = store.clone();
            async move {
                let start = store.revision().await.unwrap() * 10 + writer;
                for n in (start..).step_by(10) {
                    let value = format!("{n} ").repeat(1 + n as usize % 300);
                    let put = |key: String| Op::Put {
                        key,
                        value: value.clone().into(),
                    };
                    let ops = vec![put(format!("/key/{:02}", n % 37)), put(format!("/twin/{:02}", n % 37))];
                    let TxnResult::Committed { revision, .. } = store.txn(Txn { compare: vec![], ops }).await.unwrap()
                    else {
                        panic!("a conflict")
                    };
                    // One write to the pipe a line, so that lines are whole.
                    let line = format!("\nack {:02} {revision} {n}\n", n % 37);
                    std::io::stdout().write_all(line.as_bytes()).unwrap();
                }
            }
        };
        futures::future::join_all((0..4).map(|writer| tokio::spawn(write(writer)))).await;
    });
}

#[tokio::test]
async fn no_acknowledged_write_is_lost_when_the_process_is_killed_at_any_moment() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = std::collections::BTreeMap::new();
    let mut last_revision = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "embedded::tests::crash::child", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        // Killed after a number of acknowledgements that differs each round, in the middle of whatever goes on then.
        let kill_after = round * round % 61;
        let mut seen = 0;
        for line in output.lines().map_while(Result::ok) {
            let words: Vec<_> = line.split(' ').collect();
            let [word, key, revision, n] = words[..] else {
                if line == "open" && kill_after == 0 {
                    child.kill().unwrap();
                }
                continue;
            };
            assert_eq!(word, "ack");
            let revision: u64 = revision.parse().unwrap();
            let newest = acknowledged.entry(key.to_string()).or_insert((0, String::new()));
            if revision > newest.0 {
                *newest = (revision, n.to_string());
            }
            last_revision = last_revision.max(revision);
            seen += 1;
            if seen == kill_after {
                child.kill().unwrap();
            }
        }
        assert!(!child.wait().unwrap().success(), "it was killed");
        let store = Embedded::open(directory.path(), options()).await.unwrap();
        assert!(
            store.revision().await.unwrap() >= last_revision,
            "revisions never go back"
        );
        for (key, (revision, n)) in &acknowledged {
            let kv = store.get(&format!("/key/{key}"), None).await.unwrap().kv.unwrap();
            assert!(
                kv.mod_revision >= *revision,
                "round {round}: {key} was acknowledged at {revision}"
            );
            if kv.mod_revision == *revision {
                assert!(kv.value.starts_with(format!("{n} ").as_bytes()));
            }
        }
        let halves = (
            contents(&store, "/key/", None).await,
            contents(&store, "/twin/", None).await,
        );
        let values = |half: &[(String, String)]| half.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>();
        assert_eq!(
            values(&halves.0),
            values(&halves.1),
            "round {round}: no transaction is half there"
        );
        store.close().await;
    }
    assert!(last_revision > 500);
}
