//! The pod's spec, alone or in a template: defaults, rules, quality of service. Pods and every kind with a pod template
//! use it; what holds for pods alone is in `pod.rs`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::check::{named_if_set, one_of, one_of_if_set, qualified};
use crate::field::{Cursor, ErrorList};
use crate::meta;
use crate::names;

mod affinity;
mod container;
mod defaults;
mod environment;
mod network;
mod operating_system;
mod probe;
pub mod qos;
mod resources;
mod security;
mod toleration;
pub(super) mod update;
mod volume;
mod volume_source;

pub(super) use affinity::{node_selector, topology_selector_term};
pub(super) use defaults::{set_pod_defaults, set_template_defaults, volume_source};
pub(super) use network::valid_ip;
pub(super) use resources::overhead;
pub(super) use toleration::{taint_effect, validate as tolerations};
pub(super) use volume_source::{csi_driver_name, host_path, iscsi, no_backsteps, plugin, required_fields};

/// What the rules for one part of a spec must know of its other parts.
struct Context<'a> {
    /// The volumes by name, and whether they are claims (which may be block devices).
    volumes: BTreeMap<&'a str, bool>,
    resource_claims: BTreeSet<&'a str>,
    grace: Option<i64>,
    restart_policy: &'a str,
    host_users: bool,
    operating_system: &'a str,
    /// A pod's own spec, not a template's.
    is_pod: bool,
}

/// The rules for a spec; `pod_name` is known only for a pod's own, `claims` are volumes that come from elsewhere.
pub(super) fn validate(spec: &Cursor<'_>, pod_name: Option<&str>, claims: &[String], errors: &mut ErrorList) {
    let grace = spec.at("terminationGracePeriodSeconds");
    if !grace.is_set() {
        errors.required(&grace, "");
    }
    let listed = spec.at("volumes");
    let mut volumes = volume::validate(&listed, pod_name, errors);
    volumes.extend(claims.iter().map(|name| (name.as_str(), true)));
    let resource_claims = spec.at("resourceClaims");
    let restart_policy = spec.at("restartPolicy");
    let os = spec.at("os");
    let os_name = os.at("name");
    let cx = Context {
        volumes,
        resource_claims: resources::claims(&resource_claims, errors),
        grace: grace.i64(),
        restart_policy: restart_policy.str(),
        host_users: spec.at("hostUsers").bool() != Some(false),
        operating_system: os_name.str(),
        is_pod: pod_name.is_some(),
    };
    container::regular(&spec.at("containers"), &cx, errors);
    container::init(spec, &cx, errors);
    container::ephemeral(spec, &cx, errors);
    if spec.at("resources").is_set() {
        resources::pod_level(spec, &cx, errors);
    }
    network::host_ports(spec, cx.is_pod, errors);
    one_of(&restart_policy, &["Always", "OnFailure", "Never"], errors);
    one_of(
        &spec.at("dnsPolicy"),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        errors,
    );
    names::labels(&spec.at("nodeSelector"), errors);
    security::pod(spec, errors);
    affinity::validate(&spec.at("affinity"), errors);
    network::dns_config(spec, errors);
    for gate in spec.at("readinessGates").items() {
        qualified(&gate.at("conditionType"), errors);
    }
    scheduling_gates(&spec.at("schedulingGates"), errors);
    affinity::topology_spread(&spec.at("topologySpreadConstraints"), errors);
    security::host_process(spec, errors);
    security::host_users(spec, errors);
    named_if_set(&spec.at("serviceAccountName"), names::dns1123_subdomain, errors);
    named_if_set(&spec.at("nodeName"), names::dns1123_subdomain, errors);
    let deadline = spec.at("activeDeadlineSeconds");
    if let Some(seconds) = deadline.i64() {
        errors.faults(&deadline, names::in_range(seconds, 1, i64::from(i32::MAX)));
    }
    network::host_names(spec, errors);
    toleration::validate(&spec.at("tolerations"), errors);
    named_if_set(&spec.at("priorityClassName"), names::dns1123_subdomain, errors);
    if spec.at("runtimeClassName").is_set() {
        let class = spec.at("runtimeClassName");
        errors.faults(&class, names::dns1123_subdomain(class.str()));
    }
    one_of_if_set(&spec.at("preemptionPolicy"), &["PreemptLowerPriority", "Never"], errors);
    resources::overhead(&spec.at("overhead"), errors);
    operating_system::validate(spec, errors);
}

/// The rules for a pod template.
pub(super) fn validate_template(template: &Cursor<'_>, claims: &[String], errors: &mut ErrorList) {
    let spec = template.at("spec");
    meta::validate_template(&template.at("metadata"), errors);
    annotations(&template.at("metadata"), &spec, errors);
    validate(&spec, None, claims, errors);
    let ephemeral = spec.at("ephemeralContainers");
    if !ephemeral.is_empty() {
        errors.forbidden(&ephemeral, "ephemeral containers not allowed in pod template");
    }
}

/// Annotations that mean something to the system.
pub(super) fn annotations(metadata: &Cursor<'_>, spec: &Cursor<'_>, errors: &mut ErrorList) {
    let annotations = metadata.at("annotations");
    let mirror = annotations.key("kubernetes.io/config.mirror");
    if mirror.is_set() && spec.at("nodeName").is_empty() {
        errors.invalid(&mirror, "must set spec.nodeName if mirror pod annotation is set");
    }
    let cost = annotations.key("controller.kubernetes.io/pod-deletion-cost");
    if cost.is_set() && (cost.str().parse::<i32>().is_err() || cost.str().starts_with('+')) {
        errors.invalid(&cost, "must be a 32bit integer");
    }
}

fn scheduling_gates(gates: &Cursor<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for gate in gates.items() {
        let name = gate.at("name");
        for fault in names::qualified_name(name.str()) {
            errors.invalid_value(&gate, &name.str().into(), fault);
        }
        if !seen.insert(name.str().to_owned()) {
            errors.duplicate_value(&gate, &name.str().into(), "");
        }
    }
}

/// Every container of the spec, of the three sorts.
fn each_container(spec: &Cursor<'_>, mut visit: impl FnMut(&Cursor<'_>)) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.at(list).items() {
            visit(&container);
        }
    }
}

/// Whether some value is there and true.
fn flag(value: Option<&Value>, name: &str) -> bool {
    value.and_then(|v| v.get(name)?.as_bool()).unwrap_or_default()
}
