//! The kind, as `examples/sequence.yaml` defines it.

use std::borrow::Cow;

use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, NamespaceResourceScope, Resource};
use serde::{Deserialize, Serialize};

/// Jobs in a row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sequence {
    pub api_version: Cow<'static, str>,
    pub kind: Cow<'static, str>,
    pub metadata: ObjectMeta,
    pub spec: SequenceSpec,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<SequenceStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SequenceSpec {
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    pub name: String,
    pub job: JobSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SequenceStatus {
    /// `Running`, `Complete` or `Failed`.
    pub phase: String,
    /// The one that runs, or that failed.
    pub step: String,
    /// How many are complete.
    pub done: i32,
}

impl Resource for Sequence {
    const API_VERSION: &'static str = "example.coracle.dev/v1";
    const GROUP: &'static str = "example.coracle.dev";
    const KIND: &'static str = "Sequence";
    const VERSION: &'static str = "v1";
    const URL_PATH_SEGMENT: &'static str = "sequences";
    type Scope = NamespaceResourceScope;
}

impl Metadata for Sequence {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Sequence {
    /// A sequence that does not exist yet.
    pub fn new(name: &str, spec: SequenceSpec) -> Self {
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
