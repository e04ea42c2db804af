//! Probes: one task for each probe of a running container. Counting is pure ([`Tally`]); the worker decides what a verdict
//! leads to.

use std::sync::Arc;
use std::time::Duration;

use coracle_clock::Timestamp;
use coracle_runtime::ContainerId;
use k8s_openapi::api::core::v1::{Pod, Probe};
use tokio::sync::mpsc;

use super::context::Context;
use super::handler::{Outcome, Target};
use crate::objects::EventType;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

impl ProbeKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// A probe has changed its mind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) container: String,
    pub(crate) id: ContainerId,
    pub(crate) kind: ProbeKind,
    pub(crate) healthy: bool,
}

/// Counts outcomes against the thresholds.
#[derive(Debug)]
pub(crate) struct Tally {
    success_threshold: u32,
    failure_threshold: u32,
    run: u32,
    last: Option<bool>,
    verdict: Option<bool>,
}

impl Tally {
    pub(crate) fn new(probe: &Probe) -> Self {
        let threshold = |value: Option<i32>, default| value.filter(|v| *v > 0).map_or(default, i32::unsigned_abs);
        Self {
            success_threshold: threshold(probe.success_threshold, 1),
            failure_threshold: threshold(probe.failure_threshold, 3),
            run: 0,
            last: None,
            verdict: None,
        }
    }

    /// Takes one outcome; returns the verdict if it is a new one.
    pub(crate) fn count(&mut self, success: bool) -> Option<bool> {
        self.run = if self.last == Some(success) {
            self.run.saturating_add(1)
        } else {
            1
        };
        self.last = Some(success);
        let enough = if success {
            self.success_threshold
        } else {
            self.failure_threshold
        };
        if self.run < enough || self.verdict == Some(success) {
            return None;
        }
        self.verdict = Some(success);
        Some(success)
    }
}

fn seconds(value: Option<i32>, default: u32) -> Duration {
    Duration::from_secs(value.filter(|v| *v > 0).map_or(default, i32::unsigned_abs).into())
}

/// Probes the container until the task is dropped, or a startup or liveness probe has said its last word.
pub(crate) async fn run(
    cx: Arc<Context>,
    pod: Arc<Pod>,
    target: Target,
    kind: ProbeKind,
    probe: Probe,
    started_at: Timestamp,
    verdicts: mpsc::Sender<Verdict>,
) {
    let delay = jiff::SignedDuration::from_secs(probe.initial_delay_seconds.unwrap_or(0).max(0).into());
    if let Ok(first) = started_at.checked_add(delay) {
        cx.clock.sleep_until_time(first).await;
    }
    let period = seconds(probe.period_seconds, 10);
    let mut tally = Tally::new(&probe);
    let mut next = cx.clock.instant();
    loop {
        let outcome = attempt(&target, &probe).await;
        let tell = |reason, text: String| {
            cx.container_event(&pod, &target.container.name, EventType::Warning, reason, text);
        };
        let told = |text: String| tell("Unhealthy", text);
        let verdict = match outcome {
            Outcome::Success => tally.count(true),
            Outcome::Warning(text) => {
                tell("ProbeWarning", format!("{} probe warning: {text}", kind.name()));
                tally.count(true)
            }
            Outcome::Failure(output) => {
                told(format!("{} probe failed: {output}", kind.name()));
                tally.count(false)
            }
            // As upstream: told, not counted.
            Outcome::Unknown(error) => {
                told(format!(
                    "{} probe errored and resulted in unknown state: {error}",
                    kind.name()
                ));
                None
            }
        };
        if let Some(healthy) = verdict {
            let verdict = Verdict {
                container: target.container.name.clone(),
                id: target.id.clone(),
                kind,
                healthy,
            };
            if verdicts.send(verdict).await.is_err() {
                return;
            }
            let last_word = match kind {
                ProbeKind::Startup => true,
                ProbeKind::Liveness => !healthy,
                ProbeKind::Readiness => false,
            };
            if last_word {
                return;
            }
        }
        next = (next + period).max(cx.clock.instant());
        cx.clock.sleep_until(next).await;
    }
}

async fn attempt(target: &Target, probe: &Probe) -> Outcome {
    let limit = seconds(probe.timeout_seconds, 1);
    if let Some(exec) = &probe.exec {
        target
            .exec(exec.command.as_deref().unwrap_or_default(), Some(limit))
            .await
    } else if let Some(action) = &probe.http_get {
        target.http(action, limit).await
    } else if let Some(action) = &probe.tcp_socket {
        target.tcp(action, limit).await
    } else if let Some(action) = &probe.grpc {
        target.grpc(action, limit).await
    } else {
        Outcome::Unknown("missing probe handler".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_needs_a_run_as_long_as_its_threshold() {
        let probe = Probe {
            success_threshold: Some(2),
            failure_threshold: Some(3),
            ..Probe::default()
        };
        let mut tally = Tally::new(&probe);
        let outcomes = [
            true, false, true, true, true, false, false, true, false, false, false, false,
        ];
        let verdicts: Vec<_> = outcomes.into_iter().map(|o| tally.count(o)).collect();
        let mut expected = vec![None; 12];
        expected[3] = Some(true);
        expected[10] = Some(false);
        assert_eq!(verdicts, expected);
    }
}
