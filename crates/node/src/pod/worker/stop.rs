//! What the node decides over the pod's head: not to let it in, to end it for the node's sake, to take back disk space.

use std::time::Duration;

use coracle_runtime::ContainerState;

use super::{Stage, Worker};
use crate::allocation::Share;
use crate::objects::EventType;
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
        self.admitted = true;
        // It may have waited for more before this agent came.
        self.resize.ask = Granted::of(&self.pod) != Granted::of(&self.desired);
        let share = Share::of(&self.pod);
        if self.sandbox.is_some() || !self.instances.is_empty() {
            return self.cx.allocations.hold(self.uid(), share);
        }
        let refusal = match self.cx.state.refuses(&self.pod) {
            Some(refusal) => refusal,
            None => match self.cx.allocations.admit(self.uid(), share) {
                Ok(()) => return,
                Err(refusal) => refusal,
            },
        };
        self.tell(EventType::Warning, refusal.reason.clone(), refusal.message.clone());
        self.ended = Some((refusal.reason, format!("Pod was rejected: {}", refusal.message)));
        self.stage = Stage::Ended;
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
