//! The Node object and its status as they follow from the machine. Pure.

use std::collections::BTreeSet;

use coracle_clock::Timestamp;
use coracle_runtime::Abilities;
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::eviction::threshold::Pressure;
use crate::machine::Machine;
use crate::pod::amount::Amounts;

/// The version of Kubernetes that the node speaks.
pub(crate) const KUBELET_VERSION: &str = "v1.37.0";

/// The annotation by which a node with a certificate of its own making tells the API server which one that is.
pub(crate) const SERVING_CERTIFICATE: &str = "node.coracle.io/serving-certificate";

/// What a node is registered with besides its machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registration {
    pub(crate) name: String,
    pub(crate) labels: std::collections::BTreeMap<String, String>,
    pub(crate) annotations: std::collections::BTreeMap<String, String>,
    pub(crate) taints: Vec<api::Taint>,
    pub(crate) addresses: Vec<String>,
    pub(crate) pod_cidr: Option<String>,
    pub(crate) port: u16,
    pub(crate) pods: u32,
    /// The container runtime: `containerd://1.7.0`.
    pub(crate) runtime: String,
    pub(crate) abilities: Abilities,
    /// Where the node keeps volumes that outlive pods.
    pub(crate) volumes: String,
}

/// Labels that every node has.
pub(crate) fn own_labels(registration: &Registration, machine: &Machine) -> std::collections::BTreeMap<String, String> {
    let own = [
        ("kubernetes.io/hostname", registration.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", machine.architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", machine.architecture),
    ];
    let own = own.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    own.collect()
}

/// Annotations that the agent keeps.
pub(crate) fn annotations(registration: &Registration) -> std::collections::BTreeMap<String, String> {
    let own = [(crate::local_volumes::DIRECTORY.to_owned(), registration.volumes.clone())];
    let own = own.into_iter().filter(|(_, value)| !value.is_empty());
    own.chain(registration.annotations.clone()).collect()
}

/// The object to create.
pub(crate) fn node(registration: &Registration, machine: &Machine, status: api::NodeStatus) -> api::Node {
    api::Node {
        metadata: ObjectMeta {
            name: Some(registration.name.clone()),
            labels: Some(
                own_labels(registration, machine)
                    .into_iter()
                    .chain(registration.labels.clone())
                    .collect(),
            ),
            annotations: Some(annotations(registration)),
            ..ObjectMeta::default()
        },
        spec: Some(api::NodeSpec {
            pod_cidr: registration.pod_cidr.clone(),
            pod_cidrs: registration.pod_cidr.clone().map(|cidr| vec![cidr]),
            taints: (!registration.taints.is_empty()).then(|| registration.taints.clone()),
            ..api::NodeSpec::default()
        }),
        status: Some(status),
    }
}

/// What the machine can give to pods.
pub(crate) fn allocatable(registration: &Registration, machine: &Machine) -> Amounts {
    machine.capacity(registration.pods)
}

/// What others have said that the node has besides, as only they know of it: `example.com/dongle`. It is theirs to take back.
fn extended(before: Option<&api::NodeStatus>, own: &Amounts) -> Amounts {
    let told = before.and_then(|s| s.capacity.as_ref()).into_iter().flatten();
    let others = told.filter(|(name, _)| name.contains('/') && !own.contains_key(*name));
    others.map(|(name, amount)| (name.clone(), amount.clone())).collect()
}

/// What the node can give of no more, though it was told to: names of resources that are not there any longer.
pub(crate) fn gone(before: &api::NodeStatus, now: &api::NodeStatus) -> Vec<String> {
    let given = before.allocatable.iter().flat_map(|amounts| amounts.keys());
    let still = |name: &&String| {
        now.allocatable
            .as_ref()
            .is_some_and(|amounts| amounts.contains_key(*name))
    };
    given.filter(|name| !still(name)).cloned().collect()
}

/// What the runtime can do, as a node tells it.
fn handlers(abilities: &Abilities) -> Option<Vec<api::NodeRuntimeHandler>> {
    let all = abilities.handlers.iter().map(|handler| api::NodeRuntimeHandler {
        name: (!handler.name.is_empty()).then(|| handler.name.clone()),
        features: Some(api::NodeRuntimeHandlerFeatures {
            recursive_read_only_mounts: Some(handler.recursive_readonly),
            user_namespaces: Some(handler.user_namespaces),
        }),
    });
    Some(all.collect::<Vec<_>>()).filter(|all| !all.is_empty())
}

/// How the node is doing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    pub(crate) pressures: BTreeSet<Pressure>,
    /// Why it is not ready, if it is not.
    pub(crate) trouble: Option<String>,
}

/// The status. Conditions keep the time of their last change from `before`.
pub(crate) fn status(
    registration: &Registration,
    machine: &Machine,
    health: &Health,
    images: Vec<api::ContainerImage>,
    before: Option<&api::NodeStatus>,
    now: Timestamp,
) -> api::NodeStatus {
    let address = |kind: &str, address: &str| api::NodeAddress {
        type_: kind.to_owned(),
        address: address.to_owned(),
    };
    let internal = registration.addresses.iter().map(|ip| address("InternalIP", ip));
    let addresses = internal.chain([address("Hostname", &registration.name)]).collect();
    let (mut capacity, mut allocatable) = (machine.capacity(registration.pods), allocatable(registration, machine));
    let extended = extended(before, &capacity);
    allocatable.extend(extended.clone());
    capacity.extend(extended);
    api::NodeStatus {
        addresses: Some(addresses),
        capacity: Some(capacity),
        allocatable: Some(allocatable),
        conditions: Some(conditions(health, before, now)),
        daemon_endpoints: Some(api::NodeDaemonEndpoints {
            kubelet_endpoint: Some(api::DaemonEndpoint {
                port: registration.port.into(),
            }),
        }),
        node_info: Some(api::NodeSystemInfo {
            architecture: machine.architecture.to_owned(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: registration.runtime.clone(),
            kernel_version: machine.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: KUBELET_VERSION.to_owned(),
            machine_id: machine.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: machine.os_image.clone(),
            swap: Some(api::NodeSwapStatus {
                capacity: i64::try_from(machine.swap_bytes).ok(),
            }),
            system_uuid: machine.system_uuid.clone(),
            ..api::NodeSystemInfo::default()
        }),
        images: Some(images),
        runtime_handlers: handlers(&registration.abilities),
        features: Some(api::NodeFeatures {
            supplemental_groups_policy: Some(registration.abilities.strict_groups),
        }),
        ..api::NodeStatus::default()
    }
}

fn conditions(health: &Health, before: Option<&api::NodeStatus>, now: Timestamp) -> Vec<api::NodeCondition> {
    let under = |pressure| health.pressures.contains(&pressure);
    let trouble = health.trouble.as_deref().unwrap_or_default();
    let wanted = [
        (
            "MemoryPressure",
            under(Pressure::Memory),
            ["KubeletHasSufficientMemory", "KubeletHasInsufficientMemory"],
            [
                "kubelet has sufficient memory available",
                "kubelet has insufficient memory available",
            ],
        ),
        (
            "DiskPressure",
            under(Pressure::Disk),
            ["KubeletHasNoDiskPressure", "KubeletHasDiskPressure"],
            ["kubelet has no disk pressure", "kubelet has disk pressure"],
        ),
        (
            "PIDPressure",
            under(Pressure::Pid),
            ["KubeletHasSufficientPID", "KubeletHasInsufficientPID"],
            [
                "kubelet has sufficient PID available",
                "kubelet has insufficient PID available",
            ],
        ),
        (
            "Ready",
            health.trouble.is_none(),
            ["KubeletNotReady", "KubeletReady"],
            [trouble, "kubelet is posting ready status"],
        ),
    ];
    let wanted = wanted.into_iter().map(|(kind, holds, reasons, messages)| {
        let status = if holds { "True" } else { "False" };
        let old = before.and_then(|s| s.conditions.as_ref()?.iter().find(|c| c.type_ == kind));
        let since = old
            .filter(|c| c.status == status)
            .and_then(|c| c.last_transition_time.clone());
        api::NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reasons[usize::from(holds)].to_owned()),
            message: Some(messages[usize::from(holds)].to_owned()),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: Some(since.unwrap_or(Time(now))),
        }
    });
    wanted.collect()
}

/// What has become of the node by its conditions, as events name it.
pub(crate) fn transitions(before: Option<&api::NodeStatus>, after: &api::NodeStatus) -> Vec<&'static str> {
    let of = |status: Option<&api::NodeStatus>, kind: &str| {
        let found = status?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)?;
        Some(found.status.clone())
    };
    let named = [
        (
            "MemoryPressure",
            ["NodeHasSufficientMemory", "NodeHasInsufficientMemory"],
        ),
        ("DiskPressure", ["NodeHasNoDiskPressure", "NodeHasDiskPressure"]),
        ("PIDPressure", ["NodeHasSufficientPID", "NodeHasInsufficientPID"]),
        ("Ready", ["NodeNotReady", "NodeReady"]),
    ];
    let changed = named.into_iter().filter_map(|(kind, reasons)| {
        let (old, new) = (of(before, kind), of(Some(after), kind)?);
        let holds = new == "True";
        // A node that was never ready has not become unready.
        let news = old.as_ref() != Some(&new) && (old.is_some() || kind != "Ready" || holds);
        news.then_some(reasons[usize::from(holds)])
    });
    changed.collect()
}

/// Whether the machine has been started anew since the node last told of it.
pub(crate) fn has_rebooted(before: &api::NodeStatus, machine: &Machine) -> bool {
    let known = before.node_info.as_ref().map(|info| info.boot_id.as_str());
    known.is_some_and(|known| !known.is_empty() && known != machine.boot_id)
}

/// Whether anything but the heartbeats differs.
pub(crate) fn differs(a: &api::NodeStatus, b: &api::NodeStatus) -> bool {
    let without_heartbeat = |status: &api::NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    without_heartbeat(a) != without_heartbeat(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn events_tell_what_has_become_of_the_node() {
        let machine = Machine {
            boot_id: "one".into(),
            ..Machine::default()
        };
        let made = |pressures: &[Pressure], trouble: Option<&str>| {
            let health = Health {
                pressures: pressures.iter().copied().collect(),
                trouble: trouble.map(str::to_owned),
            };
            let now = at("2026-01-01T00:00:00Z");
            status(&Registration::default(), &machine, &health, vec![], None, now)
        };
        let well = made(&[], None);
        let fine = [
            "NodeHasSufficientMemory",
            "NodeHasNoDiskPressure",
            "NodeHasSufficientPID",
        ];
        assert_eq!(transitions(None, &well), [&fine[..], &["NodeReady"]].concat());
        assert_eq!(transitions(None, &made(&[], Some("no network"))), fine);
        assert!(transitions(Some(&well), &well).is_empty());
        let short = made(&[Pressure::Memory, Pressure::Disk], Some("no network"));
        assert_eq!(
            transitions(Some(&well), &short),
            ["NodeHasInsufficientMemory", "NodeHasDiskPressure", "NodeNotReady"]
        );
        // Nobody had heard of it for a while.
        let mut lost = well.clone();
        for condition in lost.conditions.iter_mut().flatten() {
            condition.status = "Unknown".into();
        }
        assert_eq!(transitions(Some(&lost), &well).len(), 4);

        assert!(!has_rebooted(&well, &machine));
        let boot_id = "two".into();
        assert!(has_rebooted(
            &well,
            &Machine {
                boot_id,
                ..machine.clone()
            }
        ));
        assert!(!has_rebooted(&api::NodeStatus::default(), &machine));
    }

    /// tasks/administer-cluster/extended-resource-node.
    #[test]
    fn the_node_s_allocatable_is_updated_to_include_the_new_resource() {
        let told = |before: Option<&api::NodeStatus>| {
            let (registration, health) = (Registration::default(), Health::default());
            let now = at("2026-01-01T00:00:00Z");
            status(&registration, &Machine::default(), &health, vec![], before, now)
        };
        let amount = |amounts: &Option<Amounts>| amounts.as_ref()?.get("example.com/dongle").map(|q| q.0.clone());
        let mut patched = told(None);
        let dongles = k8s_openapi::apimachinery::pkg::api::resource::Quantity("4".into());
        let capacity = patched.capacity.get_or_insert_default();
        capacity.insert("example.com/dongle".into(), dongles);
        let with = told(Some(&patched));
        assert!(differs(&patched, &with));
        let both = (amount(&with.capacity), amount(&with.allocatable));
        assert_eq!(both, (Some("4".into()), Some("4".into())));
        assert!(!differs(&with, &told(Some(&with))) && gone(&patched, &with).is_empty());
        let mut taken_back = with.clone();
        taken_back.capacity.get_or_insert_default().remove("example.com/dongle");
        let without = told(Some(&taken_back));
        assert_eq!(amount(&without.allocatable), None);
        assert_eq!(gone(&taken_back, &without), ["example.com/dongle"]);
    }

    /// concepts/storage/volumes: recursive read-only mounts; concepts/workloads/pods/user-namespaces.
    #[test]
    fn the_node_tells_which_runtime_handlers_there_are_and_what_they_can() {
        let handler = |name: &str, can: bool| coracle_runtime::Handler {
            name: name.into(),
            recursive_readonly: can,
            user_namespaces: can,
        };
        let registration = Registration {
            abilities: Abilities {
                handlers: vec![handler("", true), handler("gvisor", false)],
                strict_groups: true,
            },
            ..Registration::default()
        };
        let now = at("2026-01-01T00:00:00Z");
        let told = status(
            &registration,
            &Machine::default(),
            &Health::default(),
            vec![],
            None,
            now,
        );
        let shown = serde_json::to_value(told).unwrap();
        assert_eq!(
            shown["runtimeHandlers"],
            serde_json::json!([
                {"features": {"recursiveReadOnlyMounts": true, "userNamespaces": true}},
                {"name": "gvisor", "features": {"recursiveReadOnlyMounts": false, "userNamespaces": false}}])
        );
        assert_eq!(shown["features"]["supplementalGroupsPolicy"], true);
    }

    #[test]
    fn conditions_keep_their_transition_time_and_beat() {
        let registration = Registration::default();
        let machine = Machine::default();
        let health = Health::default();
        let first = status(
            &registration,
            &machine,
            &health,
            vec![],
            None,
            at("2026-01-01T00:00:00Z"),
        );
        let second = status(
            &registration,
            &machine,
            &health,
            vec![],
            Some(&first),
            at("2026-01-01T00:05:00Z"),
        );
        assert!(!differs(&first, &second));
        let ready = second
            .conditions
            .as_ref()
            .unwrap()
            .iter()
            .find(|c| c.type_ == "Ready")
            .unwrap();
        assert_eq!(ready.status, "True");
        assert_eq!(ready.last_transition_time, Some(Time(at("2026-01-01T00:00:00Z"))));
        assert_eq!(ready.last_heartbeat_time, Some(Time(at("2026-01-01T00:05:00Z"))));
        let low = Health {
            pressures: [Pressure::Memory].into(),
            ..health
        };
        let third = status(
            &registration,
            &machine,
            &low,
            vec![],
            Some(&second),
            at("2026-01-01T00:06:00Z"),
        );
        assert!(differs(&second, &third));
        let pressure = &third.conditions.as_ref().unwrap()[0];
        assert_eq!(
            (pressure.status.as_str(), pressure.reason.as_deref()),
            ("True", Some("KubeletHasInsufficientMemory"))
        );
        let hung = Health {
            trouble: Some("container runtime is down".into()),
            ..Health::default()
        };
        let fourth = status(
            &registration,
            &machine,
            &hung,
            vec![],
            Some(&third),
            at("2026-01-01T00:07:00Z"),
        );
        let conditions = fourth.conditions.unwrap();
        let ready = conditions.iter().find(|c| c.type_ == "Ready").unwrap();
        assert_eq!(
            (ready.status.as_str(), ready.message.as_deref()),
            ("False", Some("container runtime is down"))
        );
    }
}
