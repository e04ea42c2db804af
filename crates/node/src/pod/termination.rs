//! Ending a pod: preStop hooks, signals, grace, sidecars last and in reverse order.

use std::sync::Arc;
use std::time::Duration;

use coracle_clock::Instant;
use coracle_runtime::ContainerId;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};
use tokio::sync::watch;

use super::context::Context;
use super::handler::{Outcome, Target};
use crate::objects::EventType;

/// A preStop hook that used all of the grace period leaves this much for the signal.
const LEAST_GRACE: Duration = Duration::from_secs(2);

/// A running container that is to end.
pub(crate) struct Victim {
    pub(crate) id: ContainerId,
    pub(crate) container: Arc<Container>,
    /// The place among the sidecars; they end after the others, the last started first.
    pub(crate) sidecar: Option<usize>,
}

/// Runs a lifecycle hook to its end.
pub(crate) async fn run_hook(
    cx: &Arc<Context>,
    id: &ContainerId,
    container: &Arc<Container>,
    pod_ip: &str,
    hook: &LifecycleHandler,
    limit: Option<Duration>,
) -> Result<(), String> {
    let target = Target {
        runtime: cx.runtime.clone(),
        clock: cx.clock,
        id: id.clone(),
        container: container.clone(),
        pod_ip: pod_ip.to_owned(),
    };
    // Upstream's hooks over HTTP have no limit of their own but the client's.
    let http_limit = limit.unwrap_or(Duration::from_secs(60));
    let outcome = if let Some(exec) = &hook.exec {
        target.exec(exec.command.as_deref().unwrap_or_default(), limit).await
    } else if let Some(action) = &hook.http_get {
        target.http(action, http_limit).await
    } else if let Some(action) = &hook.tcp_socket {
        target.tcp(action, http_limit).await
    } else if let Some(sleep) = &hook.sleep {
        let wanted = Duration::from_secs(sleep.seconds.max(0).unsigned_abs());
        // A container that ends first ends its sleep too.
        let _ = cx
            .clock
            .timeout(limit.unwrap_or(wanted).min(wanted), cx.runtime.wait_container(id))
            .await;
        Outcome::Success
    } else {
        Outcome::Success
    };
    match outcome {
        Outcome::Success | Outcome::Warning(_) => Ok(()),
        Outcome::Failure(text) | Outcome::Unknown(text) => Err(text),
    }
}

/// Ends one container by `deadline`, which may move closer meanwhile.
pub(crate) async fn kill(
    cx: &Arc<Context>,
    pod: &Arc<Pod>,
    victim: &Victim,
    pod_ip: &str,
    message: String,
    mut deadline: watch::Receiver<Instant>,
    turn: impl Future<Output = ()>,
) {
    let Victim { id, container, .. } = victim;
    cx.container_event(pod, &container.name, EventType::Normal, "Killing", message);
    let left = |deadline: &watch::Receiver<Instant>| deadline.borrow().saturating_duration_since(cx.clock.instant());
    if let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()) {
        let limit = left(&deadline);
        let run = cx
            .clock
            .timeout(limit, run_hook(cx, id, container, pod_ip, hook, Some(limit)));
        if let Ok(Err(error)) = run.await {
            tracing::debug!(container = %id, error, "preStop hook failed");
            cx.container_event(
                pod,
                &container.name,
                EventType::Warning,
                "FailedPreStopHook",
                "PreStopHook failed",
            );
        }
    }
    tokio::select! {
        () = turn => {}
        () = past(cx, deadline.clone()) => {}
    }
    let grace = left(&deadline).max(LEAST_GRACE);
    let stop = cx.runtime.stop_container(id, None, grace);
    tokio::pin!(stop);
    let mut at = *deadline.borrow_and_update();
    loop {
        tokio::select! {
            result = &mut stop => {
                if let Err(error) = result {
                    tracing::warn!(container = %id, error = error.chain(), "a container was not stopped");
                }
                return;
            }
            changed = deadline.changed() => {
                let sooner = *deadline.borrow_and_update();
                if changed.is_err() {
                    // Nobody can change it any more.
                    if let Err(error) = (&mut stop).await {
                        tracing::warn!(container = %id, error = error.chain(), "a container was not stopped");
                    }
                    return;
                }
                if sooner < at {
                    at = sooner;
                    tokio::select! {
                        _ = &mut stop => return,
                        () = cx.clock.sleep_until(at) => {}
                    }
                    if let Err(error) = cx.runtime.kill_container(id, 9).await {
                        tracing::debug!(container = %id, %error, "a container ended before its deadline's signal");
                    }
                }
            }
        }
    }
}

async fn past(cx: &Context, mut deadline: watch::Receiver<Instant>) {
    loop {
        let at = *deadline.borrow_and_update();
        tokio::select! {
            () = cx.clock.sleep_until(at) => return,
            changed = deadline.changed() => {
                if changed.is_err() {
                    return cx.clock.sleep_until(at).await;
                }
            }
        }
    }
}

/// Ends all of a pod's containers; returns when they have ended.
pub(crate) async fn kill_pod(
    cx: Arc<Context>,
    pod: Arc<Pod>,
    victims: Vec<Victim>,
    pod_ip: String,
    deadline: watch::Receiver<Instant>,
) {
    // How many of each rank still run: rank 0 are the containers, then the sidecars from the last to the first.
    let sidecars = victims
        .iter()
        .filter_map(|v| v.sidecar)
        .max()
        .map_or(0, |most| most + 1);
    let rank = |victim: &Victim| victim.sidecar.map_or(0, |place| sidecars - place);
    let mut counts = vec![0usize; sidecars + 1];
    for victim in &victims {
        counts[rank(victim)] += 1;
    }
    let (running, _) = watch::channel(counts);
    let all = victims.iter().map(|victim| {
        let own = rank(victim);
        let mut seen = running.subscribe();
        let turn = async move {
            // The sender outlives every turn.
            let _ = seen.wait_for(|counts| counts[..own].iter().all(|n| *n == 0)).await;
        };
        let (cx, pod, pod_ip, deadline, running) = (&cx, &pod, &pod_ip, deadline.clone(), &running);
        async move {
            let message = format!("Stopping container {}", victim.container.name);
            kill(cx, pod, victim, pod_ip, message, deadline, turn).await;
            running.send_modify(|counts| counts[own] -= 1);
        }
    });
    join_all(all).await;
}
