//! IPAddress: one address of a service network, and whose it is.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{name, text};
use super::check::{named_if_set, not_empty};
use super::row::cluster;
use crate::field::{Cursor, ErrorList};
use crate::names::{self, address};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::{NameRule, Strategy};

pub(super) fn row() -> Resource {
    cluster("networking.k8s.io", "v1", "IPAddress", "ipaddresses")
        .short(&["ip"])
        .columns([name(), text("ParentRef", "The object that the address belongs to.")])
        .strategy(IpAddress)
        .build()
}

struct IpAddress;

impl Strategy for IpAddress {
    fn name_rule(&self) -> NameRule {
        // An address of IPv6 has colons.
        NameRule::PathSegment
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let metadata = object.at("metadata");
        let name = metadata.at("name");
        errors.faults(&name, address::strict_ip(name.str()));
        let spec = object.at("spec");
        let parent = spec.at("parentRef");
        if !parent.is_set() {
            errors.required(&parent, "");
            return;
        }
        named_if_set(&parent.at("group"), names::dns1123_subdomain, errors);
        for field in ["resource", "name"] {
            let part = parent.at(field);
            not_empty(&part, errors);
            named_if_set(&part, names::path_segment, errors);
        }
        named_if_set(&parent.at("namespace"), names::path_segment, errors);
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        let (spec, old_spec) = (new.at("spec"), old.at("spec"));
        super::check::immutable(&spec.at("parentRef"), &old_spec.at("parentRef"), errors);
    }

    fn cells(&self, object: &Object, _now: Timestamp) -> Vec<Value> {
        let parent = |field| object.str(&["spec", "parentRef", field]).unwrap_or_default();
        let mut shown = parent("resource").to_owned();
        if shown.is_empty() {
            return vec![object.name().into(), "<none>".into()];
        }
        if !parent("group").is_empty() {
            shown = format!("{shown}.{}", parent("group"));
        }
        shown = shown.to_lowercase();
        if !parent("namespace").is_empty() {
            shown = format!("{shown}/{}", parent("namespace"));
        }
        vec![object.name().into(), format!("{shown}/{}", parent("name")).into()]
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::refuses;
    use super::*;
    use serde_json::json;

    #[test]
    fn an_address_is_canonical_and_has_an_owner() {
        let valid = json!({"metadata": {"name": "fd00::1"},
            "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "web"}}});
        refuses(
            &row(),
            &valid,
            &[
                (
                    "/metadata/name",
                    json!("fd00:0::1"),
                    "metadata.name: Invalid value: \"fd00:0::1\": must be in canonical form (\"fd00::1\")",
                ),
                (
                    "/metadata/name",
                    json!("010.0.0.1"),
                    "metadata.name: Invalid value: \"010.0.0.1\": must not have leading 0s",
                ),
                (
                    "/metadata/name",
                    json!("::ffff:10.0.0.1"),
                    "metadata.name: Invalid value: \"::ffff:10.0.0.1\": must not be an IPv4-mapped IPv6 address",
                ),
                ("/spec/parentRef", json!(null), "spec.parentRef: Required value"),
                (
                    "/spec/parentRef/name",
                    json!("a/b"),
                    "spec.parentRef.name: Invalid value: \"a/b\": may not contain '/'",
                ),
            ],
        );
    }
}
