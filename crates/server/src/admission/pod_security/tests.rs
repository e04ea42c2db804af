//! The checks, each with what it finds.

use serde_json::json;

use super::*;
use policy::Version;

fn found(level: Level, version: u32, spec: &Value) -> String {
    let mode = LevelVersion {
        level,
        version: Version(version),
    };
    let pod = Pod {
        metadata: None,
        spec: Some(spec),
    };
    check::details(&evaluate(&mode, &pod))
}

fn container(more: Value) -> Value {
    let mut container = json!({"name": "c", "image": "i"});
    container
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({"containers": [container]})
}

#[test]
fn the_baseline_closes_the_known_ways_out() {
    let latest = u32::MAX;
    for (spec, expected) in [
        (
            json!({"hostNetwork": true, "hostPID": true}),
            "host namespaces (hostNetwork=true, hostPID=true)",
        ),
        (
            container(json!({"securityContext": {"privileged": true}})),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            container(json!({"securityContext": {"capabilities": {"add": ["SYS_ADMIN", "CHOWN", "NET_RAW"]}}})),
            "non-default capabilities (container \"c\" must not include \"NET_RAW\", \"SYS_ADMIN\" in \
             securityContext.capabilities.add)",
        ),
        (
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "hostPath": {"path": "/"}}]}),
            "hostPath volumes (volumes \"v\", \"w\")",
        ),
        (
            container(json!({"ports": [{"hostPort": 80}, {"containerPort": 1}]})),
            "hostPort (container \"c\" uses hostPort 80)",
        ),
        (
            container(json!({"livenessProbe": {"httpGet": {"host": "evil", "port": 1}}})),
            "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"evil\")",
        ),
        (
            container(json!({"securityContext": {"procMount": "Unmasked"}})),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            json!({"securityContext": {"seLinuxOptions": {"type": "x", "user": "u"}}}),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"x\"; user may not be set)",
        ),
        (
            json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]}}),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            json!({"securityContext": {"windowsOptions": {"hostProcess": true}}}),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            container(json!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}})),
            "forbidden AppArmor profile (container \"c\" must not set AppArmor profile type to \"Unconfined\")",
        ),
    ] {
        assert_eq!(found(Level::Baseline, latest, &spec), expected);
        assert_eq!(found(Level::Privileged, latest, &spec), "");
    }
    assert_eq!(found(Level::Baseline, latest, &container(json!({}))), "");
}

#[test]
fn the_restricted_level_names_all_that_a_plain_pod_lacks() {
    let plain = container(json!({}));
    assert_eq!(
        found(Level::Restricted, u32::MAX, &plain),
        "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot \
         != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \
         \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    let mut hardened = container(json!({
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    }));
    hardened["securityContext"] = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    assert_eq!(found(Level::Restricted, u32::MAX, &hardened), "");
    hardened["volumes"] = json!([{"name": "v", "hostPath": {"path": "/"}}, {"name": "e", "emptyDir": {}}]);
    hardened["hostNetwork"] = true.into();
    assert_eq!(
        found(Level::Restricted, u32::MAX, &hardened),
        "host namespaces (hostNetwork=true), restricted volume types (volume \"v\" uses restricted volume type \
         \"hostPath\")"
    );
}

#[test]
fn a_version_has_the_rules_of_its_time() {
    let plain = container(json!({}));
    assert_eq!(
        found(Level::Restricted, 7, &plain),
        "runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true)"
    );
    let root = json!({
        "hostUsers": false,
        "containers": [{"name": "c", "securityContext": {"procMount": "Unmasked"}}],
    });
    assert_eq!(found(Level::Baseline, 36, &root), "");
    assert_ne!(found(Level::Baseline, 34, &root), "");
    let mount = "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")";
    let restricted = found(Level::Restricted, 36, &root);
    assert_eq!(
        restricted.matches(mount).count(),
        1,
        "with the restricted standard a pod must still use the default: {restricted}"
    );
    assert_eq!(found(Level::Restricted, 34, &root).matches(mount).count(), 1);
    let probe = container(json!({"startupProbe": {"tcpSocket": {"host": "x"}}}));
    assert_eq!(found(Level::Baseline, 33, &probe), "");
    let windows =
        json!({"os": {"name": "windows"}, "securityContext": {"runAsNonRoot": true}, "containers": [{"name": "c"}]});
    assert_eq!(found(Level::Restricted, 25, &windows), "");
    assert_ne!(found(Level::Restricted, 24, &windows), "");
}

#[test]
fn only_what_the_standards_speak_of_makes_an_update_significant() {
    let pod = |image: &str, host: bool| {
        let mut spec = container(json!({"image": image}));
        spec["hostNetwork"] = host.into();
        Object::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
    };
    assert!(!is_significant(&pod("a", false), &pod("b", false)));
    assert!(is_significant(&pod("a", true), &pod("a", false)));
}
