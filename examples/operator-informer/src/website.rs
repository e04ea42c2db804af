//! The kind, as `examples/website.yaml` defines it.

use serde::{Deserialize, Serialize};

coracle_client::custom_kind! {
    /// A page on the network.
    pub struct Website: "example.coracle.dev" / "v1" / "websites" {
        spec: WebsiteSpec,
        status: WebsiteStatus,
    }
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
