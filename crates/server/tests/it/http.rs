//! What only HTTP has: credentials, media types, limits, paths, and the shape of answers.

use std::sync::Arc;

use coracle_api::resource::{Resource, Verbs};
use http::Method;
use http_body_util::BodyExt;
use serde_json::json;

use crate::harness::{Cluster, at, config_map};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

#[tokio::test]
async fn without_credentials_there_is_health_and_version_and_nothing_else() {
    let cluster = Cluster::start().await;
    let mut http = cluster.http(false).await;
    for path in ["/healthz", "/livez", "/readyz", "/readyz/ping", "/version"] {
        assert_eq!(http.get(path).await.code, 200, "{path}");
    }
    for path in ["/", "/api", "/apis", "/metrics", "/openapi/v3", MAPS, "/nowhere"] {
        let got = http.get(path).await;
        assert_eq!(
            (got.code.as_u16(), got.json()["reason"].as_str()),
            (401, Some("Unauthorized")),
            "{path}"
        );
    }
    let wrong = [("authorization", "Bearer nonsense")];
    assert_eq!(http.send(Method::GET, "/version", &wrong, "").await.code, 401);
}

#[tokio::test]
async fn readiness_names_its_checks_and_leaves_out_what_is_excluded() {
    let cluster = Cluster::start().await;
    let mut http = cluster.http(false).await;
    cluster.server.service().readiness().set("controllers", false);
    let got = http.get("/readyz").await;
    assert_eq!(got.code, 500);
    assert!(got.text().contains("[-]controllers failed"), "{}", got.text());
    assert_eq!(http.get("/readyz?exclude=controllers").await.code, 200);
    assert_eq!(http.get("/livez").await.code, 200);
    cluster.server.service().readiness().set("controllers", true);
    assert!(
        http.get("/readyz?verbose")
            .await
            .text()
            .ends_with("readyz check passed\n")
    );
}

#[tokio::test]
async fn bodies_are_read_by_their_type_and_refused_when_they_are_not_what_they_say() {
    let cluster = Cluster::start().await;
    let mut http = cluster.http(true).await;
    let yaml = "metadata:\n  name: yam\ndata: {k: v}\n";
    let made = http
        .send(Method::POST, MAPS, &[("content-type", "application/yaml")], yaml)
        .await;
    assert_eq!(made.code, 201, "{}", made.text());
    assert_eq!(made.json()["apiVersion"], "v1");
    for (content_type, body, code) in [
        ("text/plain", "{}", 415),
        ("application/cbor", "{}", 415),
        ("application/json", "{", 400),
        ("application/json", "[]", 400),
        ("application/yaml", "a: [", 400),
        ("application/vnd.kubernetes.protobuf", "nonsense", 400),
        (
            "application/json",
            "{\"metadata\":{\"name\":\"x\"},\"data\":{\"k\":5}}",
            400,
        ),
        (
            "application/json",
            "{\"kind\":\"Secret\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"x\"}}",
            400,
        ),
        (
            "application/json",
            "{\"metadata\":{\"name\":\"x\",\"namespace\":\"other\"}}",
            400,
        ),
    ] {
        let got = http
            .send(Method::POST, MAPS, &[("content-type", content_type)], body)
            .await;
        assert_eq!(got.code, code, "{content_type} {body}: {}", got.text());
        assert_eq!(got.json()["kind"], "Status");
    }
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(http.send(Method::POST, MAPS, &JSON, deep).await.code, 400);
    let large = json!({"metadata": {"name": "l"}, "data": {"k": "x".repeat(4 << 20)}}).to_string();
    let mut other = cluster.http(true).await;
    assert_eq!(other.send(Method::POST, MAPS, &JSON, large).await.code, 413);
    let patch = http.send(Method::PATCH, &format!("{MAPS}/yam"), &JSON, "{}").await;
    assert_eq!(patch.code, 415);
}

#[tokio::test]
async fn unknown_fields_are_an_error_a_warning_or_nothing_as_the_client_wishes() {
    let cluster = Cluster::start().await;
    let mut http = cluster.http(true).await;
    let body = |name: &str| json!({"metadata": {"name": name}, "dat": {"k": "v"}}).to_string();
    let strict = http
        .send(
            Method::POST,
            &format!("{MAPS}?fieldValidation=Strict"),
            &JSON,
            body("a"),
        )
        .await;
    assert_eq!(strict.code, 400);
    assert!(
        strict.json()["message"]
            .as_str()
            .unwrap()
            .ends_with("strict decoding error: unknown field \"dat\"")
    );
    let warn = http.send(Method::POST, MAPS, &JSON, body("a")).await;
    assert_eq!(
        (warn.code.as_u16(), warn.headers["warning"].to_str().unwrap()),
        (201, "299 - \"unknown field \\\"dat\\\"\"")
    );
    let ignore = http
        .send(
            Method::POST,
            &format!("{MAPS}?fieldValidation=Ignore"),
            &JSON,
            body("b"),
        )
        .await;
    assert!(ignore.headers.get("warning").is_none());
    let twice = "{\"metadata\":{\"name\":\"c\"},\"data\":{\"k\":\"1\",\"k\":\"2\"}}";
    let got = http
        .send(Method::POST, &format!("{MAPS}?fieldValidation=Strict"), &JSON, twice)
        .await;
    assert!(
        got.json()["message"]
            .as_str()
            .unwrap()
            .contains("duplicate field \"data.k\""),
        "{}",
        got.text()
    );
}

#[tokio::test]
async fn an_answer_comes_in_the_form_that_was_asked_for() {
    let cluster = Cluster::start().await;
    cluster.create(at("configmaps"), config_map("a")).await.unwrap();
    let mut http = cluster.http(true).await;
    let list = http.get(&format!("{MAPS}?limit=0&continue=")).await.json();
    assert_eq!(
        (list["kind"].as_str(), list["items"].as_array().unwrap().len()),
        (Some("ConfigMapList"), 1)
    );
    let form = |accept: &'static str| [("accept", accept)];
    let yaml = http
        .send(Method::GET, &format!("{MAPS}/a"), &form("application/yaml"), "")
        .await;
    assert!(yaml.text().contains("kind: ConfigMap"), "{}", yaml.text());
    let table = http
        .send(
            Method::GET,
            MAPS,
            &form("application/json;as=Table;v=v1;g=meta.k8s.io"),
            "",
        )
        .await
        .json();
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let path = format!("{MAPS}?includeObject=Object");
    let table = http
        .send(
            Method::GET,
            &path,
            &form("application/json;as=Table;v=v1;g=meta.k8s.io"),
            "",
        )
        .await
        .json();
    assert_eq!(table["rows"][0]["object"]["data"]["k"], "v");
    let partial = form("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io");
    let partial = http.send(Method::GET, MAPS, &partial, "").await.json();
    assert_eq!(partial["kind"], "PartialObjectMetadataList");
    assert!(partial["items"][0].get("data").is_none());
    let protobuf = http
        .send(Method::GET, MAPS, &form("application/vnd.kubernetes.protobuf"), "")
        .await;
    assert_eq!(&protobuf.body[..4], b"k8s\0");
    assert_eq!(http.send(Method::GET, MAPS, &form("text/html"), "").await.code, 406);
}

#[tokio::test]
async fn an_error_comes_in_the_form_that_was_asked_for_and_in_json_where_there_is_none() {
    let cluster = Cluster::start().await;
    let mut http = cluster.http(true).await;
    let table = "as=Table;v=v1;g=meta.k8s.io";
    let partial = "as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let proto = "application/vnd.kubernetes.protobuf";
    for (accept, content_type) in [
        ("application/yaml", "application/yaml"),
        (proto, proto),
        (&format!("{proto};stream=watch"), proto),
        (&format!("{proto}, application/json"), "application/json"),
        ("*/*", "application/json"),
        ("text/html", "application/json"),
        ("no; nonsense,", "application/json"),
        (
            &format!("application/json;{table}, application/yaml"),
            "application/yaml",
        ),
        (&format!("application/yaml;{table}"), "application/json"),
        (&format!("{proto};{partial}"), "application/json"),
    ] {
        let accepts = [("accept", accept), ("content-type", "application/json")];
        for (method, path, body, served, code) in [
            (Method::GET, format!("{MAPS}/absent"), "", true, 404),
            (Method::GET, format!("{MAPS}?limit=x"), "", true, 400),
            (Method::DELETE, format!("{MAPS}/absent"), "", true, 404),
            (
                Method::POST,
                MAPS.to_owned(),
                "{\"metadata\":{\"name\":\"A\"}}",
                true,
                422,
            ),
            (
                Method::GET,
                "/apis/none.example.com/v1/things".to_owned(),
                "",
                false,
                404,
            ),
            (Method::GET, "/nowhere".to_owned(), "", false, 404),
        ] {
            let got = http.send(method, &path, &accepts, body).await;
            assert_eq!(got.headers["content-type"], content_type, "{accept} {path}");
            let status = match content_type {
                "application/json" => got.json(),
                "application/yaml" => coracle_api::schema::parse::parse_yaml(&got.body).unwrap().0,
                _ => coracle_api::protobuf::decode_object(&got.body).unwrap().into_value(),
            };
            // What is not acceptable is told first where there is an object to show.
            let code = if served && status["reason"] == "NotAcceptable" {
                406
            } else {
                code
            };
            assert_eq!(
                (&status["kind"], &status["code"]),
                (&json!("Status"), &json!(code)),
                "{accept} {path}"
            );
            assert_eq!(got.code, code, "{accept} {path}");
        }
    }
    let anonymous = cluster
        .http(false)
        .await
        .send(Method::GET, MAPS, &[("accept", "application/yaml")], "")
        .await;
    assert_eq!(
        (
            anonymous.code.as_u16(),
            anonymous.text().contains("reason: Unauthorized")
        ),
        (401, true)
    );
    let curl = [("user-agent", "curl/8.0")];
    let lines = http.send(Method::GET, "/nowhere", &curl, "").await;
    assert!(lines.text().starts_with("{\n  \""), "{}", lines.text());
}

#[tokio::test]
async fn a_success_without_an_object_comes_in_the_form_that_was_asked_for() {
    let cluster = Cluster::start().await;
    let mut http = cluster.http(true).await;
    for (accept, start) in [
        ("application/yaml", &b"apiVersion: v1\n"[..]),
        ("application/vnd.kubernetes.protobuf", b"k8s\0"),
        ("application/json;as=Table;v=v1;g=meta.k8s.io", b"{"),
    ] {
        cluster.create(at("configmaps"), config_map("a")).await.unwrap();
        let path = format!("{MAPS}/a");
        let got = http.send(Method::DELETE, &path, &[("accept", accept)], "").await;
        assert_eq!(got.code, 200, "{accept}");
        assert!(got.body.starts_with(start), "{accept}: {:?}", got.body);
    }
}

#[tokio::test]
async fn a_watch_that_cannot_begin_says_so_as_the_client_reads_it() {
    let cluster = Cluster::start().await;
    let mut http = cluster.http(true).await;
    let proto = "application/vnd.kubernetes.protobuf;stream=watch";
    // Too old: an event, in the form of the watch.
    let old = format!("{MAPS}?watch=1&resourceVersion=1");
    let got = http.send(Method::GET, &old, &[("accept", proto)], "").await;
    assert_eq!(
        (got.code.as_u16(), &got.headers["content-type"]),
        (200, &proto.parse().unwrap())
    );
    let length = u32::from_be_bytes(got.body[..4].try_into().unwrap()) as usize;
    let (event, status) = coracle_api::protobuf::decode_watch_event(&got.body[4..4 + length]).unwrap();
    assert_eq!((event.as_str(), status.i64(&["code"])), ("ERROR", Some(410)));
    // Not to be had at all: an error like any other.
    let wrong = format!("{MAPS}?watch=1&fieldSelector=none%3Da");
    for (accept, content_type) in [
        (proto, "application/vnd.kubernetes.protobuf"),
        ("application/json;stream=watch", "application/json"),
        (
            "application/json;stream=watch, application/yaml;q=0.1",
            "application/json",
        ),
    ] {
        let got = http.send(Method::GET, &wrong, &[("accept", accept)], "").await;
        assert_eq!(got.code, 400, "{accept}");
        assert_eq!(got.headers["content-type"], content_type, "{accept}");
    }
    // YAML has no form for a stream of events.
    let got = http
        .send(
            Method::GET,
            &format!("{MAPS}?watch=1"),
            &[("accept", "application/yaml")],
            "",
        )
        .await;
    assert_eq!(
        (got.code.as_u16(), &got.headers["content-type"]),
        (406, &"application/yaml".parse().unwrap())
    );
    assert!(got.text().contains("application/json;stream=watch"), "{}", got.text());
}

#[tokio::test]
async fn a_watch_is_lines_of_events_and_flags_are_read_as_upstream_reads_them() {
    let cluster = Cluster::start().await;
    cluster.create(at("configmaps"), config_map("a")).await.unwrap();
    for flag in ["watch=1", "watch=true", "watch=True"] {
        let mut http = cluster.http(true).await;
        let answer = http
            .open(Method::GET, &format!("{MAPS}?{flag}&timeoutSeconds=5"), &[], "")
            .await;
        let mut body = answer.into_body();
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let line: serde_json::Value = serde_json::from_slice(&frame).unwrap();
        assert_eq!(
            (line["type"].as_str(), line["object"]["metadata"]["name"].as_str()),
            (Some("ADDED"), Some("a"))
        );
    }
    let mut http = cluster.http(true).await;
    let old = http.get(&format!("{MAPS}?watch=1&resourceVersion=1")).await;
    assert_eq!((old.code.as_u16(), old.json()["type"].as_str()), (200, Some("ERROR")));
    assert_eq!(old.json()["object"]["code"], 410);
    let future = http.get(&format!("{MAPS}?resourceVersion=999999999")).await;
    assert_eq!(future.code, 504);
    assert!(
        future.text().contains("Too large resource version"),
        "{}",
        future.text()
    );
}

#[tokio::test]
async fn discovery_tells_short_names_and_categories_in_both_forms() {
    let cluster = Cluster::start().await;
    let mut http = cluster.http(true).await;
    let accept = [(
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
    )];
    let groups = http.send(Method::GET, "/apis", &accept, "").await;
    let etag = groups.headers["etag"].to_str().unwrap().to_owned();
    let apps = groups.json()["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|g| g["metadata"]["name"] == "apps")
        .unwrap()
        .clone();
    let resources = apps["versions"][0]["resources"].as_array().unwrap();
    let deployments = resources.iter().find(|r| r["resource"] == "deployments").unwrap();
    assert_eq!(
        (&deployments["shortNames"], &deployments["categories"]),
        (&json!(["deploy"]), &json!(["all"]))
    );
    assert!(
        deployments["subresources"]
            .as_array()
            .unwrap()
            .iter()
            .any(|s| s["subresource"] == "scale")
    );
    let again = [accept[0], ("if-none-match", etag.as_str())];
    assert_eq!(http.send(Method::GET, "/apis", &again, "").await.code, 304);
    let old = http.get("/apis/apps/v1").await.json();
    assert_eq!(old["kind"], "APIResourceList");
    assert_eq!(http.get("/apis/nothing/v1").await.code, 404);
    let missing = http.get("/api/v1/nothing").await.json();
    assert_eq!(missing["message"], "the server could not find the requested resource");
}

#[tokio::test]
async fn a_method_that_is_not_served_is_405_and_an_old_path_of_a_watch_is_a_watch() {
    let cluster = Cluster::start().await;
    let mut http = cluster.http(true).await;
    assert_eq!(http.send(Method::PUT, MAPS, &JSON, "{}").await.code, 405);
    let nodes = "/apis/authentication.k8s.io/v1/tokenreviews";
    assert_eq!(http.get(nodes).await.code, 405);
    cluster.create(at("configmaps"), config_map("a")).await.unwrap();
    let answer = http
        .open(Method::GET, "/api/v1/watch/namespaces/default/configmaps/a", &[], "")
        .await;
    let frame = answer.into_body().frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(frame.starts_with(b"{\"type\":\"ADDED\""));
}

#[tokio::test]
async fn across_namespaces_there_are_lists_and_nothing_else() {
    let cluster = Cluster::start().await;
    let mut http = cluster.http(true).await;
    assert_eq!(http.get("/api/v1/configmaps").await.code, 200);
    assert_eq!(
        http.send(Method::POST, "/api/v1/configmaps", &JSON, "{}").await.code,
        405
    );
    assert_eq!(http.send(Method::DELETE, "/api/v1/configmaps", &[], "").await.code, 405);
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(http.send(method, "/api/v1/configmaps/a", &[], "").await.code, 404);
    }
}

#[tokio::test]
async fn a_scale_is_printed_as_one_whatever_it_is_the_scale_of() {
    let cluster = Cluster::start().await;
    let web = json!({"metadata": {"name": "web"}, "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    cluster.create(at("apps/v1/deployments"), web).await.unwrap();
    let mut http = cluster.http(true).await;
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let path = "/apis/apps/v1/namespaces/default/deployments/web/scale";
    let printed = http.send(Method::GET, path, &table, "").await.json();
    let columns: Vec<_> = printed["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(columns, ["Name", "Desired", "Available", "Age"]);
    let cells = printed["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(cells[..3], [json!("web"), json!(2), json!(0)]);
}

#[tokio::test]
async fn a_selectors_mistake_is_told_once() {
    let cluster = Cluster::start().await;
    let mut http = cluster.http(true).await;
    let got = http.get(&format!("{MAPS}?labelSelector=a%20in%20(")).await;
    assert_eq!(got.code, 400);
    let message = got.json()["message"].as_str().unwrap().to_owned();
    assert_eq!(message.matches("unable to parse requirement").count(), 1, "{message}");
}

#[tokio::test]
async fn impersonation_acts_as_the_other_for_those_who_may() {
    let cluster = Cluster::start().await;
    let mut http = cluster.http(true).await;
    let headers = [("impersonate-user", "bob"), ("content-type", "application/json")];
    let me = http
        .send(
            Method::POST,
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            &headers,
            "{}",
        )
        .await
        .json();
    assert_eq!(me["status"]["userInfo"]["username"], "bob");
    assert_eq!(http.send(Method::GET, MAPS, &headers, "").await.code, 403);
    let groups_alone = [("impersonate-group", "g")];
    assert_eq!(http.send(Method::GET, MAPS, &groups_alone, "").await.code, 400);
}

#[tokio::test]
async fn the_log_of_a_pod_without_a_node_says_what_is_missing() {
    let cluster = Cluster::start().await;
    cluster
        .create(at("serviceaccounts"), json!({"metadata": {"name": "default"}}))
        .await
        .unwrap();
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    cluster.create(at("pods"), pod).await.unwrap();
    let mut http = cluster.http(true).await;
    let got = http.get("/api/v1/namespaces/default/pods/p/log").await;
    assert_eq!(got.code, 400);
    assert!(got.text().contains("waiting to start"), "{}", got.text());
    assert_eq!(http.get("/api/v1/namespaces/default/pods/q/log").await.code, 404);
    let exec = http
        .send(
            Method::POST,
            "/api/v1/namespaces/default/pods/p/exec?container=x",
            &[],
            "",
        )
        .await;
    assert!(
        exec.text().contains("container x is not valid for pod p"),
        "{}",
        exec.text()
    );
}

#[tokio::test]
async fn every_kind_lists_and_watches_in_protobuf() {
    let cluster = Cluster::start().await;
    let mut http = cluster.http(true).await;
    let accept = [("accept", "application/vnd.kubernetes.protobuf")];
    let table = cluster.server.service().registry().table();
    let listed = |row: &&Arc<Resource>| row.protobuf && row.verbs.contains(Verbs::LIST);
    for row in table.iter().filter(listed) {
        let path = if row.group.is_empty() {
            format!("/api/{}/{}", row.version, row.plural)
        } else {
            format!("/apis/{}/{}/{}", row.group, row.version, row.plural)
        };
        let list = http.send(Method::GET, &path, &accept, "").await;
        assert_eq!(list.code, 200, "{path}");
        assert_eq!(list.headers["content-type"], "application/vnd.kubernetes.protobuf");
        let list = coracle_api::protobuf::decode_object(&list.body).unwrap();
        assert_eq!(list.kind(), row.list_kind, "{path}");
    }
}

#[tokio::test]
async fn a_watch_in_protobuf_is_frames_with_the_length_before_each() {
    let cluster = Cluster::start().await;
    cluster.create(at("configmaps"), config_map("a")).await.unwrap();
    let mut http = cluster.http(true).await;
    let accept = [("accept", "application/vnd.kubernetes.protobuf;stream=watch")];
    let path = format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Da");
    let mut watch = http.open(Method::GET, &path, &accept, "").await;
    assert_eq!(
        watch.headers()["content-type"],
        "application/vnd.kubernetes.protobuf;stream=watch"
    );
    let frame = watch.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    let length = u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize;
    let (event, object) = coracle_api::protobuf::decode_watch_event(&frame[4..4 + length]).unwrap();
    assert_eq!((event.as_str(), object.name()), ("ADDED", "a"));
}

#[tokio::test]
async fn an_answer_arrives_though_nobody_has_read_the_body() {
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let cluster = Cluster::start().await;
    let stream = TokioIo::new(cluster.tls(true).await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    for (path, code) in [
        ("/apis/none.example.com/v1/things", 404),
        ("/api/v1/namespaces/default/configmaps?fieldValidation=none", 422),
        ("/version", 405),
    ] {
        // A body that begins and never ends.
        let frames = futures::stream::pending::<Result<Frame<bytes::Bytes>, std::convert::Infallible>>();
        let request = http::Request::post(format!("https://localhost{path}"))
            .header("content-type", "application/json")
            .body(StreamBody::new(frames))
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), code, "{path}");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let status: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(status["code"], code, "{path}");
    }
}
