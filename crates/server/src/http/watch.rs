//! A watch as an endless body of JSON lines. The lines of plain objects are encoded once and shared by all watchers;
//! tables and bare metadata are made for each, and so are the frames of protobuf that hardly anybody asks for.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use coracle_api::object::{Object, StoredObject};
use coracle_api::protobuf;
use coracle_api::resource::Resource;
use coracle_api::status::Status;
use futures::stream;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};

use super::encode::{self, Form};
use super::negotiate::{Format, Media, Shape};
use super::{Answer, BoxError, plain, table};
use crate::cache::event::{self, Event, EventType};
use crate::cache::{Delivery, Watcher};
use crate::core::Core;
use crate::metrics::Labels;
use crate::registry::read;

/// Turns deliveries into lines for one watcher.
struct Lines {
    core: Arc<Core>,
    watcher: Watcher,
    row: Arc<Resource>,
    format: Format,
    table: table::Options,
    /// The table's columns have been sent.
    columns_sent: bool,
    /// Lines can be those that everybody gets.
    shared: bool,
    ended: bool,
    _guard: Box<dyn Send>,
}

pub(crate) fn stream(core: &Arc<Core>, watcher: Watcher, form: &Form<'_>, labels: &Labels) -> Answer {
    let lines = Lines {
        core: core.clone(),
        watcher,
        row: form.row.clone(),
        format: form.format,
        table: form.table,
        columns_sent: false,
        shared: form.format.shape == Shape::Object && read::is_stored_version(form.row),
        ended: false,
        _guard: Box::new(core.metrics.long_running(labels)),
    };
    let content_type = content_type(form.format);
    let frames = stream::unfold(lines, |mut lines| async move {
        let bytes = lines.next().await?;
        Some((Ok::<_, BoxError>(Frame::data(bytes)), lines))
    });
    let mut answer = Response::new(StreamBody::new(frames).boxed_unsync());
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

fn content_type(format: Format) -> &'static str {
    match format.media {
        Media::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        Media::Json | Media::Yaml => super::JSON,
    }
}

/// The answer to a watch that cannot begin: one event that says why.
pub(crate) fn refused(status: &Status, format: Format) -> Answer {
    let line = error_line(status);
    let event = match format.media {
        Media::Protobuf => framed(&line),
        Media::Json | Media::Yaml => line,
    };
    plain(200, content_type(format), event)
}

/// A line as the frame that protobuf has for it; a line of a kind without that form says so.
fn framed(line: &[u8]) -> Bytes {
    let event: Value = serde_json::from_slice(line).unwrap_or_default();
    let name = event.get("type").and_then(Value::as_str).unwrap_or_default();
    let object = event
        .get("object")
        .cloned()
        .and_then(Object::from_value)
        .unwrap_or_default();
    if let Some(bytes) = protobuf::encode_object(&object) {
        return protobuf::encode_watch_frame(name, &bytes).into();
    }
    let status = Status::not_acceptable("this kind has no protobuf form: accept application/json");
    let status = Object::from_value(encode::status_value(&status)).unwrap_or_default();
    protobuf::encode_watch_frame("ERROR", &protobuf::encode_object(&status).unwrap_or_default()).into()
}

fn error_line(status: &Status) -> Bytes {
    let mut line = json!({"type": "ERROR", "object": encode::status_value(status)}).to_string();
    line.push('\n');
    line.into()
}

impl Lines {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.ended {
                return None;
            }
            let deliveries = match self.watcher.next().await? {
                Ok(deliveries) => deliveries,
                Err(status) => {
                    self.ended = true;
                    let line = error_line(&status);
                    return Some(if self.is_protobuf() { framed(&line) } else { line });
                }
            };
            let mut lines: Vec<Bytes> = Vec::with_capacity(deliveries.len());
            for delivery in deliveries {
                match self.line(delivery) {
                    Ok(line) => lines.extend(line),
                    Err(status) => {
                        self.ended = true;
                        lines.push(error_line(&status));
                        break;
                    }
                }
            }
            if self.is_protobuf() {
                for line in &mut lines {
                    *line = framed(line);
                }
            }
            if lines.len() < 2 {
                match lines.pop() {
                    Some(line) => return Some(line),
                    None => continue,
                }
            }
            let mut all = BytesMut::with_capacity(lines.iter().map(Bytes::len).sum());
            for line in &lines {
                all.extend_from_slice(line);
            }
            return Some(all.freeze());
        }
    }

    fn line(&mut self, delivery: Delivery) -> Result<Option<Bytes>, Status> {
        match delivery {
            Delivery::Initial(object) if self.shared && read::is_shown_as_stored(&self.row, &object) => {
                Ok(Some(event::encode("ADDED", &object)))
            }
            Delivery::Initial(object) => self.made("ADDED", &object).map(Some),
            Delivery::Change(kind, event) if self.shared && self.shows(kind, &event) => Ok(event.json(kind)),
            Delivery::Change(kind, event) => match event.object(kind) {
                Some(object) => self.made(kind.name(), &object).map(Some),
                None => Ok(None),
            },
            Delivery::Bookmark {
                revision,
                initial_events_end,
            } => self.bookmark(revision, initial_events_end).map(Some),
        }
    }

    fn is_protobuf(&self) -> bool {
        self.format.media == Media::Protobuf
    }

    /// Whether the event's object is shown as it is stored.
    fn shows(&self, kind: EventType, event: &Event) -> bool {
        let as_stored = |object: Arc<StoredObject>| read::is_shown_as_stored(&self.row, &object);
        self.row.convert.is_none() || event.object(kind).is_some_and(as_stored)
    }

    fn form(&self) -> Form<'_> {
        Form {
            row: &self.row,
            format: self.format,
            table: self.table,
            now: self.core.clock.now(),
            accepts_gzip: false,
        }
    }

    /// A line for this watcher alone.
    fn made(&mut self, name: &str, stored: &Arc<StoredObject>) -> Result<Bytes, Status> {
        let object = read::in_version(&self.row, stored)?;
        let body = match self.format.shape {
            Shape::Object => return Ok(event::encode(name, &object)),
            Shape::Metadata => encode::metadata_only(&object)?,
            Shape::Table(version) => {
                let meta = json!({"resourceVersion": stored.revision().to_string()});
                let table = table::table(&self.form(), version, meta, &[object], !self.columns_sent)?;
                self.columns_sent = true;
                table
            }
        };
        Ok(line(name, &body))
    }

    fn bookmark(&self, revision: u64, initial_events_end: bool) -> Result<Bytes, Status> {
        let mut meta = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_events_end && let Value::Object(meta) = &mut meta {
            meta.insert("annotations".into(), json!({"k8s.io/initial-events-end": "true"}));
        }
        let object = match self.format.shape {
            Shape::Object => json!({"kind": self.row.kind, "apiVersion": self.row.api_version(), "metadata": meta}),
            Shape::Metadata => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta})
            }
            Shape::Table(version) => {
                let table = table::table(&self.form(), version, meta, &[], false)?;
                return Ok(line("BOOKMARK", &table));
            }
        };
        Ok(line("BOOKMARK", object.to_string().as_bytes()))
    }
}

/// An event as it is sent, of an object in JSON.
fn line(name: &str, object: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(object.len() + 40);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    line.into()
}
