//! Requests over HTTP to servers that refuse, put off, hang up, hang and talk nonsense.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_client::config::auth::Auth;
use coracle_client::pod::LogOptions;
use coracle_client::{Client, Config, DeleteOptions, Error, ListOptions, Patch};
use coracle_clock::Clock;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::front::Front;
use crate::in_process::config_map;
use crate::memory::Memory;

/// Answers each connection with the next of `answers`, whatever is asked; `""` hangs up, `"..."` says nothing.
struct Script {
    url: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Script {
    async fn new(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let hearing = heard.clone();
        tokio::spawn(async move {
            let mut silent = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_request(&mut stream).await;
                hearing.lock().push(request);
                if answer == "..." {
                    silent.push(stream);
                    continue;
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
            // The silent stay connected.
            std::future::pending::<()>().await;
        });
        Self { url, heard }
    }

    fn client(&self) -> Client {
        Client::connect(Config::new(&self.url), Clock::system()).unwrap()
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().clone()
    }
}

/// Head and body, by Content-Length.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let mut some = [0; 4096];
        let n = stream.read(&mut some).await.unwrap();
        bytes.extend_from_slice(&some[..n]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|l| {
                l.to_lowercase()
                    .strip_prefix("content-length:")?
                    .trim()
                    .parse::<usize>()
                    .ok()
            });
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        if n == 0 {
            return text;
        }
    }
}

fn answer(head: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn ok() -> String {
    answer(
        "200 OK",
        r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","resourceVersion":"5"}}"#,
    )
}

fn maps(client: &Client) -> coracle_client::Api<ConfigMap> {
    client.namespaced("default")
}

#[tokio::test]
async fn objects_go_there_and_back() {
    for streams_lists in [true, false] {
        let memory = Memory::new();
        let url = Front {
            memory: memory.clone(),
            streams_lists,
        }
        .serve()
        .await;
        let client = Client::connect(Config::new(url), Clock::system()).unwrap();
        let maps = maps(&client);
        let created = maps.create(&config_map("a")).await.unwrap();
        assert_eq!(created.metadata.uid.as_deref(), Some("uid-1"));
        let patched = maps
            .patch("a", Patch::Merge(json!({"data": {"k": "v"}})))
            .await
            .unwrap();
        assert_eq!(patched.data.as_ref().unwrap()["k"], "v");
        maps.create(&config_map("b")).await.unwrap();
        let options = ListOptions {
            limit: 1,
            ..ListOptions::default()
        };
        let page = maps.list(&options).await.unwrap();
        assert_eq!((page.items.len(), page.revision), (1, 3));
        let rest = ListOptions {
            continue_token: page.continue_token,
            ..options
        };
        assert_eq!(
            maps.list(&rest).await.unwrap().items[0].metadata.name.as_deref(),
            Some("b")
        );
        maps.delete("a", &DeleteOptions::default()).await.unwrap();
        assert!(maps.get("a").await.unwrap_err().is_not_found());
    }
}

#[tokio::test]
async fn a_request_that_is_put_off_is_sent_again() {
    let later = answer("429 Too Many Requests\r\nRetry-After: 0", "{}");
    let script = Script::new(vec![later.clone(), later, ok()]).await;
    maps(&script.client()).create(&config_map("a")).await.unwrap();
    assert_eq!(script.heard().len(), 3);
}

#[tokio::test]
async fn a_refusal_without_a_time_is_the_callers() {
    let script = Script::new(vec![answer("429 Too Many Requests", "slow down")]).await;
    let error = maps(&script.client()).get("a").await.unwrap_err();
    assert!(error.is_too_many_requests());
    assert!(error.to_string().contains("slow down"), "{error}");
}

#[tokio::test]
async fn an_eviction_that_a_budget_refuses_is_the_callers() {
    let script = Script::new(vec![answer("429 Too Many Requests\r\nRetry-After: 0", "{}")]).await;
    let pods = script.client().namespaced::<Pod>("default");
    let error = pods.evict("a", &DeleteOptions::default()).await.unwrap_err();
    assert!(error.is_too_many_requests());
    assert!(script.heard()[0].starts_with("POST /api/v1/namespaces/default/pods/a/eviction"));
}

#[tokio::test]
async fn a_read_survives_a_lost_connection_and_a_write_does_not_repeat_itself() {
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"kind\"".to_owned();
    let script = Script::new(vec![String::new(), cut, ok()]).await;
    maps(&script.client()).get("a").await.unwrap();
    assert_eq!(script.heard().len(), 3);

    let script = Script::new(vec![String::new(), ok()]).await;
    let error = maps(&script.client()).create(&config_map("a")).await.unwrap_err();
    assert!(matches!(error, Error::Transport { .. }), "{error:?}");
    assert_eq!(script.heard().len(), 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = Client::connect(Config::new(&url), Clock::system()).unwrap();
    let error = maps(&client).get("a").await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot connect to {url}/api/v1/")),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_says_nothing_times_out() {
    let script = Script::new(vec!["...".into()]).await;
    let config = Config {
        timeout: Duration::from_millis(50),
        ..Config::new(&script.url)
    };
    let client = Client::connect(config, Clock::system()).unwrap();
    let error = maps(&client).get("a").await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn nonsense_is_a_decode_error() {
    for body in [
        "",
        "hello",
        "[]",
        "{\"kind\":\"ConfigMap\",\"metadata\":7}",
        "{\"metadata\":{}}{",
    ] {
        let script = Script::new(vec![answer("200 OK", body)]).await;
        let error = maps(&script.client()).get("a").await;
        assert!(matches!(error, Err(Error::Decode { .. })), "{body}: {error:?}");
    }
}

#[tokio::test]
async fn a_refusal_carries_the_servers_words() {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403,
        "message": "configmaps \"a\" is forbidden: no",
    });
    let script = Script::new(vec![answer("403 Forbidden", &status.to_string())]).await;
    let error = maps(&script.client()).get("a").await.unwrap_err();
    assert!(error.is_forbidden());
    assert_eq!(error.to_string(), "configmaps \"a\" is forbidden: no");
}

#[tokio::test]
async fn requests_say_who_asks_and_as_whom() {
    let script = Script::new(vec![ok(), ok()]).await;
    let mut config = Config::new(&script.url);
    config.auth = Auth::Token("secret".into());
    config.impersonate.user = "jane".into();
    config.impersonate.groups = vec!["a".into(), "b".into()];
    let client = Client::connect(config, Clock::system()).unwrap();
    maps(&client.named("tester")).create(&config_map("a")).await.unwrap();
    maps(&client).get("a").await.unwrap();
    let heard = script.heard();
    let head = heard[0].to_lowercase();
    for line in [
        "post /api/v1/namespaces/default/configmaps?fieldmanager=tester http/1.1",
        "authorization: bearer secret",
        "impersonate-user: jane",
        "impersonate-group: a",
        "impersonate-group: b",
        "user-agent: tester coracle/",
        "content-type: application/json",
        "accept: application/json",
    ] {
        assert!(head.contains(line), "{line} is not in\n{head}");
    }
    assert!(heard[1].contains("user-agent: coracle/"));
}

#[tokio::test]
async fn a_refused_token_file_is_read_again() {
    let path = std::env::temp_dir().join(format!("coracle-client-token-{}", std::process::id()));
    std::fs::write(&path, "old\n").unwrap();
    let script = Script::new(vec![ok(), answer("401 Unauthorized", "{}"), ok()]).await;
    let mut config = Config::new(&script.url);
    config.auth = Auth::TokenFile(path.clone());
    let client = Client::connect(config, Clock::system()).unwrap();
    maps(&client).get("a").await.unwrap();
    std::fs::write(&path, "new\n").unwrap();
    maps(&client).get("a").await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let tokens: Vec<bool> = script.heard().iter().map(|h| h.contains("Bearer new")).collect();
    assert_eq!(tokens, [false, false, true]);
}

#[tokio::test]
async fn a_log_streams_as_it_is_written() {
    let script = Script::new(vec![answer("200 OK", "one\ntwo\n")]).await;
    let options = LogOptions {
        container: "web".into(),
        follow: true,
        tail_lines: Some(5),
        ..LogOptions::default()
    };
    let pods = script.client().namespaced::<Pod>("default");
    let chunks: Vec<Bytes> = pods
        .logs("a", &options)
        .await
        .unwrap()
        .map(Result::unwrap)
        .collect()
        .await;
    assert_eq!(chunks.concat(), b"one\ntwo\n");
    let path = "/api/v1/namespaces/default/pods/a/log?container=web&follow=true&tailLines=5";
    assert!(script.heard()[0].starts_with(&format!("GET {path} ")));
}

#[tokio::test]
async fn an_upgrade_gives_the_raw_connection() {
    let script = Script::new(vec![
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello".into(),
        answer("403 Forbidden", "no"),
    ])
    .await;
    let client = script.client();
    let request = || {
        http::Request::post("/api/v1/namespaces/default/pods/a/exec?command=sh")
            .header("Connection", "Upgrade")
            .header("Upgrade", "echo")
            .body(Bytes::new())
            .unwrap()
    };
    let (head, mut io) = client.upgrade(request()).await.unwrap();
    assert_eq!(head.headers["upgrade"], "echo");
    let mut said = String::new();
    io.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "hello");
    assert!(client.upgrade(request()).await.err().unwrap().is_forbidden());
}

#[tokio::test]
async fn discovery_reads_the_aggregated_form_and_the_old_one() {
    let aggregated = |group: &str| {
        json!({"kind": "APIGroupDiscoveryList", "items": [{"metadata": {"name": group}, "versions": [{"version": "v1", "resources": [{
            "resource": "things", "responseKind": {"kind": "Thing"}, "scope": "Namespaced", "singularResource": "thing",
            "verbs": ["get", "list"], "shortNames": ["th"],
            "subresources": [{"subresource": "status", "verbs": ["get"]}],
        }]}]}]})
        .to_string()
    };
    let script = Script::new(vec![
        answer("200 OK", &aggregated("")),
        answer("200 OK", &aggregated("example.org")),
    ])
    .await;
    let new = script.client().discover().await.unwrap();
    let list = json!({"kind": "APIResourceList", "resources": [
        {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get", "list"], "shortNames": ["th"]},
        {"name": "things/status", "singularName": "", "namespaced": true, "kind": "Thing", "verbs": ["get"]},
    ]})
    .to_string();
    let script = Script::new(vec![
        answer("200 OK", r#"{"kind":"APIVersions","versions":["v1"]}"#),
        answer("200 OK", &list),
        answer("200 OK", r#"{"kind":"APIGroupList","groups":[{"name":"example.org","versions":[{"groupVersion":"example.org/v1","version":"v1"}]}]}"#),
        answer("200 OK", &list),
    ])
    .await;
    let old = script.client().discover().await.unwrap();
    assert_eq!(new, old);
    assert_eq!(new[1].resource.to_string(), "things.example.org");
    assert_eq!(new[1].subresources, ["status"]);
}
