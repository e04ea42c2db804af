//! Telling the API that the node is there and well: the Node object, its status when it changes or every five minutes,
//! and the Lease every ten seconds.

use std::sync::Arc;
use std::time::Duration;

use coracle_client::{Client, Error, Patch};
use coracle_clock::{Clock, Instant};
use coracle_informer::CancellationToken;
use coracle_runtime::PodRuntime;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{ContainerImage, Node, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use crate::machine::{Disk, Machine, Memory, pids};
use crate::node_object::{self, Health, Registration};

const CHECK: Duration = Duration::from_secs(10);
const REPORT: Duration = Duration::from_secs(300);
const LEASE_SECONDS: i32 = 40;
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// As upstream: a node tells at most of this many images.
const MOST_IMAGES: usize = 50;

/// Keeps the node's object and lease.
pub(crate) struct Registrar {
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) runtime: Arc<dyn PodRuntime>,
    pub(crate) registration: Registration,
    pub(crate) machine: Machine,
    pub(crate) data_dir: std::path::PathBuf,
}

impl Registrar {
    /// Creates the node, or takes up the one of its name, and says that it is ready.
    pub(crate) async fn register(&self) -> Result<Arc<Node>, Error> {
        let nodes = self.client.all::<Node>();
        let status = self.status(None).await;
        let wanted = node_object::node(&self.registration, &self.machine, status);
        let node = match nodes.create(&wanted).await {
            Ok(node) => node,
            Err(error) if error.is_already_exists() => {
                // A node that has another certificate now tells so; one that an authority vouches for tells none.
                let mut annotations = json!(wanted.metadata.annotations);
                annotations[node_object::SERVING_CERTIFICATE] =
                    json!(self.registration.annotations.get(node_object::SERVING_CERTIFICATE));
                let known = json!({"metadata": {"labels": wanted.metadata.labels, "annotations": annotations}});
                nodes.patch(&self.registration.name, Patch::Merge(known)).await?
            }
            Err(error) => return Err(error),
        };
        let status = self.status(node.status.as_ref()).await;
        let told = node
            .status
            .as_ref()
            .is_some_and(|before| !node_object::differs(before, &status) && is_ready(before));
        tracing::info!(node = self.registration.name, "node is registered");
        if told { Ok(node) } else { self.write(&status).await }
    }

    async fn status(&self, before: Option<&NodeStatus>) -> NodeStatus {
        let health = Health {
            memory: Memory::read(),
            disk: Disk::read(&self.data_dir),
            pids: pids(),
        };
        let mut images: Vec<_> = self
            .runtime
            .images()
            .await
            .iter()
            .map(|image| ContainerImage {
                names: Some(image.repo_digests.iter().chain(&image.repo_tags).cloned().collect()),
                size_bytes: i64::try_from(image.size).ok(),
            })
            .collect();
        images.sort_by_key(|image| (std::cmp::Reverse(image.size_bytes), image.names.clone()));
        images.truncate(MOST_IMAGES);
        node_object::status(
            &self.registration,
            &self.machine,
            &health,
            images,
            before,
            self.clock.now(),
        )
    }

    async fn write(&self, status: &NodeStatus) -> Result<Arc<Node>, Error> {
        let mut value = serde_json::to_value(status).unwrap_or_default();
        // Addresses go away as well as come.
        if let Some(addresses) = value.get_mut("addresses").and_then(Value::as_array_mut) {
            addresses.push(json!({"$patch": "replace"}));
        }
        let nodes = self.client.all::<Node>().status();
        nodes
            .patch(&self.registration.name, Patch::Strategic(json!({"status": value})))
            .await
    }

    /// Keeps both up to date until `shutdown`.
    pub(crate) async fn keep(self, node: Arc<Node>, shutdown: CancellationToken) {
        let mut known = node;
        let mut lease: Option<Arc<Lease>> = None;
        let mut reported = self.clock.instant();
        let mut next: Instant = self.clock.instant();
        loop {
            match self.renew(lease.take(), &known).await {
                Ok(renewed) => lease = Some(renewed),
                Err(error) => tracing::warn!(node = self.registration.name, %error, "the node's lease was not renewed"),
            }
            let status = self.status(known.status.as_ref()).await;
            let changed = known
                .status
                .as_ref()
                .is_none_or(|before| node_object::differs(before, &status));
            if changed || self.clock.instant().duration_since(reported) >= REPORT {
                match self.write(&status).await {
                    Ok(node) => {
                        known = node;
                        reported = self.clock.instant();
                    }
                    Err(error) if error.is_not_found() => match self.register().await {
                        Ok(node) => known = node,
                        Err(error) => tracing::warn!(%error, "the node was deleted and could not be registered again"),
                    },
                    Err(error) => {
                        tracing::warn!(node = self.registration.name, %error, "the node's status was not written")
                    }
                }
            }
            // A lease that could not be had at first (its namespace is young) is tried again soon.
            let pause = if lease.is_some() { CHECK } else { Duration::from_secs(1) };
            next = (next + pause).max(self.clock.instant());
            tokio::select! {
                () = self.clock.sleep_until(next) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn renew(&self, held: Option<Arc<Lease>>, node: &Node) -> Result<Arc<Lease>, Error> {
        let leases = self.client.namespaced::<Lease>(LEASE_NAMESPACE);
        let name = &self.registration.name;
        let held = match held {
            Some(held) => Some(held),
            None => leases.find(name).await?,
        };
        let mut lease = held.as_deref().cloned().unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(LEASE_NAMESPACE.into()),
                ..ObjectMeta::default()
            },
            ..Lease::default()
        });
        lease.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: name.clone(),
            uid: node.metadata.uid.clone().unwrap_or_default(),
            ..OwnerReference::default()
        }]);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(name.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(MicroTime(self.clock.now())),
            ..LeaseSpec::default()
        });
        if held.is_some() {
            leases.update(&lease).await
        } else {
            leases.create(&lease).await
        }
    }
}

fn is_ready(status: &NodeStatus) -> bool {
    status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}
