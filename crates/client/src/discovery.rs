//! What the server serves: every resource with its verbs. It asks once; keeping the answer fresh is the caller's.

use bytes::Bytes;
use http::header::{ACCEPT, HeaderValue};
use serde::Deserialize;

use crate::http::Outgoing;
use crate::kind::ApiResource;
use crate::{Client, Error};

/// One resource in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovered {
    pub resource: ApiResource,
    pub singular: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub verbs: Vec<String>,
    /// The names of its subresources: `status`, `scale`.
    pub subresources: Vec<String>,
    /// It is served in the version that its group prefers.
    pub preferred: bool,
}

impl Discovered {
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }
}

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

impl Client {
    /// Every resource that the server serves. A group whose server does not answer is left out.
    pub async fn discover(&self) -> Result<Vec<Discovered>, Error> {
        if let Some(registry) = self.registry() {
            return Ok(from_registry(&registry.table()));
        }
        let mut all = Vec::new();
        for path in ["/api", "/apis"] {
            let body = self.get_json(path, AGGREGATED).await?;
            let found: Answer = decode(path, &body)?;
            match found {
                Answer::Aggregated { items } => {
                    for group in items {
                        aggregated(group, &mut all);
                    }
                }
                Answer::Groups { groups } => {
                    for group in groups {
                        self.group(&group, &mut all).await?;
                    }
                }
                Answer::Versions { versions } => {
                    for version in versions {
                        self.version("", &version, true, &mut all).await?;
                    }
                }
            }
        }
        Ok(all)
    }

    async fn group(&self, group: &Group, all: &mut Vec<Discovered>) -> Result<(), Error> {
        for (at, version) in group.versions.iter().enumerate() {
            let preferred = group
                .preferred_version
                .as_ref()
                .map_or(at == 0, |p| p.version == version.version);
            match self.version(&group.name, &version.version, preferred, all).await {
                // Its aggregated server is down or gone.
                Err(Error::Api(status)) if status.code == 503 || status.code == 404 => {
                    tracing::warn!(group = group.name, error = %status, "a group cannot be discovered");
                }
                other => other?,
            }
        }
        Ok(())
    }

    async fn version(
        &self,
        group: &str,
        version: &str,
        preferred: bool,
        all: &mut Vec<Discovered>,
    ) -> Result<(), Error> {
        let path = if group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{group}/{version}")
        };
        let list: ResourceList = decode(&path, &self.get_json(&path, "application/json").await?)?;
        let start = all.len();
        for r in list.resources {
            if let Some((parent, subresource)) = r.name.split_once('/') {
                if let Some(parent) = all[start..].iter_mut().find(|d| d.resource.plural == parent) {
                    parent.subresources.push(subresource.to_owned());
                }
                continue;
            }
            all.push(Discovered {
                resource: ApiResource {
                    group: group.to_owned().into(),
                    version: version.to_owned().into(),
                    kind: r.kind.into(),
                    plural: r.name.into(),
                    namespaced: r.namespaced,
                },
                singular: r.singular_name,
                short_names: r.short_names,
                categories: r.categories,
                verbs: r.verbs,
                subresources: Vec::new(),
                preferred,
            });
        }
        Ok(())
    }

    async fn get_json(&self, path: &str, accept: &'static str) -> Result<Bytes, Error> {
        let mut request = Outgoing::get(path);
        request.headers.insert(ACCEPT, HeaderValue::from_static(accept));
        Ok(self.http("discovery")?.fetch(&request).await?.1)
    }
}

fn decode<'a, T: Deserialize<'a>>(path: &str, body: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|e| Error::decode(format!("discovery at {path}"), e))
}

fn from_registry(table: &coracle_api::resource::Table) -> Vec<Discovered> {
    let names = |list: &[coracle_api::resource::Name]| list.iter().map(ToString::to_string).collect();
    let mut groups = std::collections::BTreeMap::<String, String>::new();
    for row in table.iter() {
        let best = groups
            .entry(row.group.to_string())
            .or_insert_with(|| row.version.to_string());
        if priority(&row.version) > priority(best) {
            *best = row.version.to_string();
        }
    }
    let found = table.iter().map(|row| Discovered {
        resource: ApiResource::from(row.as_ref()),
        singular: row.singular.to_string(),
        short_names: names(&row.short_names),
        categories: names(&row.categories),
        verbs: row.verbs.names().map(str::to_owned).collect(),
        subresources: row.subresources.iter().map(|s| s.name.to_string()).collect(),
        preferred: groups.get(row.group.as_ref()).is_some_and(|v| *v == row.version),
    });
    found.collect()
}

/// Orders versions as Kubernetes does: stable over beta over alpha, then by number (`v2` over `v1` over `v1beta2`).
fn priority(version: &str) -> (u8, u32, u32) {
    let number = |text: &str| text.parse::<u32>().ok();
    let Some(rest) = version.strip_prefix('v') else {
        return (0, 0, 0);
    };
    for (word, rank) in [("alpha", 1), ("beta", 2)] {
        if let Some((major, minor)) = rest.split_once(word) {
            return match (number(major), number(minor)) {
                (Some(major), Some(minor)) => (rank, major, minor),
                _ => (0, 0, 0),
            };
        }
    }
    number(rest).map_or((0, 0, 0), |major| (3, major, 0))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Aggregated { items: Vec<AggregatedGroup> },
    Groups { groups: Vec<Group> },
    Versions { versions: Vec<String> },
}

#[derive(Deserialize)]
struct AggregatedGroup {
    #[serde(default)]
    metadata: GroupMeta,
    #[serde(default)]
    versions: Vec<AggregatedVersion>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct GroupMeta {
    name: String,
}

#[derive(Deserialize)]
struct AggregatedVersion {
    version: String,
    #[serde(default)]
    resources: Vec<AggregatedResource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AggregatedResource {
    resource: String,
    /// Absent when only a subresource is served.
    #[serde(default)]
    response_kind: Option<AggregatedKind>,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    singular_resource: String,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    short_names: Vec<String>,
    #[serde(default)]
    categories: Vec<String>,
    #[serde(default)]
    subresources: Vec<AggregatedSubresource>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AggregatedKind {
    kind: String,
}

#[derive(Deserialize)]
struct AggregatedSubresource {
    subresource: String,
}

fn aggregated(group: AggregatedGroup, all: &mut Vec<Discovered>) {
    for (at, version) in group.versions.into_iter().enumerate() {
        for r in version.resources {
            all.push(Discovered {
                resource: ApiResource {
                    group: group.metadata.name.clone().into(),
                    version: version.version.clone().into(),
                    kind: r.response_kind.unwrap_or_default().kind.into(),
                    plural: r.resource.into(),
                    namespaced: r.scope == "Namespaced",
                },
                singular: r.singular_resource,
                short_names: r.short_names,
                categories: r.categories,
                verbs: r.verbs,
                subresources: r.subresources.into_iter().map(|s| s.subresource).collect(),
                preferred: at == 0,
            });
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    name: String,
    versions: Vec<GroupVersion>,
    #[serde(default)]
    preferred_version: Option<GroupVersion>,
}

#[derive(Deserialize)]
struct GroupVersion {
    version: String,
}

#[derive(Deserialize)]
struct ResourceList {
    #[serde(default)]
    resources: Vec<ListedResource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedResource {
    name: String,
    #[serde(default)]
    singular_name: String,
    namespaced: bool,
    kind: String,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    short_names: Vec<String>,
    #[serde(default)]
    categories: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_kubernetes_orders_them() {
        let mut versions = ["v1beta1", "v2", "foo", "v1", "v11alpha2", "v1beta2", "v10"];
        versions.sort_by_key(|v| std::cmp::Reverse(priority(v)));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta2", "v1beta1", "v11alpha2", "foo"]);
    }
}
