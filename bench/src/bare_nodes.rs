//! Nodes that are nothing but Node objects with a heartbeat: pods are bound to them and never start. For rows that
//! measure how pods are made, bound and replaced, on a server that has no nodes to spare.

use std::time::Duration;

use anyhow::Context;
use coracle_client::{Client, DeleteOptions, ListOptions};
use coracle_clock::Clock;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::task::AbortHandle;

use crate::load::{Endpoint, Events, Prepared};
use crate::scratch::name;
use crate::server::Server;
use crate::view;

/// As often as a kubelet renews its lease.
const HEARTBEAT: Duration = Duration::from_secs(10);
const LABEL: &str = "bench.coracle.io/bare";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

pub struct BareNodes {
    count: usize,
    silent: Arc<Mutex<BTreeSet<usize>>>,
    heart: AbortHandle,
}

impl BareNodes {
    /// Makes so many, with room for 110 pods each, and waits until pods may be put on them.
    pub async fn make(server: &Server, count: usize) -> anyhow::Result<Self> {
        let endpoint = server.endpoint()?;
        let mut events = Events::open(endpoint, "/api/v1/nodes", &format!("labelSelector={LABEL}")).await?;
        let mut connection = endpoint.connect().await?;
        for n in 0..count {
            connection.call(&Prepared::post("/api/v1/nodes", &node(n))).await?;
            let status = Prepared::patch(format!("/api/v1/nodes/{}/status", name("bare", n)), &status());
            connection.call(&status).await?;
            connection.call(&Prepared::post(LEASES, &lease(n))).await?;
        }
        let silent = Arc::new(Mutex::new(BTreeSet::new()));
        let heart = tokio::spawn(beat(endpoint.clone(), count, silent.clone())).abort_handle();
        let nodes = Self { count, silent, heart };
        let mut untainted = BTreeSet::new();
        let ready = async {
            while untainted.len() < count {
                let node = events.next::<view::Node>().await?.object;
                if node.is_tainted() {
                    untainted.remove(&node.metadata.name);
                } else {
                    untainted.insert(node.metadata.name);
                }
            }
            anyhow::Ok(())
        };
        let ready = Clock::system().timeout(Duration::from_secs(60), ready).await;
        ready.context("the bare nodes stay tainted: does a controller manager run?")??;
        Ok(nodes)
    }

    /// Stops one node's heartbeat; says its name.
    pub fn lose(&self, n: usize) -> String {
        self.silent.lock().insert(n);
        name("bare", n)
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub async fn delete(self, client: &Client) -> anyhow::Result<()> {
        self.heart.abort();
        let all = ListOptions {
            label_selector: LABEL.into(),
            ..ListOptions::default()
        };
        client
            .all::<Node>()
            .delete_collection(&all, &DeleteOptions::default())
            .await?;
        Ok(())
    }
}

impl Drop for BareNodes {
    fn drop(&mut self) {
        self.heart.abort();
    }
}

async fn beat(endpoint: Endpoint, count: usize, silent: Arc<Mutex<BTreeSet<usize>>>) {
    let clock = Clock::system();
    loop {
        clock.sleep(HEARTBEAT).await;
        // A beat that is missed is made up by the next: the server waits for four.
        if let Ok(mut connection) = endpoint.connect().await {
            for n in (0..count).filter(|n| !silent.lock().contains(n)) {
                let _ = connection.call(&renewal(n)).await;
            }
        }
    }
}

fn renewal(n: usize) -> Prepared {
    Prepared::patch(
        format!("{LEASES}/{}", name("bare", n)),
        &json!({"spec": {"renewTime": now()}}),
    )
}

fn now() -> String {
    format!("{:.6}", Clock::system().now())
}

fn node(n: usize) -> Value {
    let name = name("bare", n);
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {LABEL: "", "kubernetes.io/hostname": name}},
    })
}

fn status() -> Value {
    let room = json!({"cpu": "32", "memory": "128Gi", "ephemeral-storage": "1Ti", "pods": "110"});
    let condition = |kind: &str, status: &str| {
        json!({
            "type": kind, "status": status, "reason": "Bare", "message": "",
            "lastHeartbeatTime": now()[..19].to_owned() + "Z", "lastTransitionTime": now()[..19].to_owned() + "Z",
        })
    };
    json!({"status": {
        "capacity": room, "allocatable": room,
        "conditions": [
            condition("MemoryPressure", "False"), condition("DiskPressure", "False"),
            condition("PIDPressure", "False"), condition("Ready", "True"),
        ],
    }})
}

fn lease(n: usize) -> Value {
    let name = name("bare", n);
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now()},
    })
}
