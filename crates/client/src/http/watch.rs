//! A watch's body, line by line: one event a line, lines of bounded length.

use bytes::{Buf, BytesMut};
use coracle_api::service::{WatchEvent, WatchStream};
use coracle_api::status::Status;
use futures::stream;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::wire::from_text;

/// No object is larger than a few megabytes.
const MAX_LINE: usize = 32 << 20;

/// The events of a watch. A clean end of the body ends the stream; a lost connection or an unreadable line is its last
/// item.
pub fn events(body: Incoming) -> WatchStream {
    let lines = Lines {
        body,
        buffer: BytesMut::new(),
        searched: 0,
    };
    Box::pin(stream::unfold(Some(lines), |lines| async move {
        let mut lines = lines?;
        match lines.next().await {
            Ok(None) => None,
            Ok(Some(event)) => Some((Ok(event), Some(lines))),
            Err(status) => Some((Err(status), None)),
        }
    }))
}

struct Lines {
    body: Incoming,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no newline.
    searched: usize,
}

impl Lines {
    async fn next(&mut self) -> Result<Option<WatchEvent>, Status> {
        loop {
            while let Some(at) = self.buffer[self.searched..].iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(self.searched + at);
                self.buffer.advance(1);
                self.searched = 0;
                if !line.trim_ascii().is_empty() {
                    return decode(&line).map(Some);
                }
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > MAX_LINE {
                return Err(garbage("a line is longer than 32 MiB"));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(lost(&error.to_string())),
                None if self.buffer.trim_ascii().is_empty() => return Ok(None),
                None => return Err(lost("it ended within an event")),
            }
        }
    }
}

fn lost(why: &str) -> Status {
    Status::unavailable(format!("the watch's connection was lost: {why}"))
}

fn garbage(why: &str) -> Status {
    Status::internal(format!("cannot decode a watch event: {why}"))
}

#[derive(Deserialize)]
struct Frame<'a> {
    r#type: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: BookmarkMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMeta {
    resource_version: String,
    #[serde(default)]
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

pub(crate) fn decode(line: &[u8]) -> Result<WatchEvent, Status> {
    let frame: Frame<'_> = serde_json::from_slice(line).map_err(|e| garbage(&e.to_string()))?;
    let text = frame.object.get();
    let object = || match from_text(text, None) {
        Ok(object) => Ok(object.into()),
        Err(error) => Err(garbage(&error.to_string())),
    };
    match frame.r#type.as_str() {
        "ADDED" => Ok(WatchEvent::Added(object()?)),
        "MODIFIED" => Ok(WatchEvent::Modified(object()?)),
        "DELETED" => Ok(WatchEvent::Deleted(object()?)),
        "BOOKMARK" => {
            let Bookmark { metadata } = serde_json::from_str(text).map_err(|e| garbage(&e.to_string()))?;
            let end = metadata.annotations.unwrap_or_default();
            Ok(WatchEvent::Bookmark {
                revision: metadata.resource_version.parse().unwrap_or(0),
                initial_events_end: end.get("k8s.io/initial-events-end").is_some_and(|v| v == "true"),
            })
        }
        "ERROR" => Err(serde_json::from_str(text).unwrap_or_else(|_| garbage("an error that is no Status"))),
        other => Err(garbage(&format!("unknown type {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bookmark_says_whether_the_initial_events_are_over() {
        let end = br#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"12","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
        assert!(matches!(
            decode(end).unwrap(),
            WatchEvent::Bookmark {
                revision: 12,
                initial_events_end: true
            }
        ));
    }

    #[test]
    fn an_error_event_is_its_status() {
        let gone = br#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","reason":"Expired","code":410}}"#;
        assert!(decode(gone).unwrap_err().is_expired());
    }

    #[test]
    fn garbage_is_an_error_and_not_an_event() {
        for line in [
            &b"hello"[..],
            br#"{"type":"ADDED"}"#,
            br#"{"type":"LATER","object":{}}"#,
        ] {
            assert_eq!(decode(line).unwrap_err().code, 500);
        }
    }
}
