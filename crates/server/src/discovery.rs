//! Discovery: what groups, versions and resources there are, derived from the table of resources, in the aggregated form
//! and in the older one. Made when the table changes and kept.

mod document;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use coracle_api::resource::Table;
use coracle_api::status::Status;
use http::header::{ACCEPT, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{HeaderMap, Response};
use sha2::{Digest, Sha256};

pub(crate) use document::rank;

use crate::core::Core;
use crate::http::negotiate::accepted;
use crate::http::{Answer, Inbound, empty, json, plain};

/// The aggregated documents of one state of the table.
#[derive(Default)]
pub(crate) struct Discovery {
    kept: ArcSwapOption<Kept>,
}

struct Kept {
    generation: u64,
    /// `/api` and `/apis`, in v2 and v2beta1, with their ETags.
    documents: [(Bytes, String); 4],
}

impl Discovery {
    fn documents(&self, table: &Table) -> Arc<Kept> {
        if let Some(kept) = self.kept.load_full().filter(|k| k.generation == table.generation) {
            return kept;
        }
        let make = |core: bool, version: &str| {
            let bytes: Bytes = serde_json::to_vec(&document::aggregated(table, core, version))
                .unwrap_or_default()
                .into();
            let tag = Sha256::digest(&bytes)
                .iter()
                .map(|b| format!("{b:02X}"))
                .collect::<String>();
            (bytes, format!("\"{tag}\""))
        };
        let documents = [
            make(true, "v2"),
            make(true, "v2beta1"),
            make(false, "v2"),
            make(false, "v2beta1"),
        ];
        let kept = Arc::new(Kept {
            generation: table.generation,
            documents,
        });
        self.kept.store(Some(kept.clone()));
        kept
    }
}

/// The version of aggregated discovery that the client prefers to the older form.
fn aggregated_version(headers: &HeaderMap) -> Option<&'static str> {
    let text = headers.get(ACCEPT)?.to_str().ok()?;
    for entry in accepted(text) {
        if entry.media == "application/json" && entry.parameter("as") == "APIGroupDiscoveryList" {
            match entry.parameter("v") {
                "v2" => return Some("v2"),
                "v2beta1" => return Some("v2beta1"),
                _ => {}
            }
        } else if entry.parameters.is_empty() {
            return None;
        }
    }
    None
}

fn aggregated(core: &Arc<Core>, inbound: &Inbound, is_core: bool) -> Option<Answer> {
    let version = aggregated_version(&inbound.headers)?;
    let kept = core.discovery.documents(&core.registry.table());
    let index = match (is_core, version) {
        (true, "v2") => 0,
        (true, _) => 1,
        (false, "v2") => 2,
        (false, _) => 3,
    };
    let (bytes, tag) = kept.documents.get(index)?;
    let mut answer = if inbound
        .headers
        .get(IF_NONE_MATCH)
        .is_some_and(|v| v.as_bytes() == tag.as_bytes())
    {
        let mut unchanged = Response::new(empty());
        *unchanged.status_mut() = http::StatusCode::NOT_MODIFIED;
        unchanged
    } else {
        let content_type = match version {
            "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        };
        plain(200, content_type, bytes.clone())
    };
    if let Ok(tag) = HeaderValue::from_str(tag) {
        answer.headers_mut().insert(ETAG, tag);
    }
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    Some(answer)
}

/// `/api`.
pub(crate) fn legacy_root(core: &Arc<Core>, inbound: &Inbound) -> Result<Answer, Status> {
    Ok(match aggregated(core, inbound, true) {
        Some(answer) => answer,
        None => json(200, &document::versions()),
    })
}

/// `/apis`.
pub(crate) fn groups(core: &Arc<Core>, inbound: &Inbound) -> Result<Answer, Status> {
    Ok(match aggregated(core, inbound, false) {
        Some(answer) => answer,
        None => json(200, &document::group_list(&core.registry.table())),
    })
}

/// `/apis/<group>`.
pub(crate) fn group(core: &Arc<Core>, _inbound: &Inbound, group: &str) -> Result<Answer, Status> {
    let found = document::one_group(&core.registry.table(), group).ok_or_else(Status::no_such_resource)?;
    Ok(json(200, &found))
}

/// `/api/v1` and `/apis/<group>/<version>`.
pub(crate) fn resources(core: &Arc<Core>, _inbound: &Inbound, group: &str, version: &str) -> Result<Answer, Status> {
    let table = core.registry.table();
    let found = document::resource_list(&table, group, version).ok_or_else(Status::no_such_resource)?;
    Ok(json(200, &found))
}
