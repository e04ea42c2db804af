//! Makes room for a pod: evicts the pods that were chosen, and takes back the nominations of less important pods to the
//! node. Beside the loop; the pod itself is held in the queue meanwhile.

use std::sync::Arc;

use coracle_client::event::EventType;
use coracle_client::{DeleteOptions, Error, Patch, gone_is_done};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::Shared;
use crate::shape::PodInfo;

impl Shared {
    pub(super) fn preempt(self: &Arc<Self>, pod: PodInfo, profile: usize, node: Arc<str>, victims: Vec<PodInfo>) {
        let this = self.clone();
        self.tasks.spawn(async move {
            tracing::info!(pod = pod.key(), node = &*node, victims = victims.len(), "preempting");
            this.take_back_nominations(&pod, &node).await;
            let evictions = victims.iter().map(|victim| this.evict(&pod, profile, &node, victim));
            let mut failed = false;
            for (outcome, victim) in futures::future::join_all(evictions).await.into_iter().zip(&victims) {
                if let Err(error) = outcome {
                    failed = true;
                    tracing::warn!(pod = pod.key(), victim = victim.key(), %error, "a pod could not be preempted");
                }
            }
            this.queue.release(pod.uid(), failed);
        });
    }

    async fn evict(&self, pod: &PodInfo, profile: usize, node: &str, victim: &PodInfo) -> Result<(), Error> {
        if victim.is_terminating() {
            return Ok(());
        }
        let _turn = self.writes.acquire().await;
        // It may wait for a permit, and then nobody knows of it yet.
        if !self.waiting.reject(victim.uid(), "", "preempted") {
            let scheduler = &self.profiles[profile].scheduler_name;
            let condition = json!({
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "PreemptionByScheduler",
                "message": format!("{scheduler}: preempting to accommodate a higher priority pod"),
                "lastTransitionTime": Time(self.clock.now()),
                "observedGeneration": victim.pod.metadata.generation,
            });
            let patch = json!({"metadata": {"uid": victim.pod.metadata.uid}, "status": {"conditions": [condition]}});
            let pods = self.client.namespaced::<Pod>(victim.namespace());
            let delete = DeleteOptions {
                uid: victim.pod.metadata.uid.clone(),
                ..DeleteOptions::default()
            };
            let outcome = match pods.status().patch(victim.name(), Patch::Strategic(patch)).await {
                Ok(_) => pods.delete(victim.name(), &delete).await.map(drop),
                Err(error) => Err(error),
            };
            if gone_is_done(outcome)?.is_none() {
                return Ok(());
            }
        }
        let message = format!("Preempted by pod {} on node {node}", pod.uid());
        self.events[profile].event(&*victim.pod, EventType::Normal, "Preempted", message);
        Ok(())
    }

    /// Pods of lower priority that counted on the node look for another.
    async fn take_back_nominations(&self, pod: &PodInfo, node: &str) {
        let lower = |other: &&PodInfo| other.priority() < pod.priority();
        let others: Vec<PodInfo> = self
            .nominator
            .current()
            .on(node)
            .iter()
            .filter(lower)
            .cloned()
            .collect();
        for other in &others {
            self.nominator.remove(other.uid());
            let patch = json!({"metadata": {"uid": other.pod.metadata.uid}, "status": {"nominatedNodeName": null}});
            let pods = self.client.namespaced::<Pod>(other.namespace()).status();
            let mut turn = self.turns.take(other.uid());
            turn.come().await;
            if let Err(error) = gone_is_done(pods.patch(other.name(), Patch::Strategic(patch)).await) {
                tracing::warn!(pod = other.key(), %error, "a nomination could not be taken back");
            }
            self.queue.activate(other.uid());
        }
    }
}
