//! Requests and answers as HTTP carries them: paths, queries, bodies, lists, Status. Nothing here does I/O.

mod object;

use std::fmt::Write;

use bytes::Bytes;
use coracle_api::service::{
    Answer, DeleteOptions, FieldValidation, ListOptions, ObjectList, Operation, PatchKind, Request, Response, Target,
    VersionMatch, WriteOptions,
};
use coracle_api::status::Status;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, WARNING};
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Outgoing;
use crate::Error;
use crate::pod::meta_delete_options;

pub(super) use object::from_text;

const JSON: &str = "application/json";
const PARTIAL: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const PARTIAL_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// The request to send.
pub fn encode(request: &Request, metadata_only: bool) -> Result<Outgoing, Error> {
    let target = &request.target;
    let mut query = Query::default();
    let mut content_type = JSON;
    let (method, body) = match &request.operation {
        Operation::Get { resource_version } => {
            query.text("resourceVersion", resource_version);
            (Method::GET, None)
        }
        Operation::List(options) => {
            query.list(options);
            (Method::GET, None)
        }
        Operation::Watch(options) => {
            query.list(options);
            query.text("watch", "true");
            (Method::GET, None)
        }
        Operation::Create { object, options } => {
            query.write(options);
            (Method::POST, Some(json(object)?))
        }
        Operation::Update { object, options } => {
            query.write(options);
            (Method::PUT, Some(json(object)?))
        }
        Operation::Patch { kind, patch, options } => {
            query.write(options);
            content_type = match kind {
                PatchKind::Json => "application/json-patch+json",
                PatchKind::Merge => "application/merge-patch+json",
                PatchKind::Strategic => "application/strategic-merge-patch+json",
                // JSON is YAML.
                PatchKind::Apply => "application/apply-patch+yaml",
            };
            if *kind == PatchKind::Apply && options.force {
                query.text("force", "true");
            }
            (Method::PATCH, Some(json(patch)?))
        }
        Operation::Delete(options) => (Method::DELETE, Some(delete_body(options)?)),
        Operation::DeleteCollection { list, delete } => {
            query.list(list);
            (Method::DELETE, Some(delete_body(delete)?))
        }
    };
    let mut headers = HeaderMap::new();
    let accept = match request.operation {
        Operation::List(_) if metadata_only => PARTIAL_LIST,
        Operation::Get { .. } | Operation::Watch(_) | Operation::Patch { .. } if metadata_only => PARTIAL,
        _ => JSON,
    };
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    if body.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    let mut path = path(target);
    path.push_str(&query.0);
    Ok(Outgoing {
        idempotent: method == Method::GET,
        // An eviction that is put off says that a budget does not allow it: for the caller to know.
        patient: target.subresource != "eviction",
        method,
        path,
        headers,
        body: body.unwrap_or_default(),
    })
}

fn json(value: &impl Serialize) -> Result<Bytes, Error> {
    let bytes = serde_json::to_vec(value).map_err(|e| Error::encode("the request's body", e))?;
    Ok(bytes.into())
}

fn delete_body(options: &DeleteOptions) -> Result<Bytes, Error> {
    json(&meta_delete_options(options))
}

fn path(target: &Target) -> String {
    let mut path = String::with_capacity(96);
    if target.group.is_empty() {
        path.push_str("/api/");
    } else {
        path.push_str("/apis/");
        push_encoded(&mut path, &target.group);
        path.push('/');
    }
    push_encoded(&mut path, &target.version);
    if !target.namespace.is_empty() {
        path.push_str("/namespaces/");
        push_encoded(&mut path, &target.namespace);
    }
    for segment in [&target.resource, &target.name, &target.subresource] {
        if !segment.is_empty() {
            path.push('/');
            push_encoded(&mut path, segment);
        }
    }
    path
}

/// Percent-encodes all but what RFC 3986 leaves unreserved, and `:`, which names of roles are full of.
fn push_encoded(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[derive(Default)]
struct Query(String);

impl Query {
    fn text(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.0.push(if self.0.is_empty() { '?' } else { '&' });
            self.0.push_str(name);
            self.0.push('=');
            push_encoded(&mut self.0, value);
        }
    }

    fn list(&mut self, options: &ListOptions) {
        self.text("labelSelector", &options.label_selector);
        self.text("metricLabelSelector", &options.metric_label_selector);
        self.text("fieldSelector", &options.field_selector);
        if options.limit != 0 {
            self.text("limit", &options.limit.to_string());
        }
        self.text("continue", &options.continue_token);
        self.text("resourceVersion", &options.resource_version);
        match options.resource_version_match {
            Some(VersionMatch::Exact) => self.text("resourceVersionMatch", "Exact"),
            Some(VersionMatch::NotOlderThan) => self.text("resourceVersionMatch", "NotOlderThan"),
            None => {}
        }
        if let Some(seconds) = options.timeout_seconds {
            self.text("timeoutSeconds", &seconds.to_string());
        }
        if options.allow_watch_bookmarks {
            self.text("allowWatchBookmarks", "true");
        }
        if let Some(send) = options.send_initial_events {
            self.text("sendInitialEvents", if send { "true" } else { "false" });
        }
    }

    fn write(&mut self, options: &WriteOptions) {
        if options.dry_run {
            self.text("dryRun", "All");
        }
        self.text("fieldManager", &options.field_manager);
        match options.field_validation {
            FieldValidation::Ignore => self.text("fieldValidation", "Ignore"),
            FieldValidation::Strict => self.text("fieldValidation", "Strict"),
            // What servers do unasked.
            FieldValidation::Warn => {}
        }
    }
}

/// The answer to `request`, which was a success.
pub fn decode(request: &Request, parts: &http::response::Parts, body: &[u8]) -> Result<Response, Error> {
    let what = || format!("the answer on {}", request.target.resource);
    let text = std::str::from_utf8(body).map_err(|e| Error::decode(what(), e))?;
    let head: Head = serde_json::from_str(text).map_err(|e| Error::decode(what(), e))?;
    let answer = if head.kind == "Status" && head.api_version == "v1" {
        let status: Status = serde_json::from_str(text).map_err(|e| Error::decode(what(), e))?;
        Answer::Status(status)
    } else if matches!(request.operation, Operation::List(_)) {
        Answer::List(decode_list(text).map_err(|e| Error::decode(what(), e))?)
    } else if matches!(request.operation, Operation::DeleteCollection { .. }) {
        // The list of what was deleted.
        Answer::Status(Status {
            status: "Success".into(),
            message: String::new(),
            reason: String::new(),
            details: None,
            code: 200,
            continue_token: String::new(),
        })
    } else {
        Answer::Object {
            object: from_text(text, None).map_err(|e| Error::decode(what(), e))?.into(),
            created: parts.status == StatusCode::CREATED,
        }
    };
    Ok(Response {
        answer,
        warnings: warnings(&parts.headers),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawList<'a> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: ListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: String,
    r#continue: String,
    remaining_item_count: Option<u64>,
}

fn decode_list(text: &str) -> Result<ObjectList, Box<dyn std::error::Error + Send + Sync>> {
    let list: RawList<'_> = serde_json::from_str(text)?;
    // Servers leave apiVersion and kind out of the items of built-in kinds.
    let item_kind = list.kind.strip_suffix("List").filter(|k| *k != "PartialObjectMetadata");
    let of = item_kind.map(|kind| (list.api_version.as_str(), kind));
    let items = list.items.unwrap_or_default();
    Ok(ObjectList {
        items: items
            .into_iter()
            .map(|item| from_text(item.get(), of).map(Into::into))
            .collect::<Result<_, _>>()?,
        revision: list.metadata.resource_version.parse().unwrap_or(0),
        continue_token: list.metadata.r#continue,
        remaining: list.metadata.remaining_item_count,
    })
}

/// What the server said when it refused; servers and proxies in between also refuse without a Status.
pub fn failure(code: StatusCode, body: &[u8]) -> Status {
    if let Ok(mut status) = serde_json::from_slice::<Status>(body)
        && status.status == "Failure"
    {
        if status.code == 0 {
            status.code = code.as_u16();
        }
        return status;
    }
    let reason = match code.as_u16() {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        406 => "NotAcceptable",
        409 => "Conflict",
        410 => "Gone",
        413 => "RequestEntityTooLarge",
        415 => "UnsupportedMediaType",
        422 => "Invalid",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "Unknown",
    };
    let text = String::from_utf8_lossy(body);
    let said: String = text.trim().chars().take(512).collect();
    let message = if said.is_empty() {
        format!("the server answered {code}")
    } else {
        format!("the server answered {code}: {said}")
    };
    Status::failure(code.as_u16(), reason, message)
}

/// The texts of `Warning: 299 - "text"` headers.
pub fn warnings(headers: &HeaderMap) -> Vec<String> {
    let texts = headers.get_all(WARNING).iter().filter_map(|value| {
        let quoted = value.to_str().ok()?.strip_prefix("299 ")?.split_once('"')?.1;
        let mut text = String::new();
        let mut escaped = false;
        for c in quoted.chars() {
            match c {
                '\\' if !escaped => escaped = true,
                '"' if !escaped => break,
                c => {
                    text.push(c);
                    escaped = false;
                }
            }
        }
        Some(text)
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn target(group: &str, resource: &str, namespace: &str, name: &str, subresource: &str) -> Target {
        Target {
            group: group.into(),
            version: "v1".into(),
            resource: resource.into(),
            namespace: namespace.into(),
            name: name.into(),
            subresource: subresource.into(),
        }
    }

    #[test]
    fn paths_are_those_of_the_api() {
        let table = [
            (target("", "pods", "", "", ""), "/api/v1/pods"),
            (
                target("", "pods", "default", "web", "binding"),
                "/api/v1/namespaces/default/pods/web/binding",
            ),
            (
                target("apps", "deployments", "a", "b", "scale"),
                "/apis/apps/v1/namespaces/a/deployments/b/scale",
            ),
            (
                target("rbac.authorization.k8s.io", "clusterroles", "", "system:node/x%", ""),
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node%2Fx%25",
            ),
        ];
        for (target, expected) in table {
            assert_eq!(path(&target), expected);
        }
    }

    #[test]
    fn list_options_become_a_query() {
        let options = ListOptions {
            label_selector: "app in (a,b)".into(),
            limit: 500,
            resource_version: "7".into(),
            resource_version_match: Some(VersionMatch::NotOlderThan),
            allow_watch_bookmarks: true,
            send_initial_events: Some(true),
            ..ListOptions::default()
        };
        let request = Request {
            target: target("", "pods", "", "", ""),
            operation: Operation::Watch(options),
        };
        let outgoing = encode(&request, false).unwrap();
        assert_eq!(
            outgoing.path,
            "/api/v1/pods?labelSelector=app%20in%20%28a%2Cb%29&limit=500&resourceVersion=7\
             &resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&sendInitialEvents=true&watch=true"
        );
    }

    #[test]
    fn a_lists_items_get_the_kind_that_the_server_left_out() {
        let body = json!({
            "apiVersion": "v1", "kind": "PodList",
            "metadata": {"resourceVersion": "9", "continue": "more", "remainingItemCount": 3},
            "items": [{"metadata": {"name": "a", "resourceVersion": "8"}}],
        });
        let list = decode_list(&body.to_string()).unwrap();
        assert_eq!(
            (list.revision, list.continue_token.as_str(), list.remaining),
            (9, "more", Some(3))
        );
        assert_eq!(list.items[0].revision(), 8);
        let object = list.items[0].to_object();
        assert_eq!((object.api_version(), object.kind(), object.name()), ("v1", "Pod", "a"));
    }

    #[test]
    fn a_list_without_items_is_empty() {
        let list = decode_list(r#"{"kind":"PodList","metadata":{"resourceVersion":"9"},"items":null}"#).unwrap();
        assert!(list.items.is_empty());
    }

    #[test]
    fn a_refusal_without_a_status_keeps_its_code_and_text() {
        let status = failure(StatusCode::BAD_GATEWAY, b"<html>no upstream</html>");
        assert_eq!(status.code, 502);
        assert!(status.message.contains("no upstream"));
        assert!(failure(StatusCode::GONE, b"").is_expired());
    }

    #[test]
    fn warnings_are_read_with_their_escapes() {
        let mut headers = HeaderMap::new();
        headers.append(WARNING, HeaderValue::from_static(r#"299 - "use \"b\" instead""#));
        assert_eq!(warnings(&headers), ["use \"b\" instead"]);
    }
}
