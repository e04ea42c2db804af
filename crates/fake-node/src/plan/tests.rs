use super::*;
use serde_json::json;

const START: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z

fn pod() -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "default", "uid": "u", "generation": 1},
        "spec": {"nodeName": "fake-0", "restartPolicy": "Always", "containers": [{"name": "c", "image": "web:v1"}]},
        "status": {"phase": "Pending", "qosClass": "BestEffort",
            "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2025-12-31T23:59:59Z"}]},
    }))
    .unwrap()
}

fn planned(pod: &Pod, after: i64) -> Plan {
    let stages = crate::config::Config::parse("rules:\n- {create: 1s, terminate: 2s, ready: 1s}\n")
        .unwrap()
        .rules[0]
        .stages
        .clone();
    let known = Known {
        stages: &stages,
        draw: Draw::of_pod(0, 0, 0),
        accepted: START,
        stopped: None,
        addresses: Addresses {
            host: "127.0.0.1".into(),
            pod: Some("10.128.0.2".into()),
            pod6: Some("fd00::2".into()),
        },
    };
    plan(pod, known, START + after)
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> &'a k8s_openapi::api::core::v1::PodCondition {
    status
        .conditions
        .as_ref()
        .unwrap()
        .iter()
        .find(|c| c.type_ == kind)
        .unwrap()
}

#[test]
fn a_pod_is_told_in_three_writes_and_then_left_alone() {
    let mut pod = pod();
    let mut seen = Vec::new();
    let mut at = 0;
    loop {
        let plan = planned(&pod, at);
        if let Some(status) = plan.report {
            seen.push((
                at,
                status.phase.clone().unwrap(),
                condition(&status, "Ready").status.clone(),
            ));
            pod.status = Some(*status);
            assert!(
                planned(&pod, at).report.is_none(),
                "what was written is not written again"
            );
        }
        match plan.next {
            Some(next) => at = next - START,
            None => break,
        }
    }
    let expected = [
        (0, "Pending", "False"),
        (1000, "Running", "False"),
        (2000, "Running", "True"),
    ];
    assert_eq!(seen, expected.map(|(t, p, r)| (t, p.to_owned(), r.to_owned())));

    let status = pod.status.as_ref().unwrap();
    assert_eq!(status.pod_ip.as_deref(), Some("10.128.0.2"));
    assert_eq!(status.host_ip.as_deref(), Some("127.0.0.1"));
    for kind in [
        "PodReadyToStartContainers",
        "Initialized",
        "ContainersReady",
        "PodScheduled",
    ] {
        assert_eq!(condition(status, kind).status, "True", "{kind}");
    }
    let scheduled = condition(status, "PodScheduled").last_transition_time.as_ref().unwrap();
    assert_eq!(
        scheduled.0.to_string(),
        "2025-12-31T23:59:59Z",
        "what has not changed keeps its time"
    );
    let container = &status.container_statuses.as_ref().unwrap()[0];
    assert!(container.ready && container.started == Some(true) && container.restart_count == 0);
    assert_eq!(container.container_id.as_deref(), Some("fake://u/c/0"));
}

#[test]
fn a_first_status_says_what_is_waited_for_and_has_no_address_yet() {
    let status = planned(&pod(), 0).report.unwrap();
    assert_eq!(status.pod_ip, None);
    assert!(status.start_time.is_some());
    let ready = condition(&status, "Ready");
    assert_eq!(ready.reason.as_deref(), Some("ContainersNotReady"));
    assert_eq!(ready.message.as_deref(), Some("containers with unready status: [c]"));
    let waiting = status.container_statuses.as_ref().unwrap()[0]
        .state
        .as_ref()
        .unwrap()
        .waiting
        .as_ref()
        .unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("ContainerCreating"));
    assert_eq!(condition(&status, "PodReadyToStartContainers").status, "False");
}

#[test]
fn a_readiness_gate_keeps_a_pod_unready_until_it_opens() {
    let mut pod = pod();
    pod.spec.as_mut().unwrap().readiness_gates =
        serde_json::from_value(json!([{"conditionType": "example.com/gate"}])).unwrap();
    let status = planned(&pod, 5000).report.unwrap();
    assert_eq!(
        condition(&status, "Ready").reason.as_deref(),
        Some("ReadinessGatesNotReady")
    );
    assert_eq!(condition(&status, "ContainersReady").status, "True");
    let mut open = *status;
    let gate = json!({"type": "example.com/gate", "status": "True"});
    open.conditions
        .as_mut()
        .unwrap()
        .push(serde_json::from_value(gate).unwrap());
    pod.status = Some(open);
    let status = planned(&pod, 5000).report.unwrap();
    assert_eq!(condition(&status, "Ready").status, "True");
    assert_eq!(
        condition(&status, "example.com/gate").status,
        "True",
        "what others say is kept"
    );
}

#[test]
fn a_deleted_pod_reports_its_end_and_is_removed_only_then() {
    let mut pod = pod();
    pod.status = planned(&pod, 2000).report.map(|s| *s);
    let deletion = json!({"name": "p", "namespace": "default", "uid": "u", "generation": 2,
        "deletionTimestamp": "2026-01-01T00:00:40Z", "deletionGracePeriodSeconds": 30});
    pod.metadata = serde_json::from_value(deletion).unwrap();
    let during = planned(&pod, 11_000);
    assert!(!during.remove);
    assert_eq!(during.next, Some(START + 12_000));
    let end = planned(&pod, 12_000);
    assert!(end.remove && end.release && end.next.is_none());
    let status = end.report.unwrap();
    assert_eq!(status.phase.as_deref(), Some("Succeeded"));
    pod.status = Some(*status);
    let again = planned(&pod, 13_000);
    assert!(again.remove && again.report.is_none());
}

#[test]
fn a_pod_that_others_ended_is_left_as_it_is() {
    let mut pod = pod();
    pod.status.as_mut().unwrap().phase = Some("Failed".into());
    let plan = planned(&pod, 50_000);
    assert!(plan.report.is_none() && !plan.remove && plan.release && plan.next.is_none());
}

#[test]
fn a_condition_takes_back_its_reason() {
    let patch = report_patch("u", &planned(&pod(), 5000).report.unwrap());
    let conditions = patch["status"]["conditions"].as_array().unwrap();
    let ready = conditions.iter().find(|c| c["type"] == "Ready").unwrap();
    assert!(ready.as_object().unwrap().contains_key("reason") && ready["reason"].is_null());
    assert_eq!(patch["metadata"]["uid"], "u");
}
