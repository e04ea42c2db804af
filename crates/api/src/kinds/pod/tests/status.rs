//! What of a pod's status may be written.

use serde_json::{Value, json};

use super::super::super::check::tests::{refuses_status, texts, with};
use super::super::*;
use super::pod;

#[test]
fn status_follows_the_rules_of_restarting() {
    let status = |state: Value| {
        json!({
            "metadata": {"name": "web"},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "a"}]},
            "status": {"containerStatuses": [{"name": "a", "state": state}],
                "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]},
        })
    };
    let check = |old: Value, new: Value| {
        let mut errors = ErrorList::new();
        Pod.validate_status_update(
            &Cursor::root(&new, Some(row().schema())),
            &Cursor::root(&old, None),
            &mut errors,
        );
        texts(&errors)
    };
    let (ended, running) = (
        status(json!({"terminated": {"exitCode": 0}})),
        status(json!({"running": {}})),
    );
    assert_eq!(check(running.clone(), ended.clone()), [""; 0]);
    assert_eq!(
        check(ended.clone(), running.clone()),
        ["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"]
    );
    let rules = json!([{"name": "a"}, {"name": "b", "restartPolicy": "Never",
        "restartPolicyRules": [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [1]}}]}]);
    let renewing = with(&ended, "/spec/containers", rules);
    assert_eq!(
        check(renewing, running.clone()),
        [""; 0],
        "another's end may restart it"
    );
    let two = with(
        &running,
        "/status/podIPs",
        json!([{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]),
    );
    assert_eq!(
        check(running, two),
        [
            "status.podIPs: Invalid value: [{\"ip\":\"10.0.0.1\"},{\"ip\":\"10.0.0.2\"}]: may specify no more than one \
             IP for each IP family"
        ]
    );
}

#[test]
fn status_keeps_both_forms_of_the_address() {
    let old = Object::from_value(pod()).unwrap();
    for (status, expected) in [
        (json!({"podIP": "10.0.0.1"}), json!([{"ip": "10.0.0.1"}])),
        (json!({"podIPs": [{"ip": "10.0.0.1"}]}), json!([{"ip": "10.0.0.1"}])),
        (
            json!({"podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.1"}]}),
            json!([{"ip": "10.0.0.2"}]),
        ),
    ] {
        let mut new = old.clone();
        new.set(&["status"], status);
        Pod.prepare_for_status_update(&mut new, &old);
        assert_eq!(new.get(&["status", "podIPs"]), Some(&expected));
        assert_eq!(new.str(&["status", "podIP"]), expected[0]["ip"].as_str());
    }
}

#[test]
fn what_a_status_tells_is_of_what_there_is() {
    let running = json!({
        "metadata": {"name": "web"},
        "spec": {
            "restartPolicy": "Always",
            "containers": [{"name": "a", "resources": {"requests": {"example.com/gpu": "1"},
                "claims": [{"name": "net", "request": "fast"}]}}],
            "resourceClaims": [{"name": "net", "resourceClaimName": "n"}],
        },
        "status": {
            "qosClass": "Burstable", "hostIP": "10.0.0.9", "hostIPs": [{"ip": "10.0.0.9"}],
            "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "example.com/fine", "status": "True"}],
            "resourceClaimStatuses": [{"name": "net", "resourceClaimName": "n"}],
            "containerStatuses": [{
                "name": "a", "user": {"linux": {"uid": 0, "gid": 0, "supplementalGroups": [1]}},
                "allocatedResourcesStatus": [
                    {"name": "example.com/gpu", "resources": [{"resourceID": "0", "health": "Healthy"}]},
                    {"name": "claim:net/fast"},
                ],
            }],
        },
    });
    let container = |field: &str| format!("/status/containerStatuses/0/{field}");
    let (linux, health) = (container("user/linux"), container("allocatedResourcesStatus"));
    refuses_status(
        &row(),
        &running,
        &[
            (
                "/status/qosClass",
                json!("Guaranteed"),
                "status.qosClass: Invalid value: \"Guaranteed\": field is immutable",
            ),
            (
                "/status/conditions/1/type",
                json!("-"),
                "metadata.conditions[1].Type: Invalid value: \"-\": name part must consist of alphanumeric characters, \
                 '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  \
                 or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ),
            (
                "/status/hostIPs/0/ip",
                json!("10.0.0.8"),
                "status.hostIPs[0].ip: Invalid value: \"10.0.0.8\": must be equal to `hostIP`",
            ),
            (
                "/status/podIPs/1/ip",
                json!("x"),
                "status.podIPs[1]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or \
                 2001:db8::ffff)",
            ),
            (
                "/status/resourceClaimStatuses/0/name",
                json!("disk"),
                "status.resourceClaimStatuses[0].name: Invalid value: \"disk\": must match the name of an entry in \
                 `spec.resourceClaims`",
            ),
            (
                "/status/resourceClaimStatuses/1",
                json!({"name": "net"}),
                "status.resourceClaimStatuses[1].name: Duplicate value: \"net\"",
            ),
            (
                &format!("{linux}/uid"),
                json!(-1),
                "status.containerStatuses[0].linux.uid: Invalid value: -1: must be between 0 and 2147483647, inclusive",
            ),
            (
                &format!("{health}/0/name"),
                json!("example.com/npu"),
                "status.containerStatuses[0].allocatedResourcesStatus[0].name: Invalid value: \"example.com/npu\": must \
                 match one of the container's resource requests",
            ),
            (
                &format!("{health}/1/name"),
                json!("claim:net"),
                "status.containerStatuses[0].allocatedResourcesStatus[1].name: Invalid value: \"claim:net\": must match \
                 one of the container's resource claims in a format 'claim:<claimName>/<request>' or \
                 'claim:<claimName>' if request is empty",
            ),
            (
                &format!("{health}/0/resources/0/health"),
                json!("Ill"),
                "status.containerStatuses[0].allocatedResourcesStatus[0].resources[0].health: Unsupported value: \
                 \"Ill\": supported values: \"Healthy\", \"Unhealthy\", \"Unknown\"",
            ),
            (
                "/spec/os",
                json!({"name": "windows"}),
                "status.containerStatuses[0].linux: Forbidden: cannot be set for a windows pod",
            ),
        ],
    );
}
