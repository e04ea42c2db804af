//! PodSecurity: the Pod Security Standards, by a namespace's labels. What violates `enforce` is refused, what violates
//! `warn` is told to the client, what violates `audit` is logged; templates of workloads are judged for the last two.

mod baseline;
mod check;
mod policy;
mod restricted;

use std::collections::BTreeMap;

use async_trait::async_trait;
use coracle_api::object::Object;
use coracle_api::status::Status;
use serde_json::Value;

use super::{Admission, Attributes, Operation};
use crate::options::{PodSecurityConfiguration, PodSecurityExemptions};
use check::{Pod, Violation};
use policy::{Level, LevelVersion, Policy};

/// Subresources that do not change what a pod may do.
const HARMLESS: [&str; 8] = [
    "exec",
    "attach",
    "binding",
    "eviction",
    "log",
    "portforward",
    "proxy",
    "status",
];
/// Of a namespace whose level is raised, at most this many pods are looked at.
const MOST_PODS: usize = 3000;

pub(super) struct PodSecurity {
    defaults: Policy,
    exemptions: PodSecurityExemptions,
}

impl PodSecurity {
    pub fn new(configuration: &PodSecurityConfiguration) -> Self {
        Self {
            defaults: policy::of_defaults(&configuration.defaults),
            exemptions: configuration.exemptions.clone(),
        }
    }
}

#[async_trait]
impl Admission for PodSecurity {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        let subresource = attributes.target.subresource.as_str();
        if !matches!(attributes.operation, Operation::Create | Operation::Update) {
            return false;
        }
        match (attributes.row.group.as_ref(), attributes.row.plural.as_ref()) {
            ("", "pods") => !HARMLESS.contains(&subresource),
            ("", "namespaces" | "replicationcontrollers" | "podtemplates")
            | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
            | ("batch", "jobs" | "cronjobs") => subresource.is_empty(),
            _ => false,
        }
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        match attributes.row.plural.as_ref() {
            "namespaces" => self.namespace(attributes, object).await,
            "pods" => self.pod(attributes, object).await,
            _ => self.workload(attributes, object).await,
        }
    }
}

impl PodSecurity {
    fn spares_namespace(&self, name: &str) -> bool {
        self.exemptions.namespaces.iter().any(|n| n == name)
    }

    /// Whether nobody looks at what this request makes.
    fn spares(&self, attributes: &Attributes<'_>) -> bool {
        self.spares_namespace(&attributes.target.namespace) || self.exemptions.usernames.contains(&attributes.user.name)
    }

    fn spares_runtime(&self, pod: &Pod<'_>) -> bool {
        let class = pod.at("/runtimeClassName").and_then(Value::as_str).unwrap_or_default();
        self.exemptions.runtime_classes.iter().any(|c| c == class)
    }

    /// The policy of the request's namespace.
    async fn policy_of(&self, attributes: &Attributes<'_>) -> Result<Policy, Status> {
        let name = &attributes.target.namespace;
        let found = attributes.find("", "v1", "namespaces", "", name).await?;
        let found = found.ok_or_else(|| Status::internal(format!("failed to lookup namespace {name}")))?;
        Ok(policy::of_labels(&found, &self.defaults).0)
    }

    async fn pod(&self, attributes: &Attributes<'_>, pod: &Object) -> Result<(), Status> {
        if self.spares(attributes) {
            return Ok(());
        }
        let policy = self.policy_of(attributes).await?;
        if policy.is_privileged() || attributes.old.is_some_and(|old| !is_significant(pod, old)) {
            return Ok(());
        }
        let view = Pod {
            metadata: pod.0.get("metadata"),
            spec: pod.0.get("spec"),
        };
        if self.spares_runtime(&view) {
            return Ok(());
        }
        let found = evaluate(&policy.enforce, &view);
        if !found.is_empty() {
            let why = format!(
                "violates PodSecurity \"{}\": {}",
                policy.enforce,
                check::details(&found)
            );
            return Err(attributes.forbidden(why));
        }
        judge(attributes, &policy, &view);
        Ok(())
    }

    async fn workload(&self, attributes: &Attributes<'_>, object: &Object) -> Result<(), Status> {
        if self.spares(attributes) {
            return Ok(());
        }
        let template = if attributes.row.plural == "cronjobs" {
            object.get(&["spec", "jobTemplate", "spec", "template"])
        } else if attributes.row.plural == "podtemplates" {
            object.get(&["template"])
        } else {
            object.get(&["spec", "template"])
        };
        let Some(template) = template else { return Ok(()) };
        let policy = self.policy_of(attributes).await?;
        let view = Pod {
            metadata: template.get("metadata"),
            spec: template.get("spec"),
        };
        if !self.spares_runtime(&view) {
            judge(attributes, &policy, &view);
        }
        Ok(())
    }

    /// A namespace's labels must say something, and when its level is raised the pods that break the new one are named.
    async fn namespace(&self, attributes: &Attributes<'_>, new: &Object) -> Result<(), Status> {
        let (policy, faults) = policy::of_labels(new, &self.defaults);
        let before = attributes.old.map(|old| policy::of_labels(old, &self.defaults));
        if !faults.is_empty() && before.as_ref().is_none_or(|(_, old)| *old != faults) {
            return Err(Status::invalid("", "Namespace", new.name(), &faults));
        }
        let Some((before, _)) = before else { return Ok(()) };
        let (old, new_level) = (before.enforce, policy.enforce);
        let relaxed = new_level.version == old.version && new_level.level <= old.level;
        if new_level == old || new_level.level == Level::Privileged || relaxed || self.spares_namespace(new.name()) {
            return Ok(());
        }
        for warning in existing(attributes, new.name(), &new_level).await? {
            attributes.warn(warning);
        }
        Ok(())
    }
}

/// Tells of violations that do not refuse.
fn judge(attributes: &Attributes<'_>, policy: &Policy, pod: &Pod<'_>) {
    let would = |mode: &LevelVersion| -> Option<String> {
        let found = evaluate(mode, pod);
        (!found.is_empty()).then(|| format!("would violate PodSecurity \"{mode}\": {}", check::details(&found)))
    };
    if let Some(text) = would(&policy.audit) {
        tracing::info!(
            namespace = attributes.target.namespace,
            resource = attributes.row.plural.as_ref(),
            name = attributes.name,
            user = attributes.user.name,
            violation = text,
            "pod security audit"
        );
    }
    if let Some(text) = would(&policy.warn) {
        attributes.warn(text);
    }
}

/// What a pod violates of a level.
fn evaluate(mode: &LevelVersion, pod: &Pod<'_>) -> Vec<Violation> {
    if mode.level == Level::Privileged {
        return Vec::new();
    }
    let mut all: Vec<(&str, Violation)> = Vec::new();
    for check in baseline::CHECKS {
        let replaced = mode.level == Level::Restricted
            && restricted::CHECKS
                .iter()
                .any(|r| r.replaces == check.id && r.since <= mode.version);
        if check.since <= mode.version && !replaced {
            all.extend((check.run)(pod, mode.version).map(|v| (check.id, v)));
        }
    }
    let baseline = all.len();
    if mode.level == Level::Restricted {
        for check in restricted::CHECKS.iter().filter(|c| c.since <= mode.version) {
            all.extend((check.run)(pod, mode.version).map(|v| (check.id, v)));
        }
    }
    // Each level's findings in the order of the checks' names.
    let (first, second) = all.split_at_mut(baseline);
    first.sort_by_key(|(id, _)| *id);
    second.sort_by_key(|(id, _)| *id);
    all.into_iter().map(|(_, violation)| violation).collect()
}

/// Whether an update changes anything that the standards speak of: of a running pod, images and ephemeral containers
/// change, and annotations that once were profiles.
fn is_significant(new: &Object, old: &Object) -> bool {
    let shape = |pod: &Object| {
        let mut spec = pod.0.get("spec").cloned().unwrap_or(Value::Null);
        if let Some(spec) = spec.as_object_mut() {
            for field in ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds"] {
                spec.remove(field);
            }
            for list in ["containers", "initContainers"] {
                for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                    if let Some(container) = container.as_object_mut() {
                        container.remove("image");
                        container.remove("resources");
                    }
                }
            }
        }
        let annotations = pod.get(&["metadata", "annotations"]).and_then(Value::as_object);
        let profiles: BTreeMap<String, Value> = annotations
            .into_iter()
            .flatten()
            .filter(|(key, _)| key.contains("seccomp.security.alpha.") || key.contains("apparmor.security.beta."))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        (spec, profiles)
    };
    shape(new) != shape(old)
}

/// One line for each way in which pods that are there break the new level.
async fn existing(attributes: &Attributes<'_>, namespace: &str, mode: &LevelVersion) -> Result<Vec<String>, Status> {
    let mut pods = attributes.list("", "v1", "pods", namespace).await?;
    pods.truncate(MOST_PODS);
    pods.sort_by(|a, b| a.name().cmp(b.name()));
    let mut found: Vec<(String, String, usize)> = Vec::new();
    for pod in &pods {
        let view = Pod {
            metadata: pod.0.get("metadata"),
            spec: pod.0.get("spec"),
        };
        let reasons: Vec<String> = evaluate(mode, &view).into_iter().map(|v| v.reason).collect();
        if reasons.is_empty() {
            continue;
        }
        let reasons = reasons.join(", ");
        match found.iter_mut().find(|(known, _, _)| *known == reasons) {
            Some((_, _, count)) => *count += 1,
            None => found.push((reasons, pod.name().to_owned(), 1)),
        }
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let head = format!("existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{mode}\"");
    let mut lines: Vec<String> = found
        .into_iter()
        .map(|(reasons, name, count)| match count {
            1 => format!("{name}: {reasons}"),
            2 => format!("{name} (and 1 other pod): {reasons}"),
            more => format!("{name} (and {} other pods): {reasons}", more - 1),
        })
        .collect();
    lines.sort();
    lines.insert(0, head);
    Ok(lines)
}

#[cfg(test)]
mod standards;
#[cfg(test)]
mod tests;
