//! Pod: containers that run together on one node. What a pod's spec may say is in [`pod_spec`](super::pod_spec), the
//! pod's table in [`table`]; here is what holds for pods alone.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::cells::{age, name, text};
use super::check::same;
use super::pod_spec::{self, qos, set_pod_defaults, update, valid_ip};
use super::row::{PROXY, READ_WRITE, STREAM, namespaced};
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::resource::{Resource, Verbs};
use crate::strategy::Strategy;

mod label_keys;
mod resize;
mod table;

pub(super) fn row() -> Resource {
    namespaced("", "v1", "Pod", "pods")
        .short(&["po"])
        .in_all()
        .connect("attach", STREAM, "PodAttachOptions")
        .subresource_of("binding", Verbs::CREATE, ("", "v1", "Binding"))
        .subresource("ephemeralcontainers", READ_WRITE)
        .subresource_of("eviction", Verbs::CREATE, ("policy", "v1", "Eviction"))
        .connect("exec", STREAM, "PodExecOptions")
        .connect("log", Verbs::GET, "Pod")
        .connect("portforward", STREAM, "PodPortForwardOptions")
        .connect("proxy", PROXY, "PodProxyOptions")
        .subresource("resize", READ_WRITE)
        .status()
        .generation()
        .fields(&[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ])
        .columns([
            name(),
            text(
                "Ready",
                "The aggregate readiness state of this pod for accepting traffic.",
            ),
            text("Status", "The aggregate status of the containers in this pod."),
            text(
                "Restarts",
                "The number of times the containers in this pod have been restarted and when the last container in \
                 this pod has restarted.",
            ),
            age(),
            text("IP", "The pod's address.").wide(),
            text("Node", "The node that the pod runs on.").wide(),
            text("Nominated Node", "The node where pods are being evicted for this one.").wide(),
            text("Readiness Gates", "How many of the pod's readiness gates are true.").wide(),
        ])
        .strategy(Pod)
        .build()
}

struct Pod;

const MIRROR: &str = "kubernetes.io/config.mirror";

impl Strategy for Pod {
    fn set_defaults(&self, object: &mut Object) {
        set_pod_defaults(object);
    }

    /// A new pod is pending, and its class follows from its resources.
    fn prepare_for_create(&self, object: &mut Object) {
        let mut status = json!({"phase": "Pending", "qosClass": qos::class_of(object)});
        if !object.array(&["spec", "schedulingGates"]).is_empty() {
            status["conditions"] = json!([{
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }]);
        }
        object.set(&["status"], status);
        label_keys::into_selectors(object);
    }

    /// The kubelet says one address or several; both fields are kept, and agree.
    fn prepare_for_status_update(&self, new: &mut Object, old: &Object) {
        let owners = old.get(&["metadata", "ownerReferences"]).cloned();
        match owners {
            Some(owners) => new.set(&["metadata", "ownerReferences"], owners),
            None => {
                new.remove(&["metadata", "ownerReferences"]);
            }
        }
        if new.str(&["status", "qosClass"]).unwrap_or_default().is_empty() {
            new.set(&["status", "qosClass"], qos::class_of(old));
        }
        let first = table::first_ip(new).to_owned();
        let one = new.str(&["status", "podIP"]).unwrap_or_default().to_owned();
        if !one.is_empty() && first != one {
            new.set(&["status", "podIPs"], json!([{"ip": one}]));
        } else if one.is_empty() && !first.is_empty() {
            new.set(&["status", "podIP"], first);
        }
    }

    fn prepare_for_subresource_update(&self, name: &str, new: &mut Object, old: &Object) {
        match name {
            "ephemeralcontainers" => {
                let containers = new.get(&["spec", "ephemeralContainers"]).cloned();
                keep_all_but_identity(new, old);
                if let Some(containers) = containers {
                    new.set(&["spec", "ephemeralContainers"], containers);
                }
            }
            "resize" => {
                let asked = new.clone();
                keep_all_but_identity(new, old);
                resize::take_resources(new, &asked);
            }
            _ => {}
        }
    }

    fn validate(&self, pod: &Cursor<'_>, errors: &mut ErrorList) {
        validate_any(pod, errors);
        let spec = pod.at("spec");
        let ephemeral = spec.at("ephemeralContainers");
        if !ephemeral.is_empty() {
            errors.forbidden(&ephemeral, "cannot be set on create");
        }
        let node = spec.at("nodeName");
        if !node.is_empty() && !spec.at("schedulingGates").is_empty() {
            errors.forbidden(&node, "cannot be set until all schedulingGates have been cleared");
        }
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        validate_any(new, errors);
        fixed_annotations(new, old, errors);
        update::validate(&new.at("spec"), &old.at("spec"), errors);
    }

    fn validate_status_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        fixed_annotations(new, old, errors);
        let status = new.at("status");
        for condition in status.at("conditions").items() {
            let kind = condition.at("type");
            if !matches!(kind.str(), "PodScheduled" | "Ready" | "Initialized") {
                super::check::qualified(&kind, errors);
            }
        }
        let nominated = status.at("nominatedNodeName");
        if !nominated.is_empty() && nominated.str() != old.at("status").at("nominatedNodeName").str() {
            errors.faults(&nominated, names::dns1123_subdomain(nominated.str()));
        }
        ended_containers_stay_ended(new, old, errors);
        claim_statuses(new, errors);
        addresses(&status.at("podIPs"), errors);
        let host_ips = status.at("hostIPs");
        if let Some(first) = host_ips.items().next() {
            let ip = first.at("ip");
            if ip.str() != status.at("hostIP").str() {
                errors.invalid(&ip, "must be equal to `hostIP`");
            }
        }
        addresses(&host_ips, errors);
    }

    fn validate_subresource_update(&self, name: &str, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        match name {
            "ephemeralcontainers" => ephemeral_containers(new, old, errors),
            "resize" => {
                validate_any(new, errors);
                resize::validate(new, old, errors);
            }
            _ => {}
        }
    }

    /// A pod that is bound and has not ended is given time; others go at once.
    fn deletion_grace(&self, object: &Object, asked: Option<i64>) -> Option<i64> {
        let own = object
            .i64(&["spec", "terminationGracePeriodSeconds"])
            .unwrap_or_default();
        let unbound = object.str(&["spec", "nodeName"]).unwrap_or_default().is_empty();
        let ended = matches!(object.str(&["status", "phase"]), Some("Succeeded" | "Failed"));
        match asked.unwrap_or(own) {
            _ if unbound || ended => Some(0),
            // Upstream's way to say "at once" to a node, for old objects.
            ..0 => Some(1),
            seconds => Some(seconds),
        }
    }

    fn warnings(&self, new: &Object, old: Option<&Object>) -> Vec<String> {
        // Upstream warns of what is new only.
        if old.is_some() { Vec::new() } else { pod_warnings(new) }
    }

    fn selectable_field(&self, object: &Object, path: &str) -> String {
        match path {
            "spec.hostNetwork" => object.bool(&["spec", "hostNetwork"]).unwrap_or_default().to_string(),
            "status.podIP" => table::first_ip(object).to_owned(),
            _ => {
                let steps: Vec<&str> = path.split('.').collect();
                object.str(&steps).unwrap_or_default().to_owned()
            }
        }
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        table::cells(object, now)
    }
}

/// Back to what is stored, with the resourceVersion that the client wrote.
fn keep_all_but_identity(new: &mut Object, old: &Object) {
    let version = new.get(&["metadata", "resourceVersion"]).cloned();
    let managed = new.get(&["metadata", "managedFields"]).cloned();
    *new = old.clone();
    for (field, value) in [("resourceVersion", version), ("managedFields", managed)] {
        if let Some(value) = value {
            new.set(&["metadata", field], value);
        }
    }
}

/// The rules for a pod as it is, new or not.
fn validate_any(pod: &Cursor<'_>, errors: &mut ErrorList) {
    let spec = pod.at("spec");
    let metadata = pod.at("metadata");
    pod_spec::annotations(&metadata, &spec, errors);
    pod_spec::validate(&spec, Some(metadata.at("name").str()), &[], errors);
    if spec.at("serviceAccountName").is_empty() {
        for volume in spec.at("volumes").items() {
            for source in volume.at("projected").at("sources").items() {
                let token = source.at("serviceAccountToken");
                if token.is_set() {
                    errors.forbidden(&token, "must not be specified when serviceAccountName is not set");
                }
            }
        }
    }
}

/// Annotations that the system gave a meaning may not come, go or change.
fn fixed_annotations(new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
    let (metadata, old_metadata) = (new.at("metadata"), old.at("metadata"));
    let (now, before) = (metadata.at("annotations"), old_metadata.at("annotations"));
    let what = |key: &str| {
        if key == MIRROR {
            Some("mirror pod annotation")
        } else if key.starts_with("container.apparmor.security.beta.kubernetes.io/") {
            Some("AppArmor annotations")
        } else {
            None
        }
    };
    for (key, value) in before.entries() {
        let current = now.key(key);
        if let Some(what) = what(key)
            && current.value() != value.value()
        {
            errors.forbidden(&current, format!("may not remove or update {what}"));
        }
    }
    for (key, value) in now.entries() {
        if let Some(what) = what(key)
            && !before.key(key).is_set()
        {
            errors.forbidden(&value, format!("may not add {what}"));
        }
    }
}

fn ephemeral_containers(new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
    if old.at("metadata").at("annotations").key(MIRROR).is_set() {
        errors.forbidden(new, "static pods do not support ephemeral containers");
        return;
    }
    validate_any(new, errors);
    let (spec, old_spec) = (new.at("spec"), old.at("spec"));
    let containers = spec.at("ephemeralContainers");
    for before in old_spec.at("ephemeralContainers").items() {
        let name = before.at("name");
        let now = containers.items().find(|c| c.at("name").str() == name.str());
        match now {
            None => errors.forbidden(
                &containers,
                format!("existing ephemeral containers {:?} may not be removed\n", name.str()),
            ),
            Some(now) if !same(now.value(), before.value()) => errors.forbidden(
                &containers,
                format!("existing ephemeral containers {:?} may not be changed\n", name.str()),
            ),
            Some(_) => {}
        }
    }
}

/// Where containers are not restarted, one that has ended does not run again.
fn ended_containers_stay_ended(new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
    let old_spec = old.at("spec");
    let pod_policy = old_spec.at("restartPolicy");
    let own_policy = |list: &str, name: &str| -> String {
        let containers = old_spec.at(list);
        let found = containers.items().find(|c| c.at("name").str() == name);
        found
            .map(|c| c.at("restartPolicy").str().to_owned())
            .unwrap_or_default()
    };
    // One container's end may have all of them run again.
    let renews = ["containers", "initContainers"].iter().any(|list| {
        let containers = old_spec.at(list);
        containers.items().any(|container| {
            let rules = container.at("restartPolicyRules");
            rules
                .items()
                .any(|rule| rule.at("action").str() == "RestartAllContainers")
        })
    });
    for (field, list) in [
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
        ("ephemeralContainerStatuses", ""),
    ] {
        let (status, old_status) = (new.at("status"), old.at("status"));
        let (now, before) = (status.at(field), old_status.at(field));
        for (i, old_container) in before.items().enumerate() {
            let name = old_container.at("name");
            let ended = old_container.at("state");
            let ended = ended.at("terminated");
            if !ended.is_set() {
                continue;
            }
            let own = if list.is_empty() {
                String::new()
            } else {
                own_policy(list, name.str())
            };
            let policy = match (list, own.as_str()) {
                ("", _) => "Never",
                (_, "") => pod_policy.str(),
                (_, own) => own,
            };
            let may_restart = match policy {
                "Always" => true,
                "OnFailure" => ended.at("exitCode").int() != 0,
                // A restart rule may still apply.
                _ => !own.is_empty(),
            };
            if may_restart || renews && !list.is_empty() {
                continue;
            }
            for container in now.items() {
                let same_name = container.at("name").str() == name.str();
                if same_name && !container.at("state").at("terminated").is_set() {
                    errors.forbidden(
                        &now.index(i).at("state"),
                        "may not be transitioned to non-terminated state",
                    );
                }
            }
        }
    }
}

fn claim_statuses(pod: &Cursor<'_>, errors: &mut ErrorList) {
    let (spec, status) = (pod.at("spec"), pod.at("status"));
    let claims = spec.at("resourceClaims");
    let mut seen = std::collections::BTreeSet::new();
    for entry in status.at("resourceClaimStatuses").items() {
        let name = entry.at("name");
        if !claims.items().any(|c| c.at("name").str() == name.str()) {
            errors.invalid(&name, "must match the name of an entry in `spec.resourceClaims`");
        }
        if !seen.insert(name.str().to_owned()) {
            errors.duplicate(&name);
        }
        let claim = entry.at("resourceClaimName");
        if claim.is_set() {
            errors.faults(&claim, names::dns1123_subdomain(claim.str()));
        }
    }
}

/// One address, or one of each family.
fn addresses(list: &Cursor<'_>, errors: &mut ErrorList) {
    let mut seen = std::collections::BTreeSet::new();
    let (mut v4, mut v6) = (0, 0);
    for entry in list.items() {
        let ip = entry.at("ip");
        valid_ip(&ip, errors);
        match names::address::parse_ip(ip.str()) {
            Some(ip) if ip.is_ipv4() => v4 += 1,
            Some(_) => v6 += 1,
            None => {}
        }
        if !seen.insert(ip.str().to_owned()) {
            errors.duplicate(&entry);
        }
    }
    if v4 > 1 || v6 > 1 {
        errors.invalid(list, "may specify no more than one IP for each IP family");
    }
}

fn pod_warnings(pod: &Object) -> Vec<String> {
    let mut warnings = Vec::new();
    if pod
        .i64(&["spec", "terminationGracePeriodSeconds"])
        .is_some_and(|s| s < 0)
    {
        warnings.push(
            "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
                .to_owned(),
        );
    }
    for (i, volume) in pod.array(&["spec", "volumes"]).iter().enumerate() {
        if volume.get("gitRepo").is_some_and(|v| !v.is_null()) {
            warnings.push(format!(
                "spec.volumes[{i}].gitRepo: deprecated in v1.11, and disabled by default in v1.33+"
            ));
        }
    }
    for list in ["initContainers", "containers"] {
        for (i, container) in pod.array(&["spec", list]).iter().enumerate() {
            duplicate_names(container, &format!("spec.{list}[{i}]"), &mut warnings);
        }
    }
    warnings
}

/// The last of several variables with one name wins, which is seldom meant.
fn duplicate_names(container: &Value, path: &str, warnings: &mut Vec<String>) {
    let env = container.get("env").and_then(Value::as_array);
    let mut seen = Map::new();
    for (i, variable) in env.into_iter().flatten().enumerate() {
        let name = variable.get("name").and_then(Value::as_str).unwrap_or_default();
        if seen.insert(name.to_owned(), Value::Null).is_some() {
            warnings.push(format!(
                "{path}.env[{i}]: hides previous definition of {name:?}, which may be unexpected"
            ));
        }
    }
}

#[cfg(test)]
mod tests;
