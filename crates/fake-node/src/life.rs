//! A pod's life as a function of time: where it stands at a moment, and when that changes next. Nothing is remembered
//! between two looks but when the pod was accepted and when it was told to stop, so that an idle pod costs nothing and a
//! process that starts again finds its pods where they would be. Pure.

mod container;

use k8s_openapi::api::core::v1::{Container, PodSpec};

pub(crate) use container::{ContainerView, Run, State, Waiting};
use container::{Followed, Kind, follow, startup};

use crate::config::Stages;
use crate::draw::Draw;

/// What a pod's life follows from. Times are milliseconds of the time of day.
pub(crate) struct Facts<'a> {
    pub(crate) spec: &'a PodSpec,
    pub(crate) stages: &'a Stages,
    pub(crate) draw: Draw,
    pub(crate) now: i64,
    /// When its node took it up.
    pub(crate) accepted: i64,
    /// When its deletion was seen, and how long it is given.
    pub(crate) deleted: Option<i64>,
    pub(crate) grace: i64,
    /// Its network can be had: there is an address for it.
    pub(crate) addressed: bool,
}

impl Facts<'_> {
    fn deadline(&self) -> Option<i64> {
        let seconds = self.spec.active_deadline_seconds?;
        Some(self.accepted.saturating_add(seconds.saturating_mul(1000)))
    }

    /// When its containers are told to stop.
    fn halt(&self) -> Option<i64> {
        [self.deleted, self.deadline()].into_iter().flatten().min()
    }
}

/// Where a pod stands.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// It has its sandbox and network.
    pub(crate) networked: bool,
    pub(crate) init: Vec<ContainerView>,
    pub(crate) main: Vec<ContainerView>,
    /// Every init container has done its part.
    pub(crate) initialized: bool,
    /// Nothing of it runs any more, nor will.
    pub(crate) ended: bool,
    /// It ended because its time was up.
    pub(crate) deadline_exceeded: bool,
    /// When this view is no longer true; `None`: not by itself.
    pub(crate) next: Option<i64>,
}

impl View {
    fn expect(&mut self, at: Option<i64>, now: i64) {
        let next = [self.next, at.filter(|at| *at > now)];
        self.next = next.into_iter().flatten().min();
    }
}

pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The first moment at which containers may start, or `None` while images cannot be pulled and never will.
fn pulled(facts: &Facts<'_>, created: i64) -> Option<i64> {
    let stages = facts.stages;
    if !facts.draw.happens(stages.pull_failures, "pull", 0) {
        return Some(created);
    }
    let recovery = stages.pull_recovery?;
    Some(created.saturating_add(recovery.draw(facts.draw, "pull recovery", 0)))
}

/// The pod at `facts.now`.
pub(crate) fn at(facts: &Facts<'_>) -> View {
    let (now, halt) = (facts.now, facts.halt());
    let mut view = View::default();
    let created = facts
        .accepted
        .saturating_add(facts.stages.create.draw(facts.draw, "create", 0));
    // What is stopped in the moment in which it begins has begun: others may have seen it.
    let halted_before = |moment: Option<i64>| halt.filter(|h| moment.is_none_or(|m| *h < m));
    let begins = pulled(facts, created);
    view.networked = facts.addressed && now >= created && halted_before(Some(created)).is_none_or(|h| now < h);

    let waits = !facts.addressed || begins.is_none_or(|b| now < b);
    let never = halted_before(if facts.addressed { begins } else { None }).is_some_and(|h| h <= now);
    if waits || never {
        view.ended = never;
        view.networked &= !never;
        if !never {
            view.expect(Some(created), now);
            view.expect(begins, now);
            view.expect(halt, now);
        }
        not_begun(facts, &mut view);
    } else if let Some(begins) = begins {
        run(facts, &mut view, begins, halt);
    }
    view.deadline_exceeded = facts
        .deadline()
        .is_some_and(|d| halt == Some(d) && d <= now && cut_short(&view, d));
    view
}

/// Nothing has been started; once there is a network, it is for the images that cannot be had.
fn not_begun(facts: &Facts<'_>, view: &mut View) {
    let pulling = view.networked;
    let init = facts.spec.init_containers.as_deref().unwrap_or_default();
    for n in 0..init.len() {
        let reason = match n {
            0 if pulling => Waiting::ImagePullBackOff,
            0 => Waiting::ContainerCreating,
            _ => Waiting::PodInitializing,
        };
        view.init.push(ContainerView::waiting(reason));
    }
    for _ in &facts.spec.containers {
        let reason = match init {
            [] if pulling => Waiting::ImagePullBackOff,
            [] => Waiting::ContainerCreating,
            _ => Waiting::PodInitializing,
        };
        view.main.push(ContainerView::waiting(reason));
    }
    view.initialized = init.is_empty();
}

/// Everything from the first container on.
fn run(facts: &Facts<'_>, view: &mut View, begins: i64, halt: Option<i64>) {
    let now = facts.now;
    let init = facts.spec.init_containers.as_deref().unwrap_or_default();
    // When each init container may start: after the ones before it. `None` once one of them keeps the rest waiting.
    let mut begin = Some(begins);
    let mut failed: Option<i64> = None;
    let mut order: Vec<Option<i64>> = Vec::with_capacity(init.len());
    let mut done: Vec<Option<Followed>> = Vec::with_capacity(init.len());
    for c in init {
        order.push(begin);
        let Some(from) = begin else {
            done.push(None);
            continue;
        };
        if is_sidecar(c) {
            begin = Some(from.saturating_add(startup(c))).filter(|started| *started <= now);
            view.expect(Some(from.saturating_add(startup(c))), now);
            done.push(None);
            continue;
        }
        let followed = follow(facts, c, Kind::Init, from, halt);
        view.expect(followed.next, now);
        begin = match followed.end {
            Some(run) if run.code == 0 && run.finished => Some(run.end),
            Some(run) => {
                failed = Some(run.end);
                None
            }
            None => None,
        };
        done.push(Some(followed));
    }
    view.initialized = begin.is_some();

    let mut mains_end = failed;
    if let Some(from) = begin {
        let mut ends = Some(from);
        for c in &facts.spec.containers {
            let followed = follow(facts, c, Kind::Main, from, halt);
            view.expect(followed.next, now);
            ends = ends.zip(followed.end).map(|(a, run)| a.max(run.end));
            view.main.push(followed.view);
        }
        mains_end = ends;
    } else {
        let waiting = |_| ContainerView::waiting(Waiting::PodInitializing);
        view.main.extend(facts.spec.containers.iter().map(waiting));
        if mains_end.is_none() {
            // A halt while only sidecars have begun.
            mains_end = halt.filter(|h| *h <= now && done.iter().flatten().all(|f| f.end.is_some()));
        }
    }

    // Sidecars outlive what they serve, and no longer.
    let sidecar_halt = [halt, mains_end].into_iter().flatten().min();
    let mut ended = mains_end;
    for ((c, from), followed) in init.iter().zip(order).zip(done) {
        let followed = match (followed, from) {
            (Some(followed), _) => followed,
            (None, Some(from)) => {
                let followed = follow(facts, c, Kind::Sidecar, from, sidecar_halt);
                view.expect(followed.next, now);
                ended = ended.zip(followed.end).map(|(a, run)| a.max(run.end));
                followed
            }
            (None, None) => Followed::waiting(),
        };
        view.init.push(followed.view);
    }
    view.ended = ended.is_some_and(|end| end <= now);
    if view.ended {
        view.next = None;
        view.networked = false;
    }
    view.expect(halt, now);
    if view.ended {
        view.next = None;
    }
}

/// Whether the deadline ended anything: a pod that was over before it is not late.
fn cut_short(view: &View, deadline: i64) -> bool {
    let ended_before = |c: &ContainerView| matches!(&c.state, State::Exited(run) if run.end < deadline);
    !view.main.iter().all(ended_before)
}

#[cfg(test)]
mod tests;
