//! Paths that are not resources: version, health, metrics, discovery, OpenAPI, and the keys of service account tokens.

use std::sync::Arc;

use coracle_api::status::Status;
use http::Method;
use serde_json::json;

use super::{Answer, Inbound, health, json, plain};
use crate::core::Core;
use crate::{discovery, openapi};

/// The release of Kubernetes whose API this is.
pub(crate) const GIT_VERSION: &str = "v1.37.0+coracle";

/// Serves an authorized request.
pub(crate) async fn serve(core: &Arc<Core>, inbound: Inbound) -> Result<Answer, Status> {
    let path = inbound.info.path.trim_end_matches('/');
    if inbound.method != Method::GET && inbound.method != Method::HEAD {
        let known = matches!(path, "" | "/api" | "/apis" | "/version");
        return Err(if known {
            Status::method_not_allowed("the server does not allow this method on the requested resource")
        } else {
            Status::no_such_resource()
        });
    }
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments.as_slice() {
        [] => Ok(json(200, &json!({"paths": paths(core)}))),
        ["version"] => Ok(json(200, &version())),
        ["healthz" | "livez" | "readyz", ..] => health::serve(core, &inbound).await,
        ["metrics"] => {
            for (resource, count) in core.cache.sizes() {
                core.metrics.set_objects(&resource, count);
            }
            if let Ok(status) = core.store.status().await {
                core.metrics.set_store_bytes(status.disk_bytes);
            }
            Ok(plain(
                200,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                core.metrics.text(),
            ))
        }
        ["api"] => discovery::legacy_root(core, &inbound),
        ["apis"] => discovery::groups(core, &inbound),
        ["api", version] => discovery::resources(core, &inbound, "", version),
        ["apis", group] => discovery::group(core, &inbound, group),
        ["apis", group, version] => discovery::resources(core, &inbound, group, version),
        ["openapi", "v2"] => openapi::v2(core, &inbound).await,
        ["openapi", "v3"] => openapi::v3_root(core, &inbound),
        ["openapi", "v3", rest @ ..] => openapi::v3(core, &inbound, &rest.join("/")).await,
        [".well-known", "openid-configuration"] => Ok(json(
            200,
            &core
                .tokens
                .discovery_document(&format!("{}/openid/v1/jwks", core.tokens.issuer())),
        )),
        ["openid", "v1", "jwks"] => Ok(plain(
            200,
            "application/jwk-set+json",
            serde_json::to_vec(&core.tokens.key_set()).unwrap_or_default(),
        )),
        _ => Err(Status::no_such_resource()),
    }
}

fn version() -> serde_json::Value {
    json!({
        "major": "1",
        "minor": "37",
        "emulationMajor": "1",
        "emulationMinor": "37",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "36",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }),
    })
}

fn paths(core: &Arc<Core>) -> Vec<String> {
    let mut paths: Vec<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ]
    .into_iter()
    .map(str::to_owned)
    .collect();
    for row in core.registry.table().iter() {
        if row.group.is_empty() {
            paths.push(format!("/api/{}", row.version));
        } else {
            paths.push(format!("/apis/{}", row.group));
            paths.push(format!("/apis/{}/{}", row.group, row.version));
        }
    }
    paths.sort();
    paths.dedup();
    paths
}
