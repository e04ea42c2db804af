//! Probes' actions against real servers on the loopback.

use super::*;
use crate::pod::scripted::{Scripted, Shared};
use hyper::body::Frame;
use hyper::service::service_fn;
use k8s_openapi::api::core::v1::HTTPHeader;
use std::convert::Infallible;
use tokio::net::TcpListener;

/// Nothing is decided by this: the servers answer, on however busy a machine.
const LIMIT: Duration = Duration::from_secs(300);

fn target() -> Target {
    let clock = Clock::system();
    Target {
        runtime: Arc::new(Shared(Scripted::new(clock))),
        clock,
        id: ContainerId::new("c"),
        container: Arc::default(),
        pod_ip: "127.0.0.1".into(),
    }
}

/// A server that answers by the path; redirects lead on to what they name.
async fn http() -> i32 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                let header = |name: &str| {
                    let value = request.headers().get(name);
                    value.and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
                };
                let (status, location) = match request.uri().path() {
                    "/ok" => (200, None),
                    "/moved" => (302, Some("/ok")),
                    "/deep/beside" => (301, Some("ok")),
                    "/deep/ok" => (200, None),
                    "/nowhere" => (302, None),
                    "/same" => (304, None),
                    "/bare" if header("user-agent").is_empty() && header("accept").is_empty() => (200, None),
                    "/astray" => (302, Some("/gone")),
                    "/away" => (302, Some("http://192.0.2.1/")),
                    "/round" => (302, Some("/round")),
                    "/headers" if header("x-probe") == "yes" && header("user-agent").starts_with("kube-probe/") => {
                        (200, None)
                    }
                    "/host" if header("host") == "example.com" => (200, None),
                    "/slow" => std::future::pending().await,
                    _ => (503, None),
                };
                let mut answer = http::Response::builder().status(status);
                if let Some(location) = location {
                    answer = answer.header("location", location);
                }
                Ok::<_, Infallible>(answer.body(Full::new(Bytes::new())).unwrap())
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    port.into()
}

fn action(port: i32, path: &str) -> HTTPGetAction {
    let header = |name: &str, value: &str| HTTPHeader {
        name: name.into(),
        value: value.into(),
    };
    let headers = match path {
        "/headers" => vec![header("X-Probe", "yes")],
        "/host" => vec![header("Host", "example.com")],
        "/bare" => vec![header("User-Agent", ""), header("accept", "")],
        _ => Vec::new(),
    };
    HTTPGetAction {
        path: Some(path.into()),
        port: IntOrString::Int(port),
        http_headers: Some(headers),
        ..HTTPGetAction::default()
    }
}

#[tokio::test]
async fn any_answer_from_200_to_399_is_a_success() {
    let port = http().await;
    for (path, expected) in [
        ("/ok", None),
        ("/moved", None),
        ("/deep/beside", None),
        ("/headers", None),
        ("/bare", None),
        ("/host", None),
        ("/gone", Some("HTTP probe failed with statuscode: 503")),
        ("/astray", Some("HTTP probe failed with statuscode: 503")),
    ] {
        let outcome = target().http(&action(port, path), LIMIT).await;
        let expected = expected.map_or(Outcome::Success, |text| Outcome::Failure(text.into()));
        assert_eq!(outcome, expected, "{path}");
    }
    // Not followed: to another host, the eleventh, and no redirect at all.
    for path in ["/away", "/round", "/same"] {
        let outcome = target().http(&action(port, path), LIMIT).await;
        let text = "Probe terminated redirects, Response body: ".to_owned();
        assert_eq!(outcome, Outcome::Warning(text), "{path}");
    }
    let nowhere = target().http(&action(port, "/nowhere"), LIMIT).await;
    assert!(matches!(nowhere, Outcome::Failure(text) if text.contains("302 response missing Location header")));
    let late = target().http(&action(port, "/slow"), Duration::from_millis(50)).await;
    assert!(matches!(late, Outcome::Failure(text) if text.contains("context deadline exceeded")));
}

#[test]
fn a_redirect_leads_on_as_far_as_the_same_host() {
    let place = Place {
        host: "10.0.0.1".into(),
        port: 8080,
        tls: false,
        path: "/a/b?x=1".into(),
    };
    for (location, expected) in [
        ("/c", Some((8080, false, "/c"))),
        ("c?y=2#part", Some((8080, false, "/a/c?y=2"))),
        ("?y=2", Some((8080, false, "/a/b?y=2"))),
        ("http://10.0.0.1:9090/c", Some((9090, false, "/c"))),
        ("https://10.0.0.1", Some((443, true, "/"))),
        ("//10.0.0.1/c", Some((80, false, "/c"))),
        ("http://10.0.0.2:8080/c", None),
        ("//example.com/c", None),
        (
            "/c?to=http://example.com",
            Some((8080, false, "/c?to=http://example.com")),
        ),
    ] {
        let found = place.redirected(location);
        let found = found.as_ref().map(|p| (p.port, p.tls, p.path.as_str()));
        assert_eq!(found, expected, "{location}");
    }
}

#[tokio::test]
async fn a_port_is_a_number_or_a_name_of_the_container() {
    let port = http().await;
    let named = serde_json::json!({"name": "c", "ports": [{"name": "web", "containerPort": port}]});
    let container: Container = serde_json::from_value(named).unwrap();
    let target = Target {
        container: Arc::new(container),
        ..target()
    };
    let by_name = HTTPGetAction {
        port: IntOrString::String("web".into()),
        ..action(port, "/ok")
    };
    assert_eq!(target.http(&by_name, LIMIT).await, Outcome::Success);
    let unknown = TCPSocketAction {
        port: IntOrString::String("none".into()),
        host: None,
    };
    assert!(matches!(target.tcp(&unknown, LIMIT).await, Outcome::Unknown(_)));
}

#[tokio::test]
async fn a_tcp_probe_succeeds_when_a_connection_can_be_opened() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let action = TCPSocketAction {
        port: IntOrString::Int(port.into()),
        host: None,
    };
    assert_eq!(target().tcp(&action, LIMIT).await, Outcome::Success);
    // Nobody listens there, and nobody is given this port.
    let action = TCPSocketAction {
        port: IntOrString::Int(1),
        host: None,
    };
    let refused = target().tcp(&action, LIMIT).await;
    assert_eq!(
        refused,
        Outcome::Failure("dial tcp 127.0.0.1:1: connect: connection refused".into())
    );
}

/// A gRPC server whose health service knows these services.
async fn grpc() -> i32 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let service = String::from_utf8_lossy(body.get(7..).unwrap_or_default()).into_owned();
                let (status, code) = match service.as_str() {
                    "" => (Some(1u8), "0"),
                    "bad" => (Some(2), "0"),
                    "none" => (None, "5"),
                    _ => (None, "12"),
                };
                let mut frame = vec![0];
                let message: Vec<u8> = status.map_or(Vec::new(), |s| vec![8, s]);
                frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
                frame.extend(message);
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", http::HeaderValue::from_str(code).unwrap());
                let frames = [Frame::data(Bytes::from(frame)), Frame::trailers(trailers)];
                let body = http_body_util::StreamBody::new(futures::stream::iter(frames.map(Ok::<_, Infallible>)));
                let answer = http::Response::builder().header("content-type", "application/grpc");
                Ok::<_, Infallible>(answer.body(body).unwrap())
            });
            let server = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    port.into()
}

#[tokio::test]
async fn a_grpc_probe_asks_the_health_service_and_takes_serving_alone_for_success() {
    let port = grpc().await;
    for (service, expected) in [
        ("", None),
        ("bad", Some("service unhealthy (responded with \"NOT_SERVING\")")),
        ("none", Some("rpc error: code = 5")),
        (
            "else",
            Some("this server does not implement the grpc health protocol (grpc.health.v1.Health)"),
        ),
    ] {
        let action = GRPCAction {
            port,
            service: Some(service.into()),
            ..GRPCAction::default()
        };
        let outcome = target().grpc(&action, LIMIT).await;
        let expected = expected.map_or(Outcome::Success, |text| Outcome::Failure(text.into()));
        assert_eq!(outcome, expected, "{service:?}");
    }
}
