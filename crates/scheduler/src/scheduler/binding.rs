//! Binds a pod that has its node: waits for permits and volumes, tells the API, and gives everything back if that fails.

use std::sync::Arc;
use std::time::Duration;

use coracle_client::event::EventType;
use coracle_client::{Patch, gone_is_done};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use tokio::sync::oneshot;

use super::{Placement, Shared};
use crate::framework::{Binding, Point, Rejection};
use crate::shape::PodInfo;
use crate::waiting::Refusal;

/// The answer to come, of those who have to permit the binding.
pub(super) type Waiting = oneshot::Receiver<Result<(), Refusal>>;

impl Shared {
    pub(super) async fn bind(self: Arc<Self>, mut placement: Placement, waiting: Option<Waiting>) {
        // What was told of the pod before must not come after.
        placement.turn.come().await;
        let profile = &self.profiles[placement.profile];
        let pod = &placement.attempt.pod;
        match self.try_bind(&placement, waiting).await {
            Ok(()) => {
                self.queue.remove(pod.uid());
                let message = format!("Successfully assigned {} to {}", pod.key(), placement.node);
                self.events[placement.profile].event(&*pod.pod, EventType::Normal, "Scheduled", message);
                tracing::info!(pod = pod.key(), node = &*placement.node, "bound");
                self.metrics
                    .attempt("scheduled", &profile.scheduler_name, placement.started.elapsed());
                self.metrics
                    .scheduled(placement.attempt.attempts + 1, placement.attempt.since.elapsed());
            }
            Err(Failure::Gone) => {
                profile.unreserve(&placement.state, pod, &placement.node);
                self.give_back(pod);
                self.queue.remove(pod.uid());
            }
            Err(Failure::Rejected(plugin, rejection)) => {
                profile.unreserve(&placement.state, pod, &placement.node);
                tracing::warn!(pod = pod.key(), node = &*placement.node, plugin, %rejection, "a pod could not be bound");
                self.let_go(placement, plugin, rejection);
            }
        }
    }

    async fn try_bind(&self, placement: &Placement, waiting: Option<Waiting>) -> Result<(), Failure> {
        let profile = &self.profiles[placement.profile];
        let pod = &placement.attempt.pod;
        let binding = Binding {
            client: &self.client,
            clock: self.clock,
            pod,
            node: &placement.node,
            state: &placement.state,
        };
        if waiting.is_some() || profile.prepares(&binding) {
            self.announce(pod, &placement.node).await;
        }
        if let Some(answer) = waiting {
            let began = self.clock.instant();
            let verdict = self.waiting.wait(pod.uid(), answer, self.clock).await;
            self.metrics.permit_wait(verdict.is_ok(), began.elapsed());
            verdict.map_err(|(plugin, rejection)| Failure::Rejected(plugin, rejection))?;
        }
        let timing = profile.timer.start();
        let prepared = profile.pre_bind(&binding).await;
        timing.end(Point::PreBind, prepared.is_ok());
        prepared.map_err(|(plugin, rejection)| Failure::Rejected(plugin, rejection))?;
        let bound = {
            let _turn = self.writes.acquire().await;
            let timing = profile.timer.start();
            let bound = profile.bind(&binding).await;
            timing.end(Point::Bind, matches!(bound, Some(Ok(()))));
            bound
        };
        let outcome = match bound {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) if error.is_uncertain() && self.has_node(placement).await => Ok(()),
            Some(Err(error)) if error.is_not_found() => Err(Failure::Gone),
            Some(Err(error)) => Err(Failure::Rejected(
                "Bind",
                Rejection::error(format!("binding rejected: {error}")),
            )),
            None => Err(Failure::Rejected(
                "Bind",
                Rejection::error("binding rejected: no plugin binds this pod"),
            )),
        };
        if outcome.is_ok() {
            let timing = profile.timer.start();
            profile.post_bind(&binding);
            timing.end(Point::PostBind, true);
        }
        outcome
    }

    /// Says on the pod where it is going to be, for those who make room or take nodes away meanwhile. Binding it goes on
    /// if that fails.
    async fn announce(&self, pod: &PodInfo, node: &str) {
        if pod.nominated_node() == Some(node) {
            return;
        }
        let _turn = self.writes.acquire().await;
        let patch = json!({"metadata": {"uid": pod.pod.metadata.uid}, "status": {"nominatedNodeName": node}});
        let pods = self.client.namespaced::<Pod>(pod.namespace()).status();
        if let Err(error) = gone_is_done(pods.patch(pod.name(), Patch::Strategic(patch)).await) {
            tracing::warn!(pod = pod.key(), %error, "the node that a pod is going to have could not be written");
        }
    }

    /// Whether the pod has got its node although the answer said nothing of it. Until that is known its room is kept:
    /// given to another, the node would be promised twice.
    async fn has_node(&self, placement: &Placement) -> bool {
        let pod = &placement.attempt.pod;
        let name = pod.pod.metadata.name.as_deref().unwrap_or_default();
        let pods = self.client.namespaced::<Pod>(pod.namespace());
        let mut pause = Duration::from_millis(100);
        loop {
            match pods.find(name).await {
                Ok(found) => {
                    let same = found.filter(|p| p.metadata.uid.as_deref() == Some(pod.uid()));
                    let node = same.and_then(|p| p.spec.as_ref()?.node_name.clone());
                    return node.as_deref() == Some(&*placement.node);
                }
                Err(error) => {
                    tracing::warn!(pod = pod.key(), %error, "it is not known whether a pod was bound; asking again");
                    self.clock.sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(30));
                }
            }
        }
    }
}

enum Failure {
    /// The pod is no longer there.
    Gone,
    Rejected(&'static str, Rejection),
}
