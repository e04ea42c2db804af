//! A definition's group, names, scope, versions and conversion.

use serde_json::{Value, json};

use super::{APPROVAL, Faults, is_protected, version};
use crate::field::{Cursor, ErrorList};
use crate::kinds::webhook_client;
use crate::names;

/// Bytes.
const LONGEST_WARNING: usize = 256;

pub(super) fn validate(object: &Cursor<'_>, old: Option<&Cursor<'_>>, errors: &mut ErrorList) {
    let spec = object.at("spec");
    let group = spec.at("group");
    let all_names = spec.at("names");
    let plural = all_names.at("plural");
    let metadata = object.at("metadata");
    let name = metadata.at("name");
    // A stored one has its name for good.
    if old.is_none() && name.str() != format!("{}.{}", plural.str(), group.str()) {
        errors.invalid(&name, "must be spec.names.plural+\".\"+spec.group");
    }
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
    let all = spec.value().and_then(|s| s.get("versions")?.as_array());
    let all = all.map_or(&[][..], Vec::as_slice);
    let shared = version::Shared::of(all);
    versions(&spec, &shared, old, errors);
    for field in ["plural", "singular", "kind", "listKind"] {
        let at = all_names.at(field);
        if at.is_empty() {
            errors.required(&at, "");
        }
    }
    names(&all_names, errors);
    shared.validate(all, old.and_then(old_versions), &mut Faults { errors });
    conversion(&spec, old, errors);
    if let Some(old) = old {
        validate_change(object, old, errors);
    }
    approval(object, old, errors);
    let preserves = |object: &Cursor<'_>| object.at("spec").at("preserveUnknownFields").is_true();
    if preserves(object) && !old.is_some_and(preserves) {
        errors.invalid(
            &spec.at("preserveUnknownFields"),
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        );
    }
}

/// What may not change once objects may exist.
fn validate_change(new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
    let (spec, old_spec) = (new.at("spec"), old.at("spec"));
    let (names, old_names) = (spec.at("names"), old_spec.at("names"));
    if is_established(old) {
        errors.immutable(&spec.at("scope"), &old_spec.at("scope"));
        errors.immutable(&names.at("kind"), &old_names.at("kind"));
    }
    errors.immutable(&spec.at("group"), &old_spec.at("group"));
    errors.immutable(&names.at("plural"), &old_names.at("plural"));
}

/// Whether objects of a definition may exist.
fn is_established(definition: &Cursor<'_>) -> bool {
    let conditions = definition
        .value()
        .and_then(|v| v.pointer("/status/conditions")?.as_array());
    conditions
        .into_iter()
        .flatten()
        .any(|c| c.get("type") == Some(&"Established".into()) && c.get("status") == Some(&"True".into()))
}

/// What an annotation says of a definition in a protected group.
#[derive(PartialEq, Eq)]
enum Approval {
    Missing,
    Bypassed,
    Approved,
    Invalid,
}

impl Approval {
    fn of(definition: &Cursor<'_>) -> Self {
        let metadata = definition.at("metadata");
        let annotations = metadata.at("annotations");
        let text = annotations.key(APPROVAL).str();
        let is_url = || {
            let (scheme, rest) = text.split_once("://")?;
            let host = rest.split('/').next()?;
            let is_scheme = scheme.chars().next()?.is_ascii_alphabetic()
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
            (is_scheme && !host.is_empty() && !text.contains(char::is_whitespace)).then_some(())
        };
        if text.is_empty() {
            Self::Missing
        } else if text.starts_with("unapproved") {
            Self::Bypassed
        } else if is_url().is_some() {
            Self::Approved
        } else {
            Self::Invalid
        }
    }
}

/// A definition in one of Kubernetes' own groups says who approved it, or stays as it was.
fn approval(object: &Cursor<'_>, old: Option<&Cursor<'_>>, errors: &mut ErrorList) {
    let found = Approval::of(object);
    if !is_protected(object.at("spec").at("group").str()) || old.is_some_and(|old| Approval::of(old) == found) {
        return;
    }
    let metadata = object.at("metadata");
    let annotations = metadata.at("annotations");
    let at = annotations.key(APPROVAL);
    let needed = format!("protected groups must have approval annotation {APPROVAL:?}");
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    match found {
        Approval::Approved | Approval::Bypassed => {}
        Approval::Missing => errors.required(&at, format!("{needed}, {see}")),
        Approval::Invalid => {
            let either = "with either a URL or a reason starting with \"unapproved\"";
            errors.invalid(&at, format!("{needed} {either}, {see}"));
        }
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

fn versions(spec: &Cursor<'_>, shared: &version::Shared, old: Option<&Cursor<'_>>, errors: &mut ErrorList) {
    let versions = spec.at("versions");
    for (i, at) in versions.items().enumerate() {
        if at.value().and_then(|v| v.pointer("/schema/openAPIV3Schema")).is_none() {
            let path = format!("spec.versions[{i}].schema.openAPIV3Schema");
            Faults { errors }.required(&path, "schemas are required");
        }
    }
    let mut seen = Vec::new();
    let mut stored = 0;
    for at in versions.items() {
        let name = at.at("name");
        stored += usize::from(at.at("storage").is_true());
        let faults = names::dns1035_label(name.str());
        if !faults.is_empty() {
            errors.invalid(&name, faults.join(","));
        }
        seen.push(name.str().to_owned());
        deprecation(&at, errors);
        let previous = old
            .and_then(old_versions)
            .and_then(|all| version::named(all, name.str()));
        if let Some(value) = at.value() {
            shared.validate_rest(value, previous, &at.path(), &mut Faults { errors });
        }
    }
    let shown = versions.value().cloned().unwrap_or_else(|| json!([]));
    let first = seen.first().cloned().unwrap_or_default();
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
    // Upstream keeps the first one's name in a place of its own.
    let faults = names::dns1035_label(&first);
    if !first.is_empty() && !faults.is_empty() {
        errors.invalid_value(&spec.said("version"), &first.into(), faults.join(","));
    }
}

fn deprecation(version: &Cursor<'_>, errors: &mut ErrorList) {
    let warning = version.at("deprecationWarning");
    if !warning.is_set() {
        return;
    }
    if !version.at("deprecated").is_true() {
        return errors.invalid(&warning, "can only be set for deprecated versions");
    }
    let text = warning.str();
    if text.len() > LONGEST_WARNING {
        errors.invalid(&warning, format!("must be <= {LONGEST_WARNING} characters long"));
    }
    if text.is_empty() {
        errors.invalid(&warning, "must not be an empty string");
    }
    if let Some((at, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
        errors.invalid(
            &warning,
            format!("must only contain printable UTF-8 characters; non-printable character found at index {at}"),
        );
    }
}

fn old_versions<'v>(old: &Cursor<'v>) -> Option<&'v [Value]> {
    Some(old.value()?.pointer("/spec/versions")?.as_array()?.as_slice())
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
        "Webhook" | "None" => {}
        _ => errors.not_supported(&strategy, &["None", "Webhook"]),
    }
    if strategy.str() != "Webhook" {
        for (is_set, place) in [(config.is_set(), &config_place), (!reviews.is_empty(), &reviews_place)] {
            if is_set {
                errors.forbidden(place, "should not be set when strategy is not set to Webhook");
            }
        }
        return;
    }
    if config.is_set() {
        webhook_client::validate(&config_place, &config, errors);
        let bundle = config.at("caBundle");
        let before = |old: &Cursor<'_>| {
            let bundle = old.value()?.pointer("/spec/conversion/webhook/clientConfig/caBundle")?;
            webhook_client::bundle_fault(bundle.as_str()?)
        };
        // One that was wrong before may stay so, and while there are no objects nothing is converted.
        let matters = old.is_some_and(|old| is_established(old) && before(old).is_none());
        if let Some(fault) = webhook_client::bundle_fault(bundle.str()).filter(|_| matters) {
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
    let known = |version: &str| matches!(version, "v1" | "v1beta1");
    // Those that were unknown before may stay so.
    let were_unknown = old.is_some_and(|old| {
        let reviews = old.value().and_then(|v| {
            v.pointer("/spec/conversion/webhook/conversionReviewVersions")?
                .as_array()
        });
        reviews.is_some_and(|all| !all.is_empty() && !all.iter().filter_map(Value::as_str).any(known))
    });
    if !were_unknown && !reviews.strs().any(known) {
        errors.invalid_value(
            &reviews_place,
            reviews.value().unwrap_or(&Value::Null),
            "must include at least one of v1, v1beta1",
        );
    }
}
