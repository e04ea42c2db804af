//! A quota's status from what there is. Pure.

use std::collections::BTreeMap;

use coracle_api::quantity::Quantity;
use coracle_api::quota::Usage;
use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

type ResourceList = BTreeMap<String, ApiQuantity>;

/// The status, or `None` if the quota's says the same already. Of names that `used` does not have nothing is known
/// now: what was said of them stays.
pub fn plan(quota: &ResourceQuota, used: &Usage) -> Option<ResourceQuotaStatus> {
    let hard = quota.spec.as_ref().and_then(|s| s.hard.clone()).unwrap_or_default();
    let old = quota.status.clone().unwrap_or_default();
    let said = old.used.clone().unwrap_or_default();
    let known = hard.keys().filter_map(|name| {
        let amount = used.get(name).map(|a| ApiQuantity::from(*a));
        Some((name.clone(), amount.or_else(|| said.get(name).cloned())?))
    });
    let now: ResourceList = known.collect();
    let same = quota.status.is_some() && is_same(&old.hard.unwrap_or_default(), &hard) && is_same(&said, &now);
    (!same).then_some(ResourceQuotaStatus {
        hard: Some(hard),
        used: Some(now),
    })
}

/// By amount, however they are written.
fn is_same(a: &ResourceList, b: &ResourceList) -> bool {
    let amounts = |list: &ResourceList| -> Vec<(String, Option<Quantity>)> {
        list.iter()
            .map(|(n, q)| (n.clone(), Quantity::try_from(q).ok()))
            .collect()
    };
    amounts(a) == amounts(b)
}

/// The resource that a name counts the objects of, as (group, plural); older names count too.
pub fn counted_resource(name: &str) -> Option<(&str, &str)> {
    match name.strip_prefix("count/") {
        Some(rest) => Some(match rest.split_once('.') {
            Some((plural, group)) => (group, plural),
            None => ("", rest),
        }),
        None => match name {
            "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas" => Some(("", name)),
            _ => None,
        },
    }
}
