//! ResourceSlice: the devices that a driver offers, on a node or to several.

mod capacity;
mod device;

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, text};
use super::check::immutable;
use super::device::{at_most, distinct, driver_name, fully_qualified, label, pool_name};
use super::fill::{at, each, fill, map_at, time_text};
use super::pod_spec::node_selector;
use super::row::cluster;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("resource.k8s.io", "v1", "ResourceSlice", "resourceslices")
        .generation()
        .fields(&["spec.nodeName", "spec.driver"])
        .columns([
            name(),
            text("Node", "The node that has the devices."),
            text("Driver", "The driver that offers them."),
            text("Pool", "The pool that they belong to."),
            age(),
        ])
        .strategy(ResourceSlice)
        .build()
}

struct ResourceSlice;

const MOST_DEVICES: usize = 128;
/// Of devices with taints or with counters that they consume.
const MOST_ELABORATE_DEVICES: usize = 64;
const MOST_COUNTER_SETS: usize = 8;
const MOST_COUNTERS: usize = 32;

impl Strategy for ResourceSlice {
    /// Takes away what is not served unless a cluster is asked for it.
    fn prepare_for_create(&self, object: &mut Object) {
        let Some(spec) = at(&mut object.0, "spec") else {
            return;
        };
        spec.remove("skipNodeOperations");
        each(spec, "devices", |device| {
            device.remove("nodeAllocatableResources");
            each(device, "consumesCounters", |consumed| {
                consumed.remove("compatibilityGroups");
            });
            let attributes = map_at(device, &["attributes"]).into_iter().flatten();
            for attribute in attributes.filter_map(|(_, attribute)| attribute.as_object_mut()) {
                attribute.retain(|kind, _| !matches!(kind.as_str(), "bools" | "ints" | "strings" | "versions"));
            }
        });
    }

    fn prepare_for_update(&self, new: &mut Object, _old: &Object) {
        self.prepare_for_create(new);
    }

    fn stamp(&self, new: &mut Object, _old: Option<&Object>, now: Timestamp) {
        let Some(spec) = at(&mut new.0, "spec") else { return };
        each(spec, "devices", |device| {
            each(device, "taints", |taint| fill(taint, "timeAdded", time_text(now)));
        });
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        validate_spec(&object.at("spec"), None, errors);
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        validate_spec(&new.at("spec"), Some(&old.at("spec")), errors);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            str_of(object, &["spec", "nodeName"]),
            str_of(object, &["spec", "driver"]),
            str_of(object, &["spec", "pool", "name"]),
            age_of(object, now),
        ]
    }
}

fn validate_spec(spec: &Cursor<'_>, old: Option<&Cursor<'_>>, errors: &mut ErrorList) {
    let (driver, pool, node) = (spec.at("driver"), spec.at("pool"), spec.at("nodeName"));
    driver_name(&driver, errors);
    pool_name(&pool.at("name"), errors);
    let (count, generation) = (pool.at("resourceSliceCount"), pool.at("generation"));
    if count.int() <= 0 {
        errors.invalid_value(&count, &count.int().into(), "must be greater than zero");
    }
    if generation.int() < 0 {
        errors.invalid(&generation, "must be greater than or equal to zero");
    }
    if let Some(old) = old {
        immutable(&pool.at("name"), &old.at("pool").at("name"), errors);
        immutable(&driver, &old.at("driver"), errors);
        immutable(&node, &old.at("nodeName"), errors);
    }
    let per_device = spec.at("perDeviceNodeSelection").is_true();
    OF_SLICE.validate(spec, errors);

    let (devices, counters) = (spec.at("devices"), spec.at("sharedCounters"));
    if devices.is_set() && counters.is_set() {
        errors.invalid_value(spec, &"".into(), "only one of `sharedCounters` or `devices` is allowed");
    }
    let is_elaborate = |d: &Cursor<'_>| !d.at("taints").is_empty() || !d.at("consumesCounters").is_empty();
    let most = if devices.items().any(|d| is_elaborate(&d)) {
        MOST_ELABORATE_DEVICES
    } else {
        MOST_DEVICES
    };
    let old_devices = old.map(|old| old.at("devices"));
    for device in at_most(&devices, most, errors) {
        let name = device.at("name").str();
        let before = old_devices
            .as_ref()
            .and_then(|list| list.items().find(|o| o.at("name").str() == name));
        device::validate(&device, before.as_ref(), per_device, errors);
    }
    distinct(&devices, most, "name", errors);
    for set in at_most(&counters, MOST_COUNTER_SETS, errors) {
        validate_counters(&set, "name", errors);
    }
    distinct(&counters, MOST_COUNTER_SETS, "name", errors);
    partition_type(spec, errors);
}

/// How it is said where devices are, by a slice for all of them or by each for itself.
struct Ways<'w> {
    /// What is wrong with a node without a name.
    no_name: &'w str,
    flags: &'w [&'w str],
    /// How many node selector terms there must be, if that matters.
    terms: Option<usize>,
    /// That it is to be said in one way.
    one: &'w str,
    several: &'w str,
}

const OF_SLICE: Ways<'static> = Ways {
    no_name: "must be either unset or set to a non-empty string",
    flags: &["allNodes", "perDeviceNodeSelection"],
    terms: Some(1),
    one: "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required",
    several: ", but multiple fields are set",
};

impl Ways<'_> {
    fn validate(&self, place: &Cursor<'_>, errors: &mut ErrorList) {
        let mut found = Vec::new();
        let (node, selector) = (place.at("nodeName"), place.at("nodeSelector"));
        if node.is_set() && node.is_empty() {
            errors.invalid(&node, self.no_name);
        } else if node.is_set() {
            found.push("nodeName");
            errors.faults(&node, names::dns1123_subdomain(node.str()));
        }
        if selector.is_set() {
            found.push("nodeSelector");
            node_selector(&selector, errors);
            let terms = selector.at("nodeSelectorTerms");
            if self.terms.is_some_and(|count| count != terms.len()) {
                errors.invalid(&terms, "must have exactly one node selector term");
            }
        }
        for field in self.flags {
            let flag = place.at(field);
            match flag.bool() {
                Some(true) => found.push(field),
                Some(false) => errors.invalid(&flag, "must be either unset or set to true"),
                None => {}
            }
        }
        match found[..] {
            [] => errors.required(place, self.one),
            [_] => {}
            _ => {
                let found: Vec<String> = found.iter().map(|way| format!("`{way}`")).collect();
                let shown = format!("{{{}}}", found.join(", "));
                errors.invalid_value(place, &shown.into(), format!("{}{}", self.one, self.several));
            }
        }
    }
}

/// Named counters, in a set that others draw from or in what a device draws; `name` is the field of the set's name.
fn validate_counters(set: &Cursor<'_>, name: &str, errors: &mut ErrorList) {
    let (name, counters) = (set.at(name), set.at("counters"));
    if name.is_empty() {
        errors.required(&name, "");
    } else {
        label(&name, errors);
    }
    if counters.is_empty() {
        errors.required(&counters, "");
    } else if counters.len() > MOST_COUNTERS {
        errors.too_many(&counters, counters.len(), MOST_COUNTERS);
    } else {
        for (counter, _) in counters.entries() {
            for fault in names::dns1123_label(counter) {
                errors.invalid_value(&counters, &counter.into(), fault);
            }
        }
    }
}

/// The attribute that tells partitions apart is on every device that consumes counters.
fn partition_type(spec: &Cursor<'_>, errors: &mut ErrorList) {
    let of = spec.at("partitionTypeAttribute");
    if !of.is_set() {
        return;
    }
    let devices = spec.at("devices");
    if devices.items().all(|d| d.at("consumesCounters").is_empty()) {
        return errors.invalid(
            &of,
            "may only be set on a slice which declares devices that consume counters",
        );
    }
    let before = errors.len();
    fully_qualified(&of, errors);
    if errors.len() > before {
        return;
    }
    let driver = spec.at("driver");
    let bare = of
        .str()
        .strip_prefix(driver.str())
        .and_then(|rest| rest.strip_prefix('/'));
    for device in devices.items().filter(|d| !d.at("consumesCounters").is_empty()) {
        let attributes = device.at("attributes");
        let at = attributes.key(of.str());
        let found = at.value().or_else(|| attributes.key(bare?).value());
        match found {
            None => errors.required(
                &at,
                "device consumes counters and `partitionTypeAttribute` names this attribute, so it must be set",
            ),
            Some(value) if value.get("string").is_none() => errors.invalid_value(
                &at,
                value,
                "must be a string value because `partitionTypeAttribute` names this attribute",
            ),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
