//! ServiceCIDR: a range that service addresses are taken from.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, join, name, text};
use super::row::cluster;
use crate::field::{Cursor, ErrorList};
use crate::names::address;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs")
        .status()
        .columns([name(), text("CIDRs", "The ranges, one for each IP family."), age()])
        .strategy(ServiceCidr)
        .build()
}

struct ServiceCidr;

impl Strategy for ServiceCidr {
    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        let cidrs = spec.at("cidrs");
        if cidrs.is_empty() {
            errors.required(&cidrs, "at least one CIDR required");
            return;
        }
        if cidrs.len() > 2 {
            errors.invalid(&cidrs, "may only hold up to 2 values");
            return;
        }
        let mut families = Vec::new();
        for cidr in cidrs.items() {
            errors.faults(&cidr, address::cidr(cidr.str()));
            if let Some((ip, _)) = address::parse_cidr(cidr.str()) {
                families.push(ip.is_ipv4());
            }
        }
        if let [a, b] = families[..]
            && a == b
        {
            errors.invalid(
                &cidrs,
                "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96",
            );
        }
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        let (spec, old_spec) = (new.at("spec"), old.at("spec"));
        super::check::immutable(&spec.at("cidrs"), &old_spec.at("cidrs"), errors);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            join(object.array(&["spec", "cidrs"]), ",").into(),
            age_of(object, now),
        ]
    }
}
