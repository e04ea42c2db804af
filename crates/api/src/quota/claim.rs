//! What claims count for: storage by its class, devices by theirs.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, ScopedResourceSelectorRequirement};
use k8s_openapi::api::resource::v1::ResourceClaim;

use super::{Usage, one, selects};
use crate::quantity::{Quantity, QuantityFormat};

const STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
const DEVICE_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
const RESOURCE_CLAIMS: &str = "count/resourceclaims.resource.k8s.io";
/// A request for all devices is charged as many as a claim can get.
const MOST_DEVICES: i64 = 32;

pub(super) fn volume_claim_tracks(name: &str) -> bool {
    let plain = |name: &str| matches!(name, "persistentvolumeclaims" | "requests.storage");
    name == "count/persistentvolumeclaims"
        || plain(name)
        || name.split_once(STORAGE_CLASS).is_some_and(|(_, rest)| plain(rest))
}

pub(super) fn volume_claim_usage(claim: &PersistentVolumeClaim) -> Usage {
    let spec = claim.spec.as_ref();
    let annotations = claim.metadata.annotations.as_ref();
    let class = annotations
        .and_then(|a| a.get("volume.beta.kubernetes.io/storage-class").map(String::as_str))
        .or_else(|| spec.and_then(|s| s.storage_class_name.as_deref()))
        .filter(|class| !class.is_empty());
    let mut usage = Usage::from([
        ("persistentvolumeclaims".to_owned(), one()),
        ("count/persistentvolumeclaims".to_owned(), one()),
    ]);
    let storage = storage(claim);
    if let Some(storage) = storage {
        usage.insert("requests.storage".to_owned(), storage);
    }
    if let Some(class) = class {
        usage.insert(format!("{class}{STORAGE_CLASS}persistentvolumeclaims"), one());
        if let Some(storage) = storage {
            usage.insert(format!("{class}{STORAGE_CLASS}requests.storage"), storage);
        }
    }
    usage
}

/// What the claim asks for, or what is allocated to it already if that is more, in whole bytes.
fn storage(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    let asked = Quantity::try_from(requests.get("storage")?).ok()?;
    let allocated = claim.status.as_ref().and_then(|s| s.allocated_resources.as_ref());
    let allocated = allocated.and_then(|a| Quantity::try_from(a.get("storage")?).ok());
    let most = allocated.filter(|a| *a > asked).unwrap_or(asked);
    let whole = Quantity::new(most.value(), most.format());
    Some(if whole == most { most } else { whole })
}

pub(super) fn is_in_scope(claim: &PersistentVolumeClaim, scope: &ScopedResourceSelectorRequirement) -> bool {
    if scope.scope_name != "VolumeAttributesClass" {
        return false;
    }
    let (spec, status) = (claim.spec.as_ref(), claim.status.as_ref());
    let classes: Vec<&str> = [
        spec.and_then(|s| s.volume_attributes_class_name.as_deref()),
        status.and_then(|s| s.current_volume_attributes_class_name.as_deref()),
        status
            .and_then(|s| s.modify_volume_status.as_ref())
            .and_then(|m| m.target_volume_attributes_class_name.as_deref()),
    ]
    .into_iter()
    .flatten()
    .filter(|class| !class.is_empty())
    .collect();
    if classes.is_empty() {
        return selects(scope, None);
    }
    classes.into_iter().any(|class| selects(scope, Some(class)))
}

pub(super) fn resource_claim_tracks(name: &str) -> bool {
    name == RESOURCE_CLAIMS || name.ends_with(DEVICE_CLASS)
}

pub(super) fn resource_claim_usage(claim: &ResourceClaim) -> Usage {
    let mut usage = Usage::from([(RESOURCE_CLAIMS.to_owned(), one())]);
    let devices = |mode: Option<&str>, count: Option<i64>| match mode {
        Some("All") => MOST_DEVICES,
        _ => count.unwrap_or(1),
    };
    let devices_of = claim.spec.as_ref().and_then(|s| s.devices.as_ref());
    let requests = devices_of.iter().flat_map(|d| d.requests.iter().flatten());
    for request in requests {
        // Of alternatives, the most that each class may have to give.
        let mut most: std::collections::BTreeMap<&str, i64> = std::collections::BTreeMap::new();
        if let Some(exactly) = &request.exactly {
            let count = devices(exactly.allocation_mode.as_deref(), exactly.count);
            most.insert(&exactly.device_class_name, count);
        }
        for alternative in request.first_available.iter().flatten() {
            let count = devices(alternative.allocation_mode.as_deref(), alternative.count);
            let seen = most.entry(&alternative.device_class_name).or_default();
            *seen = count.max(*seen);
        }
        for (class, count) in most {
            let sum = usage.entry(format!("{class}{DEVICE_CLASS}")).or_insert(Quantity::ZERO);
            *sum += Quantity::new(count, QuantityFormat::DecimalSi);
        }
    }
    usage
}
