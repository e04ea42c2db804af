//! What clients see of a cluster whose members are killed, frozen and cut off is linearizable.
//! `CORACLE_ETCD_FAULTS` sets how many faults there are.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::cluster::Cluster;
use crate::testing::clients::Client;
use crate::testing::history::{Ideal, Recorder, check, settled};
use crate::{Etcd, Store};

/// Clients and watches at work.
pub struct Load {
    store: Arc<Etcd>,
    recorder: Arc<Recorder>,
    clients: Vec<JoinHandle<()>>,
    watches: Vec<JoinHandle<()>>,
}

impl Load {
    pub async fn start(store: Arc<Etcd>) -> Self {
        let recorder = Arc::new(Recorder::default());
        let mut load = Self {
            store,
            recorder,
            clients: Vec::new(),
            watches: Vec::new(),
        };
        load.clients = (1..5)
            .map(|name| tokio::spawn(load.client(name).run(u64::MAX)))
            .collect();
        load.watches = ["", "/a/"]
            .map(|prefix| tokio::spawn(load.client(0).watch(prefix, 1)))
            .into();
        load
    }

    fn client(&self, name: u64) -> Client {
        Client {
            store: self.store.clone(),
            recorder: self.recorder.clone(),
            name,
        }
    }

    /// Waits until clients have been answered so many times more.
    pub async fn answered(&self, count: usize) {
        let goal = self.recorder.count() + count;
        let answered = async {
            while self.recorder.count() < goal {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), answered)
            .await
            .expect("clients go on");
    }

    /// Ends it, and checks all that was seen.
    pub async fn check(self) {
        self.recorder.stop();
        for client in &mut { self.clients } {
            client.await.unwrap();
        }
        let witness = Client {
            store: self.store.clone(),
            recorder: self.recorder.clone(),
            name: 0,
        };
        let revision = async || loop {
            if let Ok(revision) = self.store.revision().await {
                break revision;
            }
        };
        revision().await;
        witness.list("", &mut Default::default()).await;
        // Behind everything that anybody has seen.
        let upto = revision().await;
        // A request that was not answered may still be done.
        witness.replay(1, upto).await.unwrap();
        self.watches.iter().for_each(JoinHandle::abort);
        let history = settled(self.recorder.take());
        println!("{} operations up to revision {upto}", history.len());
        let after = check(Ideal::new(1), &history).unwrap_or_else(|why| panic!("{why}"));
        assert!(after.revision() >= upto);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_of_one_member_are_linearizable() {
    let cluster = Cluster::of(1);
    let load = Load::start(Arc::new(cluster.connect().await)).await;
    load.answered(500).await;
    load.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_over_killed_and_frozen_members_are_linearizable() {
    let faults = std::env::var("CORACLE_ETCD_FAULTS").map_or(4, |text| text.parse().unwrap());
    let mut cluster = Cluster::of(3);
    cluster.options.timeout = Duration::from_secs(1);
    let load = Load::start(Arc::new(cluster.connect().await)).await;
    load.answered(50).await;
    for n in 0..faults {
        let victim = n % 3;
        if n % 2 == 0 {
            cluster.kill(victim);
            load.answered(100).await;
            cluster.start(victim);
        } else {
            cluster.freeze(victim);
            load.answered(100).await;
            cluster.thaw(victim);
        }
        load.answered(100).await;
    }
    load.check().await;
}
