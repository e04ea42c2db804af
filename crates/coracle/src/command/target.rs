//! Which cluster the small client verbs talk to, and what the user's words name there.

use std::future::Future;

use anyhow::{Context, bail};
use coracle_client::discovery::Discovered;
use coracle_client::{Api, Client, Config, DynamicObject};
use coracle_clock::Clock;

use crate::cli::Target;

/// A connection with what discovery said.
pub struct Connection {
    pub client: Client,
    pub namespace: String,
    resources: Vec<Discovered>,
}

/// Runs one client verb to its end.
pub fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work)
}

impl Connection {
    pub async fn open(target: &Target) -> anyhow::Result<Self> {
        let config = match &target.kubeconfig {
            Some(path) => Config::from_kubeconfig(path, None)?,
            None => Config::infer()?,
        };
        let namespace = target.namespace.clone().unwrap_or_else(|| config.namespace.clone());
        let namespace = if namespace.is_empty() {
            "default".to_owned()
        } else {
            namespace
        };
        let client = Client::connect(config, Clock::system())?.named("coracle");
        let resources = client
            .discover()
            .await
            .context("cannot ask the server what it serves")?;
        Ok(Self {
            client,
            namespace,
            resources,
        })
    }

    /// The resource that a word names: plural, singular, short name or kind, with or without its group.
    pub fn resource(&self, word: &str) -> anyhow::Result<&Discovered> {
        let lower = word.to_lowercase();
        let (name, group) = lower
            .split_once('.')
            .map_or((lower.as_str(), None), |(n, g)| (n, Some(g)));
        let named = |d: &&Discovered| {
            let r = &d.resource;
            (r.plural == name
                || d.singular == name
                || r.kind.to_lowercase() == name
                || d.short_names.iter().any(|s| s == name))
                && group.is_none_or(|g| g == r.group)
        };
        let mut found: Vec<&Discovered> = self.resources.iter().filter(named).collect();
        // The core group before others, and a group's preferred version before its others.
        found.sort_by_key(|d| (!d.resource.group.is_empty(), !d.preferred));
        match found.first() {
            Some(first) => Ok(first),
            None => bail!("the server has no resource {word:?}; see `kubectl api-resources`"),
        }
    }

    /// The resource of a manifest.
    pub fn resource_of(&self, api_version: &str, kind: &str) -> anyhow::Result<&Discovered> {
        let wanted = |d: &&Discovered| d.resource.kind == kind && d.resource.api_version() == api_version;
        match self.resources.iter().find(wanted) {
            Some(found) => Ok(found),
            None => bail!("the server knows no {kind:?} in version {api_version:?}; is its definition installed?"),
        }
    }

    /// Its objects, in the namespace (when they have one).
    pub fn api(&self, resource: &Discovered, namespace: &str) -> Api<DynamicObject> {
        let api = self.client.dynamic::<DynamicObject>(&resource.resource);
        if resource.resource.namespaced {
            api.within(namespace)
        } else {
            api
        }
    }

    /// `deploy/web`, or `deploy web`, as resource and names.
    pub fn parse<'a>(&self, words: &'a [String]) -> anyhow::Result<(&Discovered, Vec<&'a str>)> {
        let Some(first) = words.first() else {
            bail!("say what, as in `deploy/web` or `pods`")
        };
        match first.split_once('/') {
            None => Ok((self.resource(first)?, words[1..].iter().map(String::as_str).collect())),
            Some((word, _)) => {
                let resource = self.resource(word)?;
                let mut names = Vec::new();
                for other in words {
                    match other.split_once('/') {
                        Some((w, name)) if w == word && !name.is_empty() => names.push(name),
                        _ => bail!("{other:?} does not fit; name all as {word}/NAME"),
                    }
                }
                Ok((resource, names))
            }
        }
    }
}

/// Every document of the files (`-` is standard input).
pub fn read_manifests(files: &[std::path::PathBuf]) -> anyhow::Result<Vec<serde_json::Value>> {
    let mut out = Vec::new();
    for file in files {
        let text = if file.as_os_str() == "-" {
            std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?
        } else {
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
        };
        let documents: Vec<serde_json::Value> =
            serde_saphyr::from_multiple(&text).with_context(|| format!("{} is not YAML or JSON", file.display()))?;
        for document in documents {
            match document.get("items").and_then(|i| i.as_array()) {
                Some(items) if document["kind"].as_str().is_some_and(|k| k.ends_with("List")) => {
                    out.extend(items.iter().cloned())
                }
                _ if document.is_null() => {}
                _ => out.push(document),
            }
        }
    }
    if out.is_empty() {
        bail!("there is no object in what was given");
    }
    Ok(out)
}

/// A manifest's apiVersion, kind, namespace and name.
pub fn identity(manifest: &serde_json::Value) -> anyhow::Result<(&str, &str, &str, &str)> {
    let text = |pointer: &str| manifest.pointer(pointer).and_then(|v| v.as_str()).unwrap_or_default();
    let (api_version, kind) = (text("/apiVersion"), text("/kind"));
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    if api_version.is_empty() || kind.is_empty() || name.is_empty() {
        bail!(
            "an object needs apiVersion, kind and metadata.name; this one has {api_version:?}, {kind:?} and {name:?}"
        );
    }
    Ok((api_version, kind, namespace, name))
}
