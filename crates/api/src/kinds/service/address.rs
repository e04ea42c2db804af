//! The rules for a service's cluster addresses and their families.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::pod_spec::valid_ip;
use crate::field::{Cursor, ErrorList};
use crate::names::address::parse_ip;

pub(super) fn is_headless(spec: &Cursor<'_>) -> bool {
    let ips = spec.at("clusterIPs");
    ips.len() == 1 && ips.strs().next() == Some("None")
}

pub(super) fn validate(spec: &Cursor<'_>, errors: &mut ErrorList) {
    if spec.at("type").str() == "ExternalName" {
        return;
    }
    let (one, all) = (spec.at("clusterIP"), spec.at("clusterIPs"));
    match (one.is_empty(), all.is_empty()) {
        (false, true) => errors.required(&all, ""),
        (false, false) if all.strs().next() != Some(one.str()) => {
            errors.invalid(&all, "first value must match `clusterIP`");
        }
        (true, false) => errors.invalid(&all, "must be empty when `clusterIP` is not specified"),
        _ => {}
    }
    let families = spec.at("ipFamilies");
    let mut seen = BTreeSet::new();
    for family in families.items() {
        if !matches!(family.str(), "IPv4" | "IPv6") {
            errors.not_supported(&family, &["IPv4", "IPv6"]);
        }
        if !seen.insert(family.str().to_owned()) {
            errors.duplicate(&family);
        }
    }
    let policy = spec.at("ipFamilyPolicy");
    super::super::check::one_of_if_set(&policy, &["PreferDualStack", "RequireDualStack", "SingleStack"], errors);
    let before = errors.len();
    for (i, ip) in all.items().enumerate() {
        if i == 0 && ip.str() == "None" {
            if all.len() > 1 {
                errors.invalid(&all, "'None' must be the first and only value");
            }
            continue;
        }
        valid_ip(&ip, errors);
    }
    if all.len() > 2 {
        errors.invalid(&all, "may only hold up to 2 values");
    }
    if errors.len() > before {
        return;
    }
    let kinds: Vec<bool> = all.strs().filter_map(parse_ip).map(|ip| ip.is_ipv6()).collect();
    if let [a, b] = kinds[..]
        && a == b
    {
        errors.invalid(&all, "may specify no more than one IP for each IP family");
    }
    if is_headless(spec) {
        return;
    }
    for (i, (is_v6, family)) in kinds.iter().zip(families.strs()).enumerate() {
        if (family == "IPv6") != *is_v6 {
            errors.invalid(
                &all.index(i),
                format!("expected an {family} value as indicated by `ipFamilies[{i}]`"),
            );
        }
    }
}

/// A second address may come and go; the first stays, unless the service has none by its type.
pub(super) fn stays(spec: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
    let named = |spec: &Cursor<'_>| spec.at("type").str() == "ExternalName";
    if named(spec) || named(old) {
        return;
    }
    let (headless, old_headless) = (is_headless(spec), is_headless(old));
    if !(headless && old_headless) {
        list_stays(spec, old, "clusterIPs", "clusterIP", errors);
    }
    if !headless && !old_headless {
        list_stays(spec, old, "ipFamilies", "ipFamily", errors);
    }
}

fn list_stays(spec: &Cursor<'_>, old: &Cursor<'_>, field: &str, what: &str, errors: &mut ErrorList) {
    let (now, before) = (spec.at(field), old.at(field));
    let shown = now.value().cloned().unwrap_or_else(|| Value::Array(Vec::new()));
    if now.len() == before.len() {
        for (i, (a, b)) in now.strs().zip(before.strs()).enumerate() {
            if a != b {
                errors.invalid_value(&now.index(i), &shown, "may not change once set");
            }
        }
        return;
    }
    if now.is_empty() {
        errors.invalid_value(&now.index(0), &shown, format!("primary {what} can not be unset"));
    } else if !before.is_empty() && now.strs().next() != before.strs().next() {
        errors.invalid_value(&now.index(0), &shown, "may not change once set");
    }
    let policy = spec.at("ipFamilyPolicy");
    if now.len() == 1 && before.len() > 1 && policy.str() != "SingleStack" {
        errors.invalid(
            &policy,
            format!("must be set to 'SingleStack' when releasing the secondary {what}"),
        );
    }
}
