//! StatefulSet: replicas with a name and storage of their own each.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, containers, images, int_of, name, names_and_images, text};
use super::check::{not_negative, one_of};
use super::fill::{at, each, fill, fill_empty, map_made};
use super::pod_spec::set_template_defaults;
use super::row::namespaced;
use super::workload::{
    at_most_all, changed_beyond, counts, int_or_percent, is_none, lasting_template, not_decremented,
    selector as valid_selector, selects_template,
};
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::{NameRule, Strategy};

pub(super) fn row() -> Resource {
    namespaced("apps", "v1", "StatefulSet", "statefulsets")
        .short(&["sts"])
        .in_all()
        .scale(".spec.selector")
        .status()
        .generation()
        .columns([
            name(),
            text("Ready", "Number of the pod with ready state"),
            age(),
            containers(),
            images(),
        ])
        .strategy(StatefulSet)
        .build()
}

struct StatefulSet;

/// What an update may change.
const MAY_CHANGE: [&str; 8] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
    "revisionHistoryLimit",
    "paused",
];

impl Strategy for StatefulSet {
    /// Its pods are named after it, and are hosts.
    fn name_rule(&self) -> NameRule {
        NameRule::DnsLabel
    }

    fn set_defaults(&self, object: &mut Object) {
        let Some(spec) = at(&mut object.0, "spec") else {
            return;
        };
        fill_empty(spec, "podManagementPolicy", "OrderedReady");
        fill(spec, "replicas", 1);
        fill(spec, "revisionHistoryLimit", 10);
        if let Some(update) = map_made(spec, "updateStrategy") {
            fill_empty(update, "type", "RollingUpdate");
            if update.get("type") == Some(&Value::from("RollingUpdate"))
                && let Some(rolling) = map_made(update, "rollingUpdate")
            {
                fill(rolling, "partition", 0);
            }
        }
        if let Some(policy) = map_made(spec, "persistentVolumeClaimRetentionPolicy") {
            fill_empty(policy, "whenDeleted", "Retain");
            fill_empty(policy, "whenScaled", "Retain");
        }
        each(spec, "volumeClaimTemplates", |claim| {
            fill(claim, "apiVersion", "v1");
            fill(claim, "kind", "PersistentVolumeClaim");
            if let Some(status) = map_made(claim, "status") {
                fill_empty(status, "phase", "Pending");
            }
            if let Some(spec) = at(claim, "spec") {
                fill(spec, "volumeMode", "Filesystem");
            }
        });
        if let Some(template) = at(spec, "template") {
            set_template_defaults(template);
        }
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        let management = spec.at("podManagementPolicy");
        match management.str() {
            "OrderedReady" | "Parallel" => {}
            "" => errors.required(&management, ""),
            _ => errors.invalid(&management, "must be 'OrderedReady' or 'Parallel'"),
        }
        rollout(&spec.at("updateStrategy"), errors);
        let policy = spec.at("persistentVolumeClaimRetentionPolicy");
        if policy.is_set() {
            for field in ["whenDeleted", "whenScaled"] {
                one_of(&policy.at(field), &["Retain", "Delete"], errors);
            }
        }
        not_negative(&spec.at("replicas"), errors);
        not_negative(&spec.at("minReadySeconds"), errors);
        not_negative(&spec.at("revisionHistoryLimit"), errors);
        let ordinals = spec.at("ordinals");
        not_negative(&ordinals.at("start"), errors);
        let template = spec.at("template");
        let selector = valid_selector(
            &spec.at("selector"),
            "empty selector is invalid for statefulset",
            errors,
        );
        if let Some(selector) = selector {
            selects_template(&selector, &template, errors);
        }
        lasting_template(&template, "StatefulSet", &claim_names(&spec), errors);
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        self.validate(new, errors);
        let spec = new.at("spec");
        if changed_beyond(&spec, &old.at("spec"), &MAY_CHANGE) {
            errors.forbidden(
                &spec,
                "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                 'minReadySeconds' are forbidden",
            );
        }
    }

    fn validate_status_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        let (status, old_status) = (new.at("status"), old.at("status"));
        counts(
            &status,
            &[
                "replicas",
                "readyReplicas",
                "currentReplicas",
                "updatedReplicas",
                "availableReplicas",
                "observedGeneration",
                "collisionCount",
            ],
            &[
                "readyReplicas",
                "currentReplicas",
                "updatedReplicas",
                "availableReplicas",
            ],
            "status.readyReplicas",
            errors,
        );
        not_decremented(&status.at("collisionCount"), &old_status.at("collisionCount"), errors);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let (names, images) = names_and_images(object, &["spec", "template", "spec", "containers"]);
        let ready = int_of(object, &["status", "readyReplicas"]);
        vec![
            object.name().into(),
            format!("{ready}/{}", int_of(object, &["spec", "replicas"])).into(),
            age_of(object, now),
            names,
            images,
        ]
    }
}

/// How pods of an old template are replaced.
fn rollout(update: &Cursor<'_>, errors: &mut ErrorList) {
    let kind = update.at("type");
    let rolling = update.at("rollingUpdate");
    match kind.str() {
        "OnDelete" if rolling.is_set() => errors.invalid(&rolling, "only allowed for updateStrategy 'RollingUpdate'"),
        "OnDelete" => {}
        "RollingUpdate" => {
            not_negative(&rolling.at("partition"), errors);
            let unavailable = rolling.at("maxUnavailable");
            if unavailable.is_set() {
                int_or_percent(&unavailable, errors);
                if is_none(&unavailable) {
                    errors.invalid(&unavailable, "cannot be 0");
                }
                at_most_all(&unavailable, errors);
            }
        }
        "" => errors.required(update, ""),
        _ => errors.invalid(update, "must be 'RollingUpdate' or 'OnDelete'"),
    }
}

/// The names of the claims, which the template's containers may mount like volumes.
fn claim_names(spec: &Cursor<'_>) -> Vec<String> {
    let claims = spec.at("volumeClaimTemplates");
    let name = |claim: Cursor<'_>| claim.at("metadata").at("name").str().to_owned();
    claims.items().map(name).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{created, defaulted, refuses, refuses_update};
    use super::*;
    use serde_json::json;

    fn valid() -> Value {
        json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "serviceName": "web",
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "a", "image": "x:1",
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
                    "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}],
            },
        })
    }

    #[test]
    fn a_set_gets_its_defaults() {
        let mut spec = defaulted(&row(), valid())["spec"].clone();
        spec.as_object_mut().unwrap().remove("template");
        assert_eq!(
            spec,
            json!({
                "serviceName": "web", "selector": {"matchLabels": {"app": "web"}},
                "replicas": 1, "revisionHistoryLimit": 10, "podManagementPolicy": "OrderedReady",
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
                "volumeClaimTemplates": [{
                    "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
                        "volumeMode": "Filesystem"},
                    "status": {"phase": "Pending"},
                }],
            })
        );
    }

    #[test]
    fn the_spec_is_checked() {
        refuses(
            &row(),
            &valid(),
            &[
                (
                    "/spec/podManagementPolicy",
                    json!("X"),
                    "spec.podManagementPolicy: Invalid value: \"X\": must be 'OrderedReady' or 'Parallel'",
                ),
                (
                    "/spec/updateStrategy",
                    json!({"rollingUpdate": {"partition": -1}}),
                    "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
                ),
                (
                    "/spec/volumeClaimTemplates",
                    json!([]),
                    "spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"data\"",
                ),
            ],
        );
        assert_eq!(created(&row(), valid()), [""; 0]);
        refuses_update(
            &row(),
            &valid(),
            &[(
                "/spec/serviceName",
                json!("other"),
                "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' \
                 are forbidden",
            )],
        );
    }
}
