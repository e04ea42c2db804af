//! CSINode: the storage drivers on a node.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, integer, name};
use super::check::{IMMUTABLE, not_empty, same};
use super::pod_spec::csi_driver_name;
use super::row::cluster;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("storage.k8s.io", "v1", "CSINode", "csinodes")
        .conditional_update()
        .columns([
            name(),
            integer(
                "Drivers",
                "Drivers indicates the number of CSI drivers registered on the node",
            ),
            age(),
        ])
        .strategy(CsiNode)
        .build()
}

struct CsiNode;

impl Strategy for CsiNode {
    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        let mut seen = std::collections::BTreeSet::new();
        for driver in spec.at("drivers").items() {
            let name = driver.at("name");
            csi_driver_name(&name, errors);
            if !seen.insert(name.str().to_owned()) {
                errors.duplicate(&name);
            }
            let node = driver.at("nodeID");
            not_empty(&node, errors);
            if node.str().len() > 256 {
                errors.invalid(&node, "must be 256 characters or less");
            }
            let allocatable = driver.at("allocatable");
            super::check::not_negative(&allocatable.at("count"), errors);
            // Upstream tells of keys at the driver.
            let mut keys = std::collections::BTreeSet::new();
            for key in driver.at("topologyKeys").strs() {
                if key.is_empty() {
                    errors.required(&driver, "");
                }
                if !keys.insert(key) {
                    errors.duplicate_value(&driver, &key.into(), "");
                }
                for fault in names::qualified_name(key) {
                    errors.invalid_value(&driver, &key.into(), fault);
                }
            }
        }
    }

    /// Of a driver that is there, only how much it can attach changes.
    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        self.validate(new, errors);
        let (spec, old_spec) = (new.at("spec"), old.at("spec"));
        let (drivers, old_drivers) = (spec.at("drivers"), old_spec.at("drivers"));
        let fixed = |driver: &Cursor<'_>| {
            let mut fixed = driver.value().cloned().unwrap_or_default();
            if let Some(fields) = fixed.as_object_mut() {
                fields.remove("allocatable");
            }
            fixed
        };
        for before in old_drivers.items() {
            for now in drivers.items() {
                let same_name = now.at("name").str() == before.at("name").str();
                let (now, before) = (fixed(&now), fixed(&before));
                if same_name && !same(Some(&now), Some(&before)) {
                    errors.invalid_value(&drivers, &now, IMMUTABLE);
                }
            }
        }
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            object.array(&["spec", "drivers"]).len().into(),
            age_of(object, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{refuses, refuses_update};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_nodes_driver_is_checked_and_stays() {
        let valid = json!({"metadata": {"name": "n"}, "spec": {"drivers": [
            {"name": "d.example", "nodeID": "1", "topologyKeys": ["zone"], "allocatable": {"count": 3}}]}});
        refuses(
            &row(),
            &valid,
            &[
                (
                    "/spec/drivers/0/nodeID",
                    json!(""),
                    "spec.drivers[0].nodeID: Required value",
                ),
                (
                    "/spec/drivers/0/topologyKeys/1",
                    json!("zone"),
                    "spec.drivers[0]: Duplicate value: \"zone\"",
                ),
            ],
        );
        refuses_update(
            &row(),
            &valid,
            &[(
                "/spec/drivers/0",
                json!({"name": "d.example", "nodeID": "2"}),
                "spec.drivers: Invalid value: {\"name\":\"d.example\",\"nodeID\":\"2\"}: field is immutable",
            )],
        );
        let more = super::super::check::tests::with(&valid, "/spec/drivers/0/allocatable/count", json!(4));
        assert_eq!(super::super::check::tests::updated(&row(), valid, more), [""; 0]);
    }
}
