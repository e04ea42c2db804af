//! What a pod refers to: the objects that the agent of its node must read to run it.

use std::collections::BTreeSet;

use coracle_api::object::Object;
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Pod,
    Secret,
    ConfigMap,
    Claim,
    Account,
    ResourceClaim,
}

/// Names, all in the pod's namespace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct References {
    pub secrets: BTreeSet<String>,
    pub config_maps: BTreeSet<String>,
    pub claims: BTreeSet<String>,
    pub resource_claims: BTreeSet<String>,
    pub account: String,
    pub trust_bundles: bool,
}

impl References {
    pub fn all(&self) -> impl Iterator<Item = (Kind, &str)> {
        let sets = [
            (Kind::Secret, &self.secrets),
            (Kind::ConfigMap, &self.config_maps),
            (Kind::Claim, &self.claims),
            (Kind::ResourceClaim, &self.resource_claims),
        ];
        let account = (!self.account.is_empty()).then_some((Kind::Account, self.account.as_str()));
        let names = sets
            .into_iter()
            .flat_map(|(kind, names)| names.iter().map(move |name| (kind, name.as_str())));
        names.chain(account)
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str).filter(|t| !t.is_empty())
}

fn add(set: &mut BTreeSet<String>, name: Option<&str>) {
    set.extend(name.map(str::to_owned));
}

pub(crate) fn references(pod: &Object) -> References {
    let mut found = References {
        account: pod.str(&["spec", "serviceAccountName"]).unwrap_or_default().to_owned(),
        ..References::default()
    };
    for secret in pod.array(&["spec", "imagePullSecrets"]) {
        add(&mut found.secrets, text(secret, "/name"));
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in pod.array(&["spec", list]) {
            let items = |field: &str| {
                container
                    .get(field)
                    .and_then(Value::as_array)
                    .map_or(&[][..], Vec::as_slice)
            };
            for from in items("envFrom") {
                add(&mut found.secrets, text(from, "/secretRef/name"));
                add(&mut found.config_maps, text(from, "/configMapRef/name"));
            }
            for variable in items("env") {
                add(&mut found.secrets, text(variable, "/valueFrom/secretKeyRef/name"));
                add(
                    &mut found.config_maps,
                    text(variable, "/valueFrom/configMapKeyRef/name"),
                );
            }
        }
    }
    for volume in pod.array(&["spec", "volumes"]) {
        of_volume(pod, volume, &mut found);
    }
    for claim in pod.array(&["spec", "resourceClaims"]) {
        add(&mut found.resource_claims, text(claim, "/resourceClaimName"));
    }
    found
}

fn of_volume(pod: &Object, volume: &Value, found: &mut References) {
    add(&mut found.config_maps, text(volume, "/configMap/name"));
    add(&mut found.claims, text(volume, "/persistentVolumeClaim/claimName"));
    if volume.get("ephemeral").is_some_and(|e| !e.is_null()) {
        let name = text(volume, "/name").unwrap_or_default();
        found.claims.insert(format!("{}-{name}", pod.name()));
    }
    for source in volume
        .pointer("/projected/sources")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        add(&mut found.secrets, text(source, "/secret/name"));
        add(&mut found.config_maps, text(source, "/configMap/name"));
        found.trust_bundles |= source.get("clusterTrustBundle").is_some_and(|b| !b.is_null());
    }
    for (kind, source) in volume.as_object().into_iter().flatten() {
        if kind == "projected" {
            continue;
        }
        for pointer in ["/secretName", "/secretRef/name", "/nodePublishSecretRef/name"] {
            add(&mut found.secrets, text(source, pointer));
        }
    }
}

/// The secrets, by namespace and name, that a volume needs on the node.
pub(super) fn volume_secrets(volume: &Object) -> BTreeSet<(String, String)> {
    let claimed_in = volume.str(&["spec", "claimRef", "namespace"]).unwrap_or_default();
    let mut found = BTreeSet::new();
    for source in volume
        .get(&["spec"])
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(_, s)| s)
    {
        for field in [
            "secretRef",
            "nodePublishSecretRef",
            "nodeStageSecretRef",
            "nodeExpandSecretRef",
        ] {
            if let Some(name) = text(source, &format!("/{field}/name")) {
                let namespace = text(source, &format!("/{field}/namespace")).unwrap_or(claimed_in);
                found.insert((namespace.to_owned(), name.to_owned()));
            }
        }
        if let Some(name) = text(source, "/secretName") {
            let namespace = text(source, "/secretNamespace").unwrap_or(claimed_in);
            found.insert((namespace.to_owned(), name.to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_way_to_name_an_object_is_seen() {
        let pod = Object::from_value(json!({"metadata": {"name": "p"}, "spec": {
            "serviceAccountName": "sa",
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{
                "envFrom": [{"secretRef": {"name": "s1"}}, {"configMapRef": {"name": "m1"}}],
                "env": [
                    {"valueFrom": {"secretKeyRef": {"name": "s2"}}},
                    {"valueFrom": {"configMapKeyRef": {"name": "m2"}}},
                ],
            }],
            "volumes": [
                {"name": "a", "secret": {"secretName": "s3"}},
                {"name": "b", "configMap": {"name": "m3"}},
                {"name": "c", "persistentVolumeClaim": {"claimName": "c1"}},
                {"name": "d", "ephemeral": {}},
                {"name": "e", "projected": {"sources": [{"secret": {"name": "s4"}}, {"configMap": {"name": "m4"}}]}},
                {"name": "f", "csi": {"driver": "x", "nodePublishSecretRef": {"name": "s5"}}},
            ],
            "resourceClaims": [{"name": "r", "resourceClaimName": "r1"}],
        }}))
        .unwrap();
        let found = references(&pod);
        let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(list(&found.secrets), "pull s1 s2 s3 s4 s5");
        assert_eq!(list(&found.config_maps), "m1 m2 m3 m4");
        assert_eq!(list(&found.claims), "c1 p-d");
        assert_eq!(list(&found.resource_claims), "r1");
        assert_eq!(found.account, "sa");
    }
}
