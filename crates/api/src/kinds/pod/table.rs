//! The pod's row: ready containers, the one word that says how it is doing, restarts. Follows upstream's order of
//! precedence, in which a later container's reason is overwritten by an earlier one's.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::super::cells::{age_of, has_condition, str_or};
use super::super::human_duration::{human_duration, parse, whole_seconds};
use crate::object::Object;

pub(super) fn cells(pod: &Object, now: Timestamp) -> Vec<Value> {
    let summary = Summary::of(pod);
    let restarts = match summary.last_restart {
        Some(then) if summary.restarts != 0 => {
            format!(
                "{} ({} ago)",
                summary.restarts,
                human_duration(whole_seconds(now, then))
            )
        }
        _ => summary.restarts.to_string(),
    };
    let ip = first_ip(pod);
    vec![
        pod.name().into(),
        format!("{}/{}", summary.ready, summary.containers).into(),
        summary.status.into(),
        restarts.into(),
        age_of(pod, now),
        if ip.is_empty() { "<none>" } else { ip }.into(),
        str_or(pod, &["spec", "nodeName"], "<none>"),
        str_or(pod, &["status", "nominatedNodeName"], "<none>"),
        readiness_gates(pod).into(),
    ]
}

/// The first of `status.podIPs`.
pub(super) fn first_ip(pod: &Object) -> &str {
    pod.array(&["status", "podIPs"])
        .first()
        .and_then(|ip| ip.get("ip")?.as_str())
        .unwrap_or_default()
}

/// `1/2`: how many of the gates' conditions are true.
fn readiness_gates(pod: &Object) -> String {
    let gates = pod.array(&["spec", "readinessGates"]);
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let met = gates
        .iter()
        .filter(|g| {
            let kind = g.get("conditionType").and_then(Value::as_str).unwrap_or_default();
            has_condition(pod, kind)
        })
        .count();
    format!("{met}/{}", gates.len())
}

#[derive(Default)]
struct Summary {
    containers: usize,
    ready: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
    status: String,
}

/// One entry of containerStatuses or initContainerStatuses.
struct Status<'a>(&'a Value);

impl<'a> Status<'a> {
    fn name(&self) -> &'a str {
        self.0.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    fn flag(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    fn state(&self, name: &str) -> Option<&'a Value> {
        self.0.get("state")?.get(name).filter(|v| !v.is_null())
    }

    /// Why it waits, when it says so.
    fn waiting_reason(&self) -> &'a str {
        self.state("waiting").map(reason).unwrap_or_default()
    }

    fn restarts(&self) -> i64 {
        self.0.get("restartCount").and_then(Value::as_i64).unwrap_or_default()
    }

    fn last_finished(&self) -> Option<Timestamp> {
        parse(self.0.get("lastState")?.get("terminated")?.get("finishedAt"))
    }
}

fn reason(state: &Value) -> &str {
    state.get("reason").and_then(Value::as_str).unwrap_or_default()
}

fn number(state: &Value, name: &str) -> i64 {
    state.get(name).and_then(Value::as_i64).unwrap_or_default()
}

/// `Error`, else `Signal:9`, else `ExitCode:1`.
fn how_it_ended(terminated: &Value) -> String {
    match (reason(terminated), number(terminated, "signal")) {
        ("", 0) => format!("ExitCode:{}", number(terminated, "exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

impl Summary {
    fn of(pod: &Object) -> Self {
        let phase = pod.str(&["status", "phase"]).unwrap_or_default();
        let pod_reason = pod.str(&["status", "reason"]).unwrap_or_default();
        let init_containers = pod.array(&["spec", "initContainers"]);
        let sidecars: BTreeSet<&str> = init_containers
            .iter()
            .filter(|c| c.get("restartPolicy").and_then(Value::as_str) == Some("Always"))
            .filter_map(|c| c.get("name")?.as_str())
            .collect();
        let gated = pod
            .array(&["status", "conditions"])
            .iter()
            .any(|c| c.get("type").and_then(Value::as_str) == Some("PodScheduled") && reason(c) == "SchedulingGated");
        let mut out = Self {
            containers: pod.array(&["spec", "containers"]).len() + sidecars.len(),
            status: if gated {
                "SchedulingGated"
            } else if pod_reason.is_empty() {
                phase
            } else {
                pod_reason
            }
            .to_owned(),
            ..Self::default()
        };

        let initializing = out.init_containers(pod, &sidecars, init_containers.len());
        if !initializing || has_condition(pod, "Initialized") {
            out.count_restarts(pod, &sidecars);
            out.main_containers(pod);
        }
        if pod.is_terminating() {
            if pod_reason == "NodeLost" {
                out.status = "Unknown".to_owned();
            } else if !matches!(phase, "Succeeded" | "Failed") {
                out.status = "Terminating".to_owned();
            }
        }
        out
    }

    fn restarted(&mut self, status: &Status<'_>) {
        self.restarts += status.restarts();
        self.last_restart = self.last_restart.max(status.last_finished());
    }

    /// Whether one of the init containers is still to finish (or, for a sidecar, to start).
    fn init_containers(&mut self, pod: &Object, sidecars: &BTreeSet<&str>, count: usize) -> bool {
        for (i, status) in pod.array(&["status", "initContainerStatuses"]).iter().enumerate() {
            let status = Status(status);
            self.restarted(&status);
            let terminated = status.state("terminated");
            if terminated.is_some_and(|t| number(t, "exitCode") == 0) {
                continue;
            }
            if sidecars.contains(status.name()) && status.flag("started") {
                self.ready += usize::from(status.flag("ready"));
                continue;
            }
            self.status = match (terminated, status.waiting_reason()) {
                (Some(terminated), _) => format!("Init:{}", how_it_ended(terminated)),
                (None, waiting) if !matches!(waiting, "" | "PodInitializing") => format!("Init:{waiting}"),
                _ => format!("Init:{i}/{count}"),
            };
            return true;
        }
        false
    }

    /// Once the pod is initialized, only sidecars and main containers count.
    fn count_restarts(&mut self, pod: &Object, sidecars: &BTreeSet<&str>) {
        self.restarts = 0;
        self.last_restart = None;
        for status in pod.array(&["status", "initContainerStatuses"]) {
            let status = Status(status);
            if sidecars.contains(status.name()) {
                self.restarted(&status);
            }
        }
    }

    fn main_containers(&mut self, pod: &Object) {
        let mut running = false;
        let mut failure = None;
        for status in pod.array(&["status", "containerStatuses"]).iter().rev() {
            let status = Status(status);
            self.restarted(&status);
            let waiting = status.waiting_reason();
            if !waiting.is_empty() {
                self.status = waiting.to_owned();
            } else if let Some(terminated) = status.state("terminated") {
                self.status = how_it_ended(terminated);
                if number(terminated, "exitCode") != 0 {
                    failure = Some(self.status.clone());
                }
            } else if status.flag("ready") && status.state("running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.status == "Completed" {
            if running && has_condition(pod, "Ready") {
                self.status = "Running".to_owned();
            } else if let Some(failure) = failure {
                self.status = failure;
            } else if running {
                self.status = "NotReady".to_owned();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// READY, STATUS and RESTARTS.
    fn shown(pod: Value) -> String {
        let now = "2024-01-01T01:00:00Z".parse().unwrap();
        let cells = cells(&Object::from_value(pod).unwrap(), now);
        let texts: Vec<&str> = cells[1..4].iter().map(|c| c.as_str().unwrap()).collect();
        texts.join(" ")
    }

    fn running() -> Value {
        json!({"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}})
    }

    fn waiting(reason: &str) -> Value {
        json!({"name": "a", "restartCount": 2, "state": {"waiting": {"reason": reason}}, "lastState": {"terminated": {
            "exitCode": 1, "finishedAt": "2024-01-01T00:55:00Z"}}})
    }

    fn ended(code: i64, reason: &str, signal: i64) -> Value {
        json!({"name": "a", "restartCount": 0, "state": {"terminated": {
            "exitCode": code, "reason": reason, "signal": signal}}})
    }

    fn pod(phase: &str, statuses: Vec<Value>) -> Value {
        let containers: Vec<Value> = statuses.iter().map(|_| json!({"name": "a"})).collect();
        json!({
            "metadata": {"name": "p"},
            "spec": {"containers": containers},
            "status": {"phase": phase, "containerStatuses": statuses},
        })
    }

    fn with(mut pod: Value, path: &str, value: Value) -> Value {
        *pod.pointer_mut(path.rsplit_once('/').unwrap().0).unwrap() = {
            let (parent, field) = path.rsplit_once('/').unwrap();
            let mut map = pod.pointer(parent).unwrap().clone();
            map[field] = value;
            map
        };
        pod
    }

    #[test]
    fn the_status_is_what_the_containers_say() {
        for (pod, expected) in [
            (pod("Running", vec![running(), running()]), "2/2 Running 0"),
            (pod("Pending", vec![]), "0/0 Pending 0"),
            (
                pod("Running", vec![running(), waiting("CrashLoopBackOff")]),
                "1/2 CrashLoopBackOff 2 (5m ago)",
            ),
            (pod("Succeeded", vec![ended(0, "Completed", 0)]), "0/1 Completed 0"),
            (pod("Failed", vec![ended(1, "Error", 0)]), "0/1 Error 0"),
            (pod("Failed", vec![ended(137, "", 9)]), "0/1 Signal:9 0"),
            (pod("Failed", vec![ended(3, "", 0)]), "0/1 ExitCode:3 0"),
            (
                pod("Running", vec![ended(0, "Completed", 0), running()]),
                "1/2 NotReady 0",
            ),
            (
                pod("Running", vec![ended(0, "Completed", 0), ended(1, "Error", 0)]),
                "0/2 Error 0",
            ),
            (
                with(pod("Failed", vec![]), "/status/reason", json!("Evicted")),
                "0/0 Evicted 0",
            ),
            (
                with(
                    pod("Pending", vec![]),
                    "/status/conditions",
                    json!([{"type": "PodScheduled", "reason": "SchedulingGated"}]),
                ),
                "0/0 SchedulingGated 0",
            ),
            (
                with(
                    pod("Running", vec![running()]),
                    "/metadata/deletionTimestamp",
                    json!("2024-01-01T00:00:00Z"),
                ),
                "1/1 Terminating 0",
            ),
            (
                with(
                    pod("Succeeded", vec![ended(0, "Completed", 0)]),
                    "/metadata/deletionTimestamp",
                    json!("2024-01-01T00:00:00Z"),
                ),
                "0/1 Completed 0",
            ),
        ] {
            assert_eq!(shown(pod), expected);
        }
    }

    #[test]
    fn init_containers_come_first() {
        let with_init = |statuses: Vec<Value>, sidecar: bool| {
            let mut pod = pod("Pending", vec![waiting("PodInitializing")]);
            let mut init = json!([{"name": "a"}, {"name": "b"}]);
            if sidecar {
                init[0]["restartPolicy"] = json!("Always");
            }
            pod["spec"]["initContainers"] = init;
            pod["status"]["initContainerStatuses"] = statuses.into();
            pod
        };
        let done = ended(0, "Completed", 0);
        for (pod, expected) in [
            (
                with_init(vec![running(), waiting("PodInitializing")], false),
                "0/1 Init:0/2 0",
            ),
            (with_init(vec![done.clone(), running()], false), "0/1 Init:1/2 0"),
            (with_init(vec![ended(1, "Error", 0)], false), "0/1 Init:Error 0"),
            (with_init(vec![ended(1, "", 0)], false), "0/1 Init:ExitCode:1 0"),
            (
                with_init(vec![waiting("ImagePullBackOff")], false),
                "0/1 Init:ImagePullBackOff 2 (5m ago)",
            ),
            (
                with_init(vec![done.clone(), done.clone()], false),
                "0/1 PodInitializing 2 (5m ago)",
            ),
            (
                with_init(
                    vec![
                        json!({"name": "a", "ready": true, "started": true, "restartCount": 1, "state": {"running": {}}}),
                        json!({"name": "b", "state": {"running": {}}}),
                    ],
                    true,
                ),
                "1/2 Init:1/2 1",
            ),
        ] {
            assert_eq!(shown(pod), expected);
        }
    }

    #[test]
    fn wide_columns_say_none_when_there_is_nothing() {
        let now = "2024-01-01T01:00:00Z".parse().unwrap();
        let mut pod = Object::from_value(pod("Running", vec![running()])).unwrap();
        assert_eq!(
            Value::from(&cells(&pod, now)[5..]),
            json!(["<none>", "<none>", "<none>", "<none>"])
        );
        pod.set(&["status", "podIPs"], json!([{"ip": "10.0.0.7"}]));
        pod.set(&["spec", "nodeName"], "n1");
        pod.set(
            &["spec", "readinessGates"],
            json!([{"conditionType": "x"}, {"conditionType": "y"}]),
        );
        pod.set(&["status", "conditions"], json!([{"type": "x", "status": "True"}]));
        assert_eq!(
            Value::from(&cells(&pod, now)[5..]),
            json!(["10.0.0.7", "n1", "<none>", "1/2"])
        );
    }
}
