//! ServiceCIDR: a range that service addresses are taken from.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, join, name, text};
use super::row::cluster;
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
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            join(object.array(&["spec", "cidrs"]), ",").into(),
            age_of(object, now),
        ]
    }
}
