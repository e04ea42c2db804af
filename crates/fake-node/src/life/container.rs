//! One container's runs: started, ended, started again after a back-off, stopped. Pure.

use k8s_openapi::api::core::v1::{Container, PodSpec, Probe};

use super::Facts;
use crate::config::Stages;
use crate::draw::Draw;

/// The first back-off of a container that ended, its limit, and the run after which it begins anew: the kubelet's.
const BACKOFF: i64 = 10_000;
const LONGEST_BACKOFF: i64 = 300_000;
const HEALTHY_RUN: i64 = 600_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Init,
    Sidecar,
    Main,
}

/// Why a container does not run yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    ContainerCreating,
    PodInitializing,
    ImagePullBackOff,
    /// And how long it is waited, in milliseconds.
    CrashLoopBackOff(i64),
}

/// A run that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) code: i32,
    /// It ended by itself.
    pub(crate) finished: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Waiting(Waiting),
    Running { since: i64 },
    Exited(Run),
}

/// Where a container stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContainerView {
    pub(crate) state: State,
    /// The run before this one.
    pub(crate) last: Option<Run>,
    pub(crate) restarts: i32,
    pub(crate) started: bool,
    pub(crate) ready: bool,
}

impl ContainerView {
    pub(super) fn waiting(reason: Waiting) -> Self {
        Self {
            state: State::Waiting(reason),
            last: None,
            restarts: 0,
            started: false,
            ready: false,
        }
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.last.is_some() || !matches!(self.state, State::Waiting(_))
    }
}

/// What is known of a container's runs at a moment.
pub(super) struct Followed {
    pub(super) view: ContainerView,
    pub(super) next: Option<i64>,
    /// Its last run, once it is over and no other follows.
    pub(super) end: Option<Run>,
}

impl Followed {
    pub(super) fn waiting() -> Self {
        Self {
            view: ContainerView::waiting(Waiting::PodInitializing),
            next: None,
            end: None,
        }
    }
}

fn initial_delay(probe: Option<&Probe>) -> i64 {
    i64::from(probe.and_then(|p| p.initial_delay_seconds).unwrap_or(0).max(0)) * 1000
}

/// From the start of the container until it counts as started.
pub(super) fn startup(container: &Container) -> i64 {
    initial_delay(container.startup_probe.as_ref())
}

/// How long a run lasts if nobody stops it, and what it ends with.
fn lasts(stages: &Stages, kind: Kind, draw: Draw, attempt: u32) -> (Option<i64>, i32) {
    match kind {
        Kind::Init => (Some(stages.init.draw(draw, "init", attempt)), 0),
        Kind::Sidecar => (None, 0),
        Kind::Main if draw.happens(stages.crashes, "crash", attempt) => {
            let after = stages.crash_after.draw(draw, "crash after", attempt);
            (Some(after), stages.crash_exit_code)
        }
        Kind::Main => {
            let run = stages.run.map(|run| run.draw(draw, "run", attempt));
            (run, stages.exit_code)
        }
    }
}

/// Whether the container is started again after it has ended with `code`.
fn restarts(spec: &PodSpec, container: &Container, kind: Kind, code: i32) -> bool {
    let rules = container.restart_policy_rules.iter().flatten();
    let applies = |rule: &&k8s_openapi::api::core::v1::ContainerRestartRule| {
        let Some(codes) = &rule.exit_codes else { return false };
        let listed = codes.values.iter().flatten().any(|v| *v == code);
        listed == (codes.operator == "In")
    };
    if rules.filter(applies).any(|rule| rule.action == "Restart") {
        return true;
    }
    let policy = container.restart_policy.as_deref().or(spec.restart_policy.as_deref());
    match policy.unwrap_or("Always") {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => kind != Kind::Init || code != 0,
    }
}

/// How a container ends that is told to stop: when, and with what code. It has its hook and its own time, and is killed at
/// the end of the pod's grace.
fn stopped(facts: &Facts<'_>, container: &Container, draw: Draw, halt: i64) -> (i64, i32) {
    let hook = container
        .lifecycle
        .as_ref()
        .and_then(|l| l.pre_stop.as_ref()?.sleep.as_ref());
    let hook = hook.map_or(0, |sleep| sleep.seconds.saturating_mul(1000));
    let own = facts
        .stages
        .terminate
        .map(|t| hook.saturating_add(t.draw(draw, "terminate", 0)));
    match own {
        Some(own) if own <= facts.grace => (halt.saturating_add(own), 0),
        _ => (halt.saturating_add(facts.grace), 137),
    }
}

/// The container at `facts.now`: it is first started at `from`, and told to stop at `halt`.
pub(super) fn follow(facts: &Facts<'_>, container: &Container, kind: Kind, from: i64, halt: Option<i64>) -> Followed {
    let now = facts.now;
    let draw = facts.draw.of_container(&container.name);
    let (mut start, mut attempt, mut pause) = (from, 0u32, BACKOFF);
    let mut last: Option<Run> = None;
    let view = |state, last, attempt: u32| ContainerView {
        state,
        last,
        restarts: i32::try_from(attempt).unwrap_or(i32::MAX),
        started: false,
        ready: false,
    };
    loop {
        // Not started any more: what is stopped stays as it was.
        if let Some(halt) = halt.filter(|h| *h < start && *h <= now) {
            let state = match last {
                Some(run) => State::Exited(run),
                None => State::Waiting(if kind == Kind::Init {
                    Waiting::PodInitializing
                } else {
                    Waiting::ContainerCreating
                }),
            };
            let end = Run {
                start: halt,
                end: halt,
                code: last.map_or(137, |run| run.code),
                finished: false,
            };
            return Followed {
                view: view(state, None, attempt.saturating_sub(1)),
                next: None,
                end: Some(end),
            };
        }
        if start > now {
            let reason = if attempt == 0 {
                Waiting::ContainerCreating
            } else {
                Waiting::CrashLoopBackOff(start - last.map_or(start, |r| r.end))
            };
            return Followed {
                view: view(State::Waiting(reason), last, attempt.saturating_sub(1)),
                next: Some(start),
                end: None,
            };
        }
        let (own, mut code) = lasts(facts.stages, kind, draw, attempt);
        let mut end = own.map(|own| start.saturating_add(own));
        let mut finished = true;
        if let Some(halt) = halt.filter(|h| end.is_none_or(|end| *h < end)) {
            let (by_force, forced_code) = stopped(facts, container, draw, halt);
            if end.is_none_or(|end| by_force < end) {
                (end, code, finished) = (Some(by_force), forced_code, false);
            }
        }
        let Some(end) = end.filter(|end| *end <= now) else {
            return running(
                facts,
                container,
                kind,
                start,
                end,
                view(State::Running { since: start }, last, attempt),
            );
        };
        let run = Run {
            start,
            end,
            code,
            finished,
        };
        let halted = halt.is_some_and(|h| h <= end);
        if halted || !restarts(facts.spec, container, kind, code) {
            let mut exited = view(State::Exited(run), last, attempt);
            exited.ready = kind == Kind::Init && code == 0;
            return Followed {
                view: exited,
                next: None,
                end: Some(run),
            };
        }
        if end - start >= HEALTHY_RUN {
            pause = BACKOFF;
        }
        last = Some(run);
        start = end.saturating_add(pause);
        pause = (pause * 2).min(LONGEST_BACKOFF);
        attempt = attempt.saturating_add(1);
    }
}

/// A container that runs: whether it has started and is ready.
fn running(
    facts: &Facts<'_>,
    container: &Container,
    kind: Kind,
    since: i64,
    end: Option<i64>,
    mut view: ContainerView,
) -> Followed {
    let started = since.saturating_add(startup(container));
    let ready = started
        .saturating_add(initial_delay(container.readiness_probe.as_ref()))
        .saturating_add(match kind {
            Kind::Main => facts
                .stages
                .ready
                .draw(facts.draw, "ready", u32::try_from(view.restarts).unwrap_or(0)),
            _ => 0,
        });
    let never = kind == Kind::Main && facts.draw.happens(facts.stages.unready, "unready", 0);
    view.started = facts.now >= started;
    view.ready = kind != Kind::Init && !never && facts.now >= ready;
    let moments = [Some(started), Some(ready).filter(|_| !never), end];
    Followed {
        view,
        next: moments.into_iter().flatten().filter(|at| *at > facts.now).min(),
        end: None,
    }
}
