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
        let shown = spec.value().unwrap_or(&Value::Null);
        if cidrs.is_empty() {
            errors.required(&cidrs, "at least one CIDR required");
            return;
        }
        if cidrs.len() > 2 {
            errors.invalid_value(&cidrs, shown, "may only hold up to 2 values");
            return;
        }
        let families: Vec<_> = cidrs
            .strs()
            .map(|cidr| address::parse_cidr(cidr).map(|(ip, _)| ip.is_ipv4()))
            .collect();
        let is_dual = matches!(families[..], [Some(a), Some(b)] if a != b);
        if families.len() == 2 && !is_dual {
            errors.invalid_value(
                &cidrs,
                shown,
                "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
            );
            return;
        }
        for cidr in cidrs.items() {
            errors.faults(&cidr, address::strict_cidr(cidr.str()));
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

#[cfg(test)]
mod tests {
    use super::super::check::tests::{refuses, refuses_update};
    use super::*;
    use serde_json::json;

    #[test]
    fn ranges_are_one_of_each_family_and_stay() {
        let valid = json!({"metadata": {"name": "c"}, "spec": {"cidrs": ["10.0.0.0/24", "fd00::/64"]}});
        refuses(
            &row(),
            &valid,
            &[
                (
                    "/spec/cidrs",
                    json!([]),
                    "spec.cidrs: Required value: at least one CIDR required",
                ),
                (
                    "/spec/cidrs/1",
                    json!("10.0.1.0/24"),
                    "spec.cidrs: Invalid value: {\"cidrs\":[\"10.0.0.0/24\",\"10.0.1.0/24\"]}: may specify no more than one \
                     IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
                ),
                (
                    "/spec/cidrs/0",
                    json!("10.0.0.1/24"),
                    "spec.cidrs[0]: Invalid value: \"10.0.0.1/24\": must not have bits set beyond the prefix length",
                ),
                (
                    "/spec/cidrs/0",
                    json!("10.0.0.0/024"),
                    "spec.cidrs[0]: Invalid value: \"10.0.0.0/024\": must not have leading 0s in IP or prefix length",
                ),
            ],
        );
        refuses_update(
            &row(),
            &valid,
            &[(
                "/spec/cidrs",
                json!(["10.0.0.0/24"]),
                "spec.cidrs: Invalid value: [\"10.0.0.0/24\"]: field is immutable",
            )],
        );
    }
}
