//! The Pod Security Standards, control by control as the published page lists them: the values that are allowed, and some
//! that are forbidden with upstream's words. Each is put where the page says it may stand: in the pod's spec, in its
//! security context, or in containers of all three kinds.

use serde_json::{Value, json};

use super::policy::{Level, LevelVersion, Version};
use super::{Pod, check, evaluate};

/// Where a control's values stand.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Spec,
    /// The pod's security context.
    Pod,
    /// A container's security context.
    Context,
    /// A container.
    Container,
}
use Place::{Container, Context, Pod as PodContext, Spec};

struct Control {
    name: &'static str,
    level: Level,
    places: &'static [Place],
    allowed: &'static [&'static str],
    /// With the finding; `WHO` stands for `pod` or `container "c"`.
    forbidden: &'static [(&'static str, &'static str)],
}

const CONTROLS: &[Control] = &[
    Control {
        name: "HostProcess",
        level: Level::Baseline,
        places: &[PodContext, Context],
        allowed: &[
            "{}",
            r#"{"windowsOptions": {}}"#,
            r#"{"windowsOptions": {"hostProcess": false}}"#,
        ],
        forbidden: &[(
            r#"{"windowsOptions": {"hostProcess": true}}"#,
            "hostProcess (WHO must not set securityContext.windowsOptions.hostProcess=true)",
        )],
    },
    Control {
        name: "Host namespaces",
        level: Level::Baseline,
        places: &[Spec],
        allowed: &["{}", r#"{"hostNetwork": false, "hostPID": false, "hostIPC": false}"#],
        forbidden: &[
            (r#"{"hostNetwork": true}"#, "host namespaces (hostNetwork=true)"),
            (r#"{"hostPID": true}"#, "host namespaces (hostPID=true)"),
            (r#"{"hostIPC": true}"#, "host namespaces (hostIPC=true)"),
            (
                r#"{"hostPID": true, "hostIPC": true, "hostNetwork": true}"#,
                "host namespaces (hostIPC=true, hostNetwork=true, hostPID=true)",
            ),
        ],
    },
    Control {
        name: "Privileged containers",
        level: Level::Baseline,
        places: &[Context],
        allowed: &["{}", r#"{"privileged": false}"#],
        forbidden: &[(
            r#"{"privileged": true}"#,
            "privileged (WHO must not set securityContext.privileged=true)",
        )],
    },
    Control {
        name: "Capabilities",
        level: Level::Baseline,
        places: &[Context],
        allowed: &[
            r#"{"capabilities": {"add": []}}"#,
            r#"{"capabilities": {"add": ["AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD",
                "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"]}}"#,
        ],
        forbidden: &[
            (
                r#"{"capabilities": {"add": ["NET_RAW"]}}"#,
                r#"non-default capabilities (WHO must not include "NET_RAW" in securityContext.capabilities.add)"#,
            ),
            (
                r#"{"capabilities": {"add": ["SYS_ADMIN", "ALL", "chown"]}}"#,
                r#"non-default capabilities (WHO must not include "ALL", "SYS_ADMIN", "chown" in securityContext.capabilities.add)"#,
            ),
        ],
    },
    Control {
        name: "HostPath volumes",
        level: Level::Baseline,
        places: &[Spec],
        allowed: &[
            r#"{"volumes": []}"#,
            r#"{"volumes": [{"name": "v", "nfs": {"server": "s", "path": "/"}}]}"#,
        ],
        forbidden: &[
            (
                r#"{"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}"#,
                r#"hostPath volumes (volume "v")"#,
            ),
            (
                r#"{"volumes": [{"name": "v", "hostPath": {}}, {"name": "w", "emptyDir": {}}, {"name": "x", "hostPath": {}}]}"#,
                r#"hostPath volumes (volumes "v", "x")"#,
            ),
        ],
    },
    Control {
        name: "Host ports",
        level: Level::Baseline,
        places: &[Container],
        allowed: &[
            r#"{"ports": [{"containerPort": 80}]}"#,
            r#"{"ports": [{"containerPort": 80, "hostPort": 0}]}"#,
        ],
        forbidden: &[
            (r#"{"ports": [{"hostPort": 80}]}"#, "hostPort (WHO uses hostPort 80)"),
            (
                r#"{"ports": [{"hostPort": 80}, {"hostPort": 443}]}"#,
                "hostPort (WHO uses hostPorts 443, 80)",
            ),
        ],
    },
    Control {
        name: "Host probes and lifecycle hooks",
        level: Level::Baseline,
        places: &[Container],
        allowed: &[
            r#"{"livenessProbe": {"httpGet": {"port": 80}}}"#,
            r#"{"livenessProbe": {"httpGet": {"port": 80, "host": ""}}, "lifecycle": {"preStop": {"exec": {"command": ["x"]}}}}"#,
        ],
        forbidden: &[
            (
                r#"{"livenessProbe": {"httpGet": {"host": "h"}}}"#,
                r#"probe or lifecycle host (WHO uses probe or lifecycle host "h")"#,
            ),
            (
                r#"{"readinessProbe": {"httpGet": {"host": "h"}}}"#,
                r#"probe or lifecycle host (WHO uses probe or lifecycle host "h")"#,
            ),
            (
                r#"{"startupProbe": {"tcpSocket": {"host": "h"}}}"#,
                r#"probe or lifecycle host (WHO uses probe or lifecycle host "h")"#,
            ),
            (
                r#"{"lifecycle": {"postStart": {"tcpSocket": {"host": "a"}}, "preStop": {"httpGet": {"host": "b"}}}}"#,
                r#"probe or lifecycle host (WHO uses probe or lifecycle hosts "a", "b")"#,
            ),
        ],
    },
    Control {
        name: "AppArmor",
        level: Level::Baseline,
        places: &[PodContext, Context],
        allowed: &[
            "{}",
            r#"{"appArmorProfile": {"type": "RuntimeDefault"}}"#,
            r#"{"appArmorProfile": {"type": "Localhost", "localhostProfile": "p"}}"#,
        ],
        forbidden: &[(
            r#"{"appArmorProfile": {"type": "Unconfined"}}"#,
            r#"forbidden AppArmor profile (WHO must not set AppArmor profile type to "Unconfined")"#,
        )],
    },
    Control {
        name: "SELinux",
        level: Level::Baseline,
        places: &[PodContext, Context],
        allowed: &[
            r#"{"seLinuxOptions": {}}"#,
            r#"{"seLinuxOptions": {"type": "", "user": "", "role": "", "level": "s0"}}"#,
            r#"{"seLinuxOptions": {"type": "container_t"}}"#,
            r#"{"seLinuxOptions": {"type": "container_init_t"}}"#,
            r#"{"seLinuxOptions": {"type": "container_kvm_t"}}"#,
            r#"{"seLinuxOptions": {"type": "container_engine_t"}}"#,
        ],
        forbidden: &[
            (
                r#"{"seLinuxOptions": {"type": "spc_t"}}"#,
                r#"seLinuxOptions (WHO set forbidden securityContext.seLinuxOptions: type "spc_t")"#,
            ),
            (
                r#"{"seLinuxOptions": {"user": "u"}}"#,
                "seLinuxOptions (WHO set forbidden securityContext.seLinuxOptions: user may not be set)",
            ),
            (
                r#"{"seLinuxOptions": {"role": "r"}}"#,
                "seLinuxOptions (WHO set forbidden securityContext.seLinuxOptions: role may not be set)",
            ),
            (
                r#"{"seLinuxOptions": {"type": "x", "user": "u", "role": "r"}}"#,
                r#"seLinuxOptions (WHO set forbidden securityContext.seLinuxOptions: type "x"; user may not be set; role may not be set)"#,
            ),
        ],
    },
    Control {
        name: "/proc mount type",
        level: Level::Baseline,
        places: &[Context],
        allowed: &["{}", r#"{"procMount": "Default"}"#],
        forbidden: &[(
            r#"{"procMount": "Unmasked"}"#,
            r#"procMount (WHO must not set securityContext.procMount to "Unmasked")"#,
        )],
    },
    Control {
        name: "Seccomp",
        level: Level::Baseline,
        places: &[PodContext, Context],
        allowed: &[
            "{}",
            r#"{"seccompProfile": {"type": "RuntimeDefault"}}"#,
            r#"{"seccompProfile": {"type": "Localhost", "localhostProfile": "p"}}"#,
        ],
        forbidden: &[(
            r#"{"seccompProfile": {"type": "Unconfined"}}"#,
            r#"seccompProfile (WHO must not set securityContext.seccompProfile.type to "Unconfined")"#,
        )],
    },
    Control {
        name: "Sysctls",
        level: Level::Baseline,
        places: &[PodContext],
        allowed: &[
            "{}",
            r#"{"sysctls": [{"name": "kernel.shm_rmid_forced"}, {"name": "net.ipv4.ip_local_port_range"},
                {"name": "net.ipv4.ip_unprivileged_port_start"}, {"name": "net.ipv4.tcp_syncookies"},
                {"name": "net.ipv4.ping_group_range"}, {"name": "net.ipv4.ip_local_reserved_ports"},
                {"name": "net.ipv4.tcp_keepalive_time"}, {"name": "net.ipv4.tcp_fin_timeout"},
                {"name": "net.ipv4.tcp_keepalive_intvl"}, {"name": "net.ipv4.tcp_keepalive_probes"}]}"#,
        ],
        forbidden: &[(
            r#"{"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_syncookies"}, {"name": "net.core.somaxconn"}]}"#,
            "forbidden sysctls (kernel.msgmax, net.core.somaxconn)",
        )],
    },
    Control {
        name: "Volume types",
        level: Level::Restricted,
        places: &[Spec],
        allowed: &[
            r#"{"volumes": [{"name": "a", "configMap": {}}, {"name": "b", "csi": {}}, {"name": "c", "downwardAPI": {}},
                {"name": "d", "emptyDir": {}}, {"name": "e", "ephemeral": {}}, {"name": "f", "persistentVolumeClaim": {}},
                {"name": "g", "projected": {}}, {"name": "h", "secret": {}}, {"name": "i", "image": {}}]}"#,
        ],
        forbidden: &[
            (
                r#"{"volumes": [{"name": "v", "nfs": {}}]}"#,
                r#"restricted volume types (volume "v" uses restricted volume type "nfs")"#,
            ),
            (
                r#"{"volumes": [{"name": "v", "hostPath": {}}, {"name": "w", "iscsi": {}}]}"#,
                r#"restricted volume types (volumes "v", "w" use restricted volume types "hostPath", "iscsi")"#,
            ),
        ],
    },
    Control {
        name: "Privilege escalation",
        level: Level::Restricted,
        places: &[Context],
        allowed: &[r#"{"allowPrivilegeEscalation": false}"#],
        forbidden: &[
            (
                r#"{"allowPrivilegeEscalation": true}"#,
                "allowPrivilegeEscalation != false (WHO must set securityContext.allowPrivilegeEscalation=false)",
            ),
            (
                r#"{"allowPrivilegeEscalation": null}"#,
                "allowPrivilegeEscalation != false (WHO must set securityContext.allowPrivilegeEscalation=false)",
            ),
        ],
    },
    Control {
        name: "Running as non-root",
        level: Level::Restricted,
        places: &[PodContext, Context],
        allowed: &[r#"{"runAsNonRoot": true}"#],
        forbidden: &[(
            r#"{"runAsNonRoot": false}"#,
            "runAsNonRoot != true (WHO must not set securityContext.runAsNonRoot=false)",
        )],
    },
    Control {
        name: "Running as non-root, unset",
        level: Level::Restricted,
        places: &[PodContext],
        allowed: &[],
        forbidden: &[(
            r#"{"runAsNonRoot": null}"#,
            r#"runAsNonRoot != true (pod or containers "i", "c", "e" must set securityContext.runAsNonRoot=true)"#,
        )],
    },
    Control {
        name: "Running as non-root user",
        level: Level::Restricted,
        places: &[PodContext, Context],
        allowed: &["{}", r#"{"runAsUser": 1000}"#],
        forbidden: &[(r#"{"runAsUser": 0}"#, "runAsUser=0 (WHO must not set runAsUser=0)")],
    },
    Control {
        name: "Seccomp, restricted",
        level: Level::Restricted,
        places: &[PodContext],
        allowed: &[
            r#"{"seccompProfile": {"type": "RuntimeDefault"}}"#,
            r#"{"seccompProfile": {"type": "Localhost", "localhostProfile": "p"}}"#,
        ],
        forbidden: &[(
            r#"{"seccompProfile": null}"#,
            r#"seccompProfile (pod or containers "i", "c", "e" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#,
        )],
    },
    Control {
        name: "Capabilities, restricted",
        level: Level::Restricted,
        places: &[Context],
        allowed: &[
            r#"{"capabilities": {"drop": ["ALL"]}}"#,
            r#"{"capabilities": {"drop": ["CHOWN", "ALL"], "add": ["NET_BIND_SERVICE"]}}"#,
        ],
        forbidden: &[
            (
                r#"{"capabilities": null}"#,
                r#"unrestricted capabilities (WHO must set securityContext.capabilities.drop=["ALL"])"#,
            ),
            (
                r#"{"capabilities": {"drop": ["all"]}}"#,
                r#"unrestricted capabilities (WHO must set securityContext.capabilities.drop=["ALL"])"#,
            ),
            (
                r#"{"capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}}"#,
                r#"unrestricted capabilities (WHO must not include "CHOWN" in securityContext.capabilities.add)"#,
            ),
            (
                r#"{"capabilities": {"drop": [], "add": ["CHOWN", "KILL"]}}"#,
                r#"unrestricted capabilities (WHO must set securityContext.capabilities.drop=["ALL"]; WHO must not include "CHOWN", "KILL" in securityContext.capabilities.add)"#,
            ),
        ],
    },
];

/// A pod that the restricted level has nothing against.
fn hardened() -> Value {
    let container = |name: &str| json!({"name": name, "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}});
    json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [container("i")],
        "containers": [container("c")],
        "ephemeralContainers": [container("e")],
    })
}

/// Sets the fields of `values` in `target`; null takes one away.
fn set(target: &mut Value, values: &str) {
    let Value::Object(values) = serde_json::from_str(values).unwrap() else {
        panic!("{values}")
    };
    for (field, value) in values {
        target[&field] = value;
    }
}

/// The hardened pod with the values at each place where they may stand, and who they are there.
fn placed(places: &[Place], values: &str) -> Vec<(String, Value)> {
    let mut pods = Vec::new();
    for place in places {
        match place {
            Spec | PodContext => {
                let mut spec = hardened();
                let target = if *place == Spec {
                    &mut spec
                } else {
                    &mut spec["securityContext"]
                };
                set(target, values);
                pods.push(("pod".to_owned(), spec));
            }
            Context | Container => {
                for list in ["initContainers", "containers", "ephemeralContainers"] {
                    let mut spec = hardened();
                    let container = &mut spec[list][0];
                    let name = container["name"].as_str().unwrap().to_owned();
                    let target = if *place == Container {
                        container
                    } else {
                        &mut container["securityContext"]
                    };
                    set(target, values);
                    pods.push((format!("container {name:?}"), spec));
                }
            }
        }
    }
    pods
}

fn found(level: Level, version: Version, spec: &Value) -> String {
    let pod = Pod {
        metadata: None,
        spec: Some(spec),
    };
    check::details(&evaluate(&LevelVersion { level, version }, &pod))
}

#[test]
fn every_control_allows_what_the_standards_list_and_forbids_the_rest() {
    for control in CONTROLS {
        for values in control.allowed {
            for (who, spec) in placed(control.places, values) {
                let got = found(control.level, Version::LATEST, &spec);
                assert_eq!(got, "", "{}: {values} in {who}", control.name);
            }
        }
        for (values, expected) in control.forbidden {
            for (who, spec) in placed(control.places, values) {
                let got = found(control.level, Version::LATEST, &spec);
                assert_eq!(got, expected.replace("WHO", &who), "{}: {values}", control.name);
                assert_eq!(found(Level::Privileged, Version::LATEST, &spec), "", "{}", control.name);
            }
        }
    }
}

#[test]
fn the_restricted_level_forbids_all_that_the_baseline_forbids() {
    for control in CONTROLS {
        for (values, _) in control.forbidden {
            for (_, spec) in placed(control.places, values) {
                let got = found(Level::Restricted, Version::LATEST, &spec);
                assert_ne!(got, "", "{}: {values}", control.name);
            }
        }
    }
}

#[test]
fn controls_begin_with_the_version_that_brought_them() {
    for (level, values, place, since) in [
        (Level::Baseline, r#"{"privileged": true}"#, Context, 0),
        (
            Level::Baseline,
            r#"{"startupProbe": {"httpGet": {"host": "h"}}}"#,
            Container,
            34,
        ),
        (
            Level::Baseline,
            r#"{"seccompProfile": {"type": "Unconfined"}}"#,
            PodContext,
            19,
        ),
        (Level::Restricted, r#"{"allowPrivilegeEscalation": true}"#, Context, 8),
        (Level::Restricted, r#"{"runAsNonRoot": false}"#, PodContext, 0),
        (Level::Restricted, r#"{"runAsUser": 0}"#, PodContext, 23),
        (Level::Restricted, r#"{"seccompProfile": null}"#, PodContext, 19),
        (Level::Restricted, r#"{"capabilities": null}"#, Context, 22),
        (Level::Restricted, r#"{"volumes": [{"name": "v", "nfs": {}}]}"#, Spec, 0),
    ] {
        let (_, spec) = placed(&[place], values).remove(0);
        assert_ne!(found(level, Version(since), &spec), "", "{values}");
        assert_ne!(found(level, Version(u32::MAX), &spec), "", "{values}");
        if since > 0 {
            assert_eq!(found(level, Version(since - 1), &spec), "", "{values}");
        }
    }
    for (sysctl, since) in [
        ("net.ipv4.ip_local_reserved_ports", 27),
        ("net.ipv4.tcp_keepalive_time", 29),
        ("net.ipv4.tcp_rmem", 32),
    ] {
        let spec = json!({"securityContext": {"sysctls": [{"name": sysctl}]}});
        let expected = format!("forbidden sysctls ({sysctl})");
        assert_eq!(found(Level::Baseline, Version(since - 1), &spec), expected);
        assert_eq!(found(Level::Baseline, Version(since), &spec), "");
    }
}
