//! Containers: what all have in common, and what regular, init and ephemeral ones may and may not.

use std::collections::BTreeSet;

use super::super::check::{named_if_set, not_empty, one_of, one_of_if_set};
use super::{Context, environment, network, probe, resources, security, volume};
use crate::field::{Cursor, ErrorList};
use crate::names;

pub(super) fn regular(containers: &Cursor<'_>, cx: &Context<'_>, errors: &mut ErrorList) {
    if containers.is_empty() {
        errors.required(containers, "");
        return;
    }
    let mut seen = BTreeSet::new();
    for container in containers.items() {
        shared(&container, cx, errors);
        unique_name(&container, &mut seen, errors);
        probe::lifecycle(&container.at("lifecycle"), cx, errors);
        probe::all(&container, cx, errors);
        restart_policy(&container, errors);
    }
    network::host_port_conflicts(containers.items(), errors);
}

pub(super) fn init(spec: &Cursor<'_>, cx: &Context<'_>, errors: &mut ErrorList) {
    let containers = spec.at("containers");
    let mut seen: BTreeSet<String> = containers.items().map(|c| c.at("name").str().to_owned()).collect();
    let init = spec.at("initContainers");
    for (i, container) in init.items().enumerate() {
        shared(&container, cx, errors);
        unique_name(&container, &mut seen, errors);
        network::host_port_conflicts(std::iter::once(init.index(i)), errors);
        restart_policy(&container, errors);
        if container.at("restartPolicy").str() == "Always" {
            probe::lifecycle(&container.at("lifecycle"), cx, errors);
            probe::all(&container, cx, errors);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            let at = container.at(field);
            if at.is_set() {
                errors.forbidden(&at, "may not be set for init containers without restartPolicy=Always");
            }
        }
        let resize = container.at("resizePolicy");
        if !resize.is_empty() {
            errors.invalid(&resize, "must not be set for non-restartable init containers");
        }
    }
}

pub(super) fn ephemeral(spec: &Cursor<'_>, cx: &Context<'_>, errors: &mut ErrorList) {
    let mut others = BTreeSet::new();
    for list in ["containers", "initContainers"] {
        others.extend(spec.at(list).items().map(|c| c.at("name").str().to_owned()));
    }
    let mut seen = others.clone();
    for container in spec.at("ephemeralContainers").items() {
        shared(&container, cx, errors);
        unique_name(&container, &mut seen, errors);
        let target = container.at("targetContainerName");
        if !target.is_empty() && !others.contains(target.str()) {
            errors.not_found(&target);
        }
        for field in [
            "ports",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle",
            "resizePolicy",
            "restartPolicy",
            "restartPolicyRules",
        ] {
            let at = container.at(field);
            if !at.is_empty() {
                errors.forbidden(&at, "cannot be set for an Ephemeral Container");
            }
        }
        // Defaulting leaves an empty map here.
        let resources = container.at("resources");
        if !resources.is_empty() {
            errors.forbidden(&resources, "cannot be set for an Ephemeral Container");
        }
        for mount in container.at("volumeMounts").items() {
            for field in ["subPath", "subPathExpr"] {
                let at = mount.at(field);
                if !at.is_empty() {
                    errors.forbidden(&at, "cannot be set for an Ephemeral Container");
                }
            }
        }
    }
}

fn unique_name(container: &Cursor<'_>, seen: &mut BTreeSet<String>, errors: &mut ErrorList) {
    let name = container.at("name");
    if !name.is_empty() && !seen.insert(name.str().to_owned()) {
        errors.duplicate(&name);
    }
}

fn shared(container: &Cursor<'_>, cx: &Context<'_>, errors: &mut ErrorList) {
    let name = container.at("name");
    not_empty(&name, errors);
    named_if_set(&name, names::dns1123_label, errors);
    let image = container.at("image");
    not_empty(&image, errors);
    if cx.is_pod {
        image_padding(&image, errors);
    }
    one_of(
        &container.at("terminationMessagePolicy"),
        &["File", "FallbackToLogsOnError"],
        errors,
    );
    network::container_ports(&container.at("ports"), errors);
    environment::variables(&container.at("env"), errors);
    environment::sources(&container.at("envFrom"), errors);
    volume::mounts(container, cx, errors);
    volume::devices(container, cx, errors);
    one_of(
        &container.at("imagePullPolicy"),
        &["Always", "IfNotPresent", "Never"],
        errors,
    );
    resources::container(&container.at("resources"), cx, errors);
    resize_policy(&container.at("resizePolicy"), cx, errors);
    security::container(&container.at("securityContext"), cx.host_users, errors);
}

/// A pod's image has no blanks around it (a template's may, for the sake of old objects).
pub(super) fn image_padding(image: &Cursor<'_>, errors: &mut ErrorList) {
    if image.str().trim() != image.str() {
        errors.invalid(image, "must not have leading or trailing whitespace");
    }
}

fn resize_policy(policies: &Cursor<'_>, cx: &Context<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for policy in policies.items() {
        let (resource, restart) = (policy.at("resourceName"), policy.at("restartPolicy"));
        if !seen.insert(resource.str().to_owned()) {
            errors.duplicate_value(&policy, &resource.str().into(), "");
        }
        // Upstream's messages are about the list as a whole.
        for (field, supported) in [
            (&resource, ["cpu", "memory"]),
            (&restart, ["NotRequired", "RestartContainer"]),
        ] {
            if field.is_empty() {
                errors.required(policies, "");
            } else if !supported.contains(&field.str()) {
                errors.not_supported_value(policies, &field.str().into(), &supported);
            }
        }
        if cx.restart_policy == "Never" && restart.str() != "NotRequired" {
            let detail = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.invalid_value(policies, &restart.str().into(), detail);
        }
    }
}

fn restart_policy(container: &Cursor<'_>, errors: &mut ErrorList) {
    let policy = container.at("restartPolicy");
    let rules = container.at("restartPolicyRules");
    if !rules.is_empty() && !policy.is_set() {
        errors.required(&policy, "must specify restartPolicy when restart rules are used");
    }
    one_of_if_set(&policy, &["Always", "OnFailure", "Never"], errors);
    if rules.len() > 20 {
        errors.too_many(&rules, rules.len(), 20);
    }
    for rule in rules.items() {
        one_of(&rule.at("action"), &["Restart", "RestartAllContainers"], errors);
        let codes = rule.at("exitCodes");
        if !codes.is_set() {
            errors.required(&codes, "must be specified");
            continue;
        }
        one_of(&codes.at("operator"), &["In", "NotIn"], errors);
        let values = codes.at("values");
        if values.len() > 255 {
            errors.too_many(&values, values.len(), 255);
        }
    }
}
