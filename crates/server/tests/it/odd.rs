//! Requests that no client should make, and what upstream answers to each: code, reason and words. It is long because one
//! answer after another is written out.

use http::Method;
use serde_json::json;

use crate::harness::{Cluster, Http, at, config_map};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// What a request is: method, path, content type, body.
type Asked<'a> = (Method, &'a str, &'a str, &'a str);

async fn expect(http: &mut Http, asked: Asked<'_>, code: u16, reason: &str, message: &str) {
    let (method, path, content_type, body) = asked.clone();
    let headers: &[(&str, &str)] = match content_type {
        "" => &[],
        _ => &[("content-type", content_type)],
    };
    let got = http.send(method, path, headers, body.to_owned()).await;
    assert_eq!(got.code.as_u16(), code, "{asked:?}: {}", got.text());
    let status = got.json();
    assert_eq!(
        (
            status["reason"].as_str().unwrap_or_default(),
            status["message"].as_str().unwrap_or_default()
        ),
        (reason, message),
        "{asked:?}"
    );
}

/// A cluster with one ConfigMap, `a`, and a way to speak to it.
async fn set_up() -> (Cluster, Http) {
    let cluster = Cluster::start().await;
    cluster.create(at("configmaps"), config_map("a")).await.unwrap();
    let http = cluster.http(true).await;
    (cluster, http)
}

async fn refused(table: &[(Asked<'_>, u16, &str, &str)]) {
    let (_cluster, mut http) = set_up().await;
    for (asked, code, reason, message) in table {
        expect(&mut http, asked.clone(), *code, reason, message).await;
    }
}

fn get(path: &str) -> Asked<'_> {
    (Method::GET, path, "", "")
}

#[tokio::test]
async fn options_of_lists_and_watches_are_checked() {
    let invalid = |what: &str| format!("ListOptions.meta.k8s.io \"\" is invalid: {what}");
    let (_cluster, mut http) = set_up().await;
    let version = "resourceVersion: Invalid value: \"abc\": strconv.ParseUint: parsing \"abc\": invalid syntax";
    for (query, code, reason, message) in [
        (
            "limit=abc",
            400,
            "BadRequest",
            "strconv.ParseInt: parsing \"abc\": invalid syntax".to_owned(),
        ),
        (
            "limit=",
            400,
            "BadRequest",
            "strconv.ParseInt: parsing \"\": invalid syntax".to_owned(),
        ),
        (
            "timeoutSeconds=99999999999999999999",
            400,
            "BadRequest",
            "strconv.ParseInt: parsing \"99999999999999999999\": value out of range".to_owned(),
        ),
        (
            "resourceVersion=abc",
            400,
            "BadRequest",
            format!("invalid resource version: {version}"),
        ),
        (
            "continue=@@",
            400,
            "BadRequest",
            "invalid continue token: continue key is not valid: illegal base64 data at input byte 0".to_owned(),
        ),
        (
            "resourceVersionMatch=Exact",
            422,
            "Invalid",
            invalid(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
            ),
        ),
        (
            "resourceVersion=0&resourceVersionMatch=Exact",
            422,
            "Invalid",
            invalid(
                "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ),
        ),
        (
            "resourceVersion=1&resourceVersionMatch=Newest",
            422,
            "Invalid",
            invalid(
                "resourceVersionMatch: Unsupported value: \"Newest\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
            ),
        ),
        (
            "sendInitialEvents=true",
            422,
            "Invalid",
            invalid("sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"),
        ),
        (
            "watch=1&sendInitialEvents=true",
            422,
            "Invalid",
            invalid(
                "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ),
        ),
        (
            "watch=1&resourceVersionMatch=Exact",
            422,
            "Invalid",
            invalid(
                "[resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is \
                 provided, resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"]",
            ),
        ),
        ("watch=1&resourceVersion=abc", 500, "", version.to_owned()),
        (
            "labelSelector=a%3D%3D%3Db",
            400,
            "BadRequest",
            "unable to parse requirement: found '=', expected: identifier".to_owned(),
        ),
        (
            "fieldSelector=spec.nothing%3Da",
            400,
            "BadRequest",
            "field label not supported: spec.nothing".to_owned(),
        ),
    ] {
        expect(&mut http, get(&format!("{MAPS}?{query}")), code, reason, &message).await;
    }
    // A limit that makes no sense is none, and so is a parameter that nobody knows.
    for query in ["limit=-1", "limit=0&continue=", "unknown=1", "pretty="] {
        assert_eq!(http.get(&format!("{MAPS}?{query}")).await.code, 200, "{query}");
    }
}

#[tokio::test]
async fn options_of_writes_are_checked() {
    let (_cluster, mut http) = set_up().await;
    let create = format!("{MAPS}?");
    let patch = format!("{MAPS}/a?");
    let body = json!({"metadata": {"name": "b"}}).to_string();
    let long = "x".repeat(129);
    for (method, path, content_type, query, options, what) in [
        (
            Method::POST,
            &create,
            JSON,
            "fieldValidation=xyz",
            "CreateOptions",
            "fieldValidation: Unsupported value: \"xyz\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
        ),
        (
            Method::POST,
            &create,
            JSON,
            "dryRun=Some",
            "CreateOptions",
            "dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"",
        ),
        (
            Method::POST,
            &create,
            JSON,
            &format!("fieldManager={long}"),
            "CreateOptions",
            "fieldManager: Too long: may not be more than 128 bytes",
        ),
        (
            Method::PUT,
            &patch,
            JSON,
            "fieldManager=a%07",
            "UpdateOptions",
            "fieldManager: Invalid value: \"a\\a\": invalid character U+0007 (at position 1)",
        ),
        (
            Method::PATCH,
            &patch,
            MERGE,
            "force=false",
            "PatchOptions",
            "force: Forbidden: may not be specified for non-apply patch",
        ),
        (
            Method::PATCH,
            &patch,
            APPLY,
            "force=true",
            "PatchOptions",
            "fieldManager: Required value: is required for apply patch",
        ),
        (
            Method::DELETE,
            &patch,
            "",
            "propagationPolicy=xyz",
            "DeleteOptions",
            "propagationPolicy: Unsupported value: \"xyz\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
        ),
        (
            Method::DELETE,
            &patch,
            "",
            "propagationPolicy=Orphan&orphanDependents=true",
            "DeleteOptions",
            "propagationPolicy: Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both set",
        ),
    ] {
        let path = format!("{path}{query}");
        let body = if content_type.is_empty() { "" } else { &body };
        let message = format!("{options}.meta.k8s.io \"\" is invalid: {what}");
        expect(&mut http, (method, &path, content_type, body), 422, "Invalid", &message).await;
    }
    refused(&[
        (
            (Method::DELETE, &format!("{MAPS}/a?gracePeriodSeconds=soon"), "", ""),
            400,
            "BadRequest",
            "strconv.ParseInt: parsing \"soon\": invalid syntax",
        ),
        (
            (
                Method::DELETE,
                &format!("{MAPS}/a"),
                JSON,
                "{\"propagationPolicy\":\"Orphan\",\"orphanDependents\":false}",
            ),
            422,
            "Invalid",
            "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: \"Orphan\": orphanDependents and \
             deletionPropagation cannot be both set",
        ),
        (
            (Method::DELETE, &format!("{MAPS}/a"), JSON, "{\"dryRun\":[\"Some\"]}"),
            422,
            "Invalid",
            "DeleteOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"",
        ),
    ])
    .await;
}

#[tokio::test]
async fn the_body_of_a_delete_says_all_and_a_negative_grace_is_the_shortest() {
    let (cluster, mut http) = set_up().await;
    cluster.create(at("configmaps"), config_map("b")).await.unwrap();
    let headers = [("content-type", JSON)];
    // The query counts only where there is no body.
    let path = format!("{MAPS}/a?dryRun=All");
    assert_eq!(http.send(Method::DELETE, &path, &headers, "{}").await.code, 200);
    assert_eq!(http.get(&format!("{MAPS}/a")).await.code, 404);
    let path = format!("{MAPS}/b?gracePeriodSeconds=-1");
    assert_eq!(http.send(Method::DELETE, &path, &[], "").await.code, 200);
    assert_eq!(http.get(&format!("{MAPS}/b")).await.code, 404);
}

#[tokio::test]
async fn bodies_are_told_apart_from_what_they_should_be() {
    let one = format!("{MAPS}/a");
    let hex = "7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a";
    let long = "z".repeat(40);
    let struct_type = "struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \
                       \"json:\\\"kind,omitempty\\\"\" }";
    refused(&[
        (
            (Method::POST, MAPS, JSON, ""),
            400,
            "BadRequest",
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: \
             unexpected end of JSON input (<empty>)",
        ),
        (
            (Method::POST, MAPS, JSON, "{\"a\""),
            400,
            "BadRequest",
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: \
             unexpected end of JSON input ({\"a\")",
        ),
        (
            (Method::POST, MAPS, JSON, "{\"a\":1,}"),
            400,
            "BadRequest",
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: \
             invalid character '}' looking for beginning of object key string ({\"a\":1,})",
        ),
        (
            (Method::POST, MAPS, JSON, "nope"),
            400,
            "BadRequest",
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: \
             invalid character 'o' in literal null (expecting 'u') (6e6f7065)",
        ),
        (
            (Method::PUT, &one, JSON, "{\"metadata\":{\"name\":\"\\ud800\"}}"),
            400,
            "BadRequest",
            "the name of the object (\u{fffd}) does not match the name on the URL (a)",
        ),
        (
            (Method::PUT, &one, JSON, "[]"),
            400,
            "BadRequest",
            &format!(
                "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse \
                 error: json: cannot unmarshal array into Go value of type {struct_type} (5b5d)"
            ),
        ),
        (
            (Method::POST, MAPS, "application/vnd.kubernetes.protobuf", &long),
            400,
            "BadRequest",
            &format!(
                "the object provided is unrecognized (must be of type ConfigMap): the provided data does not appear to be a \
                 protobuf message, expected prefix [107 56 115 0] ({hex} ...)"
            ),
        ),
        (
            (Method::POST, MAPS, "text/plain", "{}"),
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: application/json, \
             application/yaml, application/vnd.kubernetes.protobuf",
        ),
        (
            (Method::PATCH, &one, JSON, "{}"),
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: \
             application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, \
             application/apply-patch+yaml",
        ),
        (
            (Method::POST, MAPS, JSON, "{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{\"name\":\"x\"}}"),
            400,
            "BadRequest",
            "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown \
             conversion",
        ),
        (
            (Method::POST, MAPS, JSON, "{\"apiVersion\":\"apps/v1\",\"kind\":\"ConfigMap\"}"),
            400,
            "BadRequest",
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" is registered for version \
             \"apps/v1\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
        ),
        (
            (
                Method::POST,
                "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers",
                JSON,
                "{\"apiVersion\":\"autoscaling/v2\",\"kind\":\"HorizontalPodAutoscaler\"}",
            ),
            400,
            "BadRequest",
            "the API version in the data (autoscaling/v2) does not match the expected API version (autoscaling/v1)",
        ),
        (
            (Method::POST, MAPS, JSON, "{\"metadata\":{\"name\":\"x\",\"namespace\":\"other\"}}"),
            400,
            "BadRequest",
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            (Method::PUT, &one, JSON, "{\"metadata\":{\"name\":\"b\"}}"),
            400,
            "BadRequest",
            "the name of the object (b) does not match the name on the URL (a)",
        ),
        (
            (Method::PUT, &one, JSON, "{\"metadata\":{}}"),
            400,
            "BadRequest",
            "the name of the object (a based on URL) was undeterminable: name must be provided",
        ),
        (
            (Method::PUT, &one, JSON, "{\"metadata\":{\"name\":\"a\",\"namespace\":\"other\"}}"),
            400,
            "BadRequest",
            "the namespace of the object (other) does not match the namespace on the request (default)",
        ),
        (
            (Method::POST, MAPS, JSON, "{\"metadata\":{}}"),
            422,
            "Invalid",
            "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required",
        ),
        (
            (Method::POST, MAPS, JSON, "{\"metadata\":{\"name\":\"x\",\"resourceVersion\":\"5\"}}"),
            500,
            "",
            "resourceVersion should not be set on objects to be created",
        ),
        (
            (Method::PATCH, &one, MERGE, "{"),
            400,
            "BadRequest",
            "error decoding patch: unexpected end of JSON input",
        ),
        (
            (Method::PATCH, &one, MERGE, "[1]"),
            400,
            "BadRequest",
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        (
            (Method::PATCH, &format!("{one}?fieldValidation=Ignore"), MERGE, "[1]"),
            400,
            "BadRequest",
            "Invalid JSON Patch",
        ),
        (
            (Method::PATCH, &one, "application/json-patch+json", "{}"),
            400,
            "BadRequest",
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ),
        (
            (Method::PATCH, &one, "application/json-patch+json", "[1]"),
            400,
            "BadRequest",
            "error decoding patch: json: cannot unmarshal number into Go value of type handlers.jsonPatchOp",
        ),
        (
            (Method::PATCH, &one, "application/strategic-merge-patch+json", "[1]"),
            400,
            "BadRequest",
            "json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        (
            (Method::PATCH, &one, "application/strategic-merge-patch+json", "{]"),
            400,
            "BadRequest",
            "invalid character ']' looking for beginning of object key string",
        ),
        (
            (Method::PATCH, &one, MERGE, "x"),
            400,
            "BadRequest",
            "error decoding patch: invalid character 'x' looking for beginning of value",
        ),
        (
            (Method::PATCH, &one, MERGE, "{\"data\":{\"k\":1},\"metadata\":null}"),
            400,
            "BadRequest",
            "the patch leaves the object without metadata",
        ),
        (
            (
                Method::PATCH,
                &one,
                "application/strategic-merge-patch+json",
                "{\"data\":{\"k\":1}}",
            ),
            422,
            "Invalid",
            " \"\" is invalid: patch: Invalid value: \"map[data:map[k:1]]\": json: cannot unmarshal number into \
             Go struct field ConfigMap.data of type string",
        ),
        (
            (
                Method::PATCH,
                &format!("{one}?fieldValidation=Strict"),
                MERGE,
                "{\"data\":{\"k\":\"1\",\"k\":\"2\"}}",
            ),
            422,
            "Invalid",
            " \"\" is invalid: patch: Invalid value: \"{\\\"data\\\":{\\\"k\\\":\\\"1\\\",\\\"k\\\":\\\"2\\\"}}\": strict decoding error: \
             duplicate field \"data.k\"",
        ),
        (
            (
                Method::PATCH,
                &format!("{one}?fieldValidation=Strict&fieldManager=me"),
                APPLY,
                "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: '1'\n  k: '2'\n",
            ),
            400,
            "BadRequest",
            "error strict decoding YAML: duplicate field \"data.k\"",
        ),
        (
            (Method::POST, &format!("{MAPS}/a"), JSON, "{}"),
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ),
    ])
    .await;
}

#[tokio::test]
async fn an_answer_in_no_form_that_there_is_is_refused() {
    let (_cluster, mut http) = set_up().await;
    let got = http.send(Method::GET, MAPS, &[("accept", "text/html")], "").await;
    assert_eq!(
        (got.code.as_u16(), got.json()["message"].as_str().unwrap()),
        (
            406,
            "only the following media types are accepted: application/json, application/yaml, \
             application/vnd.kubernetes.protobuf"
        )
    );
}
