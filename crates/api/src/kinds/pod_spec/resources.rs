//! What containers and pods ask for: requests, limits, claims on devices.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::super::check::{
    container_resource_name, is_huge_page, may_overcommit, named_if_set, not_empty, quantity_at, quantity_of,
};
use super::super::fill::{at, fill, map_made};
use super::Context;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::quantity::Quantity;

const NEEDS_COMPUTE: &str = "HugePages require cpu or memory";

/// The rules for a container's resources.
pub(super) fn container(resources: &Cursor<'_>, cx: &Context<'_>, errors: &mut ErrorList) {
    requests_and_limits(resources, container_resource_name, errors);
    claim_names(&resources.at("claims"), cx, errors);
}

/// What running a pod takes beyond its containers: upstream judges it as a container's limits, and names it so.
pub(in crate::kinds) fn overhead(place: &Cursor<'_>, amounts: &Cursor<'_>, errors: &mut ErrorList) {
    let limits = place.said("limits");
    let (mut computes, mut huge_pages) = (false, false);
    for (name, quantity) in amounts.entries() {
        let at = limits.key(name);
        container_resource_name(&at, name, errors);
        quantity_at(&at, name, &quantity, errors);
        computes |= matches!(name, "cpu" | "memory");
        if is_huge_page(name) {
            huge_pages = true;
            whole_pages(&at, name, &quantity, errors);
        }
    }
    if huge_pages && !computes {
        errors.forbidden(place, NEEDS_COMPUTE);
    }
}

/// The resources of the pod as a whole.
pub(super) fn pod_level(spec: &Cursor<'_>, cx: &Context<'_>, errors: &mut ErrorList) {
    let resources = spec.at("resources");
    if cx.operating_system == "windows" {
        errors.forbidden(&resources, "may not be set for a windows pod");
    }
    let claims = resources.at("claims");
    if !claims.is_empty() {
        errors.forbidden(&claims, "claims cannot be set for Resources at pod-level");
    }
    let supported = |at: &Cursor<'_>, name: &str, errors: &mut ErrorList| {
        if !matches!(name, "cpu" | "memory") && !is_huge_page(name) {
            errors.not_supported_value(at, &name.into(), &["cpu", "hugepages-", "memory"]);
        }
    };
    requests_and_limits(&resources, supported, errors);
    limits_hold(spec, &resources, errors);
    let sums = container_requests(spec.value().and_then(Value::as_object));
    let requests = resources.at("requests");
    for (name, quantity) in requests.entries() {
        let (Some(pod), Some(sum)) = (quantity.quantity(), sums.get(name)) else {
            continue;
        };
        if pod < *sum {
            errors.invalid(
                &quantity,
                format!("must be greater than or equal to aggregate container requests of {sum}"),
            );
        }
    }
}

/// No container may use more than the pod as a whole.
fn limits_hold(spec: &Cursor<'_>, resources: &Cursor<'_>, errors: &mut ErrorList) {
    let pod_limits = resources.at("limits");
    let place = resources.said("containers");
    for (i, container) in spec.at("containers").items().enumerate() {
        let own = container.at("resources");
        for (name, limit) in own.at("limits").entries() {
            if let (Some(limit), Some(most)) = (limit.quantity(), pod_limits.key(name).quantity())
                && limit > most
            {
                let (place, shown) = (place.index(i), limit.to_string());
                let detail = format!("must be less than or equal to pod limits of {most}");
                errors.invalid_value(&place.key(name).said("limits"), &shown.into(), detail);
            }
        }
    }
}

fn requests_and_limits(
    resources: &Cursor<'_>,
    check_name: fn(&Cursor<'_>, &str, &mut ErrorList),
    errors: &mut ErrorList,
) {
    let limits = resources.at("limits");
    let requests = resources.at("requests");
    let (mut computes, mut huge_pages) = (false, false);
    let mut each = |name: &str, quantity: &Cursor<'_>, errors: &mut ErrorList| {
        check_name(quantity, name, errors);
        quantity_of(name, quantity, errors);
        computes |= matches!(name, "cpu" | "memory");
        if is_huge_page(name) {
            huge_pages = true;
            whole_pages(quantity, name, quantity, errors);
        }
    };
    for (name, quantity) in limits.entries() {
        each(name, &quantity, errors);
    }
    for (name, quantity) in requests.entries() {
        each(name, &quantity, errors);
        let limit = limits.key(name);
        match (quantity.quantity(), limit.quantity()) {
            (Some(request), Some(limit)) if !may_overcommit(name) && request != limit => {
                let detail = format!("must be equal to {name} limit of {limit}");
                errors.invalid_value(&requests, &request.to_string().into(), detail);
            }
            (Some(request), Some(limit)) if request > limit => {
                let detail = format!("must be less than or equal to {name} limit of {limit}");
                errors.invalid_value(&requests, &request.to_string().into(), detail);
            }
            (Some(_), None) if !may_overcommit(name) => {
                errors.required(&limits, "Limit must be set for non overcommitable resources");
            }
            _ => {}
        }
    }
    if huge_pages && !computes {
        errors.forbidden(resources, NEEDS_COMPUTE);
    }
}

/// Huge pages are asked for in whole ones: `hugepages-2Mi: 4Mi`.
fn whole_pages(place: &Cursor<'_>, name: &str, quantity: &Cursor<'_>, errors: &mut ErrorList) {
    let size = name.strip_prefix("hugepages-").and_then(|s| s.parse::<Quantity>().ok());
    let (Some(size), Some(asked)) = (size, quantity.quantity()) else {
        return;
    };
    let (size, asked_bytes) = (size.value(), asked.value());
    if size <= 0 || asked_bytes % size != 0 {
        let detail = format!("{asked} is not positive integer multiple of {name}");
        errors.invalid_value(place, quantity.value().unwrap_or(&Value::Null), detail);
    }
}

fn claim_names(claims: &Cursor<'_>, cx: &Context<'_>, errors: &mut ErrorList) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for claim in claims.items() {
        let name = claim.at("name");
        if name.is_empty() {
            errors.required(&claim, "");
            continue;
        }
        let request = claim.at("request");
        named_if_set(&request, names::dns1123_label, errors);
        // A claim as a whole overlaps with each of its requests.
        let (whole, key) = (name.str().to_owned(), format!("{}/{}", name.str(), request.str()));
        if seen.contains(&whole) || request.is_empty() && seen.iter().any(|s| s.starts_with(&key)) {
            errors.duplicate_value(&claim, &name.str().into(), "");
        } else if seen.contains(&key) {
            errors.duplicate_value(&claim, &key.as_str().into(), "");
        }
        seen.insert(if request.is_empty() { whole } else { key });
        if !cx.resource_claims.contains(name.str()) {
            let list: Vec<&str> = cx.resource_claims.iter().copied().collect();
            let detail = if list.is_empty() {
                "must be one of the names in pod.spec.resourceClaims which is empty".to_owned()
            } else {
                format!(
                    "must be one of the names in pod.spec.resourceClaims: {}",
                    list.join(", ")
                )
            };
            errors.not_found_value(&claim, &name.str().into(), detail);
        }
    }
}

/// The rules for a pod's claims, and their names.
pub(super) fn claims<'b>(claims: &'b Cursor<'_>, errors: &mut ErrorList) -> BTreeSet<&'b str> {
    let items = claims.value().and_then(Value::as_array);
    let names_there = items
        .into_iter()
        .flatten()
        .filter_map(|c| c.get("name")?.as_str())
        .filter(|name| !name.is_empty())
        .collect();
    let mut seen = BTreeSet::new();
    for claim in claims.items() {
        let name = claim.at("name");
        not_empty(&name, errors);
        if !name.is_empty() && !seen.insert(name.str().to_owned()) {
            errors.duplicate(&name);
        } else {
            named_if_set(&name, names::dns1123_label, errors);
        }
        let (direct, template) = (claim.at("resourceClaimName"), claim.at("resourceClaimTemplateName"));
        if direct.is_set() && template.is_set() {
            errors.invalid(
                &claim,
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            );
        }
        if !direct.is_set() && !template.is_set() {
            errors.invalid(
                &claim,
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            );
        }
        for reference in [direct, template] {
            if reference.is_set() {
                errors.faults(&reference, names::dns1123_subdomain(reference.str()));
            }
        }
    }
    names_there
}

type Amounts = BTreeMap<String, Quantity>;

fn amounts(container: &Value, kind: &str) -> Amounts {
    let list = container.get("resources").and_then(|r| r.get(kind)?.as_object());
    list.into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), Quantity::from_json(value).ok()?)))
        .collect()
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, quantity) in more {
        let total = sum.entry(name.clone()).or_insert(Quantity::ZERO);
        *total = if total.is_zero() { *quantity } else { *total + *quantity };
    }
}

fn raise(sum: &mut Amounts, least: &Amounts) {
    for (name, quantity) in least {
        let value = sum.entry(name.clone()).or_insert(*quantity);
        if *value < *quantity {
            *value = *quantity;
        }
    }
}

/// What the containers of a spec request together: the regular ones and sidecars summed, or the greatest init
/// container with the sidecars started before it, whichever is more.
fn container_requests(spec: Option<&Map<String, Value>>) -> Amounts {
    let list = |name: &str| spec.and_then(|s| s.get(name)?.as_array());
    let mut sum = Amounts::new();
    for container in list("containers").into_iter().flatten() {
        add(&mut sum, &amounts(container, "requests"));
    }
    let (mut sidecars, mut init) = (Amounts::new(), Amounts::new());
    for container in list("initContainers").into_iter().flatten() {
        let mut requests = amounts(container, "requests");
        if container.get("restartPolicy").and_then(Value::as_str) == Some("Always") {
            add(&mut sum, &requests);
            add(&mut sidecars, &requests);
            raise(&mut init, &sidecars);
        } else {
            add(&mut requests, &sidecars);
            raise(&mut init, &requests);
        }
    }
    raise(&mut sum, &init);
    sum
}

/// A pod with limits of its own has requests of its own: what its containers request together, else the limits.
pub(super) fn default_pod_level(spec: &mut Map<String, Value>) {
    let has_any = |spec: &Map<String, Value>, kind: &str| {
        let list = spec.get("resources").and_then(|r| r.get(kind)?.as_object());
        list.is_some_and(|list| !list.is_empty())
    };
    if !has_any(spec, "limits") && !has_any(spec, "requests") {
        return;
    }
    let sums = container_requests(Some(spec));
    let Some(resources) = at(spec, "resources") else {
        return;
    };
    let limits = resources.get("limits").and_then(Value::as_object).cloned();
    let Some(requests) = map_made(resources, "requests") else {
        return;
    };
    for (name, sum) in sums {
        if matches!(name.as_str(), "cpu" | "memory") {
            fill(requests, &name, sum.to_string());
        }
    }
    for (name, limit) in limits.unwrap_or_default() {
        fill(requests, &name, limit);
    }
    if requests.is_empty() {
        resources.remove("requests");
    }
}
