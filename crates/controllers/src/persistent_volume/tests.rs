//! What the documentation of persistent volumes says, sentence by sentence.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};

use super::claim::{self, Step, World};
use super::{fit, volume};

fn merged(mut base: Value, change: &Value) -> Value {
    json_patch::merge(&mut base, change);
    base
}

fn claim(change: Value) -> PersistentVolumeClaim {
    let base = json!({
        "metadata": {"name": "c", "namespace": "d", "uid": "u"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeMode": "Filesystem",
            "resources": {"requests": {"storage": "5Gi"}}},
        "status": {"phase": "Pending"},
    });
    serde_json::from_value(merged(base, &change)).unwrap()
}

fn pv(name: &str, change: Value) -> Arc<PersistentVolume> {
    let base = json!({
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "10Gi"}, "volumeMode": "Filesystem",
            "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/x"}},
        "status": {"phase": "Available"},
    });
    Arc::new(serde_json::from_value(merged(base, &change)).unwrap())
}

fn class(change: Value) -> StorageClass {
    let base =
        json!({"metadata": {"name": "fast"}, "provisioner": "example.com/disk", "volumeBindingMode": "Immediate"});
    serde_json::from_value(merged(base, &change)).unwrap()
}

fn best(volumes: &[Arc<PersistentVolume>], claim: &PersistentVolumeClaim) -> Option<String> {
    fit::best(volumes, claim, false).and_then(|v| v.metadata.name.clone())
}

fn sized(name: &str, size: &str) -> Arc<PersistentVolume> {
    pv(name, json!({"spec": {"capacity": {"storage": size}}}))
}

#[test]
fn a_claim_gets_the_smallest_volume_that_is_large_enough() {
    let volumes = [
        sized("a", "20Gi"),
        sized("b", "5Gi"),
        sized("c", "4Gi"),
        sized("d", "6000Mi"),
    ];
    assert_eq!(best(&volumes, &claim(json!({}))).as_deref(), Some("b"));
    let more = claim(json!({"spec": {"resources": {"requests": {"storage": "5500Mi"}}}}));
    assert_eq!(best(&volumes, &more).as_deref(), Some("d"));
    let most = claim(json!({"spec": {"resources": {"requests": {"storage": "1Ti"}}}}));
    assert_eq!(best(&volumes, &most), None);
}

#[test]
fn a_volume_with_fewer_access_modes_comes_before_a_smaller_one() {
    let volumes = [
        pv(
            "many",
            json!({"spec": {"accessModes": ["ReadWriteOnce", "ReadWriteMany"], "capacity": {"storage": "5Gi"}}}),
        ),
        sized("one", "8Gi"),
    ];
    assert_eq!(best(&volumes, &claim(json!({}))).as_deref(), Some("one"));
}

#[test]
fn every_attribute_of_the_claim_has_to_match() {
    for (what, of_claim, of_volume, matches) in [
        ("nothing asked", json!({}), json!({}), true),
        (
            "access mode",
            json!({"spec": {"accessModes": ["ReadWriteMany"]}}),
            json!({}),
            false,
        ),
        (
            "class of the volume",
            json!({}),
            json!({"spec": {"storageClassName": "fast"}}),
            false,
        ),
        (
            "class of both",
            json!({"spec": {"storageClassName": "fast"}}),
            json!({"spec": {"storageClassName": "fast"}}),
            true,
        ),
        (
            "class of the claim",
            json!({"spec": {"storageClassName": "fast"}}),
            json!({}),
            false,
        ),
        (
            "no class said",
            json!({"spec": {"storageClassName": null}}),
            json!({}),
            true,
        ),
        (
            "beta annotation",
            json!({"metadata": {"annotations": {"volume.beta.kubernetes.io/storage-class": "fast"}}}),
            json!({"spec": {"storageClassName": "fast"}}),
            true,
        ),
        ("block", json!({"spec": {"volumeMode": "Block"}}), json!({}), false),
        (
            "block of both",
            json!({"spec": {"volumeMode": "Block"}}),
            json!({"spec": {"volumeMode": "Block"}}),
            true,
        ),
        (
            "selector",
            json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}}),
            json!({}),
            false,
        ),
        (
            "label",
            json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}}),
            json!({"metadata": {"labels": {"a": "b"}}}),
            true,
        ),
        ("phase", json!({}), json!({"status": {"phase": "Released"}}), false),
        (
            "being deleted",
            json!({}),
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            false,
        ),
        (
            "attributes class",
            json!({}),
            json!({"spec": {"volumeAttributesClassName": "x"}}),
            false,
        ),
        (
            "reserved for another",
            json!({}),
            json!({"spec": {"claimRef": {"namespace": "d", "name": "x"}}}),
            false,
        ),
        (
            "reserved for another of the name",
            json!({}),
            json!({"spec": {"claimRef": {"namespace": "d", "name": "c", "uid": "old"}}}),
            false,
        ),
    ] {
        assert_eq!(
            best(&[pv("v", of_volume)], &claim(of_claim)).is_some(),
            matches,
            "{what}"
        );
    }
}

#[test]
fn a_reserved_volume_is_taken_whatever_its_class_and_however_large() {
    let reserved = pv(
        "big",
        json!({"spec": {"capacity": {"storage": "1Ti"}, "storageClassName": "other",
        "claimRef": {"namespace": "d", "name": "c"}}, "metadata": {"labels": {}}}),
    );
    let volumes = [sized("small", "5Gi"), reserved];
    let chosen = claim(json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}}));
    assert_eq!(best(&volumes, &chosen).as_deref(), Some("big"));
    // Also while binding waits for a consumer.
    assert_eq!(
        fit::best(&volumes, &claim(json!({})), true)
            .unwrap()
            .metadata
            .name
            .as_deref(),
        Some("big")
    );
    assert!(fit::best(&volumes[..1], &claim(json!({})), true).is_none());
}

#[test]
fn of_several_default_classes_the_newest_counts() {
    let default = |name: &str, made: &str| {
        Arc::new(class(json!({"metadata": {"name": name, "creationTimestamp": made,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}})))
    };
    let classes = [
        default("b", "2026-01-02T00:00:00Z"),
        default("a", "2026-01-02T00:00:00Z"),
        default("c", "2026-01-01T00:00:00Z"),
    ];
    assert!(classes.iter().all(|c| fit::is_default(c)));
    assert_eq!(fit::default_class(&classes), Some("a"));
    assert!(!fit::is_default(&class(json!({}))));
}

/// The step in words, and the reason and text of the notice.
fn shown(claim: &PersistentVolumeClaim, world: &World<'_>) -> (String, String) {
    let plan = claim::plan(claim, world);
    let mut notice = plan.notice;
    let step = match plan.step {
        Step::Bind(volume) => format!("bind {}", volume.metadata.name.as_deref().unwrap()),
        Step::AssignClass(name) => format!("class {name}"),
        Step::Provision(name) => format!("provision {name}"),
        Step::Phase(phase, told) => {
            notice = notice.or(told);
            phase.to_owned()
        }
        Step::Nothing => "nothing".to_owned(),
        Step::Refuse(why) => format!("refuse {why}"),
    };
    let notice = notice.map(|n| format!("{}: {}", n.reason, n.message));
    (step, notice.unwrap_or_default())
}

const EMPTY: World<'static> = World {
    candidates: &[],
    named: None,
    class: None,
    default_class: None,
    waiting_pods: &[],
};

#[test]
fn a_claim_without_a_volume_waits_for_one_in_the_way_its_class_says() {
    let fast = claim(json!({"spec": {"storageClassName": "fast"}}));
    let unsaid = claim(json!({"spec": {"storageClassName": null}}));
    let placed = claim(json!({"spec": {"storageClassName": "fast"},
        "metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n"}}}));
    let immediate = class(json!({}));
    let waiting = class(json!({"volumeBindingMode": "WaitForFirstConsumer"}));
    let manual = class(json!({"provisioner": "kubernetes.io/no-provisioner"}));
    let pods = ["p".to_owned(), "q".to_owned()];
    for (claim, class, default, pods, step, notice) in [
        (
            claim(json!({})),
            None,
            Some("std"),
            &[][..],
            "Pending",
            "FailedBinding: no persistent volumes available for this claim and no storage class is set",
        ),
        (
            unsaid.clone(),
            None,
            None,
            &[][..],
            "Pending",
            "FailedBinding: no persistent volumes available for this claim and no storage class is set",
        ),
        (unsaid, None, Some("std"), &[][..], "class std", ""),
        (
            fast.clone(),
            None,
            None,
            &[][..],
            "nothing",
            "ProvisioningFailed: storageclass.storage.k8s.io \"fast\" not found",
        ),
        (
            fast.clone(),
            Some(&manual),
            None,
            &[][..],
            "nothing",
            "ProvisioningFailed: no volume plugin matched",
        ),
        (
            fast.clone(),
            Some(&immediate),
            None,
            &[][..],
            "provision example.com/disk",
            "ExternalProvisioning: Waiting for a volume to be created either by the external provisioner 'example.com/disk' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.",
        ),
        (
            fast.clone(),
            Some(&waiting),
            None,
            &[][..],
            "Pending",
            "WaitForFirstConsumer: waiting for first consumer to be created before binding",
        ),
        (
            fast.clone(),
            Some(&waiting),
            None,
            &pods[..1],
            "Pending",
            "WaitForPodScheduled: waiting for pod p to be scheduled",
        ),
        (
            fast,
            Some(&waiting),
            None,
            &pods[..],
            "Pending",
            "WaitForPodScheduled: waiting for pods p,q to be scheduled",
        ),
        (
            placed,
            Some(&waiting),
            None,
            &[][..],
            "provision example.com/disk",
            "ExternalProvisioning: ",
        ),
    ] {
        let world = World {
            class,
            default_class: default,
            waiting_pods: pods,
            ..EMPTY
        };
        let (found, told) = shown(&claim, &world);
        assert_eq!(found, step, "{notice}");
        assert!(
            told.starts_with(notice) && told.is_empty() == notice.is_empty(),
            "{told}"
        );
    }
}

#[test]
fn a_claim_that_names_a_volume_gets_that_one_or_none() {
    let named = claim(json!({"spec": {"volumeName": "v"}}));
    let by_controller = claim(json!({"spec": {"volumeName": "v"},
        "metadata": {"annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}}}));
    let free = pv("v", json!({}));
    let small = sized("v", "1Gi");
    let other_class = pv("v", json!({"spec": {"storageClassName": "fast"}}));
    let reserved = pv("v", json!({"spec": {"claimRef": {"namespace": "d", "name": "c"}}}));
    let taken = pv(
        "v",
        json!({"spec": {"claimRef": {"namespace": "d", "name": "x", "uid": "y"}}}),
    );
    for (claim, volume, step, notice) in [
        (&named, None, "Pending", ""),
        (&named, Some(&free), "bind v", ""),
        (&named, Some(&reserved), "bind v", ""),
        (
            &named,
            Some(&small),
            "Pending",
            "VolumeMismatch: Cannot bind to requested volume \"v\": requested PV is too small",
        ),
        (
            &named,
            Some(&other_class),
            "Pending",
            "VolumeMismatch: Cannot bind to requested volume \"v\": storageClassName does not match",
        ),
        (
            &named,
            Some(&taken),
            "Pending",
            "FailedBinding: volume \"v\" already bound to a different claim.",
        ),
        (
            &by_controller,
            Some(&taken),
            "refuse invalid binding of claim d/c to volume \"v\": volume already claimed by d/x",
            "",
        ),
    ] {
        let world = World { named: volume, ..EMPTY };
        assert_eq!(shown(claim, &world), (step.to_owned(), notice.to_owned()));
    }
}

#[test]
fn a_bound_claim_that_loses_its_volume_is_lost() {
    let bound = |name: &str| {
        claim(json!({"spec": {"volumeName": name},
            "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}}))
    };
    let mine = pv(
        "v",
        json!({"spec": {"claimRef": {"namespace": "d", "name": "c", "uid": "u"}}}),
    );
    let free = pv("v", json!({}));
    let others = pv(
        "v",
        json!({"spec": {"claimRef": {"namespace": "d", "name": "x", "uid": "y"}}}),
    );
    for (claim, volume, step, reason) in [
        (bound("v"), Some(&mine), "bind v", ""),
        (bound("v"), Some(&free), "bind v", ""),
        (
            bound("v"),
            None,
            "Lost",
            "ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!",
        ),
        (
            bound(""),
            None,
            "Lost",
            "ClaimLost: Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
        ),
        (
            bound("v"),
            Some(&others),
            "Lost",
            "ClaimMisbound: Two claims are bound to the same volume, this one is bound incorrectly",
        ),
    ] {
        let world = World { named: volume, ..EMPTY };
        assert_eq!(shown(&claim, &world), (step.to_owned(), reason.to_owned()));
    }
}

#[test]
fn both_halves_of_a_binding_say_who_wrote_them() {
    let free = pv("v", json!({}));
    let claim_ = claim(json!({}));
    let volume_ = volume::bound_to(&free, &claim_).unwrap();
    let reference = volume_.spec.as_ref().unwrap().claim_ref.as_ref().unwrap();
    assert_eq!(
        (reference.name.as_deref(), reference.uid.as_deref()),
        (Some("c"), Some("u"))
    );
    assert!(super::has(&volume_.metadata, "pv.kubernetes.io/bound-by-controller"));
    assert!(volume::bound_to(&volume_, &claim_).is_none());
    let bound = claim::bound_to(&claim_, &volume_).unwrap();
    assert!(super::has(&bound.metadata, "pv.kubernetes.io/bound-by-controller"));
    assert!(super::has(&bound.metadata, "pv.kubernetes.io/bind-completed"));
    assert!(claim::bound_to(&bound, &volume_).is_none());

    // What a user reserved is only completed.
    let reserved = pv("v", json!({"spec": {"claimRef": {"namespace": "d", "name": "c"}}}));
    let completed = volume::bound_to(&reserved, &claim_).unwrap();
    assert!(!super::has(&completed.metadata, "pv.kubernetes.io/bound-by-controller"));
    let named = claim(json!({"spec": {"volumeName": "v"}}));
    let bound = claim::bound_to(&named, &completed).unwrap();
    assert!(!super::has(&bound.metadata, "pv.kubernetes.io/bound-by-controller"));
}

#[test]
fn a_claims_status_shows_what_the_volume_gives() {
    let volume_ = pv("v", json!({"spec": {"capacity": {"storage": "10Gi"}}}));
    let bound = claim::with_status(&claim(json!({})), "Bound", Some(&volume_)).unwrap();
    let status = bound.status.as_ref().unwrap();
    assert_eq!(status.capacity.as_ref().unwrap()["storage"].0, "10Gi");
    assert_eq!(status.access_modes.as_deref(), Some(&["ReadWriteOnce".to_owned()][..]));
    assert!(claim::with_status(&bound, "Bound", Some(&volume_)).is_none());
    // Resizing is somebody else's: a bound claim's capacity stays.
    let grown = sized("v", "20Gi");
    assert!(claim::with_status(&bound, "Bound", Some(&grown)).is_none());
    let lost = claim::with_status(&bound, "Lost", None).unwrap().status.unwrap();
    assert_eq!((lost.capacity, lost.access_modes), (None, None));
}

#[test]
fn a_volume_is_available_bound_released_or_failed_as_its_claim_and_policy_say() {
    let reference = json!({"namespace": "d", "name": "c", "uid": "u"});
    let bound = |policy: &str, annotations: Value| {
        pv(
            "v",
            json!({"metadata": {"annotations": annotations},
            "spec": {"claimRef": reference, "persistentVolumeReclaimPolicy": policy}}),
        )
    };
    let provisioned = json!({"pv.kubernetes.io/provisioned-by": "example.com/disk"});
    let of_claim = |name: &str| claim(json!({"spec": {"volumeName": name}}));
    let block = claim(json!({"spec": {"volumeMode": "Block"}}));
    let reserved = pv("v", json!({"spec": {"claimRef": {"namespace": "d", "name": "c"}}}));
    for (what, volume_, claim_, wanted) in [
        ("no claim", pv("v", json!({})), None, "Available"),
        ("reserved", reserved, None, "Available"),
        ("bound", bound("Retain", json!({})), Some(of_claim("v")), "Bound"),
        ("half bound", bound("Retain", json!({})), Some(of_claim("")), "nothing"),
        ("of another mode", bound("Retain", json!({})), Some(block), "mismatch"),
        (
            "claim bound elsewhere",
            bound("Delete", json!({})),
            Some(of_claim("w")),
            "unbind",
        ),
        (
            "made for a claim bound elsewhere",
            bound("Delete", provisioned.clone()),
            Some(of_claim("w")),
            "released",
        ),
        ("retained", bound("Retain", json!({})), None, "released"),
        (
            "deleted by its provisioner",
            bound("Delete", provisioned),
            None,
            "released",
        ),
        (
            "deleted by nobody",
            bound("Delete", json!({})),
            None,
            "failed VolumeFailedDelete: error getting deleter volume plugin for volume \"v\": no deletable volume plugin matched",
        ),
        (
            "recycled",
            bound("Recycle", json!({})),
            None,
            "failed VolumeFailedRecycle: No recycler plugin found for the volume!",
        ),
        (
            "unknown policy",
            bound("Burn", json!({})),
            None,
            "failed VolumeUnknownReclaimPolicy: Volume has unrecognized PersistentVolumeReclaimPolicy",
        ),
    ] {
        let found = match volume::plan(&volume_, claim_.as_ref()) {
            volume::Step::Phase(phase) => phase.to_owned(),
            volume::Step::Unbind => "unbind".to_owned(),
            volume::Step::Nothing => "nothing".to_owned(),
            volume::Step::Mismatch { .. } => "mismatch".to_owned(),
            volume::Step::Release(None) => "released".to_owned(),
            volume::Step::Release(Some(n)) => format!("failed {}: {}", n.reason, n.message),
        };
        assert_eq!(found, wanted, "{what}");
    }
}

#[test]
fn an_unbound_volume_stays_reserved_only_if_a_user_had_reserved_it() {
    let reference = json!({"namespace": "d", "name": "c", "uid": "u"});
    let by_controller = pv(
        "v",
        json!({"spec": {"claimRef": reference},
        "metadata": {"annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}}}),
    );
    let freed = volume::unbound(&by_controller);
    assert_eq!(freed.spec.unwrap().claim_ref, None);
    assert_eq!(freed.metadata.annotations, None);
    let by_user = pv("v", json!({"spec": {"claimRef": reference}}));
    let left = volume::unbound(&by_user).spec.unwrap().claim_ref.unwrap();
    assert_eq!((left.name.as_deref(), left.uid), (Some("c"), None));
}
