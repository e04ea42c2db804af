//! A watch, read line by line and decoded only as far as a row looks.

use anyhow::{Context, bail};
use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Endpoint, Prepared};

#[derive(Debug, Deserialize)]
pub struct Event<T> {
    #[serde(rename = "type")]
    pub kind: String,
    pub object: T,
}

impl<T> Event<T> {
    pub fn is_deletion(&self) -> bool {
        self.kind == "DELETED"
    }
}

/// The events of one watch, on a connection of its own.
pub struct Events {
    lines: Lines,
    body: Incoming,
}

impl Events {
    /// Watches what `path` lists, from now on; `query` may select.
    pub async fn open(endpoint: &Endpoint, path: &str, query: &str) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct List {
            metadata: Meta,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Meta {
            resource_version: String,
        }
        let mut connection = endpoint.connect().await?;
        let list = connection
            .read(&Prepared::get(format!("{path}?limit=1&{query}")))
            .await?;
        let list: List = serde_json::from_slice(&list).context("a list cannot be read")?;
        let from = list.metadata.resource_version;
        let request = Prepared::get(format!("{path}?watch=true&resourceVersion={from}&{query}"));
        Ok(Self {
            lines: Lines::default(),
            body: connection.open(&request).await?,
        })
    }

    pub async fn next<T: DeserializeOwned>(&mut self) -> anyhow::Result<Event<T>> {
        loop {
            if let Some(line) = self.lines.next() {
                return decode(&line);
            }
            let frame = self.body.frame().await.context("a watch ended early")??;
            if let Ok(data) = frame.into_data() {
                self.lines.feed(&data);
            }
        }
    }
}

fn decode<T: DeserializeOwned>(line: &[u8]) -> anyhow::Result<Event<T>> {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "type")]
        kind: String,
    }
    match serde_json::from_slice::<Event<T>>(line) {
        Ok(event) if event.kind != "ERROR" => Ok(event),
        other => {
            let kind: Option<Kind> = serde_json::from_slice(line).ok();
            let text = String::from_utf8_lossy(line);
            match (kind, other) {
                (Some(kind), _) if kind.kind == "ERROR" => bail!("a watch ended with an error: {text}"),
                (_, Err(error)) => Err(error).context(format!("an event cannot be read: {text}")),
                _ => bail!("an event cannot be read: {text}"),
            }
        }
    }
}

/// Bytes that come in pieces, as lines.
#[derive(Default)]
struct Lines {
    kept: BytesMut,
    /// How far there is no line's end.
    seen: usize,
}

impl Lines {
    fn feed(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
    }

    fn next(&mut self) -> Option<BytesMut> {
        match self.kept[self.seen..].iter().position(|b| *b == b'\n') {
            Some(at) => {
                let line = self.kept.split_to(self.seen + at);
                self.kept.advance(1);
                self.seen = 0;
                Some(line)
            }
            None => {
                self.seen = self.kept.len();
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_their_bytes_come() {
        let mut lines = Lines::default();
        lines.feed(b"ab");
        assert_eq!(lines.next(), None);
        lines.feed(b"c\n\nd\ne");
        let mut all = Vec::new();
        while let Some(line) = lines.next() {
            all.push(String::from_utf8_lossy(&line).into_owned());
        }
        assert_eq!(all, ["abc", "", "d"]);
        lines.feed(b"\n");
        assert_eq!(lines.next().as_deref(), Some(b"e".as_slice()));
    }

    #[test]
    fn an_event_is_decoded_as_far_as_it_is_looked_at_and_an_error_is_one() {
        #[derive(Debug, Deserialize)]
        struct Named {
            name: String,
        }
        let event = decode::<Named>(br#"{"type":"DELETED","object":{"name":"a","more":[1]}}"#).unwrap();
        assert!(event.is_deletion());
        assert_eq!(event.object.name, "a");
        let error = decode::<Named>(br#"{"type":"ERROR","object":{"code":410}}"#).unwrap_err();
        assert!(error.to_string().contains("410"), "{error}");
        assert!(decode::<Named>(b"nonsense").is_err());
    }
}
