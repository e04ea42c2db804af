//! A definition's group, names, scope, versions and conversion.

use serde_json::{Value, json};

use super::{APPROVAL, Faults, is_protected, version};
use crate::field::{Cursor, ErrorList};
use crate::kinds::webhook_client;
use crate::names;

pub(super) fn validate(object: &Cursor<'_>, old: Option<&Cursor<'_>>, errors: &mut ErrorList) {
    let spec = object.at("spec");
    let group = spec.at("group");
    let all_names = spec.at("names");
    let plural = all_names.at("plural");
    let metadata = object.at("metadata");
    let name = metadata.at("name");
    if name.str() != format!("{}.{}", plural.str(), group.str()) {
        errors.invalid(&name, "must be spec.names.plural+\".\"+spec.group");
    }
    approval(object, group.str(), errors);

    let faults = names::dns1123_subdomain(group.str());
    if group.is_empty() {
        errors.required(&group, "");
    } else if !faults.is_empty() {
        errors.invalid(&group, faults.join(","));
    } else if !group.str().contains('.') {
        errors.invalid(&group, "should be a domain with at least one dot");
    }
    let scope = spec.at("scope");
    match scope.str() {
        "" => errors.required(&scope, ""),
        "Cluster" | "Namespaced" => {}
        _ => errors.not_supported(&scope, &["Cluster", "Namespaced"]),
    }
    for field in ["plural", "singular", "kind", "listKind"] {
        let at = all_names.at(field);
        if at.is_empty() {
            errors.required(&at, "");
        }
    }
    names(&all_names, errors);
    if spec.at("preserveUnknownFields").is_true() {
        errors.invalid(
            &spec.at("preserveUnknownFields"),
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        );
    }
    versions(&spec, old, errors);
    conversion(&spec, old, errors);
}

/// What may not change once objects may exist.
pub(super) fn validate_change(new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
    let (spec, old_spec) = (new.at("spec"), old.at("spec"));
    let (names, old_names) = (spec.at("names"), old_spec.at("names"));
    let conditions = old.value().and_then(|v| v.pointer("/status/conditions")?.as_array());
    let established = conditions
        .into_iter()
        .flatten()
        .any(|c| c.get("type") == Some(&"Established".into()) && c.get("status") == Some(&"True".into()));
    if established {
        errors.immutable(&spec.at("scope"), &old_spec.at("scope"));
        errors.immutable(&names.at("kind"), &old_names.at("kind"));
    }
    errors.immutable(&spec.at("group"), &old_spec.at("group"));
    errors.immutable(&names.at("plural"), &old_names.at("plural"));
}

fn approval(object: &Cursor<'_>, group: &str, errors: &mut ErrorList) {
    if !is_protected(group) {
        return;
    }
    let metadata = object.at("metadata");
    let annotations = metadata.at("annotations");
    let approved = annotations.key(APPROVAL);
    let text = approved.str();
    let detail = if text.is_empty() {
        format!(
            "protected groups must have approval annotation {APPROVAL:?}, see \
             https://github.com/kubernetes/enhancements/pull/1111"
        )
    } else if text.starts_with("unapproved") || text.starts_with("https://") || text.starts_with("http://") {
        return;
    } else {
        format!(
            "protected groups must have approval annotation {APPROVAL:?} with either a URL or a reason starting with \
             \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111"
        )
    };
    if text.is_empty() {
        errors.required(&approved, detail);
    } else {
        errors.invalid(&approved, detail);
    }
}

/// The form of names, in the spec or as accepted.
pub(super) fn names(at: &Cursor<'_>, errors: &mut ErrorList) {
    let label = |at: &Cursor<'_>, lower: bool, errors: &mut ErrorList| {
        if at.is_empty() {
            return;
        }
        let faults = if lower {
            names::dns1035_label(&at.str().to_lowercase())
        } else {
            names::dns1035_label(at.str())
        };
        if faults.is_empty() {
            return;
        }
        let before = if lower {
            "may have mixed case, but should otherwise match: "
        } else {
            ""
        };
        errors.invalid(at, format!("{before}{}", faults.join(",")));
    };
    label(&at.at("plural"), false, errors);
    label(&at.at("singular"), false, errors);
    label(&at.at("kind"), true, errors);
    label(&at.at("listKind"), true, errors);
    for name in at.at("shortNames").items() {
        label(&name, false, errors);
    }
    let list_kind = at.at("listKind");
    if !list_kind.is_empty() && at.at("kind").str() == list_kind.str() {
        errors.invalid(&list_kind, "kind and listKind may not be the same");
    }
    for name in at.at("categories").items() {
        label(&name, false, errors);
    }
}

fn versions(spec: &Cursor<'_>, old: Option<&Cursor<'_>>, errors: &mut ErrorList) {
    let versions = spec.at("versions");
    let all = versions.value().and_then(Value::as_array);
    let shared = version::Shared::of(all.map_or(&[], Vec::as_slice));
    let mut seen = Vec::new();
    let mut stored = 0;
    for (i, at) in versions.items().enumerate() {
        let name = at.at("name");
        stored += usize::from(at.at("storage").is_true());
        let faults = names::dns1035_label(name.str());
        if !faults.is_empty() {
            errors.invalid(&name, faults.join(","));
        }
        seen.push(name.str().to_owned());
        let warning = at.at("deprecationWarning");
        if warning.is_set() {
            if !at.at("deprecated").is_true() {
                errors.invalid(&warning, "can only be set for deprecated versions");
            }
            if warning.str().is_empty() {
                errors.invalid(&warning, "must not be empty string");
            }
            if warning.str().len() > 256 {
                errors.too_long(&warning, 256);
            }
        }
        let previous = old.and_then(|old| same_version(old, name.str()));
        if let Some(value) = at.value() {
            version::validate(value, i, &shared, previous, &at.path(), &mut Faults { errors });
        }
    }
    let shown = versions.value().cloned().unwrap_or_else(|| json!([]));
    let count = seen.len();
    seen.sort();
    seen.dedup();
    if seen.len() != count {
        errors.invalid_value(&versions, &shown, "must contain unique version names");
    }
    if stored != 1 {
        errors.invalid_value(
            &versions,
            &shown,
            "must have exactly one version marked as storage version",
        );
    }
}

fn same_version<'v>(old: &Cursor<'v>, name: &str) -> Option<&'v Value> {
    let versions = old.value()?.pointer("/spec/versions")?.as_array()?;
    versions
        .iter()
        .find(|v| v.get("name").and_then(Value::as_str) == Some(name))
}

/// Upstream tells of the conversion in the form in which it keeps it: the webhook has no field of its own there.
fn conversion(spec: &Cursor<'_>, old: Option<&Cursor<'_>>, errors: &mut ErrorList) {
    let conversion = spec.at("conversion");
    let strategy = conversion.at("strategy");
    let webhook = conversion.at("webhook");
    let (config, reviews) = (webhook.at("clientConfig"), webhook.at("conversionReviewVersions"));
    let (config_place, reviews_place) = (
        conversion.said("webhookClientConfig"),
        conversion.said("conversionReviewVersions"),
    );
    match strategy.str() {
        "" => errors.required(&strategy, ""),
        "Webhook" => {}
        "None" => {
            for (at, place) in [(&config, &config_place), (&reviews, &reviews_place)] {
                if !at.is_empty() {
                    errors.forbidden(place, "should not be set when strategy is not set to Webhook");
                }
            }
        }
        _ => errors.not_supported(&strategy, &["None", "Webhook"]),
    }
    if strategy.str() != "Webhook" {
        return;
    }
    if config.is_set() {
        webhook_client::validate(&config_place, &config, errors);
        let bundle = config.at("caBundle");
        let before = old.and_then(|old| {
            old.value()?
                .pointer("/spec/conversion/webhook/clientConfig/caBundle")?
                .as_str()
        });
        // One that was wrong before may stay so.
        let was_fine = before.is_none_or(|before| webhook_client::bundle_fault(before).is_none());
        if let Some(fault) = webhook_client::bundle_fault(bundle.str()).filter(|_| was_fine) {
            errors.invalid_value(&config_place.said("caBundle"), &bundle.str().into(), fault);
        }
    } else {
        errors.required(&config_place, "required when strategy is set to Webhook");
    }
    if reviews.is_empty() {
        return errors.required(&reviews_place, "");
    }
    let mut seen = Vec::new();
    for (i, version) in reviews.strs().enumerate() {
        let index = format!("conversionReviewVersions[{i}]");
        let place = conversion.said(&index);
        if seen.contains(&version) {
            errors.invalid_value(&place, &version.into(), "duplicate version");
            continue;
        }
        seen.push(version);
        for fault in names::dns1035_label(version) {
            errors.invalid_value(&place, &version.into(), fault);
        }
    }
    if !reviews.strs().any(|v| matches!(v, "v1" | "v1beta1")) {
        errors.invalid_value(
            &reviews_place,
            reviews.value().unwrap_or(&Value::Null),
            "must include at least one of v1, v1beta1",
        );
    }
}
