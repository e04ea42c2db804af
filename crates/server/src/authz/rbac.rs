//! Role-based access control: roles and bindings, compiled into what each subject may do, and compiled again when one
//! of them has changed.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use coracle_api::object::Object;
use coracle_api::resource::Registry;
use coracle_api::service::UserInfo;
use coracle_api::status::Status;
use serde_json::Value;

use super::{Attributes, Authorizer, Decision, Rule, Rules};
use crate::cache::{Cache, Selection, Shard};

const GROUP: &str = "rbac.authorization.k8s.io";
/// Roles and their bindings.
const KINDS: [&str; 4] = ["clusterroles", "roles", "clusterrolebindings", "rolebindings"];

/// See the module.
pub(crate) struct Rbac {
    cache: Arc<Cache>,
    registry: Arc<Registry>,
    compiled: ArcSwapOption<Compiled>,
}

/// What everybody may do, as of the given revisions of the four kinds.
struct Compiled {
    revisions: [u64; 4],
    grants: HashMap<Subject, Vec<Grant>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
    ServiceAccount(String, String),
}

/// Rules that hold for a subject in one namespace, or everywhere.
struct Grant {
    namespace: Option<String>,
    rules: Arc<Vec<Rule>>,
    binding: String,
}

impl Rbac {
    pub fn new(cache: Arc<Cache>, registry: Arc<Registry>) -> Self {
        Self {
            cache,
            registry,
            compiled: ArcSwapOption::empty(),
        }
    }

    async fn shards(&self) -> Result<Option<[Arc<Shard>; 4]>, Status> {
        let table = self.registry.table();
        let mut shards = Vec::with_capacity(4);
        for kind in KINDS {
            let Some(row) = table.get(GROUP, "v1", kind) else {
                return Ok(None);
            };
            shards.push(self.cache.shard(row).await?);
        }
        Ok(shards.try_into().ok())
    }

    async fn compiled(&self) -> Result<Option<Arc<Compiled>>, Status> {
        let Some(shards) = self.shards().await? else {
            return Ok(None);
        };
        let revisions = [0, 1, 2, 3].map(|i: usize| shards.get(i).and_then(|s| s.revision()).unwrap_or(0));
        if let Some(known) = self.compiled.load_full().filter(|c| c.revisions == revisions) {
            return Ok(Some(known));
        }
        let compiled = Arc::new(self.compile(&shards, revisions));
        self.compiled.store(Some(compiled.clone()));
        Ok(Some(compiled))
    }

    fn compile(&self, shards: &[Arc<Shard>; 4], revisions: [u64; 4]) -> Compiled {
        let table = self.registry.table();
        let objects = |i: usize| -> Vec<Object> {
            let (Some(kind), Some(shard)) = (KINDS.get(i), shards.get(i)) else {
                return Vec::new();
            };
            let Some(row) = table.get(GROUP, "v1", kind) else {
                return Vec::new();
            };
            let all = shard.snapshot(&Selection::all(row, ""), None, 0, 0);
            all.map(|s| s.items.iter().map(|i| i.object.to_object()).collect())
                .unwrap_or_default()
        };
        let mut roles: HashMap<(String, String), Arc<Vec<Rule>>> = HashMap::new();
        for role in objects(0).into_iter().chain(objects(1)) {
            let rules = role.array(&["rules"]).iter().map(rule).collect();
            roles.insert((role.namespace().to_owned(), role.name().to_owned()), Arc::new(rules));
        }
        let mut grants: HashMap<Subject, Vec<Grant>> = HashMap::new();
        for binding in objects(2).into_iter().chain(objects(3)) {
            let namespace = binding.namespace().to_owned();
            let name = binding.str(&["roleRef", "name"]).unwrap_or_default().to_owned();
            // A role is looked up where its kind says, never where a name happens to match.
            let role = match binding.str(&["roleRef", "kind"]) {
                Some("ClusterRole") => roles.get(&(String::new(), name)),
                Some("Role") if !namespace.is_empty() => roles.get(&(namespace.clone(), name)),
                _ => None,
            };
            let Some(rules) = role else { continue };
            for subject in binding.array(&["subjects"]).iter().filter_map(subject) {
                grants.entry(subject).or_default().push(Grant {
                    namespace: (!namespace.is_empty()).then(|| namespace.clone()),
                    rules: rules.clone(),
                    binding: binding.name().to_owned(),
                });
            }
        }
        Compiled { revisions, grants }
    }
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// From a role's rule.
pub(crate) fn rule(value: &Value) -> Rule {
    Rule {
        verbs: strings(value.get("verbs")),
        groups: strings(value.get("apiGroups")),
        resources: strings(value.get("resources")),
        names: strings(value.get("resourceNames")),
        paths: strings(value.get("nonResourceURLs")),
    }
}

fn subject(value: &Value) -> Option<Subject> {
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    match (text("kind").as_str(), text("apiGroup").as_str()) {
        ("User", GROUP | "") => Some(Subject::User(text("name"))),
        ("Group", GROUP | "") => Some(Subject::Group(text("name"))),
        ("ServiceAccount", "") => Some(Subject::ServiceAccount(text("namespace"), text("name"))),
        _ => None,
    }
}

/// Everything that a user is as a subject.
fn subjects(user: &UserInfo) -> Vec<Subject> {
    let mut all = vec![Subject::User(user.name.clone())];
    all.extend(user.groups.iter().map(|g| Subject::Group(g.clone())));
    if let Some((namespace, name)) = user
        .name
        .strip_prefix("system:serviceaccount:")
        .and_then(|r| r.split_once(':'))
    {
        all.push(Subject::ServiceAccount(namespace.into(), name.into()));
    }
    all
}

fn any_or(list: &[String], wanted: &str) -> bool {
    list.iter().any(|v| v == "*" || v == wanted)
}

impl Rule {
    pub(super) fn allows(&self, attributes: &Attributes) -> bool {
        if !any_or(&self.verbs, &attributes.verb) {
            return false;
        }
        let Some(r) = &attributes.resource else {
            return self.paths.iter().any(|p| path_matches(p, &attributes.path));
        };
        any_or(&self.groups, &r.group)
            && self
                .resources
                .iter()
                .any(|allowed| resource_matches(allowed, &r.resource, &r.subresource))
            && (self.names.is_empty() || self.names.contains(&r.name))
    }
}

/// `pods` is the pods alone, `pods/log` their log, `*/scale` the scale of anything, `*` anything.
fn resource_matches(allowed: &str, resource: &str, subresource: &str) -> bool {
    if allowed == "*" {
        return true;
    }
    if subresource.is_empty() {
        return allowed == resource;
    }
    match allowed.split_once('/') {
        Some((left, right)) => right == subresource && (left == "*" || left == resource),
        None => false,
    }
}

fn path_matches(allowed: &str, path: &str) -> bool {
    match allowed.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => allowed == path,
    }
}

#[async_trait]
impl Authorizer for Rbac {
    async fn authorize(&self, attributes: &Attributes) -> Result<Decision, Status> {
        let Some(compiled) = self.compiled().await? else {
            return Ok(Decision::NoOpinion(String::new()));
        };
        let namespace = attributes.resource.as_ref().map_or("", |r| r.namespace.as_str());
        for subject in subjects(&attributes.user) {
            for grant in compiled.grants.get(&subject).map_or(&[][..], Vec::as_slice) {
                let here = match &grant.namespace {
                    None => true,
                    Some(only) => attributes.resource.is_some() && only == namespace && !namespace.is_empty(),
                };
                if here && grant.rules.iter().any(|rule| rule.allows(attributes)) {
                    let kind = if grant.namespace.is_some() {
                        "RoleBinding"
                    } else {
                        "ClusterRoleBinding"
                    };
                    return Ok(Decision::Allow(format!("RBAC: allowed by {kind} {:?}", grant.binding)));
                }
            }
        }
        Ok(Decision::NoOpinion(String::new()))
    }

    async fn rules(&self, user: &UserInfo, namespace: &str) -> Result<Rules, Status> {
        let Some(compiled) = self.compiled().await? else {
            return Ok(Rules::default());
        };
        let mut all: Vec<Rule> = Vec::new();
        for subject in subjects(user) {
            for grant in compiled.grants.get(&subject).map_or(&[][..], Vec::as_slice) {
                if grant.namespace.as_deref().is_none_or(|only| only == namespace) {
                    for rule in grant.rules.iter() {
                        if !all.contains(rule) {
                            all.push(rule.clone());
                        }
                    }
                }
            }
        }
        Ok(Rules {
            rules: all,
            incomplete: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subresource_needs_a_rule_of_its_own() {
        for (allowed, resource, subresource, expected) in [
            ("pods", "pods", "", true),
            ("pods", "pods", "exec", false),
            ("pods/exec", "pods", "exec", true),
            ("pods/exec", "pods", "", false),
            ("*/scale", "deployments", "scale", true),
            ("*/scale", "deployments", "status", false),
            ("*", "pods", "exec", true),
        ] {
            assert_eq!(
                resource_matches(allowed, resource, subresource),
                expected,
                "{allowed} {resource}/{subresource}"
            );
        }
    }

    #[test]
    fn subjects_are_matched_by_kind_and_namespace() {
        let user = UserInfo {
            name: "system:serviceaccount:a:b".into(),
            ..UserInfo::default()
        };
        assert!(subjects(&user).contains(&Subject::ServiceAccount("a".into(), "b".into())));
        let group = serde_json::json!({"kind": "Group", "name": "b", "apiGroup": GROUP});
        assert_eq!(subject(&group), Some(Subject::Group("b".into())));
        assert_eq!(subject(&serde_json::json!({"kind": "Robot", "name": "b"})), None);
    }
}
