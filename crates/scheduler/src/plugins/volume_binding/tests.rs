//! Tables of volumes, and of the nodes on which a pod that claims them fits.

use serde_json::{Value, json};

use super::*;
use crate::testing::{node, pod};

fn typed<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn claim(name: &str, class: &str, spec: Value, meta: Value) -> Value {
    let mut out = json!({"metadata": {"namespace": "default", "name": name, "uid": name, "resourceVersion": "1"},
        "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "10Gi"}}}});
    for (at, more) in [("spec", spec), ("metadata", meta)] {
        for (key, value) in more.as_object().unwrap() {
            out[at][key] = value.clone();
        }
    }
    out
}

fn bound(name: &str, volume: &str) -> Value {
    let meta = json!({"annotations": {"pv.kubernetes.io/bind-completed": "yes"}});
    claim(name, "local", json!({"volumeName": volume}), meta)
}

fn volume(name: &str, size: &str, on: &str, more: Value) -> Value {
    let terms = json!([{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [on]}]}]);
    let mut out = json!({"metadata": {"name": name, "resourceVersion": "1"}, "status": {"phase": "Available"},
        "spec": {"storageClassName": "local", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}}});
    if !on.is_empty() {
        out["spec"]["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": terms}});
    }
    for (key, value) in more.as_object().unwrap() {
        out["spec"][key] = value.clone();
    }
    out
}

fn class(name: &str, provisioner: &str, mode: &str) -> Value {
    json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode,
        "allowedTopologies": if name == "zonal" {
            json!([{"matchLabelExpressions": [{"key": "zone", "values": ["a"]}]}])
        } else { Value::Null }})
}

fn plugin(claims: Vec<Value>, volumes: Vec<Value>) -> VolumeBinding {
    let listers = Listers::holding();
    listers.claims.hold(claims.into_iter().map(typed));
    listers.volumes.hold(volumes.into_iter().map(typed));
    listers.classes.hold(
        [
            class("local", "kubernetes.io/no-provisioner", "WaitForFirstConsumer"),
            class("dynamic", "csi.example.com", "WaitForFirstConsumer"),
            class("zonal", "csi.example.com", "WaitForFirstConsumer"),
            class("metered", "metered.example.com", "WaitForFirstConsumer"),
            class("immediate", "csi.example.com", "Immediate"),
        ]
        .map(typed),
    );
    listers
        .csi_drivers
        .hold([typed(json!({"metadata": {"name": "metered.example.com"},
        "spec": {"storageCapacity": true}}))]);
    listers.capacities.hold([typed(
        json!({"metadata": {"name": "c", "namespace": "x"}, "storageClassName": "metered",
        "capacity": "20Gi", "nodeTopology": {"matchLabels": {"zone": "b"}}}),
    )]);
    VolumeBinding::new(Arc::new(listers))
}

fn claiming(name: &str, claims: &[&str]) -> PodInfo {
    let volumes: Vec<_> = claims
        .iter()
        .map(|c| json!({"name": c, "persistentVolumeClaim": {"claimName": c}}))
        .collect();
    pod(name, json!({"volumes": volumes}))
}

/// Node `n1` in zone a, `n2` in zone b.
fn nodes() -> [NodeInfo; 2] {
    [("n1", "a"), ("n2", "b")].map(|(name, zone)| NodeInfo::new(node(name, json!({"zone": zone}), json!({})), 0))
}

fn verdicts(plugin: &VolumeBinding, state: &mut CycleState, pod: &PodInfo) -> [String; 2] {
    let text = |r: Rejection| r.to_string();
    match plugin.pre_filter(state, pod, &Snapshot::default()) {
        Err(rejection) => [rejection.to_string(), String::new()],
        Ok(_) => nodes().map(|n| plugin.filter(state, pod, &n).map_or_else(text, |()| "fits".into())),
    }
}

#[test]
fn a_pod_goes_where_its_volumes_are_or_can_be() {
    const ELSEWHERE: &str = "node(s) didn't match PersistentVolume's node affinity";
    const NONE: &str = "node(s) didn't find available persistent volumes to bind";
    const FULL: &str = "node(s) did not have enough free storage";
    let none = || json!({});
    for (what, claims, volumes, expected) in [
        (
            "bound",
            vec![bound("c", "v")],
            vec![volume("v", "10Gi", "n1", none())],
            ["fits", ELSEWHERE],
        ),
        (
            "bound to nothing",
            vec![bound("c", "v")],
            vec![],
            ["node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"; 2],
        ),
        (
            "free",
            vec![claim("c", "local", none(), none())],
            vec![volume("v", "10Gi", "n2", none())],
            [NONE, "fits"],
        ),
        (
            "too small",
            vec![claim("c", "local", none(), none())],
            vec![volume("v", "9Gi", "n2", none())],
            [NONE, NONE],
        ),
        (
            "for another",
            vec![claim("c", "local", none(), none())],
            vec![volume(
                "v",
                "10Gi",
                "n2",
                json!({"claimRef": {"namespace": "default", "name": "other"}}),
            )],
            [NONE, NONE],
        ),
        (
            "set aside",
            vec![claim("c", "local", none(), none())],
            vec![volume(
                "v",
                "10Gi",
                "n2",
                json!({"claimRef": {"namespace": "default", "name": "c"}}),
            )],
            [NONE, "fits"],
        ),
        (
            "of another mode",
            vec![claim("c", "local", json!({"volumeMode": "Block"}), none())],
            vec![volume("v", "10Gi", "n2", none())],
            [NONE, NONE],
        ),
        (
            "of other access modes",
            vec![claim("c", "local", json!({"accessModes": ["ReadWriteMany"]}), none())],
            vec![volume("v", "10Gi", "n2", none())],
            [NONE, NONE],
        ),
        (
            "made",
            vec![claim("c", "dynamic", none(), none())],
            vec![],
            ["fits", "fits"],
        ),
        (
            "made in a zone",
            vec![claim("c", "zonal", none(), none())],
            vec![],
            ["fits", NONE],
        ),
        (
            "made where there is room",
            vec![claim("c", "metered", none(), none())],
            vec![],
            [FULL, "fits"],
        ),
        (
            "being made",
            vec![claim(
                "c",
                "dynamic",
                none(),
                json!({"annotations": {"volume.kubernetes.io/selected-node": "n2"}}),
            )],
            vec![],
            [NONE, "fits"],
        ),
        (
            "immediate",
            vec![claim("c", "immediate", none(), none())],
            vec![],
            ["pod has unbound immediate PersistentVolumeClaims", ""],
        ),
        ("missing", vec![], vec![], ["persistentvolumeclaim \"c\" not found", ""]),
        (
            "going",
            vec![claim(
                "c",
                "dynamic",
                none(),
                json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}),
            )],
            vec![],
            ["persistentvolumeclaim \"c\" is being deleted", ""],
        ),
    ] {
        let plugin = plugin(claims, volumes);
        let found = verdicts(&plugin, &mut CycleState::default(), &claiming("a", &["c"]));
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn two_claims_do_not_take_one_volume_and_each_takes_the_smallest_that_will_do() {
    let small = claim("small", "local", json!({}), json!({}));
    let large = claim(
        "large",
        "local",
        json!({"resources": {"requests": {"storage": "50Gi"}}}),
        json!({}),
    );
    let volumes = |sizes: &[&str]| -> Vec<Value> {
        sizes
            .iter()
            .enumerate()
            .map(|(i, s)| volume(&format!("v{i}"), s, "n1", json!({})))
            .collect()
    };
    let pod = claiming("a", &["large", "small"]);
    let fitting = plugin(vec![small.clone(), large.clone()], volumes(&["100Gi", "20Gi", "60Gi"]));
    let mut state = CycleState::default();
    assert_eq!(verdicts(&fitting, &mut state, &pod)[0], "fits");
    let found = state.get::<State>().unwrap().found.lock().get("n1").cloned().unwrap();
    let taken: Vec<_> = found
        .take
        .iter()
        .map(|(c, v)| (c.metadata.name.clone(), v.metadata.name.clone()))
        .collect();
    let pair = |c: &str, v: &str| (Some(c.to_owned()), Some(v.to_owned()));
    assert_eq!(taken, [pair("small", "v1"), pair("large", "v2")]);
    let one = plugin(vec![small, large], volumes(&["100Gi"]));
    assert_ne!(verdicts(&one, &mut CycleState::default(), &pod)[0], "fits");
}

#[test]
fn a_promised_volume_is_no_longer_free_until_it_is_given_back() {
    let claims = vec![
        claim("c", "local", json!({}), json!({})),
        claim("d", "local", json!({}), json!({})),
    ];
    let plugin = plugin(claims, vec![volume("v", "10Gi", "n1", json!({}))]);
    let (first, second) = (claiming("a", &["c"]), claiming("b", &["d"]));
    let mut state = CycleState::default();
    assert_eq!(verdicts(&plugin, &mut state, &first)[0], "fits");
    plugin.reserve(&mut state, &first, "n1").unwrap();
    assert_ne!(verdicts(&plugin, &mut CycleState::default(), &second)[0], "fits");
    plugin.unreserve(&state, &first, "n1");
    assert_eq!(verdicts(&plugin, &mut CycleState::default(), &second)[0], "fits");
}

#[test]
fn fuller_volumes_score_by_the_shape() {
    let mut plugin = plugin(
        vec![claim("c", "local", json!({}), json!({}))],
        vec![
            volume("v1", "10Gi", "n1", json!({})),
            volume("v2", "40Gi", "n2", json!({})),
        ],
    );
    let pod = claiming("a", &["c"]);
    let mut state = CycleState::default();
    verdicts(&plugin, &mut state, &pod);
    assert_eq!(
        plugin.pre_score(&mut state, &pod, &[], &Snapshot::default()),
        PreScore::Skip
    );
    plugin.shape = [(0, 0), (100, 100)]
        .map(|(utilization, score)| ShapePoint { utilization, score })
        .into();
    assert_eq!(
        plugin.pre_score(&mut state, &pod, &[], &Snapshot::default()),
        PreScore::Score
    );
    assert_eq!(nodes().map(|n| plugin.score(&state, &pod, &n)), [100, 25]);
}
