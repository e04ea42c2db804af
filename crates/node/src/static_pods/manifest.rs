//! A manifest as the pod that a node makes of it: checked as the API server would, named after the node, and known by a
//! hash of what is written. Pure.

use std::path::Path;

use coracle_api::field::{Cursor, ErrorList};
use coracle_api::meta;
use coracle_api::object::Object;
use coracle_api::resource::Registry;
use coracle_api::schema::decode::{Mode, decode};
use coracle_api::schema::parse::parse_yaml;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::mirror::{HASH, SOURCE};

/// Upstream's uids of static pods are 32 hexadecimal digits.
const UID_DIGITS: usize = 32;

/// The pod of the manifest in `file` on `node`.
pub(super) fn pod(bytes: &[u8], file: &Path, node: &str) -> Result<Pod, String> {
    let (mut value, _) = parse_yaml(bytes).map_err(|e| e.to_string())?;
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (version, kind) = (text("apiVersion"), text("kind"));
    if (version.as_str(), kind.as_str()) != ("v1", "Pod") {
        return Err(format!("it holds a {kind:?} of {version:?}, not a Pod of v1"));
    }
    let table = Registry::built_in().table();
    let row = table.get("", "v1", "pods").ok_or("there is no kind Pod")?.clone();
    let decoded = decode(&mut value, row.schema(), Mode::Whole).map_err(|errors| {
        let all: Vec<String> = errors.iter().map(|e| format!("{}: {e}", e.path)).collect();
        all.join("; ")
    })?;
    if !decoded.unknown.is_empty() {
        tracing::warn!(file = %file.display(), fields = decoded.unknown.join(", "), "unknown fields of a manifest");
    }
    let hash = digest(&value, file, node);
    let mut object = Object::from_value(value).ok_or("it is no object")?;
    adopt(&mut object, hash, node);
    row.strategy.set_defaults(&mut object);
    refuse_references(&object)?;
    let value = object.clone().into_value();
    let mut errors = ErrorList::new();
    let at = Cursor::root(&value, Some(row.schema()));
    meta::validate(&at, true, row.strategy.name_rule(), &mut errors);
    row.strategy.validate(&at, &mut errors);
    if !errors.is_empty() {
        let all: Vec<String> = errors.as_slice().iter().map(ToString::to_string).collect();
        return Err(all.join("; "));
    }
    serde_json::from_value(value).map_err(|e| e.to_string())
}

/// What is written, where and for whom.
fn digest(value: &Value, file: &Path, node: &str) -> String {
    let text = format!("{value}host:{node}file:{}", file.display());
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let digits: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    digits[..UID_DIGITS].to_owned()
}

/// What upstream's agent makes of a pod from a file.
fn adopt(pod: &mut Object, hash: String, node: &str) {
    let written = pod.uid().to_owned();
    let uid = if written.is_empty() { hash } else { written };
    let name = format!("{}-{}", pod.name(), node.to_lowercase());
    pod.set(&["metadata", "name"], name);
    if pod.namespace().is_empty() {
        pod.set(&["metadata", "namespace"], "default");
    }
    pod.set(&["metadata", "uid"], uid.clone());
    pod.set(&["metadata", "annotations", HASH], uid);
    pod.set(&["metadata", "annotations", SOURCE], "file");
    pod.set(&["spec", "nodeName"], node);
    // A static pod is not evicted for its node's troubles.
    let mut tolerations = pod.array(&["spec", "tolerations"]).to_vec();
    let any = json!({"operator": "Exists", "effect": "NoExecute"});
    if !tolerations.contains(&any) {
        tolerations.push(any);
    }
    pod.set(&["spec", "tolerations"], tolerations);
    pod.set(&["status"], json!({"phase": "Pending"}));
}

/// A static pod must run without the API server, so nothing of it can come from there.
fn refuse_references(pod: &Object) -> Result<(), String> {
    let refuse = |what: &str| Err(format!("a static pod may not reference {what}"));
    if pod.str(&["spec", "serviceAccountName"]).is_some_and(|n| !n.is_empty()) {
        return refuse("serviceaccounts");
    }
    if !pod.array(&["spec", "resourceClaims"]).is_empty() {
        return refuse("resourceclaims");
    }
    let typed: Pod = serde_json::from_value(pod.clone().into_value()).map_err(|e| e.to_string())?;
    let (mut maps, mut secrets) = crate::volume::referenced(&typed);
    for container in typed
        .spec
        .iter()
        .flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()))
    {
        let (more_maps, more_secrets) = crate::pod::env::referenced(container);
        maps.extend(more_maps);
        secrets.extend(more_secrets);
    }
    if !maps.is_empty() {
        return refuse("configmaps");
    }
    if !secrets.is_empty() || !pod.array(&["spec", "imagePullSecrets"]).is_empty() {
        return refuse("secrets");
    }
    let volumes = pod.array(&["spec", "volumes"]);
    if volumes
        .iter()
        .any(|v| v.get("persistentVolumeClaim").is_some_and(|c| !c.is_null()))
    {
        return refuse("persistentvolumeclaims");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Pod, String> {
        pod(text.as_bytes(), Path::new("/manifests/web.yaml"), "n1")
    }

    const WEB: &str =
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - name: c\n    image: i:1\n";

    #[test]
    fn a_manifest_becomes_a_pod_of_this_node_with_defaults_and_a_hash() {
        let web = read(WEB).unwrap();
        let meta = &web.metadata;
        assert_eq!(
            (meta.name.as_deref(), meta.namespace.as_deref()),
            (Some("web-n1"), Some("default"))
        );
        let uid = meta.uid.clone().unwrap();
        assert_eq!(uid.len(), 32);
        assert_eq!(meta.annotations.as_ref().unwrap()[HASH], uid);
        let spec = web.spec.unwrap();
        assert_eq!(spec.node_name.as_deref(), Some("n1"));
        assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
        let toleration = &spec.tolerations.unwrap()[0];
        assert_eq!(
            (toleration.operator.as_deref(), toleration.effect.as_deref()),
            (Some("Exists"), Some("NoExecute"))
        );
    }

    #[test]
    fn the_hash_changes_with_what_is_written_and_only_then() {
        let uid = |text: &str| read(text).unwrap().metadata.uid;
        assert_eq!(uid(WEB), uid(&format!("# a comment\n{WEB}")));
        assert_ne!(uid(WEB), uid(&WEB.replace("i:1", "i:2")));
        let fixed = WEB.replace(
            "  name: web\n",
            "  name: web\n  uid: 11111111-2222-3333-4444-555555555555\n",
        );
        assert_eq!(uid(&fixed).as_deref(), Some("11111111-2222-3333-4444-555555555555"));
    }

    #[test]
    fn what_is_no_pod_or_needs_the_api_is_refused_with_the_reason() {
        let with = |more: &str| format!("{WEB}{more}");
        for (text, expected) in [
            ("kind: Service\napiVersion: v1\n".to_owned(), "not a Pod of v1"),
            (WEB.replace("name: web", "name: We_b"), "metadata.name"),
            (
                WEB.replace("    image: i:1\n", ""),
                "spec.containers[0].image: Required",
            ),
            (with("  serviceAccountName: x\n"), "serviceaccounts"),
            (with("  volumes:\n  - {name: v, configMap: {name: x}}\n"), "configmaps"),
            (
                with("  volumes:\n  - {name: v, persistentVolumeClaim: {claimName: x}}\n"),
                "persistentvolumeclaims",
            ),
            (with("    envFrom:\n    - secretRef: {name: x}\n"), "secrets"),
        ] {
            let error = read(&text).err().unwrap_or_default();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
