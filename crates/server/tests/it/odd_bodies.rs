//! Bodies that make no sense, put before every kind: each is refused as the client's fault or taken for what it says, and
//! none is a fault of the server's.

use coracle_api::resource::Resource;
use http::Method;

use crate::harness::{Cluster, Http};

const JSON: &str = "application/json";

const OBJECTS: [&str; 26] = [
    "{}",
    "null",
    "[{}]",
    "\"text\"",
    "{\"metadata\":null}",
    "{\"metadata\":[]}",
    "{\"metadata\":{\"name\":1}}",
    "{\"metadata\":{\"name\":\"a/../b\"}}",
    "{\"metadata\":{\"name\":\"\u{0}\"}}",
    "{\"metadata\":{\"name\":\"x\",\"labels\":[]}}",
    "{\"metadata\":{\"name\":\"x\",\"labels\":{\"\":\"\"},\"annotations\":{\"\":\"\"}}}",
    "{\"metadata\":{\"name\":\"x\",\"finalizers\":[null]}}",
    "{\"metadata\":{\"name\":\"x\",\"ownerReferences\":[{}]}}",
    "{\"metadata\":{\"name\":\"x\",\"ownerReferences\":[null],\"managedFields\":[null]}}",
    "{\"metadata\":{\"name\":\"x\",\"managedFields\":[{\"fieldsV1\":[]}]}}",
    "{\"metadata\":{\"name\":\"x\",\"deletionTimestamp\":\"soon\"}}",
    "{\"metadata\":{\"generateName\":\"-\"}}",
    "{\"metadata\":{\"name\":\"x\"}}",
    "{\"metadata\":{\"name\":\"x\"},\"spec\":null,\"status\":null}",
    "{\"metadata\":{\"name\":\"x\"},\"spec\":{}}",
    "{\"metadata\":{\"name\":\"x\"},\"spec\":[]}",
    "{\"metadata\":{\"name\":\"x\"},\"spec\":\"\",\"status\":\"\"}",
    "{\"metadata\":{\"name\":\"x\"},\"spec\":{\"\":{}},\"status\":{\"conditions\":[null]}}",
    "{\"metadata\":{\"name\":\"x\"},\"data\":[],\"rules\":{},\"subjects\":[null],\"webhooks\":[null]}",
    "{\"apiVersion\":7,\"kind\":[],\"metadata\":{\"name\":\"x\"}}",
    "{\"apiVersion\":\"a/b/c\",\"kind\":\"\",\"metadata\":{\"name\":\"x\"}}",
];

const PATCHES: [(&str, &str); 16] = [
    ("application/merge-patch+json", "null"),
    ("application/merge-patch+json", "{\"metadata\":null}"),
    ("application/merge-patch+json", "{\"metadata\":7,\"spec\":7}"),
    (
        "application/merge-patch+json",
        "{\"spec\":null,\"status\":null,\"data\":null}",
    ),
    ("application/merge-patch+json", "{\"spec\":[],\"rules\":{},\"data\":[]}"),
    ("application/json-patch+json", "{}"),
    ("application/json-patch+json", "[null]"),
    ("application/json-patch+json", "[{\"op\":\"remove\",\"path\":\"\"}]"),
    (
        "application/json-patch+json",
        "[{\"op\":\"remove\",\"path\":\"/metadata\"}]",
    ),
    (
        "application/json-patch+json",
        "[{\"op\":\"add\",\"path\":\"/spec/-\",\"value\":{}}]",
    ),
    (
        "application/json-patch+json",
        "[{\"op\":\"move\",\"from\":\"\",\"path\":\"/spec\"}]",
    ),
    ("application/strategic-merge-patch+json", "{\"$patch\":\"delete\"}"),
    (
        "application/strategic-merge-patch+json",
        "{\"metadata\":{\"$retainKeys\":7}}",
    ),
    (
        "application/strategic-merge-patch+json",
        "{\"spec\":{\"$setElementOrder/a\":[{}]},\"metadata\":{\"$patch\":\"x\"}}",
    ),
    ("application/apply-patch+yaml", "[]"),
    (
        "application/apply-patch+yaml",
        "{\"metadata\":{\"managedFields\":[{}]}}",
    ),
];

async fn not_the_servers_fault(http: &mut Http, method: Method, path: &str, content_type: &str, body: &str) {
    let headers = [("content-type", content_type)];
    let got = http.send(method.clone(), path, &headers, body.to_owned()).await;
    // A strategic patch that contradicts itself is a 500 of upstream's too.
    let is_told = got.code.as_u16() < 500 || content_type.starts_with("application/strategic");
    assert!(
        is_told,
        "{method} {path} {content_type} {body}: {} {}",
        got.code,
        got.text()
    );
}

fn path(row: &Resource) -> String {
    let root = if row.group.is_empty() { "api" } else { "apis" };
    let namespace = if row.is_namespaced() { "namespaces/default/" } else { "" };
    format!("/{root}/{}/{namespace}{}", row.api_version(), row.plural)
}

#[tokio::test]
async fn no_body_is_too_odd_for_any_kind() {
    let cluster = Cluster::start().await;
    let table = cluster.server.service().registry().table();
    let mut http = cluster.http(true).await;
    for row in table.iter() {
        let path = path(row);
        for body in OBJECTS {
            not_the_servers_fault(&mut http, Method::POST, &format!("{path}?dryRun=All"), JSON, body).await;
            not_the_servers_fault(&mut http, Method::PUT, &format!("{path}/x?dryRun=All"), JSON, body).await;
        }
        for part in &row.subresources {
            for body in ["{}", "{\"metadata\":{\"name\":\"x\"},\"spec\":[],\"status\":7}"] {
                let path = format!("{path}/x/{}?dryRun=All", part.name);
                not_the_servers_fault(&mut http, Method::POST, &path, JSON, body).await;
                not_the_servers_fault(&mut http, Method::PUT, &path, JSON, body).await;
            }
        }
    }
}

#[tokio::test]
async fn no_patch_is_too_odd_for_what_is_there() {
    let cluster = Cluster::start().await;
    let table = cluster.server.service().registry().table();
    let mut http = cluster.http(true).await;
    for row in table.iter() {
        let path = path(row);
        let list = http.get(&format!("{path}?limit=1")).await;
        if list.code != 200 {
            continue;
        }
        let list = list.json();
        let Some(name) = list["items"][0]["metadata"]["name"].as_str() else {
            continue;
        };
        let status = row.has_status().then_some("/status");
        for part in [Some(""), status].into_iter().flatten() {
            for (content_type, body) in PATCHES {
                let path = format!("{path}/{name}{part}?dryRun=All&fieldManager=odd");
                not_the_servers_fault(&mut http, Method::PATCH, &path, content_type, body).await;
            }
        }
    }
}
