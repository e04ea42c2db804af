//! The kind, as `examples/website.yaml` defines it.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, NamespaceResourceScope, Resource};
use serde::{Deserialize, Serialize};

/// A page on the network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Website {
    pub api_version: Cow<'static, str>,
    pub kind: Cow<'static, str>,
    pub metadata: ObjectMeta,
    pub spec: WebsiteSpec,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<WebsiteStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebsiteSpec {
    pub html: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WebsiteStatus {
    pub observed_generation: i64,
    pub replicas: i32,
    pub ready_replicas: i32,
}

impl Resource for Website {
    const API_VERSION: &'static str = "example.coracle.dev/v1";
    const GROUP: &'static str = "example.coracle.dev";
    const KIND: &'static str = "Website";
    const VERSION: &'static str = "v1";
    const URL_PATH_SEGMENT: &'static str = "websites";
    type Scope = NamespaceResourceScope;
}

impl Metadata for Website {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Website {
    /// A website that does not exist yet.
    pub fn new(name: &str, spec: WebsiteSpec) -> Self {
        Self {
            api_version: Self::API_VERSION.into(),
            kind: Self::KIND.into(),
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            spec,
            status: None,
        }
    }
}
