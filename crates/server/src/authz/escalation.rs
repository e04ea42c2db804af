//! Nobody grants what they do not have: roles and bindings are checked against the rights of who writes them, unless these
//! include the verbs `escalate` and `bind`.

use std::collections::BTreeMap;

use coracle_api::object::Object;
use coracle_api::status::{Of, Status};

use super::{Attributes, Decision, ResourceAttributes, Rule, rbac};
use crate::registry::{Call, read};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Checks a create (no `old`) or update of the main resource.
pub(crate) async fn check(call: &Call<'_>, new: &Object, old: Option<&Object>) -> Result<(), Status> {
    if call.row.group != GROUP || old.is_some_and(|old| only_lets_go(new, old)) {
        return Ok(());
    }
    match call.row.plural.as_ref() {
        "roles" | "clusterroles" => role(call, new).await,
        "rolebindings" | "clusterrolebindings" => binding(call, new).await,
        _ => Ok(()),
    }
}

/// Whether nothing changes but what the garbage collector changes to let an object go.
fn only_lets_go(new: &Object, old: &Object) -> bool {
    let rest = |object: &Object| {
        let mut rest = object.clone();
        for field in ["ownerReferences", "finalizers", "managedFields", "resourceVersion"] {
            rest.remove(&["metadata", field]);
        }
        rest
    };
    rest(new) == rest(old)
}

async fn may(call: &Call<'_>, verb: &str, resource: &str, name: &str) -> Result<bool, Status> {
    let question = Attributes {
        user: call.user.clone(),
        verb: verb.into(),
        resource: Some(ResourceAttributes {
            group: GROUP.into(),
            resource: resource.into(),
            namespace: call.target.namespace.clone(),
            name: name.into(),
            ..ResourceAttributes::default()
        }),
        path: String::new(),
    };
    let decision = call.core.authorizer.authorize(&question).await?;
    Ok(matches!(decision, Decision::Allow(_)))
}

async fn role(call: &Call<'_>, role: &Object) -> Result<(), Status> {
    if may(call, "escalate", &call.row.plural, role.name()).await? {
        return Ok(());
    }
    let rules: Vec<Rule> = role.array(&["rules"]).iter().map(rbac::rule).collect();
    confirm(call, role.name(), &rules).await?;
    let sums_up = role.get(&["aggregationRule"]).is_some_and(|rule| !rule.is_null());
    if !sums_up {
        return Ok(());
    }
    // Who sums up roles may come by anything.
    let any = || vec!["*".to_owned()];
    let all = [
        Rule {
            verbs: any(),
            groups: any(),
            resources: any(),
            ..Rule::default()
        },
        Rule {
            verbs: any(),
            paths: any(),
            ..Rule::default()
        },
    ];
    confirm(call, role.name(), &all).await.map_err(|_| {
        Status::forbidden(
            call.of(),
            role.name(),
            "must have cluster-admin privileges to use the aggregationRule",
        )
    })
}

async fn binding(call: &Call<'_>, binding: &Object) -> Result<(), Status> {
    let name = binding.str(&["roleRef", "name"]).unwrap_or_default();
    let (plural, namespace) = match binding.str(&["roleRef", "kind"]) {
        Some("ClusterRole") => ("clusterroles", ""),
        Some("Role") => ("roles", call.target.namespace.as_str()),
        // Validation says what is wrong.
        _ => return Ok(()),
    };
    if may(call, "bind", plural, name).await? {
        return Ok(());
    }
    let table = call.core.registry.table();
    let row = table.get(GROUP, "v1", plural).ok_or_else(Status::no_such_resource)?;
    let found = read::load(call.core, row, &row.key(namespace, name)).await?;
    let of = Of { group: GROUP, plural };
    let role = found.ok_or_else(|| Status::not_found(of, name))?.object;
    let rules: Vec<Rule> = role.array(&["rules"]).iter().map(rbac::rule).collect();
    confirm(call, binding.name(), &rules).await
}

/// Refuses rules of which the user does not have a part.
async fn confirm(call: &Call<'_>, name: &str, wanted: &[Rule]) -> Result<(), Status> {
    let held = call.core.authorizer.rules(call.user, &call.target.namespace).await?;
    let missing = uncovered(&held.rules, wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let mut lines: Vec<String> = compact(missing).iter().map(shown).collect();
    lines.sort();
    let user = call.user;
    let why = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        quoted(&user.groups),
        lines.join("\n")
    );
    Err(Status::forbidden(call.of(), name, &why))
}

/// Go's `%q` of a list.
fn quoted(list: &[String]) -> String {
    let items: Vec<String> = list.iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", items.join(" "))
}

fn shown(rule: &Rule) -> String {
    let fields = [
        ("APIGroups", &rule.groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.paths),
        ("ResourceNames", &rule.names),
        ("Verbs", &rule.verbs),
    ];
    let parts: Vec<String> = fields
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}:{}", quoted(list)))
        .collect();
    format!("{{{}}}", parts.join(", "))
}

/// Whether `held` allows all that `wanted` allows.
pub(crate) fn is_covered(held: &[Rule], wanted: &Rule) -> bool {
    uncovered(held, std::slice::from_ref(wanted)).is_empty()
}

/// The single permissions of `wanted` that no rule of `held` covers.
fn uncovered(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let mut missing = Vec::new();
    for rule in wanted {
        for single in singles(rule) {
            if !held.iter().any(|h| covers(h, &single)) && !missing.contains(&single) {
                missing.push(single);
            }
        }
    }
    missing
}

/// A rule as rules of one verb, one group, one resource and at most one name each.
fn singles(rule: &Rule) -> Vec<Rule> {
    let mut all = Vec::new();
    for verb in &rule.verbs {
        for group in &rule.groups {
            for resource in &rule.resources {
                let one = |names: Vec<String>| Rule {
                    verbs: vec![verb.clone()],
                    groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    names,
                    paths: Vec::new(),
                };
                if rule.names.is_empty() {
                    all.push(one(Vec::new()));
                }
                all.extend(rule.names.iter().map(|name| one(vec![name.clone()])));
            }
        }
        all.extend(rule.paths.iter().map(|path| Rule {
            verbs: vec![verb.clone()],
            paths: vec![path.clone()],
            ..Rule::default()
        }));
    }
    all
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

fn covers(held: &Rule, single: &Rule) -> bool {
    let first = |list: &'_ [String]| list.first().cloned().unwrap_or_default();
    if !has(&held.verbs, &first(&single.verbs)) {
        return false;
    }
    if let Some(path) = single.paths.first() {
        return held.paths.iter().any(|h| match h.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => h == path,
        });
    }
    let resource = first(&single.resources);
    let by_part = resource
        .split_once('/')
        .is_some_and(|(_, part)| held.resources.contains(&format!("*/{part}")));
    let names = held.names.is_empty() || single.names.first().is_some_and(|n| held.names.contains(n));
    has(&held.groups, &first(&single.groups)) && (has(&held.resources, &resource) || by_part) && names
}

/// Rules that differ in their verbs alone become one.
fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let mut merged: BTreeMap<[Vec<String>; 3], Rule> = BTreeMap::new();
    let mut all = Vec::new();
    for rule in rules {
        if !rule.paths.is_empty() {
            all.push(rule);
            continue;
        }
        let key = [rule.groups.clone(), rule.resources.clone(), rule.names.clone()];
        match merged.get_mut(&key) {
            Some(known) => known.verbs.extend(rule.verbs),
            None => {
                merged.insert(key, rule);
            }
        }
    }
    all.extend(merged.into_values());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> Rule {
        let own = |list: &[&str]| list.iter().map(|i| (*i).to_owned()).collect();
        Rule {
            verbs: own(verbs),
            groups: own(groups),
            resources: own(resources),
            names: own(names),
            paths: Vec::new(),
        }
    }

    #[test]
    fn a_rule_is_covered_when_each_single_permission_is() {
        let held = [
            rule(&["get", "list"], &[""], &["pods"], &[]),
            rule(&["*"], &["apps"], &["*"], &[]),
            rule(&["get"], &[""], &["secrets"], &["a"]),
            rule(&["update"], &["*"], &["*/scale"], &[]),
        ];
        for (wanted, expected) in [
            (rule(&["get"], &[""], &["pods"], &[]), 0),
            (rule(&["get"], &[""], &["pods"], &["x"]), 0),
            (rule(&["get", "watch"], &[""], &["pods"], &[]), 1),
            (rule(&["delete"], &["apps"], &["deployments"], &[]), 0),
            (rule(&["get"], &[""], &["secrets"], &["a"]), 0),
            (rule(&["get"], &[""], &["secrets"], &[]), 1),
            (rule(&["get"], &[""], &["secrets"], &["a", "b"]), 1),
            (rule(&["update"], &["x"], &["y/scale"], &[]), 0),
            (rule(&["get"], &[""], &["*"], &[]), 1),
        ] {
            assert_eq!(
                uncovered(&held, std::slice::from_ref(&wanted)).len(),
                expected,
                "{wanted:?}"
            );
        }
    }

    #[test]
    fn what_is_missing_is_shown_as_upstream_shows_it() {
        let missing = uncovered(&[], &[rule(&["get", "list"], &[""], &["pods", "secrets"], &[])]);
        let lines: Vec<String> = compact(missing).iter().map(shown).collect();
        assert_eq!(
            lines,
            [
                "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\" \"list\"]}",
                "{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\"]}",
            ]
        );
    }
}
