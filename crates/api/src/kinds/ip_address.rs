//! IPAddress: one address of a service network, and whose it is.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{name, text};
use super::check::not_empty;
use super::row::cluster;
use crate::field::{Cursor, ErrorList};
use crate::names::address;
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
        let canonical = address::parse_ip(name.str()).map(|ip| ip.to_string());
        if canonical.as_deref() != Some(name.str()) {
            errors.invalid(&name, "must be a valid IP address in canonical form");
        }
        let spec = object.at("spec");
        let parent = spec.at("parentRef");
        if !parent.is_set() {
            errors.required(&parent, "");
            return;
        }
        for field in ["resource", "name"] {
            not_empty(&parent.at(field), errors);
        }
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
