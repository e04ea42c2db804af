//! The kind, as `examples/sequence.yaml` defines it.

use k8s_openapi::api::batch::v1::JobSpec;
use serde::{Deserialize, Serialize};

coracle_client::custom_kind! {
    /// Jobs in a row.
    pub struct Sequence: "example.coracle.dev" / "v1" / "sequences" {
        spec: SequenceSpec,
        status: SequenceStatus,
    }
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
