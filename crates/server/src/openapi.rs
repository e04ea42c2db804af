//! Serves the OpenAPI documents, which `coracle_api` makes when somebody first asks and keeps until the rows that they
//! are made of change.

use std::sync::Arc;

use coracle_api::openapi::{Document, V2_PROTOBUF};
use coracle_api::status::Status;
use http::Response;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY};

use crate::core::Core;
use crate::http::encode::accepts_gzip;
use crate::http::{Answer, Inbound, JSON, empty, full, plain};

/// `/openapi/v2`: protobuf for the clients that ask for it by its name, JSON for all others.
pub(crate) async fn v2(core: &Arc<Core>, inbound: &Inbound) -> Result<Answer, Status> {
    let wanted = inbound
        .headers
        .get(ACCEPT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let protobuf = wanted.contains("proto-openapi.spec.v2");
    let document = make(core, move |core| {
        let table = core.registry.table();
        Some(if protobuf {
            core.openapi.v2_protobuf(&table)
        } else {
            core.openapi.v2(&table)
        })
    });
    let document = document.await?.ok_or_else(Status::no_such_resource)?;
    Ok(answer(inbound, &document, if protobuf { V2_PROTOBUF } else { JSON }))
}

/// `/openapi/v3`: the paths of all documents with their hashes.
pub(crate) fn v3_root(core: &Arc<Core>, _inbound: &Inbound) -> Result<Answer, Status> {
    Ok(plain(200, JSON, core.openapi.index(&core.registry.table())))
}

/// `/openapi/v3/apis/apps/v1`.
pub(crate) async fn v3(core: &Arc<Core>, inbound: &Inbound, path: &str) -> Result<Answer, Status> {
    let path = path.to_owned();
    let document = make(core, move |core| core.openapi.v3(&core.registry.table(), &path)).await?;
    let document = document.ok_or_else(Status::no_such_resource)?;
    let mut answer = answer(inbound, &document, JSON);
    if inbound.query.get("hash") == Some(document.etag.as_ref()) {
        // The address changes when the document does.
        answer
            .headers_mut()
            .insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    }
    Ok(answer)
}

/// Writing a document takes a while the first time: not on a thread that serves others.
async fn make(
    core: &Arc<Core>,
    work: impl FnOnce(&Core) -> Option<Document> + Send + 'static,
) -> Result<Option<Document>, Status> {
    let core = core.clone();
    let made = tokio::task::spawn_blocking(move || work(&core)).await;
    made.map_err(|_| Status::internal("the OpenAPI document could not be made"))
}

fn answer(inbound: &Inbound, document: &Document, content_type: &'static str) -> Answer {
    let tag = format!("{:?}", document.etag.as_ref());
    let known = inbound
        .headers
        .get(IF_NONE_MATCH)
        .is_some_and(|v| v.as_bytes() == tag.as_bytes());
    let mut answer = Response::new(empty());
    if known {
        *answer.status_mut() = http::StatusCode::NOT_MODIFIED;
    } else if accepts_gzip(&inbound.headers) {
        *answer.body_mut() = full(document.gzip.clone());
        answer
            .headers_mut()
            .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    } else {
        *answer.body_mut() = full(document.plain());
    }
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
        .headers_mut()
        .insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.headers_mut().insert(ETAG, tag);
    }
    answer
}
