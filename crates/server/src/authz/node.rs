//! The node authorizer: an agent reads what the pods on its node refer to, and writes what is its own. Everything else it
//! may is in the rules of `system:node`.

mod graph;
mod references;

use std::sync::Arc;

use async_trait::async_trait;
use coracle_api::object::Object;
use coracle_api::resource::Registry;
use coracle_api::service::UserInfo;
use coracle_api::status::Status;
use coracle_store::Store;

use super::{Attributes, Authorizer, Decision, ResourceAttributes, Rule, Rules, policy, rbac};
use crate::cache::{Cache, Selection, store_failed};
use graph::Graph;

pub(crate) use references::{Kind, references};

const PREFIX: &str = "system:node:";
const GROUP: &str = "system:nodes";
const LEASES: &str = "kube-node-lease";

/// The node that a user is the agent of; empty for an agent that does not say which.
pub(crate) fn identity(user: &UserInfo) -> Option<&str> {
    let node = user.name.strip_prefix(PREFIX)?;
    user.groups.iter().any(|g| g == GROUP).then_some(node)
}

/// See the module.
pub(crate) struct NodeAuthorizer {
    cache: Arc<Cache>,
    store: Arc<dyn Store>,
    registry: Arc<Registry>,
    graph: Graph,
    rules: Vec<Rule>,
}

fn no(reason: impl Into<String>) -> Decision {
    Decision::NoOpinion(reason.into())
}

fn yes() -> Decision {
    Decision::Allow(String::new())
}

impl NodeAuthorizer {
    pub fn new(cache: Arc<Cache>, store: Arc<dyn Store>, registry: Arc<Registry>) -> Self {
        Self {
            cache,
            store,
            registry,
            graph: Graph::default(),
            rules: policy::node_rules().iter().map(rbac::rule).collect(),
        }
    }

    async fn load(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Result<Option<Object>, Status> {
        let table = self.registry.table();
        let Some(row) = table.get(group, "v1", plural) else {
            return Ok(None);
        };
        let got = self.store.get(&row.key(namespace, name), None).await;
        let Some(kv) = got.map_err(|e| store_failed(&e))?.kv else {
            return Ok(None);
        };
        Ok(serde_json::from_slice(&kv.value).ok())
    }

    /// Whether a pod on the node refers to the object, directly or by a claim's volume.
    async fn relates(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> Result<bool, Status> {
        let table = self.registry.table();
        let Some(row) = table.get("", "v1", "pods") else {
            return Ok(false);
        };
        let shard = self.cache.shard(row).await?;
        if self.graph.relates(&shard, row, node, kind, namespace, name) {
            return Ok(true);
        }
        match kind {
            Kind::Secret => self.volume_needs(node, namespace, name).await,
            // Of a template: it belongs to its pod.
            Kind::ResourceClaim => {
                let found = self.load("resource.k8s.io", "resourceclaims", namespace, name).await?;
                let Some(claim) = found else { return Ok(false) };
                let text = |owner: &serde_json::Value, field: &str| {
                    owner
                        .get(field)
                        .and_then(serde_json::Value::as_str)
                        .unwrap_or_default()
                        .to_owned()
                };
                let mut owners = claim.array(&["metadata", "ownerReferences"]).iter();
                Ok(owners.any(|owner| {
                    text(owner, "kind") == "Pod"
                        && self
                            .graph
                            .relates(&shard, row, node, Kind::Pod, namespace, &text(owner, "name"))
                }))
            }
            _ => Ok(false),
        }
    }

    /// Whether a volume that is claimed by a pod on the node names the secret.
    async fn volume_needs(&self, node: &str, namespace: &str, secret: &str) -> Result<bool, Status> {
        let table = self.registry.table();
        let Some(row) = table.get("", "v1", "persistentvolumes") else {
            return Ok(false);
        };
        let shard = self.cache.shard(row).await?;
        let Some(all) = shard.snapshot(&Selection::all(row, ""), None, 0, 0) else {
            return Ok(false);
        };
        for item in &all.items {
            // Most volumes name no secret at all.
            if !item.object.raw().windows(6).any(|w| w.eq_ignore_ascii_case(b"secret")) {
                continue;
            }
            let volume = item.object.to_object();
            if references::volume_secrets(&volume).contains(&(namespace.to_owned(), secret.to_owned()))
                && self.claimed_on(node, &volume).await?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn claimed_on(&self, node: &str, volume: &Object) -> Result<bool, Status> {
        let claim = |field: &str| volume.str(&["spec", "claimRef", field]).unwrap_or_default();
        let (namespace, name) = (claim("namespace"), claim("name"));
        if name.is_empty() {
            return Ok(false);
        }
        let table = self.registry.table();
        let Some(row) = table.get("", "v1", "pods") else {
            return Ok(false);
        };
        let shard = self.cache.shard(row).await?;
        Ok(self.graph.relates(&shard, row, node, Kind::Claim, namespace, name))
    }

    async fn related(&self, node: &str, kind: Kind, r: &ResourceAttributes) -> Result<Decision, Status> {
        if r.name.is_empty() {
            return Ok(no("No Object name found"));
        }
        Ok(if self.relates(node, kind, &r.namespace, &r.name).await? {
            yes()
        } else {
            no(unrelated(node))
        })
    }

    async fn get(&self, node: &str, kind: Kind, verb: &str, r: &ResourceAttributes) -> Result<Decision, Status> {
        if verb != "get" {
            return Ok(no("can only get individual resources of this type"));
        }
        if !r.subresource.is_empty() {
            return Ok(no("cannot get subresource"));
        }
        self.related(node, kind, r).await
    }

    async fn read(&self, node: &str, kind: Kind, verb: &str, r: &ResourceAttributes) -> Result<Decision, Status> {
        if !matches!(verb, "get" | "list" | "watch") {
            return Ok(no("can only read resources of this type"));
        }
        if !r.subresource.is_empty() {
            return Ok(no("cannot read subresource"));
        }
        if r.namespace.is_empty() {
            return Ok(no("can only read namespaced object of this type"));
        }
        self.related(node, kind, r).await
    }

    async fn claim(&self, node: &str, verb: &str, r: &ResourceAttributes) -> Result<Decision, Status> {
        if r.subresource != "status" {
            return self.get(node, Kind::Claim, verb, r).await;
        }
        if !matches!(verb, "update" | "patch") {
            return Ok(no("can only get/update/patch this type"));
        }
        self.related(node, Kind::Claim, r).await
    }

    async fn volume(&self, node: &str, verb: &str, r: &ResourceAttributes) -> Result<Decision, Status> {
        if verb != "get" {
            return Ok(no("can only get individual resources of this type"));
        }
        if !r.subresource.is_empty() {
            return Ok(no("cannot get subresource"));
        }
        let claimed = match self.load("", "persistentvolumes", "", &r.name).await? {
            Some(volume) => self.claimed_on(node, &volume).await?,
            None => false,
        };
        Ok(if claimed { yes() } else { no(unrelated(node)) })
    }

    async fn attachment(&self, node: &str, verb: &str, r: &ResourceAttributes) -> Result<Decision, Status> {
        if verb != "get" {
            return Ok(no("can only get individual resources of this type"));
        }
        if !r.subresource.is_empty() {
            return Ok(no("cannot get subresource"));
        }
        let found = self.load("storage.k8s.io", "volumeattachments", "", &r.name).await?;
        let own = found.is_some_and(|a| a.str(&["spec", "nodeName"]) == Some(node));
        Ok(if own { yes() } else { no(unrelated(node)) })
    }

    async fn token(&self, node: &str, verb: &str, r: &ResourceAttributes) -> Result<Decision, Status> {
        if verb == "get" && r.subresource.is_empty() && !r.name.is_empty() {
            // Pulling images with an account's token takes reading the account.
            return self.related(node, Kind::Account, r).await;
        }
        if verb != "create" || r.name.is_empty() {
            return Ok(no("can only create tokens for individual service accounts"));
        }
        if r.subresource != "token" {
            return Ok(no("can only create token subresource of serviceaccount"));
        }
        self.related(node, Kind::Account, r).await
    }

    async fn slice(&self, node: &str, verb: &str, r: &ResourceAttributes) -> Result<Decision, Status> {
        if !r.subresource.is_empty() {
            return Ok(no("cannot authorize ResourceSlice subresources"));
        }
        match verb {
            // Admission sees whose it is.
            "create" => Ok(yes()),
            "get" | "update" | "patch" | "delete" => {
                let found = self.load("resource.k8s.io", "resourceslices", "", &r.name).await?;
                let own = found.is_some_and(|s| s.str(&["spec", "nodeName"]) == Some(node));
                Ok(if own { yes() } else { no(unrelated(node)) })
            }
            "watch" | "list" | "deletecollection" if r.pins("spec.nodeName", node) => Ok(yes()),
            "watch" | "list" | "deletecollection" => Ok(no(
                "can only list/watch/deletecollection resourceslices with nodeName field selector",
            )),
            _ => Ok(no(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, \
                 delete, deletecollection",
            )),
        }
    }

    async fn pod_certificate(&self, node: &str, verb: &str, r: &ResourceAttributes) -> Result<Decision, Status> {
        if !r.subresource.is_empty() {
            return Ok(no("cannot authorize PodCertificateRequest subresources"));
        }
        match verb {
            // Admission sees whose it is.
            "create" => Ok(yes()),
            "get" => {
                let group = "certificates.k8s.io";
                let found = self
                    .load(group, "podcertificaterequests", &r.namespace, &r.name)
                    .await?;
                let own = found.is_some_and(|s| s.str(&["spec", "nodeName"]) == Some(node));
                Ok(if own { yes() } else { no(unrelated(node)) })
            }
            "watch" | "list" if r.pins("spec.nodeName", node) => Ok(yes()),
            "watch" | "list" => Ok(no(
                "can only list/watch podcertificaterequests with spec.nodeName field selector",
            )),
            _ => Ok(no("can only create, get, list, or watch a PodCertificateRequest")),
        }
    }

    async fn pod(&self, node: &str, verb: &str, r: &ResourceAttributes) -> Result<Decision, Status> {
        match (r.subresource.as_str(), verb) {
            ("", "get") => self.get(node, Kind::Pod, verb, r).await,
            ("", "list" | "watch") if r.pins("spec.nodeName", node) => Ok(yes()),
            ("", "list" | "watch") if !r.name.is_empty() => self.related(node, Kind::Pod, r).await,
            ("", "list" | "watch") => Ok(no("can only list/watch pods with spec.nodeName field selector")),
            // Admission sees to it that they are mirror pods, and this node's.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(yes()),
            _ => Ok(no("")),
        }
    }
}

fn unrelated(node: &str) -> String {
    format!("no relationship found between node '{node}' and this object")
}

/// Its own, by name; at a create the name is not known, and admission sees it.
fn own(node: &str, verb: &str, r: &ResourceAttributes, what: &str) -> Decision {
    if !matches!(verb, "get" | "create" | "update" | "patch" | "delete") {
        let article = if what == "CSINode" { "CSINode" } else { "node lease" };
        return no(format!("can only get, create, update, patch, or delete a {article}"));
    }
    if what == "CSINode" && !r.subresource.is_empty() {
        return no("cannot authorize CSINode subresources");
    }
    if what == "node lease" && r.namespace != LEASES {
        return no(format!("can only access leases in the {LEASES:?} system namespace"));
    }
    if verb != "create" && r.name != node {
        return no(format!(
            "can only access {what} with the same name as the requesting node"
        ));
    }
    yes()
}

fn own_node(node: &str, verb: &str, r: &ResourceAttributes) -> Decision {
    match (r.subresource.as_str(), verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => yes(),
        ("", "get" | "list" | "watch") => match r.name.as_str() {
            name if name == node => yes(),
            "" => no(format!("node '{node}' cannot read all nodes, only its own Node object")),
            other => no(format!("node '{node}' cannot read '{other}', only its own Node object")),
        },
        _ => no(""),
    }
}

#[async_trait]
impl Authorizer for NodeAuthorizer {
    async fn authorize(&self, attributes: &Attributes) -> Result<Decision, Status> {
        let Some(node) = identity(&attributes.user) else {
            return Ok(no(""));
        };
        if node.is_empty() {
            return Ok(no(format!("unknown node for user {:?}", attributes.user.name)));
        }
        let verb = attributes.verb.as_str();
        if let Some(r) = &attributes.resource {
            match (r.group.as_str(), r.resource.as_str()) {
                ("", "secrets") => return self.read(node, Kind::Secret, verb, r).await,
                ("", "configmaps") => return self.read(node, Kind::ConfigMap, verb, r).await,
                ("", "persistentvolumeclaims") => return self.claim(node, verb, r).await,
                ("", "persistentvolumes") => return self.volume(node, verb, r).await,
                ("resource.k8s.io", "resourceclaims") => return self.get(node, Kind::ResourceClaim, verb, r).await,
                ("storage.k8s.io", "volumeattachments") => return self.attachment(node, verb, r).await,
                ("", "serviceaccounts") => return self.token(node, verb, r).await,
                ("coordination.k8s.io", "leases") => return Ok(own(node, verb, r, "node lease")),
                ("storage.k8s.io", "csinodes") => return Ok(own(node, verb, r, "CSINode")),
                ("resource.k8s.io", "resourceslices") => return self.slice(node, verb, r).await,
                ("certificates.k8s.io", "podcertificaterequests") => return self.pod_certificate(node, verb, r).await,
                ("", "nodes") => return Ok(own_node(node, verb, r)),
                ("", "pods") => return self.pod(node, verb, r).await,
                _ => {}
            }
        }
        Ok(if self.rules.iter().any(|rule| rule.allows(attributes)) {
            yes()
        } else {
            no("")
        })
    }

    async fn rules(&self, user: &UserInfo, _namespace: &str) -> Result<Rules, Status> {
        Ok(match identity(user) {
            Some(_) => Rules {
                rules: Vec::new(),
                incomplete: Some("node authorizer does not support user rule resolution".into()),
            },
            None => Rules::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, groups: &[&str]) -> UserInfo {
        UserInfo {
            name: name.into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            ..UserInfo::default()
        }
    }

    #[test]
    fn an_agent_is_known_by_name_and_group_together() {
        assert_eq!(identity(&user("system:node:n", &[GROUP])), Some("n"));
        assert_eq!(identity(&user("system:node:n", &[])), None);
        assert_eq!(identity(&user("n", &[GROUP])), None);
        assert_eq!(identity(&user("system:node:", &[GROUP])), Some(""));
    }

    #[test]
    fn what_is_its_own_has_its_name() {
        let r = |namespace: &str, name: &str| ResourceAttributes {
            namespace: namespace.into(),
            name: name.into(),
            ..ResourceAttributes::default()
        };
        assert_eq!(own("n", "get", &r(LEASES, "n"), "node lease"), yes());
        assert_eq!(own("n", "create", &r(LEASES, ""), "node lease"), yes());
        assert_ne!(own("n", "get", &r(LEASES, "m"), "node lease"), yes());
        assert_ne!(own("n", "get", &r("default", "n"), "node lease"), yes());
        assert_ne!(own("n", "list", &r(LEASES, ""), "node lease"), yes());
        assert_eq!(own_node("n", "watch", &r("", "n")), yes());
        assert_ne!(own_node("n", "list", &r("", "")), yes());
        assert_ne!(own_node("n", "delete", &r("", "n")), yes());
    }
}
