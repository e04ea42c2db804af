//! The events that tell of a pod's life, in the kubelet's words: what happened between two of its statuses. Pure.

use coracle_client::event::EventType;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodStatus};

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Of the container: `spec.containers{web}`.
    pub(crate) field: String,
    pub(crate) kind: EventType,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

fn lists(status: &PodStatus) -> [(&'static str, &[ContainerStatus]); 2] {
    [
        (
            "initContainers",
            status.init_container_statuses.as_deref().unwrap_or_default(),
        ),
        ("containers", status.container_statuses.as_deref().unwrap_or_default()),
    ]
}

fn waits(status: Option<&ContainerStatus>) -> &str {
    let state = status.and_then(|s| s.state.as_ref());
    let reason = state.and_then(|s| s.waiting.as_ref()?.reason.as_deref());
    reason.unwrap_or_default()
}

/// What happened to containers since `before`.
pub(crate) fn changes(pod: &Pod, before: Option<&PodStatus>, after: &PodStatus) -> Vec<Told> {
    let mut out = Vec::new();
    for (field, statuses) in lists(after) {
        for now in statuses {
            let then = before.and_then(|b| {
                let (_, known) = lists(b).into_iter().find(|(f, _)| *f == field)?;
                known.iter().find(|c| c.name == now.name)
            });
            let mut tell = |kind, reason, message| {
                out.push(Told {
                    field: format!("spec.{field}{{{}}}", now.name),
                    kind,
                    reason,
                    message,
                });
            };
            let ran = then.and_then(|t| t.container_id.as_ref());
            if now.container_id.is_some() && now.container_id.as_ref() != ran {
                let image = &now.image;
                let pulled =
                    format!("Container image {image:?} already present on machine and can be accessed by the pod");
                tell(EventType::Normal, "Pulled", pulled);
                tell(EventType::Normal, "Created", "Container created".into());
                tell(EventType::Normal, "Started", "Container started".into());
            }
            match waits(Some(now)) {
                same if same == waits(then) => {}
                "CrashLoopBackOff" => {
                    let meta = &pod.metadata;
                    let text = |t: &Option<String>| t.clone().unwrap_or_default();
                    let who = format!("{}_{}({})", text(&meta.name), text(&meta.namespace), text(&meta.uid));
                    let message = format!("Back-off restarting failed container {} in pod {who}", now.name);
                    tell(EventType::Warning, "BackOff", message);
                }
                "ImagePullBackOff" => {
                    let message = format!("Back-off pulling image {:?}", now.image);
                    tell(EventType::Normal, "BackOff", message);
                    tell(EventType::Warning, "Failed", "Error: ImagePullBackOff".into());
                }
                _ => {}
            }
        }
    }
    out
}

/// What is told when the pod's deletion is asked for: the containers that run are stopped.
pub(crate) fn stopping(pod: &Pod) -> Vec<Told> {
    let Some((spec, status)) = pod.spec.as_ref().zip(pod.status.as_ref()) else {
        return Vec::new();
    };
    let running = |c: &&ContainerStatus| c.state.as_ref().is_some_and(|s| s.running.is_some());
    let of = |name: &str, list: &[Container]| list.iter().any(|c| c.name == name);
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let all = lists(status)
        .into_iter()
        .flat_map(|(_, statuses)| statuses.iter().filter(running));
    all.map(|status| {
        let field = if of(&status.name, init) {
            "initContainers"
        } else {
            "containers"
        };
        Told {
            field: format!("spec.{field}{{{}}}", status.name),
            kind: EventType::Normal,
            reason: "Killing",
            message: format!("Stopping container {}", status.name),
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(statuses: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "a", "uid": "u"},
            "spec": {"initContainers": [{"name": "side"}], "containers": [{"name": "main"}]},
            "status": statuses,
        }))
        .unwrap()
    }

    fn container(name: &str, run: Option<u32>, state: Value) -> Value {
        json!({"name": name, "image": "web:v1", "imageID": "", "ready": false, "restartCount": 0,
            "containerID": run.map(|n| format!("fake://u/{name}/{n}")), "state": state})
    }

    fn told(before: Value, after: Value) -> Vec<String> {
        let (before, after) = (pod(before), pod(after));
        let all = changes(&after, before.status.as_ref(), after.status.as_ref().unwrap());
        all.iter().map(|t| format!("{} {}", t.field, t.reason)).collect()
    }

    fn main(run: Option<u32>, state: Value) -> Value {
        json!({"containerStatuses": [container("main", run, state)]})
    }

    #[test]
    fn each_run_of_a_container_is_pulled_created_and_started() {
        let (waits, runs) = (
            json!({"waiting": {"reason": "ContainerCreating"}}),
            json!({"running": {}}),
        );
        let begins = ["Pulled", "Created", "Started"].map(|r| format!("spec.containers{{main}} {r}"));
        assert_eq!(told(main(None, waits.clone()), main(Some(0), runs.clone())), begins);
        assert_eq!(told(main(Some(0), runs.clone()), main(Some(1), runs.clone())), begins);
        assert!(
            told(
                main(Some(1), runs.clone()),
                main(Some(1), json!({"terminated": {"exitCode": 0}}))
            )
            .is_empty()
        );
        let side = json!({"initContainerStatuses": [container("side", Some(0), runs)]});
        assert_eq!(told(json!({}), side)[0], "spec.initContainers{side} Pulled");
    }

    #[test]
    fn a_back_off_is_told_when_it_begins() {
        let crash = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let ended = json!({"terminated": {"exitCode": 1}});
        assert_eq!(
            told(main(Some(0), ended), main(Some(0), crash.clone())),
            ["spec.containers{main} BackOff"]
        );
        assert!(told(main(Some(0), crash.clone()), main(Some(0), crash)).is_empty());
        let pull = json!({"waiting": {"reason": "ImagePullBackOff"}});
        assert_eq!(
            told(json!({}), main(None, pull)),
            ["spec.containers{main} BackOff", "spec.containers{main} Failed"]
        );
    }

    #[test]
    fn stopping_is_told_of_what_runs() {
        let runs = json!({"running": {}});
        let pod = pod(
            json!({"initContainerStatuses": [container("side", Some(0), runs.clone())],
            "containerStatuses": [container("main", Some(0), json!({"terminated": {"exitCode": 0}}))]}),
        );
        let all = stopping(&pod);
        assert_eq!(all.len(), 1);
        assert_eq!(
            (all[0].reason, all[0].message.as_str()),
            ("Killing", "Stopping container side")
        );
    }
}
