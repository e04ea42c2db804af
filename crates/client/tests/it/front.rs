//! HTTP in front of the [scripted server](crate::memory): enough of it to carry what clients ask in these tests.
#![allow(dead_code)]

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use coracle_api::object::Object;
use coracle_api::service::{
    Answer, DeleteOptions, ListOptions, Operation, PatchKind, Request, Service, Target, UserInfo, WatchEvent,
    WriteOptions,
};
use coracle_api::status::Status;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::Method;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

use crate::memory::Memory;

type Body = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

/// Serves `memory` until the test ends.
#[derive(Clone)]
pub struct Front {
    pub memory: Memory,
    /// Whether it streams lists, or refuses as old servers do.
    pub streams_lists: bool,
}

impl Front {
    /// On plain TCP; the URL.
    pub async fn serve(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(self.clone().connection(stream));
            }
        });
        format!("http://{address}")
    }

    pub async fn connection(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = service_fn(move |request| {
            let front = self.clone();
            async move { Ok::<_, Infallible>(front.answer(request).await) }
        });
        let connection = auto::Builder::new(TokioExecutor::new());
        let _ = connection.serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(&self, request: hyper::Request<Incoming>) -> hyper::Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let field = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .filter(|(n, _)| *n == name)
                .map(|(_, v)| v.to_owned())
                .next()
                .unwrap_or_default()
        };
        let options = ListOptions {
            limit: field("limit").parse().unwrap_or(0),
            continue_token: field("continue").replace("%2F", "/"),
            resource_version: field("resourceVersion"),
            allow_watch_bookmarks: field("allowWatchBookmarks") == "true",
            send_initial_events: (!field("sendInitialEvents").is_empty()).then_some(true),
            ..ListOptions::default()
        };
        if options.send_initial_events.is_some() && !self.streams_lists {
            return respond(422, &Status::failure(422, "Invalid", "sendInitialEvents is forbidden"));
        }
        let target = target(parts.uri.path());
        let object = || Object::from_value(serde_json::from_slice(&body).unwrap()).unwrap();
        let write = WriteOptions::default();
        let operation = match parts.method {
            Method::GET if field("watch") == "true" => Operation::Watch(options),
            Method::GET if target.name.is_empty() => Operation::List(options),
            Method::GET => Operation::Get {
                resource_version: String::new(),
            },
            Method::POST => Operation::Create {
                object: object(),
                options: write,
            },
            Method::PUT => Operation::Update {
                object: object(),
                options: write,
            },
            Method::PATCH => Operation::Patch {
                kind: PatchKind::Merge,
                patch: serde_json::from_slice(&body).unwrap(),
                options: write,
            },
            _ => Operation::Delete(DeleteOptions::default()),
        };
        match self
            .memory
            .call(&UserInfo::default(), Request { target, operation })
            .await
        {
            Err(status) => respond(status.code, &status),
            Ok(response) => match response.answer {
                Answer::Object { object, created } => {
                    let value: Value = serde_json::from_slice(&object.to_json()).unwrap();
                    respond(if created { 201 } else { 200 }, &value)
                }
                Answer::List(list) => {
                    let items: Vec<Value> = list
                        .items
                        .iter()
                        .map(|o| serde_json::from_slice(&o.to_json()).unwrap())
                        .collect();
                    let metadata =
                        json!({"resourceVersion": list.revision.to_string(), "continue": list.continue_token});
                    respond(
                        200,
                        &json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": metadata, "items": items}),
                    )
                }
                Answer::Status(status) => respond(200, &status),
                Answer::Watch(events) => {
                    let lines = events.map(|event| Ok(Frame::data(line(event).into())));
                    hyper::Response::new(StreamBody::new(lines.boxed()))
                }
            },
        }
    }
}

fn respond(code: u16, body: &impl serde::Serialize) -> hyper::Response<Body> {
    let bytes = Bytes::from(serde_json::to_vec(body).unwrap());
    let frames = futures::stream::iter([Ok(Frame::data(bytes))]);
    let mut response = hyper::Response::new(StreamBody::new(frames.boxed()));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
    response
}

fn line(event: Result<WatchEvent, Status>) -> String {
    let object = |o: &coracle_api::object::StoredObject| String::from_utf8(o.to_json()).unwrap();
    let (kind, object) = match event {
        Ok(WatchEvent::Added(o)) => ("ADDED", object(&o)),
        Ok(WatchEvent::Modified(o)) => ("MODIFIED", object(&o)),
        Ok(WatchEvent::Deleted(o)) => ("DELETED", object(&o)),
        Ok(WatchEvent::Bookmark {
            revision,
            initial_events_end,
        }) => {
            let mut metadata = json!({"resourceVersion": revision.to_string()});
            if initial_events_end {
                metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
            }
            (
                "BOOKMARK",
                json!({"kind": "ConfigMap", "metadata": metadata}).to_string(),
            )
        }
        Err(status) => ("ERROR", serde_json::to_string(&status).unwrap()),
    };
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

/// Of core v1 alone.
fn target(path: &str) -> Target {
    let mut segments = path.split('/').skip(3);
    let mut target = Target {
        version: "v1".into(),
        ..Target::default()
    };
    let mut next = || segments.next().unwrap_or_default().to_owned();
    target.resource = next();
    if target.resource == "namespaces" {
        target.namespace = next();
        target.resource = next();
    }
    target.name = next();
    target.subresource = next();
    target
}
