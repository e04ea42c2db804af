//! Leader election, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use coracle_api::status::Status;
use coracle_client::leader::{LeaderConfig, LeaderElector};
use coracle_clock::Clock;
use k8s_openapi::api::coordination::v1::Lease;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::memory::Memory;

/// Who leads from when to when, in seconds.
type Log = mpsc::Receiver<(&'static str, &'static str, u64)>;

struct Election {
    memory: Memory,
    clock: Clock,
    started: coracle_clock::Instant,
    log: mpsc::Sender<(&'static str, &'static str, u64)>,
    /// At most one at a time.
    leaders: Arc<Mutex<u32>>,
}

fn election() -> (Election, Log) {
    let (log, heard) = mpsc::channel(100);
    let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    let election = Election {
        memory: Memory::new(),
        clock,
        started: clock.instant(),
        log,
        leaders: Arc::default(),
    };
    (election, heard)
}

impl Election {
    /// A candidate; cancel the token to shut it down, abort the task to have it die without a word.
    fn join(&self, name: &'static str, memory: &Memory) -> (CancellationToken, tokio::task::JoinHandle<Option<()>>) {
        let config = LeaderConfig::new("kube-system", "scheduler", name);
        let elector = LeaderElector::new(memory.client(), config, self.clock);
        let shutdown = CancellationToken::new();
        let (log, started, leaders) = (self.log.clone(), self.started, self.leaders.clone());
        let run = elector.run(shutdown.clone(), move |leading| async move {
            {
                let mut leaders = leaders.lock();
                *leaders += 1;
                assert_eq!(*leaders, 1, "two leaders");
            }
            log.try_send((name, "leads", started.elapsed().as_secs())).unwrap();
            leading.cancelled().await;
            *leaders.lock() -= 1;
            log.try_send((name, "ends", started.elapsed().as_secs())).unwrap();
        });
        (shutdown, tokio::spawn(run))
    }

    async fn lease(&self) -> Arc<Lease> {
        let leases = self.memory.client().namespaced::<Lease>("kube-system");
        leases.get("scheduler").await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_leads_and_the_next_takes_over_as_soon_as_it_gives_up() {
    let (election, mut log) = election();
    let (stop_a, a) = election.join("a", &election.memory);
    assert_eq!(log.recv().await, Some(("a", "leads", 0)));
    let (_stop_b, _b) = election.join("b", &election.memory);
    election.clock.sleep(Duration::from_secs(100)).await;
    assert!(log.try_recv().is_err(), "b waits while a renews");
    stop_a.cancel();
    assert_eq!(a.await.unwrap(), Some(()));
    assert_eq!(log.recv().await, Some(("a", "ends", 100)));
    let (who, what, when) = log.recv().await.unwrap();
    assert_eq!((who, what), ("b", "leads"));
    assert!(when <= 102, "{when}");
    let spec = election.lease().await.spec.clone().unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some("b"));
    assert_eq!(spec.lease_transitions, Some(1));
    assert_eq!(spec.lease_duration_seconds, Some(15));
}

#[tokio::test(start_paused = true)]
async fn one_that_dies_is_followed_when_its_lease_has_run_out() {
    let (election, mut log) = election();
    let (_stop, a) = election.join("a", &election.memory);
    log.recv().await;
    let (_stop_b, _b) = election.join("b", &election.memory);
    election.clock.sleep(Duration::from_secs(60)).await;
    a.abort();
    *election.leaders.lock() = 0;
    let (who, _, when) = log.recv().await.unwrap();
    assert_eq!(who, "b");
    assert!((73..=78).contains(&when), "{when}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_ends_before_its_lease_does() {
    let (election, mut log) = election();
    let (_stop, a) = election.join("a", &election.memory);
    assert_eq!(log.recv().await, Some(("a", "leads", 0)));
    election.memory.fail(100, &Status::unavailable("down"));
    let (who, what, when) = log.recv().await.unwrap();
    assert_eq!((who, what), ("a", "ends"));
    assert!((10..15).contains(&when), "{when}");
    assert_eq!(a.await.unwrap(), Some(()));
}

#[tokio::test(start_paused = true)]
async fn shutdown_before_leadership_leads_nothing() {
    let (election, mut log) = election();
    let (_stop_a, _a) = election.join("a", &election.memory);
    log.recv().await;
    let (stop_b, b) = election.join("b", &election.memory);
    election.clock.sleep(Duration::from_secs(5)).await;
    stop_b.cancel();
    assert_eq!(b.await.unwrap(), None);
}
