//! Manifests and indexes, OCI's and Docker's: the few fields that unpacking needs, and the choice of a platform. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, Result};

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: String,
    #[serde(default)]
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(crate) platform: Option<Platform>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) variant: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Index {
    #[serde(default)]
    pub(crate) manifests: Vec<Descriptor>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    #[serde(default)]
    pub(crate) layers: Vec<Descriptor>,
}

pub(crate) enum Document {
    Index(Index),
    Manifest(Manifest),
}

/// The media types to ask a registry for.
pub(crate) const ACCEPTED: &[&str] = &[
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

pub(crate) fn parse(bytes: &[u8], what: &str) -> Result<Document> {
    let corrupt = |error: serde_json::Error| Error::corrupt(format!("manifest of {what}"), error);
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(corrupt)?;
    if value.get("manifests").is_some() {
        return Ok(Document::Index(serde_json::from_value(value).map_err(corrupt)?));
    }
    Ok(Document::Manifest(serde_json::from_value(value).map_err(corrupt)?))
}

/// This host's platform in the words of image indexes.
pub(crate) fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// The manifests of an index that this host can run, best first. Entries that name no platform are taken to fit.
pub(crate) fn choose<'a>(index: &'a Index, reference: &str) -> Result<&'a Descriptor> {
    let architecture = host_architecture();
    let fits = |d: &&Descriptor| {
        d.platform
            .as_ref()
            .is_some_and(|p| p.os == "linux" && p.architecture == architecture)
    };
    let unnamed = |d: &&Descriptor| d.platform.is_none() && !d.media_type.contains("artifact");
    let plain = |d: &&Descriptor| fits(d) && d.platform.as_ref().is_some_and(|p| p.variant.is_none());
    let manifests = || index.manifests.iter();
    manifests()
        .find(plain)
        .or_else(|| manifests().find(fits))
        .or_else(|| manifests().find(unnamed))
        .ok_or_else(|| Error::PlatformNotFound {
            reference: reference.to_owned(),
            platform: format!("linux/{architecture}"),
            available: available(index),
        })
}

fn available(index: &Index) -> String {
    let mut names: Vec<String> = index
        .manifests
        .iter()
        .filter_map(|d| d.platform.as_ref())
        .filter(|p| p.os != "unknown")
        .map(|p| format!("{}/{}", p.os, p.architecture))
        .collect();
    names.dedup();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_gives_the_hosts_platform_and_names_the_others_when_it_has_none() {
        let index = format!(
            r#"{{"manifests":[
              {{"digest":"sha256:1","platform":{{"os":"windows","architecture":"{0}"}}}},
              {{"digest":"sha256:2","platform":{{"os":"linux","architecture":"s390x"}}}},
              {{"digest":"sha256:3","platform":{{"os":"linux","architecture":"{0}"}}}}]}}"#,
            host_architecture()
        );
        let Document::Index(mut index) = parse(index.as_bytes(), "x").unwrap() else {
            panic!("an index")
        };
        assert_eq!(choose(&index, "x").unwrap().digest, "sha256:3");
        index.manifests.pop();
        let error = choose(&index, "x").unwrap_err().to_string();
        assert!(error.contains("linux/s390x"), "{error}");
    }
}
