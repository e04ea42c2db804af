//! Pods from templates, the hash that names a template's version, and the digest that tells whether two are the same.

use std::collections::HashMap;
use std::sync::Arc;

use coracle_api::schema::decode::{Mode, decode};
use coracle_api::schema::{built_in, type_node};
use coracle_client::{Kind, ObjectKey};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Letters and digits that form no words, as upstream's name generator uses.
const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A new pod from a template, named after its owner.
pub fn pod_from_template(template: &PodTemplateSpec, namespace: &str, prefix: &str, owner: OwnerReference) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{prefix}-")),
            namespace: Some(namespace.to_owned()),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The hash of a template (and of the count of collisions so far): the same template gives the same text.
pub fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    // serde_json's maps are sorted, so the text is canonical.
    let text = serde_json::to_value(template)
        .map(|v| v.to_string())
        .unwrap_or_default();
    let mut hash = fnv32(0x811c_9dc5, text.as_bytes());
    if let Some(collisions) = collisions {
        hash = fnv32(hash, &collisions.to_le_bytes());
    }
    hash.to_string()
        .bytes()
        .map(|b| SAFE[usize::from(b) % SAFE.len()] as char)
        .collect()
}

fn fnv32(seed: u32, bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(seed, |hash, b| (hash ^ u32::from(*b)).wrapping_mul(0x0100_0193))
}

/// What two templates that mean the same have in common, however a server prints them.
pub type Digest = [u8; 32];

/// The digest of a template without the label that carries the hash.
pub fn digest(template: &PodTemplateSpec) -> Digest {
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
        labels.remove("pod-template-hash");
    }
    digest_of(&settled(json!(template)))
}

pub fn digest_of(value: &Value) -> Digest {
    // The text is canonical, as in `template_hash`.
    Sha256::digest(value.to_string()).into()
}

/// A template in the form in which a server prints it: what one server leaves out and another prints as empty is the
/// same, or pods would be replaced when the servers are.
pub fn settled(mut template: Value) -> Value {
    let schema = type_node("io.k8s.api.core.v1.PodTemplateSpec").map(|node| built_in().at(node));
    // What does not fit the schema stays as it is.
    if let Some(schema) = schema {
        let _ = decode(&mut template, schema, Mode::Whole);
    }
    template
}

/// Digests of what objects hold, each made once for as long as its object stays as it is. Cheap to clone.
#[derive(Clone, Default)]
pub struct Digests(Arc<Mutex<HashMap<String, Option<Known>>>>);

struct Known {
    generation: Option<i64>,
    digest: Digest,
}

impl Digests {
    /// What the cache of the objects must tell of its changes: their digests are remembered while they are there.
    /// `made_of` is what the digest is made of: a change of something else is none of it.
    pub fn observer<K: Kind, P: PartialEq>(
        &self,
        made_of: fn(&K) -> &P,
    ) -> impl Fn(&ObjectKey<K>, Option<&K>, Option<&K>) + Send + Sync + use<K, P> {
        let known = self.0.clone();
        move |_, old, new| {
            let uid = |object: Option<&K>| object.and_then(|o| o.meta().uid.clone());
            let (before, after) = (uid(old), uid(new));
            if before != after {
                let mut known = known.lock();
                if let Some(gone) = before {
                    known.remove(&gone);
                }
                if let Some(new) = after {
                    known.entry(new).or_default();
                }
                return;
            }
            let (Some(old), Some(new), Some(uid)) = (old, new, after) else {
                return;
            };
            let (was, is) = (old.meta().generation, new.meta().generation);
            if was != is && made_of(old) == made_of(new) {
                let mut all = known.lock();
                if let Some(Some(known)) = all
                    .get_mut(&uid)
                    .filter(|k| k.as_ref().is_some_and(|k| k.generation == was))
                {
                    known.generation = is;
                }
            }
        }
    }

    /// The digest that `make` gives for the object with this metadata.
    pub fn of(&self, meta: &ObjectMeta, make: impl FnOnce() -> Digest) -> Digest {
        let uid = meta.uid.as_deref().unwrap_or_default();
        if let Some(Some(known)) = self.0.lock().get(uid)
            && known.generation == meta.generation
        {
            return known.digest;
        }
        let digest = make();
        if let Some(room) = self.0.lock().get_mut(uid) {
            *room = Some(Known {
                generation: meta.generation,
                digest,
            });
        }
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(value: Value) -> PodTemplateSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_digest_is_made_once_while_its_object_is_there_and_what_it_is_made_of_stays_the_same() {
        let indexer = coracle_informer::Indexer::new();
        let digests = Digests::default();
        indexer.observe(digests.observer(|pod: &Pod| &pod.spec));
        let pod_of = |generation: i64, node: &str| -> Pod {
            let meta = json!({"namespace": "x", "name": "p", "uid": "u", "generation": generation});
            serde_json::from_value(json!({"metadata": meta, "spec": {"containers": [], "nodeName": node}})).unwrap()
        };
        let pod = |generation: i64| pod_of(generation, &generation.to_string());
        let made = std::cell::Cell::new(0);
        let ask = |pod: &Pod| {
            digests.of(&pod.metadata, || {
                made.set(made.get() + 1);
                Digest::default()
            });
            made.get()
        };
        let key = ObjectKey::new("x", "p");
        // What the cache does not have is not remembered.
        assert_eq!((ask(&pod(1)), ask(&pod(1))), (1, 2));
        indexer.insert(key.clone(), Arc::new(pod(1)));
        assert_eq!((ask(&pod(1)), ask(&pod(1))), (3, 3));
        indexer.insert(key.clone(), Arc::new(pod(2)));
        assert_eq!((ask(&pod(2)), ask(&pod(2))), (4, 4));
        // Something else has changed.
        indexer.insert(key.clone(), Arc::new(pod_of(3, "2")));
        assert_eq!(ask(&pod_of(3, "2")), 4);
        // Nobody asked in between: what was known is not of what was changed.
        indexer.insert(key.clone(), Arc::new(pod(4)));
        indexer.insert(key.clone(), Arc::new(pod_of(5, "4")));
        assert_eq!(ask(&pod_of(5, "4")), 5);
        indexer.remove(&key);
        assert!(digests.0.lock().is_empty());
    }

    #[test]
    fn templates_that_differ_in_what_is_printed_of_nothing_are_the_same() {
        let short = template(json!({"spec": {"containers": [{"name": "a", "image": "b"}]}}));
        let long = template(json!({"metadata": {"labels": {"pod-template-hash": "x"}},
            "spec": {"containers": [{"name": "a", "image": "b", "resources": {}}], "hostNetwork": false}}));
        assert_eq!(digest(&short), digest(&long));
        let other = template(json!({"spec": {"containers": [{"name": "a", "image": "c", "resources": {}}]}}));
        assert_ne!(digest(&short), digest(&other));
        // Where empty and absent differ in meaning, they are not the same.
        let spread = |selector: Value| {
            let mut one = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
            if !selector.is_null() {
                one["labelSelector"] = selector;
            }
            template(json!({"spec": {"containers": [], "topologySpreadConstraints": [one]}}))
        };
        assert_ne!(digest(&spread(json!({}))), digest(&spread(Value::Null)));
    }
}
