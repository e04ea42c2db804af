//! Watch streams over HTTP, whole and broken.

use coracle_client::{Client, Config, ListOptions, WatchEvent};
use coracle_clock::Clock;
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const ADDED: &str =
    r#"{"type":"ADDED","object":{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","resourceVersion":"5"}}}"#;
const GONE: &str = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410,"message":"too old"}}"#;

/// What a watch gives when the server sends these chunks and closes: in order, without the last chunk if `cut`.
async fn watch(chunks: Vec<String>, cut: bool) -> Vec<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).await.unwrap();
        let start = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(start.as_bytes()).await.unwrap();
        for chunk in chunks {
            let framed = format!("{:x}\r\n{chunk}\r\n", chunk.len());
            stream.write_all(framed.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
        }
        if !cut {
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
    });
    let client = Client::connect(Config::new(url), Clock::system()).unwrap();
    let events = client.all::<ConfigMap>().watch(&ListOptions::default()).await.unwrap();
    let told = events.map(|event| match event {
        Ok(WatchEvent::Added(o)) => format!("added {}", o.metadata.resource_version.clone().unwrap()),
        Ok(WatchEvent::Bookmark { revision, .. }) => format!("bookmark {revision}"),
        Ok(_) => "other".into(),
        Err(error) if error.is_expired() => "expired".into(),
        Err(error) => error.to_string(),
    });
    told.collect().await
}

#[tokio::test]
async fn events_are_whole_however_the_bytes_are_cut() {
    let bookmark = r#"{"type":"BOOKMARK","object":{"kind":"ConfigMap","metadata":{"resourceVersion":"9"}}}"#;
    let text = format!("{ADDED}\n\n{bookmark}\n{ADDED}\n");
    for size in [1, 7, 64, text.len()] {
        let chunks = text
            .as_bytes()
            .chunks(size)
            .map(|c| String::from_utf8(c.to_vec()).unwrap())
            .collect();
        assert_eq!(
            watch(chunks, false).await,
            ["added 5", "bookmark 9", "added 5"],
            "{size}"
        );
    }
}

#[tokio::test]
async fn an_error_event_ends_the_stream() {
    let chunks = vec![format!("{ADDED}\n{GONE}\n{ADDED}\n")];
    assert_eq!(watch(chunks, false).await, ["added 5", "expired"]);
}

#[tokio::test]
async fn a_stream_cut_off_is_an_error_and_not_an_end() {
    let told = watch(vec![format!("{ADDED}\n")], true).await;
    assert_eq!(told[0], "added 5");
    assert!(told[1].starts_with("the watch's connection was lost"), "{told:?}");
    let told = watch(vec![format!("{ADDED}\n"), ADDED[..20].to_owned()], false).await;
    assert!(told[1].contains("ended within an event"), "{told:?}");
}

#[tokio::test]
async fn a_line_without_end_is_refused() {
    let megabyte = "x".repeat(1 << 20);
    let told = watch(vec![megabyte; 33], true).await;
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("longer than 32 MiB"), "{told:?}");
}
