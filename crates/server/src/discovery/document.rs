//! The documents of discovery as JSON.

use coracle_api::resource::{Resource, Table, Verbs};
use serde_json::{Map, Value, json};

/// The order in which upstream lists its groups: clients that find a name in two groups take the first.
const ORDER: [&str; 23] = [
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "storagemigration.k8s.io",
];

/// A group's name and its versions, each with its rows.
type Group<'a> = (&'a str, Vec<(&'a str, Vec<&'a Resource>)>);

/// The groups in order, each with its versions in order of preference.
fn groups(table: &Table) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for row in table.iter() {
        let (group, version) = (row.group.as_ref(), row.version.as_ref());
        if groups.last().is_none_or(|(g, _)| *g != group) {
            groups.push((group, Vec::new()));
        }
        let Some((_, versions)) = groups.last_mut() else {
            continue;
        };
        match versions.iter_mut().find(|(v, _)| *v == version) {
            Some((_, rows)) => rows.push(row),
            None => versions.push((version, vec![row.as_ref()])),
        }
    }
    for (_, versions) in &mut groups {
        versions.sort_by_key(|(v, _)| std::cmp::Reverse(rank(v)));
    }
    groups.sort_by_key(|(g, _)| ORDER.iter().position(|o| o == g).unwrap_or(ORDER.len()));
    groups
}

/// How much a version is preferred: stable over beta over alpha, then the higher numbers.
pub(crate) fn rank(version: &str) -> (u8, u64, u64) {
    let parse = || -> Option<(u8, u64, u64)> {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (major, rest) = rest.split_at(digits);
        let major: u64 = major.parse().ok()?;
        if rest.is_empty() {
            return Some((3, major, 0));
        }
        let (level, minor) = match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
            (Some(minor), _) => (2, minor),
            (_, Some(minor)) => (1, minor),
            _ => return None,
        };
        Some((level, major, if minor.is_empty() { 0 } else { minor.parse().ok()? }))
    };
    parse().unwrap_or((0, 0, 0))
}

pub(super) fn versions() -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [],
    })
}

fn group_value(group: &str, versions: &[(&str, Vec<&Resource>)]) -> Value {
    let one = |version: &str| json!({"groupVersion": format!("{group}/{version}"), "version": version});
    let all: Vec<Value> = versions.iter().map(|(v, _)| one(v)).collect();
    let preferred = all.first().cloned().unwrap_or_default();
    json!({"name": group, "versions": all, "preferredVersion": preferred})
}

pub(super) fn group_list(table: &Table) -> Value {
    let all: Vec<Value> = groups(table)
        .iter()
        .filter(|(g, _)| !g.is_empty())
        .map(|(g, v)| group_value(g, v))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": all})
}

pub(super) fn one_group(table: &Table, group: &str) -> Option<Value> {
    let all = groups(table);
    let (group, versions) = all.iter().find(|(g, _)| *g == group && !g.is_empty())?;
    let mut value = group_value(group, versions);
    if let Value::Object(map) = &mut value {
        map.insert("kind".into(), "APIGroup".into());
        map.insert("apiVersion".into(), "v1".into());
    }
    Some(value)
}

fn verbs(verbs: Verbs) -> Value {
    Value::Array(verbs.names().map(Value::from).collect())
}

pub(super) fn resource_list(table: &Table, group: &str, version: &str) -> Option<Value> {
    let rows: Vec<&Resource> = table
        .iter()
        .map(AsRef::as_ref)
        .filter(|r| r.group == group && r.version == version)
        .collect();
    let first = rows.first()?;
    let mut list = Vec::new();
    for row in &rows {
        let mut entry = Map::new();
        entry.insert("name".into(), row.plural.as_ref().into());
        entry.insert("singularName".into(), row.singular.as_ref().into());
        entry.insert("namespaced".into(), row.is_namespaced().into());
        entry.insert("kind".into(), row.kind.as_ref().into());
        entry.insert("verbs".into(), verbs(row.verbs));
        if !row.short_names.is_empty() {
            entry.insert("shortNames".into(), json!(row.short_names));
        }
        if !row.categories.is_empty() {
            entry.insert("categories".into(), json!(row.categories));
        }
        if !crate::registry::is_virtual(row) {
            entry.insert("storageVersionHash".into(), storage_hash(row).into());
        }
        list.push(Value::Object(entry));
        for sub in subresources(row) {
            let mut entry = Map::new();
            entry.insert("name".into(), format!("{}/{}", row.plural, sub.name).into());
            entry.insert("singularName".into(), "".into());
            entry.insert("namespaced".into(), row.is_namespaced().into());
            match &sub.kind {
                Some((group, version, kind)) => {
                    entry.insert("kind".into(), kind.as_ref().into());
                    if group != &row.group || version != &row.version {
                        entry.insert("group".into(), group.as_ref().into());
                        entry.insert("version".into(), version.as_ref().into());
                    }
                }
                None => {
                    entry.insert("kind".into(), row.kind.as_ref().into());
                }
            }
            entry.insert("verbs".into(), verbs(sub.verbs));
            list.push(Value::Object(entry));
        }
    }
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": first.api_version(),
        "resources": list,
    }))
}

fn subresources(row: &Resource) -> Vec<&coracle_api::resource::Subresource> {
    let mut all: Vec<_> = row.subresources.iter().collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn storage_hash(row: &Resource) -> String {
    use base64::Engine;
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(format!("{}/{}", row.storage.api_version, row.kind));
    base64::engine::general_purpose::STANDARD.encode(digest.get(..8).unwrap_or_default())
}

pub(super) fn aggregated(table: &Table, core: bool, version: &str) -> Value {
    let mut items = Vec::new();
    for (group, versions) in groups(table).iter().filter(|(g, _)| g.is_empty() == core) {
        let versions: Vec<Value> = versions
            .iter()
            .map(|(version, rows)| {
                let resources: Vec<Value> = rows.iter().map(|row| aggregated_resource(row)).collect();
                json!({"version": version, "resources": resources, "freshness": "Current"})
            })
            .collect();
        let mut metadata = json!({"creationTimestamp": null});
        if let Value::Object(metadata) = &mut metadata
            && !group.is_empty()
        {
            metadata.insert("name".into(), (*group).into());
        }
        items.push(json!({"metadata": metadata, "versions": versions}));
    }
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn kind(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn aggregated_resource(row: &Resource) -> Value {
    let mut entry = Map::new();
    entry.insert("resource".into(), row.plural.as_ref().into());
    entry.insert("responseKind".into(), kind(&row.group, &row.version, &row.kind));
    entry.insert(
        "scope".into(),
        if row.is_namespaced() { "Namespaced" } else { "Cluster" }.into(),
    );
    entry.insert("singularResource".into(), row.singular.as_ref().into());
    entry.insert("verbs".into(), verbs(row.verbs));
    if !row.short_names.is_empty() {
        entry.insert("shortNames".into(), json!(row.short_names));
    }
    if !row.categories.is_empty() {
        entry.insert("categories".into(), json!(row.categories));
    }
    if !row.subresources.is_empty() {
        let all: Vec<Value> = subresources(row)
            .into_iter()
            .map(|sub| {
                let speaks = match &sub.kind {
                    Some((g, v, k)) => kind(g, v, k),
                    None => kind(&row.group, &row.version, &row.kind),
                };
                json!({"subresource": sub.name, "responseKind": speaks, "verbs": verbs(sub.verbs)})
            })
            .collect();
        entry.insert("subresources".into(), all.into());
    }
    Value::Object(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_versions_come_before_beta_and_higher_ones_before_lower() {
        let mut versions = ["v1beta1", "v1", "v2alpha1", "v10", "v2", "v1beta2", "odd"];
        versions.sort_by_key(|v| std::cmp::Reverse(rank(v)));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta2", "v1beta1", "v2alpha1", "odd"]);
    }
}
