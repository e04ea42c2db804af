use super::*;
use k8s_openapi::api::core::v1::PodSpec;
use serde_json::json;

use crate::config::{Config, Delay, Stages};

fn spec(value: serde_json::Value) -> PodSpec {
    serde_json::from_value(value).unwrap()
}

fn plain() -> PodSpec {
    spec(json!({"containers": [{"name": "c"}]}))
}

fn stages(fields: &str) -> Stages {
    let terminate = if fields.contains("terminate") {
        ""
    } else {
        "terminate: 3s, "
    };
    let text = format!("rules:\n- {{create: 1s, init: 2s, {terminate}{fields}}}\n");
    Config::parse(&text).unwrap().rules.remove(0).stages
}

struct Life {
    spec: PodSpec,
    stages: Stages,
    deleted: Option<i64>,
    grace: i64,
    addressed: bool,
}

fn life(spec: PodSpec, fields: &str) -> Life {
    Life {
        spec,
        stages: stages(fields),
        deleted: None,
        grace: 30_000,
        addressed: true,
    }
}

impl Life {
    fn deleted(mut self, at: i64, grace: i64) -> Self {
        (self.deleted, self.grace) = (Some(at), grace);
        self
    }

    fn at(&self, now: i64) -> View {
        at(&Facts {
            spec: &self.spec,
            stages: &self.stages,
            draw: Draw::of_pod(1, 2, 3),
            now,
            accepted: 0,
            deleted: self.deleted,
            grace: self.grace,
            addressed: self.addressed,
        })
    }

    /// Every moment at which something changes, with a short account of it.
    fn story(&self, until: i64) -> Vec<String> {
        let mut now = 0;
        let mut out = Vec::new();
        loop {
            let view = self.at(now);
            out.push(format!("{now}: {}", account(&view)));
            match view.next.filter(|next| *next <= until) {
                Some(next) => {
                    assert!(next > now, "time must pass: {view:?}");
                    now = next;
                }
                None => return out,
            }
        }
    }
}

fn account(view: &View) -> String {
    let one = |c: &ContainerView| {
        let state = match c.state {
            State::Waiting(reason) => format!("{reason:?}"),
            State::Running { since } => format!("running since {since}"),
            State::Exited(run) => format!("exited {}", run.code),
        };
        let mark = |on: bool, mark: &'static str| if on { mark } else { "" };
        format!(
            "{state}{}{}",
            mark(c.ready, " ready"),
            if c.restarts > 0 {
                format!(" r{}", c.restarts)
            } else {
                String::new()
            }
        )
    };
    let all: Vec<String> = view.init.iter().chain(&view.main).map(one).collect();
    let end = if view.ended { ", over" } else { "" };
    format!("{}{end}", all.join("; "))
}

#[test]
fn a_plain_pod_is_created_runs_and_then_rests() {
    assert_eq!(
        life(plain(), "").story(i64::MAX),
        ["0: ContainerCreating", "1000: running since 1000 ready"]
    );
    assert_eq!(
        life(plain(), "ready: 5s").story(i64::MAX),
        [
            "0: ContainerCreating",
            "1000: running since 1000",
            "6000: running since 1000 ready"
        ]
    );
    assert_eq!(
        life(plain(), "unready: 1").story(i64::MAX),
        ["0: ContainerCreating", "1000: running since 1000"]
    );
}

#[test]
fn probes_delay_what_they_would_delay() {
    let probed = spec(json!({"containers": [{
        "name": "c", "startupProbe": {"initialDelaySeconds": 2}, "readinessProbe": {"initialDelaySeconds": 4},
    }]}));
    let life = life(probed, "ready: 1s");
    let moments: Vec<_> = life
        .story(i64::MAX)
        .iter()
        .map(|s| s.split(':').next().unwrap().to_owned())
        .collect();
    assert_eq!(moments, ["0", "1000", "3000", "8000"]);
    assert!(life.at(3000).main[0].started && !life.at(2999).main[0].started);
}

#[test]
fn init_containers_run_in_order_and_sidecars_from_their_turn_to_the_end() {
    let spec = spec(json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "a"}, {"name": "s", "restartPolicy": "Always"}, {"name": "b"}],
        "containers": [{"name": "c"}],
    }));
    assert_eq!(
        life(spec, "run: 10s").story(i64::MAX),
        [
            "0: ContainerCreating; PodInitializing; PodInitializing; PodInitializing",
            "1000: running since 1000; PodInitializing; PodInitializing; PodInitializing",
            "3000: exited 0 ready; running since 3000 ready; running since 3000; PodInitializing",
            "5000: exited 0 ready; running since 3000 ready; exited 0 ready; running since 5000 ready",
            // The sidecar is stopped when what it serves has ended, and takes its time.
            "15000: exited 0 ready; running since 3000 ready; exited 0 ready; exited 0",
            "18000: exited 0 ready; exited 0; exited 0 ready; exited 0, over",
        ]
    );
}

#[test]
fn what_ends_is_started_again_by_its_policy_with_a_back_off_that_doubles() {
    let story = life(plain(), "crashes: 1, crashAfter: 1s").story(40_000);
    assert_eq!(
        story,
        [
            "0: ContainerCreating",
            "1000: running since 1000 ready",
            "2000: CrashLoopBackOff(10000)",
            "12000: running since 12000 ready r1",
            "13000: CrashLoopBackOff(20000) r1",
            "33000: running since 33000 ready r2",
            "34000: CrashLoopBackOff(40000) r2",
        ]
    );
    for (policy, fields, over) in [
        ("Never", "crashes: 1, crashAfter: 1s", true),
        ("OnFailure", "crashes: 1, crashAfter: 1s", false),
        ("OnFailure", "run: 1s", true),
        ("Always", "run: 1s", false),
    ] {
        let spec = spec(json!({"restartPolicy": policy, "containers": [{"name": "c"}]}));
        assert_eq!(life(spec, fields).at(5000).ended, over, "{policy} {fields}");
    }
}

#[test]
fn a_containers_own_restart_rules_come_before_the_policy() {
    let spec = spec(json!({"restartPolicy": "Never", "containers": [{
        "name": "c", "restartPolicy": "Never",
        "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}],
    }]}));
    assert!(!life(spec.clone(), "run: 1s, exitCode: 42").at(5000).ended);
    assert!(life(spec, "run: 1s, exitCode: 41").at(5000).ended);
}

#[test]
fn a_long_healthy_run_forgets_the_back_off() {
    let life = life(plain(), "run: 11m");
    let second = life.at(1000 + 660_000 + 10_000 + 660_000);
    assert_eq!(second.main[0].state, State::Waiting(Waiting::CrashLoopBackOff(10_000)));
}

#[test]
fn a_pod_without_its_image_waits_until_it_can_be_pulled() {
    let never = life(plain(), "pullFailures: 1");
    assert_eq!(
        never.story(i64::MAX),
        ["0: ContainerCreating", "1000: ImagePullBackOff"]
    );
    assert!(never.at(1000).networked);
    let later = life(plain(), "pullFailures: 1, pullRecovery: 1m").story(i64::MAX);
    assert_eq!(later[2], "61000: running since 61000 ready");
}

#[test]
fn a_pod_without_an_address_waits() {
    let mut life = life(plain(), "");
    life.addressed = false;
    assert_eq!(life.story(10_000), ["0: ContainerCreating", "1000: ContainerCreating"]);
    assert!(life.deleted(5000, 30_000).at(5000).ended, "and can be deleted");
}

#[test]
fn a_deleted_pod_has_its_grace_and_no_more() {
    assert_eq!(
        life(plain(), "").deleted(10_000, 30_000).story(i64::MAX),
        [
            "0: ContainerCreating",
            "1000: running since 1000 ready",
            "10000: running since 1000 ready",
            "13000: exited 0, over"
        ]
    );
    let slow = life(plain(), "terminate: forever")
        .deleted(10_000, 30_000)
        .story(i64::MAX);
    assert_eq!(slow.last().unwrap(), "40000: exited 137, over");
    let short = life(plain(), "").deleted(10_000, 1000).story(i64::MAX);
    assert_eq!(short.last().unwrap(), "11000: exited 137, over");
    let hook = spec(json!({"containers": [{"name": "c", "lifecycle": {"preStop": {"sleep": {"seconds": 5}}}}]}));
    let hooked = life(hook, "").deleted(10_000, 30_000).story(i64::MAX);
    assert_eq!(hooked.last().unwrap(), "18000: exited 0, over");
}

#[test]
fn a_pod_deleted_before_it_began_ends_at_once_and_starts_nothing() {
    let early = life(plain(), "").deleted(500, 30_000).at(500);
    assert_eq!(account(&early), "ContainerCreating, over");
    assert!(!early.networked);

    let spec = spec(json!({"initContainers": [{"name": "a"}, {"name": "b"}], "containers": [{"name": "c"}]}));
    let during = life(spec, "terminate: 1s").deleted(1500, 30_000).story(i64::MAX);
    assert_eq!(
        during.last().unwrap(),
        "2500: exited 0 ready; PodInitializing; PodInitializing, over"
    );
}

#[test]
fn a_crash_looping_pod_that_is_deleted_in_its_pause_ends_at_once() {
    let view = life(plain(), "crashes: 1, crashAfter: 1s")
        .deleted(5000, 30_000)
        .at(5000);
    assert_eq!(account(&view), "exited 1, over");
}

#[test]
fn a_deadline_ends_a_pod_that_is_not_over_by_then() {
    let late = spec(json!({"restartPolicy": "Never", "activeDeadlineSeconds": 10, "containers": [{"name": "c"}]}));
    let view = life(late.clone(), "").at(13_000);
    assert!(view.ended && view.deadline_exceeded);
    let done = life(late, "run: 5s").at(13_000);
    assert!(done.ended && !done.deadline_exceeded);
}

#[test]
fn a_failed_init_container_that_may_not_run_again_fails_the_pod() {
    // Init containers fail only when they are stopped: here by the deadline.
    let spec = spec(json!({
        "restartPolicy": "Never", "activeDeadlineSeconds": 2,
        "initContainers": [{"name": "a"}], "containers": [{"name": "c"}],
    }));
    let mut life = life(spec, "terminate: forever");
    life.stages.init = Delay::between_ms(60_000, 60_000);
    life.grace = 1000;
    let story = life.story(i64::MAX);
    assert_eq!(story.last().unwrap(), "3000: exited 137; PodInitializing, over");
}

#[test]
fn a_look_at_any_moment_tells_the_same_as_walking_there() {
    let life = life(plain(), "crashes: 0.5, crashAfter: 1s..9s, run: 20s..40s");
    let mut now = 0;
    for _ in 0..50 {
        let Some(next) = life.at(now).next else { break };
        // Nothing changes before the moment that was told.
        let settled = account(&life.at(now));
        assert_eq!(settled, account(&life.at(next - 1)), "between {now} and {next}");
        now = next;
    }
    assert!(now > 100_000);
}
