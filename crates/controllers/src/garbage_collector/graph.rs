//! The graph of who owns whom, built from the metadata of every object. Pure: it answers questions and names the uids to
//! look at again; it asks nothing of the API.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use coracle_api::object::StoredObject;
use coracle_client::{ApiResource, Kind};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// How many absent owners are remembered.
const REMEMBERED: usize = 500;

pub const ORPHAN: &str = "orphan";
pub const FOREGROUND: &str = "foregroundDeletion";

/// What of an object's metadata counts here.
#[derive(Clone, Debug, Default)]
pub struct Followed(ObjectMeta);

impl Followed {
    /// A copy of what counts, and of nothing else.
    pub fn of(meta: &ObjectMeta) -> Self {
        Self(ObjectMeta {
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            owner_references: meta.owner_references.clone(),
            finalizers: meta.finalizers.clone(),
            deletion_timestamp: meta.deletion_timestamp.clone(),
            ..ObjectMeta::default()
        })
    }
}

impl From<ObjectMeta> for Followed {
    fn from(meta: ObjectMeta) -> Self {
        Self(ObjectMeta {
            namespace: meta.namespace,
            name: meta.name,
            uid: meta.uid,
            resource_version: meta.resource_version,
            owner_references: meta.owner_references,
            finalizers: meta.finalizers,
            deletion_timestamp: meta.deletion_timestamp,
            ..ObjectMeta::default()
        })
    }
}

impl Kind for Followed {
    const METADATA_ONLY: bool = true;

    fn meta(&self) -> &ObjectMeta {
        &self.0
    }

    fn decode(stored: &StoredObject) -> Result<Arc<Self>, serde_json::Error> {
        Ok(Arc::new(stored.metadata::<ObjectMeta>()?.into()))
    }
}

/// One object: who it is, whom it names as owners, and whether it is going.
#[derive(Clone, Debug)]
pub struct Node {
    pub resource: Arc<ApiResource>,
    object: Arc<Followed>,
}

impl Node {
    pub fn new(resource: Arc<ApiResource>, object: Arc<Followed>) -> Self {
        Self { resource, object }
    }

    pub fn namespace(&self) -> &str {
        self.object.0.namespace.as_deref().unwrap_or_default()
    }

    pub fn name(&self) -> &str {
        self.object.0.name.as_deref().unwrap_or_default()
    }

    pub fn uid(&self) -> &str {
        self.object.0.uid.as_deref().unwrap_or_default()
    }

    pub fn owners(&self) -> &[OwnerReference] {
        self.object.0.owner_references.as_deref().unwrap_or_default()
    }

    pub fn finalizers(&self) -> &[String] {
        self.object.0.finalizers.as_deref().unwrap_or_default()
    }

    pub fn is_terminating(&self) -> bool {
        self.object.0.deletion_timestamp.is_some()
    }

    pub fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers().iter().any(|f| f == name)
    }

    /// Being deleted in the foreground: it waits for its dependents.
    pub fn waits_for_dependents(&self) -> bool {
        self.is_terminating() && self.has_finalizer(FOREGROUND)
    }

    /// Being deleted, leaving its dependents behind.
    pub fn orphans(&self) -> bool {
        self.is_terminating() && self.has_finalizer(ORPHAN)
    }
}

/// How the owners that an object names stand.
#[derive(Debug, Default, PartialEq)]
pub struct Owners {
    /// There, and not waiting for dependents.
    pub solid: Vec<OwnerReference>,
    /// There, and being deleted in the foreground.
    pub waiting: Vec<OwnerReference>,
    /// Not in the graph, or not where the reference can reach: to be looked up before anything is done.
    pub unknown: Vec<OwnerReference>,
}

#[derive(Debug, Default)]
pub struct Graph {
    nodes: HashMap<String, Node>,
    /// Owners that were seen to go while they had dependents, the last few: their kind may be gone since, so that nobody
    /// can be asked any more.
    absent: VecDeque<String>,
    /// Owner's uid to dependents' uids; owners need not be known.
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    pub fn node(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// An object was seen. Returns the uids to look at.
    pub fn set(&mut self, node: Node) -> Vec<String> {
        let uid = node.uid().to_owned();
        let old = self.nodes.get(&uid).cloned();
        let owners: HashSet<&str> = node.owners().iter().map(|o| o.uid.as_str()).collect();
        for gone in old
            .iter()
            .flat_map(Node::owners)
            .filter(|o| !owners.contains(o.uid.as_str()))
        {
            self.unlink(&gone.uid, &uid);
        }
        for owner in &owners {
            self.dependents
                .entry((*owner).to_owned())
                .or_default()
                .insert(uid.clone());
        }
        let mut look = Vec::new();
        let owners_changed = old.as_ref().is_none_or(|o| o.owners() != node.owners());
        // One whose owners are all there has nothing to fear: it is looked at when that changes.
        if owners_changed && self.owners_of(&node).solid.len() < node.owners().len() {
            look.push(uid.clone());
        }
        // An owner that waits may be waiting for this one no longer.
        if let Some(old) = &old
            && (owners_changed || old.finalizers() != node.finalizers())
        {
            look.extend(
                old.owners()
                    .iter()
                    .map(|o| o.uid.clone())
                    .filter(|o| self.is_waiting(o)),
            );
        }
        let became = |test: fn(&Node) -> bool| test(&node) && !old.as_ref().is_some_and(test);
        if became(Node::orphans) || became(Node::waits_for_dependents) {
            look.push(uid.clone());
        }
        if became(Node::waits_for_dependents) {
            look.extend(self.dependents_of(&uid));
        }
        self.nodes.insert(uid, node);
        look.sort();
        look.dedup();
        look
    }

    /// An object was seen to go: it will not come back. Returns the uids to look at, as [`remove`](Self::remove) does.
    pub fn deleted(&mut self, uid: &str) -> Vec<String> {
        if self.dependents.contains_key(uid) {
            self.absent.push_back(uid.to_owned());
            if self.absent.len() > REMEMBERED {
                self.absent.pop_front();
            }
        }
        self.remove(uid)
    }

    /// Whether an owner is known to be gone.
    pub fn is_absent(&self, uid: &str) -> bool {
        self.absent.iter().any(|a| a == uid)
    }

    /// The objects that name an owner of this kind: they are to be looked at when it begins to be served.
    pub fn naming(&self, group: &str, kind: &str) -> Vec<String> {
        let names = |owner: &OwnerReference| {
            let of = owner.api_version.split_once('/').map_or("", |(g, _)| g);
            owner.kind == kind && of == group
        };
        let naming = self.nodes.iter().filter(|(_, node)| node.owners().iter().any(names));
        let mut naming: Vec<String> = naming.map(|(uid, _)| uid.clone()).collect();
        naming.sort();
        naming
    }

    /// An object is known no longer. Returns the uids to look at: its dependents, and owners that waited for it.
    pub fn remove(&mut self, uid: &str) -> Vec<String> {
        let Some(node) = self.nodes.remove(uid) else {
            return Vec::new();
        };
        for owner in node.owners() {
            self.unlink(&owner.uid, uid);
        }
        let mut look = self.dependents_of(uid);
        look.extend(
            node.owners()
                .iter()
                .map(|o| o.uid.clone())
                .filter(|o| self.is_waiting(o)),
        );
        look
    }

    /// All objects of a resource that is no longer served.
    pub fn of_resource(&self, resource: &ApiResource) -> Vec<String> {
        let of = self.nodes.values().filter(|n| *n.resource == *resource);
        let mut uids: Vec<String> = of.map(|n| n.uid().to_owned()).collect();
        uids.sort();
        uids
    }

    fn unlink(&mut self, owner: &str, uid: &str) {
        if let Some(set) = self.dependents.get_mut(owner) {
            set.remove(uid);
            if set.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    fn is_waiting(&self, uid: &str) -> bool {
        self.nodes.get(uid).is_some_and(Node::waits_for_dependents)
    }

    pub fn dependents_of(&self, uid: &str) -> Vec<String> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    /// Dependents that an owner's foreground deletion has to wait for.
    pub fn blocking_dependents(&self, uid: &str) -> impl Iterator<Item = &Node> {
        let dependents = self.dependents.get(uid).into_iter().flatten();
        let blocks = move |owner: &OwnerReference| owner.uid == uid && owner.block_owner_deletion == Some(true);
        dependents
            .filter_map(|dependent| self.nodes.get(dependent))
            .filter(move |node| node.owners().iter().any(blocks))
    }

    /// Sorts the owners of an object. A namespaced owner counts only from its own namespace; a reference whose
    /// coordinates (kind, name) are not the owner's is as good as absent.
    pub fn owners_of(&self, node: &Node) -> Owners {
        let mut out = Owners::default();
        for reference in node.owners() {
            match self.nodes.get(&reference.uid) {
                Some(owner) if is_reachable(node, owner) && is_meant(reference, owner) => {
                    let list = if owner.waits_for_dependents() {
                        &mut out.waiting
                    } else {
                        &mut out.solid
                    };
                    list.push(reference.clone());
                }
                _ => out.unknown.push(reference.clone()),
            }
        }
        out
    }
}

fn is_reachable(node: &Node, owner: &Node) -> bool {
    !owner.resource.namespaced || owner.namespace() == node.namespace()
}

fn is_meant(reference: &OwnerReference, owner: &Node) -> bool {
    let group = |api_version: &str| api_version.split_once('/').map_or("", |(g, _)| g).to_owned();
    reference.kind == owner.resource.kind
        && reference.name == owner.name()
        && group(&reference.api_version) == owner.resource.group
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_clock::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn resource() -> Arc<ApiResource> {
        Arc::new(ApiResource {
            group: "".into(),
            version: "v1".into(),
            kind: "ConfigMap".into(),
            plural: "configmaps".into(),
            namespaced: true,
        })
    }

    fn node(uid: &str, owners: &[(&str, bool)]) -> Node {
        changed(uid, owners, |_| {})
    }

    fn changed(uid: &str, owners: &[(&str, bool)], change: impl FnOnce(&mut ObjectMeta)) -> Node {
        let reference = |(owner, blocks): &(&str, bool)| OwnerReference {
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            name: (*owner).into(),
            uid: (*owner).into(),
            block_owner_deletion: Some(*blocks),
            controller: None,
        };
        let mut meta = ObjectMeta {
            namespace: Some("default".into()),
            name: Some(uid.into()),
            uid: Some(uid.into()),
            owner_references: Some(owners.iter().map(reference).collect()),
            ..ObjectMeta::default()
        };
        change(&mut meta);
        Node::new(resource(), Arc::new(meta.into()))
    }

    #[test]
    fn when_an_owner_goes_its_dependents_are_looked_at() {
        let mut graph = Graph::default();
        graph.set(node("a", &[]));
        graph.set(node("b", &[("a", false)]));
        assert_eq!(graph.owners_of(graph.node("b").unwrap()).solid.len(), 1);
        assert_eq!(graph.remove("a"), ["b"]);
        assert_eq!(graph.owners_of(graph.node("b").unwrap()).unknown.len(), 1);
    }

    #[test]
    fn a_dependent_seen_before_its_owner_is_linked_to_it() {
        let mut graph = Graph::default();
        assert_eq!(graph.set(node("b", &[("a", true)])), ["b"]);
        graph.set(node("a", &[]));
        let blocking: Vec<_> = graph.blocking_dependents("a").map(Node::uid).collect();
        assert_eq!(blocking, ["b"]);
        assert!(graph.set(node("c", &[("a", true)])).is_empty(), "its owner is there");
    }

    #[test]
    fn foreground_deletion_looks_at_all_dependents_and_then_at_the_owner_again() {
        let mut graph = Graph::default();
        graph.set(node("a", &[]));
        graph.set(node("b", &[("a", true)]));
        let owner = changed("a", &[], |meta| {
            meta.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
            meta.finalizers = Some(vec![FOREGROUND.into()]);
        });
        assert_eq!(graph.set(owner), ["a", "b"]);
        assert_eq!(graph.owners_of(graph.node("b").unwrap()).waiting.len(), 1);
        assert_eq!(graph.remove("b"), ["a"]);
        assert!(graph.blocking_dependents("a").next().is_none());
    }

    #[test]
    fn an_owner_that_was_seen_to_go_is_remembered_as_absent_and_one_whose_kind_is_gone_is_not() {
        let mut graph = Graph::default();
        for uid in ["a", "c"] {
            graph.set(node(uid, &[]));
        }
        graph.set(node("b", &[("a", false), ("c", false)]));
        graph.deleted("a");
        graph.remove("c");
        assert!(graph.is_absent("a") && !graph.is_absent("c"));
        for n in 0..REMEMBERED {
            let owner = format!("o{n}");
            graph.set(node(&owner, &[]));
            graph.set(node(&format!("d{n}"), &[(&owner, false)]));
            graph.deleted(&owner);
        }
        assert!(!graph.is_absent("a"), "only so many are remembered");
    }

    #[test]
    fn objects_that_name_an_owner_of_a_kind_are_found_by_it() {
        let mut graph = Graph::default();
        graph.set(node("a", &[]));
        graph.set(node("b", &[("a", false)]));
        assert_eq!(graph.naming("", "ConfigMap"), ["b"]);
        assert!(graph.naming("example.org", "ConfigMap").is_empty());
    }

    #[test]
    fn an_owner_in_another_namespace_is_no_owner() {
        let mut graph = Graph::default();
        graph.set(changed("a", &[], |meta| meta.namespace = Some("other".into())));
        graph.set(node("b", &[("a", false)]));
        assert_eq!(graph.owners_of(graph.node("b").unwrap()).unknown.len(), 1);
    }
}
