//! Which nodes need which objects: kept up with the pods in the cache, at the moment somebody asks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use coracle_api::object::StoredObject;
use coracle_api::resource::Resource;
use parking_lot::Mutex;
use serde::Deserialize;

use super::references::{Kind, references};
use crate::cache::shard::Read;
use crate::cache::{Selection, Shard};

const MIRROR: &str = "kubernetes.io/config.mirror";
/// How many events are taken at a time.
const BATCH: usize = 1024;

type Vertex = (Kind, Box<str>, Box<str>);

#[derive(Default)]
pub(super) struct Graph(Mutex<State>);

#[derive(Default)]
struct State {
    /// The shard that this is the state of, and how far.
    shard: Option<Arc<Shard>>,
    cursor: u64,
    pods: HashMap<Arc<str>, Known>,
    /// How many pods of each node refer to an object.
    edges: HashMap<Vertex, BTreeMap<Box<str>, u32>>,
}

struct Known {
    uid: Box<str>,
    generation: i64,
    node: Box<str>,
    needs: Vec<Vertex>,
}

#[derive(Deserialize)]
struct Skim {
    metadata: SkimMeta,
    #[serde(default)]
    spec: SkimSpec,
}

#[derive(Deserialize)]
struct SkimMeta {
    #[serde(default)]
    generation: i64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SkimSpec {
    node_name: Option<Box<str>>,
}

impl Graph {
    /// Whether a pod on `node` is or needs the object, as of all that the shard has seen.
    pub fn relates(
        &self,
        shard: &Arc<Shard>,
        pods: &Resource,
        node: &str,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> bool {
        let mut state = self.0.lock();
        state.follow(shard, pods);
        let vertex: Vertex = (kind, namespace.into(), name.into());
        state.edges.get(&vertex).is_some_and(|nodes| nodes.contains_key(node))
    }
}

impl State {
    fn follow(&mut self, shard: &Arc<Shard>, pods: &Resource) {
        if !self.shard.as_ref().is_some_and(|known| Arc::ptr_eq(known, shard)) {
            self.restart(shard, pods);
        }
        loop {
            let events = match shard.read(self.cursor, BATCH) {
                Read::Events(events) => events,
                Read::Expired => {
                    self.restart(shard, pods);
                    return;
                }
            };
            let last = events.len() < BATCH;
            self.cursor += events.len() as u64;
            for event in events {
                match &event.current {
                    Some(item) => self.put(&event.key, &item.object),
                    None => self.forget(&event.key),
                }
            }
            if last {
                return;
            }
        }
    }

    fn restart(&mut self, shard: &Arc<Shard>, pods: &Resource) {
        *self = Self::default();
        let Some(all) = shard.snapshot(&Selection::all(pods, ""), None, 0, 0) else {
            return;
        };
        self.shard = Some(shard.clone());
        self.cursor = all.cursor;
        for item in &all.items {
            let key = pods.key(&item.object.head().namespace, &item.object.head().name);
            self.put(&key.into(), &item.object);
        }
    }

    fn put(&mut self, key: &Arc<str>, stored: &StoredObject) {
        let Ok(skim) = serde_json::from_slice::<Skim>(stored.raw()) else {
            return self.forget(key);
        };
        let head = stored.head();
        let node = skim.spec.node_name.unwrap_or_default();
        let same = self.pods.get(key).is_some_and(|known| {
            known.uid == head.uid && known.node == node && known.generation == skim.metadata.generation
        });
        if same && skim.metadata.generation != 0 {
            return;
        }
        self.forget(key);
        if node.is_empty() {
            return;
        }
        let mut needs: Vec<Vertex> = vec![(Kind::Pod, head.namespace.clone(), head.name.clone())];
        let pod = stored.to_object();
        // What a mirror pod names is no reason to read it: the agent wrote the pod itself.
        if pod.annotation(MIRROR).is_none() {
            let found = references(&pod);
            needs.extend(
                found
                    .all()
                    .map(|(kind, name)| (kind, head.namespace.clone(), name.into())),
            );
        }
        for vertex in &needs {
            let nodes = self.edges.entry(vertex.clone()).or_default();
            *nodes.entry(node.clone()).or_default() += 1;
        }
        self.pods.insert(
            key.clone(),
            Known {
                uid: head.uid.clone(),
                generation: skim.metadata.generation,
                node,
                needs,
            },
        );
    }

    fn forget(&mut self, key: &Arc<str>) {
        let Some(known) = self.pods.remove(key) else { return };
        for vertex in known.needs {
            let Some(nodes) = self.edges.get_mut(&vertex) else {
                continue;
            };
            if let Some(count) = nodes.get_mut(&known.node) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&known.node);
                }
            }
            if nodes.is_empty() {
                self.edges.remove(&vertex);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, node: &str, secret: &str, generation: i64) -> StoredObject {
        let value = json!({
            "metadata": {"name": name, "namespace": "d", "uid": name, "generation": generation},
            "spec": {"nodeName": node, "imagePullSecrets": [{"name": secret}]},
        });
        StoredObject::from_bytes(value.to_string().into(), 1).unwrap()
    }

    fn needs(state: &State, node: &str, secret: &str) -> bool {
        let vertex = (Kind::Secret, "d".into(), secret.into());
        state.edges.get(&vertex).is_some_and(|n| n.contains_key(node))
    }

    #[test]
    fn a_node_needs_what_its_pods_need_as_long_as_one_does() {
        let mut state = State::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        state.put(&a, &pod("a", "", "s", 1));
        assert!(!needs(&state, "n", "s"));
        state.put(&a, &pod("a", "n", "s", 1));
        state.put(&b, &pod("b", "n", "s", 1));
        assert!(needs(&state, "n", "s") && !needs(&state, "m", "s"));
        state.forget(&a);
        assert!(needs(&state, "n", "s"));
        state.put(&b, &pod("b", "n", "t", 2));
        assert!(!needs(&state, "n", "s") && needs(&state, "n", "t"));
        state.forget(&b);
        assert!(state.edges.is_empty() && state.pods.is_empty());
    }
}
