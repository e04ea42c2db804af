//! What the node decides over the pod's head: not to let it in, to end it for the node's sake, to take back disk space.

use std::sync::Arc;
use std::time::Duration;

use coracle_runtime::ContainerState;
use k8s_openapi::api::core::v1::Node;

use super::{Done, Judging, Stage, Worker};
use crate::allocation::{Refusal, Share};
use crate::objects::{ApiError, EventType};
use crate::pod::admission::{host_ports, misfit, unsupported};
use crate::pod::resize::Granted;

/// The node ends a pod: as the status will have it, and how long the pod has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) reason: String,
    pub(crate) message: String,
    /// At most; less if the pod itself asks for less.
    pub(crate) grace: Option<Duration>,
    /// The condition DisruptionTarget is told, with the message.
    pub(crate) disruption: bool,
}

impl Worker {
    /// Lets a new pod in, or ends it before it began. One that ran already is not asked.
    pub(super) fn admit(&mut self) {
        if self.admitted || self.gone || self.is_terminal() || self.pod.metadata.deletion_timestamp.is_some() {
            return;
        }
        let ran = self.sandbox.is_some() || !self.instances.is_empty();
        let misfit = match self.misfit() {
            Some(refusal) if !ran => {
                if !matches!(self.judging, Judging::Asked(_)) {
                    // The node's object may have changed since it was told: whoever bound the pod knew it as it is.
                    return self.read_node();
                }
                Some(refusal)
            }
            _ => None,
        };
        self.admitted = true;
        // It may have waited for more before this agent came.
        self.resize.ask = Granted::of(&self.pod) != Granted::of(&self.desired);
        let share = Share::of(&self.pod);
        let ports = host_ports(&self.pod);
        if ran {
            self.cx.allocations.hold_ports(self.uid(), ports);
            return self.cx.allocations.hold(self.uid(), share);
        }
        let all = || {
            self.cx.state.refuses(&self.pod).map_or(Ok(()), Err)?;
            self.cx.allocations.admit(self.uid(), share)?;
            misfit.map_or(Ok(()), Err)?;
            unsupported(&self.pod, &self.cx.runtime.abilities()).map_or(Ok(()), Err)?;
            self.cx.allocations.take_ports(self.uid(), ports)
        };
        let Err(refusal) = all() else { return };
        self.tell(EventType::Warning, refusal.reason.clone(), refusal.message.clone());
        self.ended = Some((refusal.reason, format!("Pod was rejected: {}", refusal.message)));
        self.stage = Stage::Ended;
    }

    /// Why the pod does not belong on the node, by the newest that is known of it.
    fn misfit(&self) -> Option<Refusal> {
        let node = match &self.judging {
            Judging::Asked(Some(node)) => node.clone(),
            _ => self.cx.state.object.borrow().clone()?,
        };
        misfit(&self.pod, &node)
    }

    fn read_node(&mut self) {
        if matches!(self.judging, Judging::Asking) {
            return;
        }
        self.judging = Judging::Asking;
        let cx = self.cx.clone();
        let read = async move { Done::NodeRead(cx.objects.node(&cx.node().name).await) };
        self.ops.spawn(read);
    }

    /// The node as the API has it now; where that cannot be had, what was told last counts.
    pub(super) fn absorb_node(&mut self, node: Result<Option<Arc<Node>>, ApiError>) {
        self.judging = Judging::Asked(node.ok().flatten());
    }

    fn tell(&self, kind: EventType, reason: String, message: String) {
        self.cx.objects.event(&self.pod, None, kind, reason.into(), message);
    }

    /// Begins to end the pod for the node's sake.
    pub(super) fn stop_for_the_node(&mut self) {
        let Some(stop) = self.stop.clone() else { return };
        self.ended = Some((stop.reason, stop.message));
        self.end();
    }

    /// Removes what an ended pod keeps of the disk but for its logs: its status has been told, and is all that is asked for.
    pub(super) fn reclaim(&mut self) {
        if !matches!(self.stage, Stage::Ended) || self.writing || self.has_news() {
            return;
        }
        let ended: Vec<_> = self
            .instances
            .values()
            .filter(|i| i.state == ContainerState::Exited)
            .map(|i| i.id.clone())
            .collect();
        for id in ended {
            self.remove_instance(id);
        }
    }
}
