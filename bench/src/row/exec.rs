//! The round trip of `kubectl exec POD -- true`: a connection, TLS, the upgrade to a WebSocket, the command and its status.

use anyhow::{Context, bail};
use bytes::Bytes;
use coracle_client::Client;
use coracle_clock::Clock;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::pod_start::{pod, running};
use crate::figure::Measured;
use crate::image;
use crate::latency::Latencies;
use crate::load::{Events, Prepared};
use crate::row::{Bench, Row};
use crate::scratch::Scratch;
use crate::server::Nodes;
use crate::workload::{send, within};

pub const ROW: Row = Row {
    name: "exec",
    about: "100 times `true` in a running container, by WebSocket, each on a connection of its own",
    budgets: &[],
    run: |bench| Box::pin(run(bench)),
};

/// What no message of the stream is longer than.
const MESSAGE: u64 = 1 << 20;
/// The channel on which a command's end is told.
const STATUS: u8 = 3;

async fn run(bench: &Bench) -> anyhow::Result<Measured> {
    let server = bench.serve(Nodes::Real).await?;
    let image = image::ready(bench, &server).await?;
    let scratch = Scratch::make(&server).await?;
    let path = scratch.path("pods");
    let mut events = Events::open(server.endpoint()?, &path, "").await?;
    send(server.endpoint()?, &Prepared::post(&path, &pod("shell", &image))).await?;
    within("the pod to run", running(&mut events, 1)).await?;

    let path = format!("{path}/shell/exec?container=c&command=true&stdout=true&stderr=true");
    exec(server.client()?, &path).await?;
    let meter = server.meter()?;
    let mut took = Vec::new();
    for _ in 0..bench.options.pods {
        let started = Clock::system().instant();
        exec(server.client()?, &path).await?;
        took.push(started.elapsed());
    }
    let mut measured = Measured::default();
    measured.latencies("exec of `true`", &Latencies::new(took));
    measured.load("exec", meter.stop()?.0);
    scratch.drop_from(&server, bench.target.is_own()).await?;
    server.close().await?;
    Ok(measured)
}

async fn exec(client: &Client, path: &str) -> anyhow::Result<()> {
    let request = http::Request::get(path)
        .header("upgrade", "websocket")
        .header("connection", "Upgrade")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==")
        .header("sec-websocket-protocol", "v4.channel.k8s.io")
        .body(Bytes::new())?;
    let (_, stream) = client.upgrade(request).await.context("exec")?;
    let mut stream = hyper_util::rt::TokioIo::new(stream.into_inner());
    while let Some(message) = message(&mut stream).await? {
        if let Some((&STATUS, status)) = message.split_first() {
            let status: serde_json::Value = serde_json::from_slice(status)?;
            if status["status"] == "Success" {
                return Ok(());
            }
            bail!("the command failed: {status}");
        }
    }
    bail!("the stream ended without the command's status")
}

/// The next message; `None` at the stream's end. What a server sends is unmasked, and short messages are not in parts.
async fn message(stream: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<Option<Vec<u8>>> {
    const CLOSE: u8 = 8;
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.context("the stream was cut short")?;
    if head[0] & 0x0f == CLOSE {
        return Ok(None);
    }
    let length = match head[1] {
        126 => u64::from(stream.read_u16().await?),
        127 => stream.read_u64().await?,
        short @ ..126 => u64::from(short),
        128.. => bail!("a masked frame from a server"),
    };
    if length > MESSAGE {
        bail!("a message of {length} bytes");
    }
    let mut payload = vec![0; usize::try_from(length)?];
    stream.read_exact(&mut payload).await?;
    Ok(Some(payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_of_every_length_are_read() {
        let mut bytes = vec![0x82, 2, 3, b'x', 0x82, 126, 0, 200];
        bytes.extend([7; 200]);
        bytes.extend([0x88, 0]);
        let mut stream = bytes.as_slice();
        assert_eq!(message(&mut stream).await.unwrap().unwrap(), [3, b'x']);
        assert_eq!(message(&mut stream).await.unwrap().unwrap().len(), 200);
        assert_eq!(message(&mut stream).await.unwrap(), None);
        assert!(message(&mut stream).await.is_err());
    }

    #[tokio::test]
    async fn frames_that_no_server_sends_are_refused() {
        assert!(message(&mut [0x82, 0x81, 0, 0, 0, 0, 1].as_slice()).await.is_err());
        let huge = [0x82, 127, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert!(message(&mut huge.as_slice()).await.is_err());
    }
}
