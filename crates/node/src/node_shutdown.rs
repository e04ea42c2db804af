//! Graceful node shutdown: before the machine goes down its pods are ended, the least important first, each group within
//! its own time; meanwhile the node is not ready and lets no pod in. A plain stop of the agent does none of this.

use std::time::Duration;

use futures::future::join_all;

use crate::eviction::rank::priority;
use crate::pod::worker::Stop;
use crate::pods::{ActivePod, Pods};
use crate::settings::ShutdownGroup;

/// After a group's time is over, for the kernel and the API to catch up.
const MARGIN: Duration = Duration::from_secs(1);

const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";

/// The place of the group that a pod of this priority belongs to: the highest that is not above it, or the lowest. Pure.
fn place(groups: &[ShutdownGroup], priority: i32) -> usize {
    groups.iter().rposition(|g| g.priority <= priority).unwrap_or(0)
}

/// Ends the node's pods, group by group. Returns when they have ended or their time is over.
pub(crate) async fn end_pods(pods: &Pods) {
    let cx = pods.context();
    let groups = cx.settings.shutdown.clone();
    if groups.is_empty() {
        tracing::info!("the node has no shutdownGracePeriod: its pods are left as they are");
        return;
    }
    cx.state.shutting_down.send_replace(true);
    let mut by_group: Vec<Vec<ActivePod>> = groups.iter().map(|_| Vec::new()).collect();
    for pod in pods.active() {
        let place = place(&groups, priority_of(&pod));
        if let Some(group) = by_group.get_mut(place) {
            group.push(pod);
        }
    }
    for (group, pods) in groups.iter().zip(by_group) {
        if pods.is_empty() {
            continue;
        }
        tracing::info!(
            priority = group.priority,
            pods = pods.len(),
            "the node shuts down: ending pods"
        );
        for pod in &pods {
            pod.stop(Stop {
                reason: "Terminated".into(),
                message: MESSAGE.into(),
                grace: Some(group.period),
                disruption: true,
            });
        }
        let all = join_all(pods.iter().map(ActivePod::ended));
        if cx.clock.timeout(group.period + MARGIN, all).await.is_err() {
            tracing::warn!(priority = group.priority, "pods have not ended in the time they had");
        }
    }
    pods.told().await;
}

/// A static pod without a priority is one of the node's own.
fn priority_of(pod: &ActivePod) -> i32 {
    match pod.pod.spec.as_ref().and_then(|s| s.priority) {
        None if crate::mirror::is_static(&pod.pod) => crate::settings::CRITICAL,
        _ => priority(&pod.pod),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_belongs_to_the_highest_group_that_is_not_above_it() {
        let groups: Vec<_> = [100, 1000, 2_000_000_000]
            .map(|priority| ShutdownGroup {
                priority,
                period: Duration::ZERO,
            })
            .into();
        for (priority, expected) in [
            (-5, 0),
            (0, 0),
            (100, 0),
            (999, 0),
            (1000, 1),
            (1_999_999_999, 1),
            (2_000_001_000, 2),
        ] {
            assert_eq!(place(&groups, priority), expected, "{priority}");
        }
    }
}
