//! Controllers in processes of their own: elected by a Lease, and replaced when their process is killed.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use coracle_client::{Api, ListOptions, WatchEvent};
use coracle_testkit::{Options, TestCluster};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);

/// A controller manager; killed when dropped.
struct Manager(Child);

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Manager {
    fn start(kubeconfig: &Path, flags: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_coracle"))
            .args(["controller-manager", "--log", "warn", "--kubeconfig"])
            .arg(kubeconfig)
            .args([
                "--leader-elect-lease-duration",
                "3",
                "--leader-elect-renew-deadline",
                "2",
            ])
            .args(["--leader-elect-retry-period", "1", "--secure-port", "0"])
            .args(flags)
            .stdin(Stdio::null())
            .spawn();
        Self(child.expect("cannot run coracle"))
    }

    /// How it calls itself in the lease.
    fn is(&self, holder: &str) -> bool {
        holder.ends_with(&format!("_{}", self.0.id()))
    }
}

async fn until<K: coracle_client::TypedKind>(
    api: Api<K>,
    name: &str,
    wanted: impl Fn(&K) -> bool,
) -> std::sync::Arc<K> {
    let options = ListOptions {
        field_selector: format!("metadata.name={name}"),
        ..ListOptions::default()
    };
    let find = async {
        let mut changes = api.watch(&options).await.unwrap();
        while let Some(change) = changes.next().await {
            if let WatchEvent::Added(object) | WatchEvent::Modified(object) = change.unwrap()
                && wanted(&object)
            {
                return object;
            }
        }
        panic!("the watch ended");
    };
    let found = tokio::time::timeout(LIMIT, find).await;
    found.unwrap_or_else(|_| panic!("{name} did not become as wanted"))
}

fn holder(lease: &Lease) -> &str {
    let holder = lease.spec.as_ref().and_then(|s| s.holder_identity.as_deref());
    holder.unwrap_or_default()
}

async fn replica_set(cluster: &TestCluster, name: &str) -> Api<ReplicaSet> {
    let sets = cluster.client.namespaced::<ReplicaSet>("default");
    let labels = json!({"app": name});
    let set: Value = json!({"metadata": {"name": name}, "spec": {"replicas": 2, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    sets.create(&serde_json::from_value(set).unwrap()).await.unwrap();
    sets
}

fn has_two(set: &ReplicaSet) -> bool {
    set.status.as_ref().is_some_and(|s| s.replicas == 2)
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_leading_controllers_are_killed_the_others_take_over() {
    let options = Options {
        controllers: false,
        scheduler: false,
        ..Options::default()
    };
    let cluster = TestCluster::with(options).await.unwrap();
    let kubeconfig = cluster.kubeconfig();
    let leases = cluster.client.namespaced::<Lease>("kube-system");
    let first = Manager::start(&kubeconfig, &["--controllers", "*,-job"]);
    until(leases.clone(), "kube-controller-manager", |l| first.is(holder(l))).await;
    let second = Manager::start(&kubeconfig, &["--controllers", "*,-job"]);

    let accounts = cluster.client.namespaced::<ServiceAccount>("default");
    until(accounts, "default", |_| true).await;
    // The CA that pods get is the one that the connection is verified by.
    let maps = cluster.client.namespaced::<ConfigMap>("default");
    let ca = until(maps, "kube-root-ca.crt", |_| true).await;
    assert!(ca.data.as_ref().unwrap()["ca.crt"].starts_with("-----BEGIN CERTIFICATE"));
    let sets = replica_set(&cluster, "before").await;
    until(sets, "before", has_two).await;

    // Killed, it gives nothing up.
    drop(first);
    let sets = replica_set(&cluster, "after").await;
    let lease = until(leases, "kube-controller-manager", |l| second.is(holder(l))).await;
    assert_eq!(lease.spec.as_ref().unwrap().lease_transitions, Some(1));
    until(sets, "after", has_two).await;

    // One controller was left out.
    let jobs = cluster.client.namespaced::<Job>("default");
    let job = json!({"metadata": {"name": "j"}, "spec": {"template": {"spec": {"restartPolicy": "Never",
        "containers": [{"name": "c", "image": "i"}]}}}});
    jobs.create(&serde_json::from_value(job).unwrap()).await.unwrap();
    let sets = replica_set(&cluster, "last").await;
    until(sets, "last", has_two).await;
    let job = jobs.get("j").await.unwrap();
    assert!(job.status.as_ref().is_none_or(|s| s.start_time.is_none()));
    cluster.stop().await;
}
