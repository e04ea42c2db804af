//! The nodes' own writes: the object, its status, its lease.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_client::{Error as ClientError, Patch, gone_is_done};
use coracle_informer::{CancellationToken, ObjectKey};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use super::{Error, Key, Shared};
use crate::node_object::{self, FLEET_LABEL, LEASE_NAMESPACE, next_turn};

impl Shared {
    /// Creates the numbered nodes that are not there.
    pub(super) async fn register(&self, count: u32, workers: usize, shutdown: &CancellationToken) -> Result<(), Error> {
        let all = futures::stream::iter((0..count).map(|index| self.create(index)));
        let all = all.buffer_unordered(workers.max(1)).try_collect::<Vec<()>>();
        match shutdown.run_until_cancelled(all).await {
            Some(done) => done.map(drop),
            None => Err(Error::ShutDown),
        }
    }

    async fn create(&self, index: u32) -> Result<(), Error> {
        let name = format!("{}-{index}", self.name);
        let nodes = self.client.all::<Node>();
        let failed = |source| Error::Create {
            name: name.clone(),
            source,
        };
        if let Some(node) = self.nodes.lister().find("", &name) {
            // It was there: what it says of itself may be old.
            if node_object::outdated(&node, &self.endpoint) {
                self.write(&node).await.map_err(failed)?;
            }
            return Ok(());
        }
        let range = self.state.numbered(index);
        let now = self.clock.now();
        let ranges = range.map_or_else(Vec::new, |r| node_object::ranges(r, self.config.nodes.pod_cidr6));
        let wanted = node_object::node(&self.name, &name, index, &self.template, &self.endpoint, ranges, now);
        let node = match nodes.create(&wanted).await {
            Ok(node) => node,
            Err(error) if error.is_already_exists() => {
                let node = nodes.get(&name).await.map_err(failed)?;
                let fleet = node.metadata.labels.as_ref().and_then(|l| l.get(FLEET_LABEL));
                if fleet != Some(&self.name) {
                    return Err(Error::Taken(name));
                }
                node
            }
            Err(error) => return Err(failed(error)),
        };
        let node = if node_object::outdated(&node, &self.endpoint) {
            self.write(&node).await.map_err(failed)?
        } else {
            node
        };
        self.adopt(&node);
        Ok(())
    }

    async fn write(&self, node: &Node) -> Result<Arc<Node>, ClientError> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let status = node_object::status(
            name,
            &self.template,
            &self.endpoint,
            node.status.as_ref(),
            self.clock.now(),
        );
        let patch = Patch::Strategic(node_object::status_patch(&status));
        self.client.all::<Node>().status().patch(name, patch).await
    }

    /// Writes the node's status, now and every few minutes.
    pub(super) async fn report_node(&self, name: &Arc<str>) -> Result<(), ClientError> {
        let Some(node) = self.nodes.lister().get(&ObjectKey::new("", name.clone())) else {
            return Ok(());
        };
        if let Some(end) = self.dead(name) {
            if let Some(end) = end {
                self.look_again(Key::Node(name.clone()), end);
            }
            return Ok(());
        }
        let mut patch = json!({});
        let has_range = node.spec.as_ref().is_some_and(|s| s.pod_cidr.is_some());
        if let (false, Some(range)) = (has_range, self.state.cidr(name)) {
            let ranges = node_object::ranges(range, self.config.nodes.pod_cidr6);
            patch["spec"] = json!({"podCIDR": ranges.first(), "podCIDRs": ranges});
        }
        let outdated = node_object::outdated(&node, &self.endpoint);
        // As a kubelet does: when it takes the node up, not ever after.
        let labels = node_object::labels_to_set(&node, &self.template);
        let annotations = BTreeMap::from_iter(node_object::annotation_to_set(&node, &self.endpoint));
        if outdated && !(labels.is_empty() && annotations.is_empty()) {
            patch["metadata"] = json!({"labels": labels, "annotations": annotations});
        }
        if patch != json!({}) {
            gone_is_done(self.client.all::<Node>().patch(name, Patch::Merge(patch)).await)?;
        }
        let now = self.now();
        let interval = i64::try_from(self.config.nodes.status_interval.as_millis()).unwrap_or(i64::MAX);
        // One that was written just now (by its creation, or after an outage) has its turn like the others.
        let fresh = node_object::ready(&node)
            .and_then(|c| c.last_heartbeat_time.as_ref())
            .is_some_and(|t| now - crate::status::millis(t.0) < 1000);
        if !fresh || outdated {
            gone_is_done(self.write(&node).await)?;
        }
        self.look_again(Key::Node(name.clone()), next_turn(name, interval, now));
        Ok(())
    }

    /// Renews the node's lease, now and in every interval.
    pub(super) async fn renew(&self, name: &Arc<str>) -> Result<(), ClientError> {
        let Some(uid) = self.state.uid(name) else {
            return Ok(());
        };
        if let Some(end) = self.dead(name) {
            if let Some(end) = end {
                self.look_again(Key::Lease(name.clone()), end);
            }
            return Ok(());
        }
        let leases = self.client.namespaced::<Lease>(LEASE_NAMESPACE);
        let (now, interval) = (self.clock.now(), self.config.nodes.lease_interval);
        match leases.patch(name, Patch::Merge(node_object::renewal(name, now))).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => {
                leases.create(&node_object::lease(name, &uid, interval, now)).await?;
            }
            Err(error) => return Err(error),
        }
        let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        self.look_again(Key::Lease(name.clone()), next_turn(name, interval, self.now()));
        Ok(())
    }
}
