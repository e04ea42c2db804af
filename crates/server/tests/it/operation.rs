//! How the server holds out: against clients that mean ill or are slow, and over time.

use std::sync::Arc;
use std::time::Duration;

use coracle_api::service::{ListOptions, WatchEvent};
use coracle_clock::Clock;
use coracle_store::Embedded;
use futures::StreamExt;
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Cluster, at, config_map, named};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];
const YAML: [(&str, &str); 1] = [("content-type", "application/yaml")];

async fn hurried(set: impl FnOnce(&mut coracle_server::Limits)) -> Cluster {
    Cluster::start_with(Arc::new(Embedded::in_memory()), |options| set(&mut options.limits)).await
}

/// What comes until the server closes.
async fn rest(mut stream: impl AsyncReadExt + Unpin) -> String {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn a_client_that_never_ends_its_headers_is_cut_off() {
    let cluster = hurried(|limits| limits.head_time = Duration::from_millis(100)).await;
    let mut stream = cluster.tls(true).await;
    stream
        .write_all(b"GET /api HTTP/1.1\r\nhost: localhost\r\n")
        .await
        .unwrap();
    let got = rest(stream).await;
    assert!(!got.contains("200 OK"), "{got}");
    // Nor one that does not even speak TLS.
    let silent = tokio::net::TcpStream::connect(cluster.server.local_addr())
        .await
        .unwrap();
    assert_eq!(rest(silent).await, "");
}

#[tokio::test]
async fn a_client_that_never_ends_its_body_gets_a_timeout() {
    let cluster = hurried(|limits| limits.request_time = Duration::from_millis(100)).await;
    let mut stream = cluster.tls(true).await;
    let head = format!("POST {MAPS} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n{{");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 504 Ga");
}

#[tokio::test]
async fn headers_beyond_all_measure_are_refused() {
    let cluster = Cluster::start().await;
    let mut stream = cluster.tls(true).await;
    let head = format!(
        "GET /api HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n",
        "a".repeat(2 << 20)
    );
    // The server may hang up before it has all of it.
    let _ = stream.write_all(head.as_bytes()).await;
    let got = rest(stream).await;
    assert!(!got.contains("200 OK"), "{got}");
    assert_eq!(cluster.http(true).await.get("/api").await.code, 200);
}

#[tokio::test]
async fn bombs_do_not_go_off() {
    let cluster = Cluster::start().await;
    let mut http = cluster.http(true).await;
    let mut aliases = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for i in 1..30 {
        let before = format!("*a{},", i - 1).repeat(10);
        aliases.push_str(&format!("a{i}: &a{i} [{}]\n", before.trim_end_matches(',')));
    }
    let deep_yaml = format!("a: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_json = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_map = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    for (headers, body) in [
        (&YAML, aliases),
        (&YAML, deep_yaml),
        (&JSON, deep_json),
        (&JSON, deep_map),
    ] {
        let got = http.send(Method::POST, MAPS, headers, body).await;
        assert_eq!(got.code, 400, "{}", got.text());
    }
    // Compressed bodies are not read at all: there is nothing to unpack.
    let packed = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let bomb: Vec<u8> = {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![b' '; 8 << 20]).unwrap();
        encoder.finish().unwrap()
    };
    assert_eq!(http.send(Method::POST, MAPS, &packed, bomb).await.code, 400);
    let patch = [("content-type", "application/json-patch+json")];
    cluster.create(at("configmaps"), config_map("a")).await.unwrap();
    let grow = json!({"op": "copy", "from": "/data", "path": "/data/x"});
    let many: Vec<Value> = std::iter::repeat_n(grow, 20_000).collect();
    let got = http
        .send(
            Method::PATCH,
            &format!("{MAPS}/a"),
            &patch,
            Value::from(many).to_string(),
        )
        .await;
    assert!(matches!(got.code.as_u16(), 413 | 422), "{} {}", got.code, got.text());
    assert_eq!(http.get("/livez").await.code, 200);
}

#[tokio::test]
async fn giant_selectors_are_answered_or_refused_and_nothing_breaks() {
    let cluster = Cluster::start().await;
    let mut http = cluster.http(true).await;
    let labels = (0..2_000).map(|i| format!("k{i}%3Dv")).collect::<Vec<_>>().join(",");
    let sets = format!(
        "k+in+({})",
        (0..5_000).map(|i| i.to_string()).collect::<Vec<_>>().join(",")
    );
    let fields = (0..2_000).map(|_| "metadata.name%3Dx").collect::<Vec<_>>().join(",");
    let nested = format!("k+in+{}", "(".repeat(10_000));
    for selector in [
        format!("labelSelector={labels}"),
        format!("labelSelector={sets}"),
        format!("fieldSelector={fields}"),
        format!("labelSelector={nested}"),
    ] {
        let got = http.get(&format!("{MAPS}?{selector}")).await;
        assert!(matches!(got.code.as_u16(), 200 | 400 | 414 | 431), "{}", got.code);
        if got.headers.get("connection").is_some_and(|c| c == "close") {
            http = cluster.http(true).await;
        }
    }
    assert_eq!(http.get(MAPS).await.code, 200);
}

#[tokio::test]
async fn when_too_many_wait_the_next_is_told_to_come_back() {
    let cluster = hurried(|limits| {
        limits.writes_in_flight = 1;
        limits.waiting = 0;
    })
    .await;
    // One that has begun and does not end holds the only place.
    let mut slow = cluster.tls(true).await;
    let head = format!("POST {MAPS} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n{{");
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut http = cluster.http(true).await;
    let metrics = "apiserver_current_inflight_requests{request_kind=\"mutating\"} 1";
    while !http.get("/metrics").await.text().contains(metrics) {
        tokio::task::yield_now().await;
    }
    let got = http.send(Method::POST, MAPS, &JSON, config_map("a").to_string()).await;
    assert_eq!(got.code, 429, "{}", got.text());
    assert_eq!(got.headers["retry-after"], "1");
    assert_eq!(got.json()["reason"], "TooManyRequests");
    // Those that read have places of their own, and probes always get through.
    assert_eq!(http.get(MAPS).await.code, 200);
    assert_eq!(http.get("/livez").await.code, 200);
}

#[tokio::test]
async fn metrics_have_upstreams_names_and_strangers_add_none() {
    let cluster = Cluster::start().await;
    let mut http = cluster.http(true).await;
    http.get(MAPS).await;
    let mut watcher = cluster.http(true).await;
    let _watch = watcher.open(Method::GET, &format!("{MAPS}?watch=1"), &[], "").await;
    for i in 0..50 {
        http.get(&format!("/apis/made.up/v{i}/things")).await;
        http.get(&format!("/api/v1/namespaces/default/pods/x/sub{i}")).await;
    }
    let text = http.get("/metrics").await.text().to_owned();
    for name in [
        "apiserver_request_total{verb=\"LIST\",group=\"\",version=\"v1\",resource=\"configmaps\"",
        "apiserver_request_duration_seconds_bucket",
        "apiserver_current_inflight_requests{request_kind=\"readOnly\"}",
        "apiserver_longrunning_requests",
        "apiserver_storage_objects{resource=\"configmaps\"",
        "apiserver_storage_size_bytes",
        "authorization_attempts_total{result=\"allowed\"}",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(text.contains(name), "{name} is missing in\n{text}");
    }
    assert!(!text.contains("made.up") && !text.contains("sub1"), "{text}");
}

#[tokio::test]
async fn a_shutdown_ends_watches_and_is_not_held_up() {
    let cluster = Cluster::start().await;
    let mut http = cluster.http(true).await;
    let watch = http.open(Method::GET, &format!("{MAPS}?watch=1"), &[], "").await;
    assert_eq!(watch.status(), 200);
    let idle = cluster.http(true).await;
    let server = cluster.server;
    server.shutdown().await;
    // The body ends as it should, not in the middle of a chunk.
    let body = http_body_util::BodyExt::collect(watch.into_body()).await;
    assert!(body.is_ok(), "{body:?}");
    drop(idle);
}

#[tokio::test(start_paused = true)]
async fn an_event_expires_an_hour_after_it_was_written_last() {
    let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    let store = Arc::new(Embedded::in_memory());
    let cluster = Cluster::start_with(store.clone(), |options| options.clock = clock).await;
    let event = |name: &str| {
        json!({
            "metadata": {"name": name},
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
            "reason": "Test",
            "type": "Normal",
            "firstTimestamp": "2026-01-01T00:00:00Z",
            "lastTimestamp": "2026-01-01T00:00:00Z",
        })
    };
    let all_day = ListOptions {
        timeout_seconds: Some(86_400),
        ..ListOptions::default()
    };
    let mut watch = cluster.watch(at("events"), all_day).await.unwrap();
    for name in ["short", "long"] {
        cluster.create(at("events"), event(name)).await.unwrap();
    }
    clock.sleep(Duration::from_secs(1800)).await;
    let mut again = cluster.get(named("events", "long")).await.unwrap();
    again.set(&["count"], 2);
    cluster.update(named("events", "long"), again).await.unwrap();
    let mut gone = Vec::new();
    while gone.len() < 2 {
        if let WatchEvent::Deleted(object) = watch.next().await.unwrap().unwrap() {
            gone.push((object.head().name.to_string(), clock.now().as_second() - 1_767_225_600));
        }
    }
    let within = |seconds: i64, expected: i64| (expected..expected + 60).contains(&seconds);
    assert_eq!((gone[0].0.as_str(), gone[1].0.as_str()), ("short", "long"));
    assert!(within(gone[0].1, 3600) && within(gone[1].1, 5400), "{gone:?}");
}

#[tokio::test(start_paused = true)]
async fn events_that_a_stopped_server_left_expire_too() {
    let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    let store = Arc::new(Embedded::in_memory());
    let cluster = Cluster::start_with(store.clone(), |options| options.clock = clock).await;
    let event = json!({
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "lastTimestamp": "2026-01-01T00:00:00Z",
    });
    cluster.create(at("events"), event).await.unwrap();
    cluster.server.shutdown().await;
    clock.sleep(Duration::from_secs(7200)).await;
    let cluster = Cluster::start_with(store, |options| options.clock = clock).await;
    cluster.wait_gone(named("events", "e")).await;
}
