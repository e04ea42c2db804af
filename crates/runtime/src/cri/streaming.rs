//! Commands with streams, and attaching: the runtime answers with an address, and there it speaks SPDY, as a node's agent
//! does with kubectl. (Over a WebSocket, the end of input could not be told to the runtimes in use.)

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use coracle_spdy::{Headers, Session, Sink, Stream};
use futures::future::BoxFuture;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::io::StreamReader;

use super::rpc::command_not_found;
use crate::error::{Error, Result};
use crate::pod_runtime::{ExecConfig, Reader, Window, Writer};

/// The streams' protocol in the agreement.
const PROTOCOL: &str = "v4.channel.k8s.io";
const PIECE: usize = 32 << 10;
/// More than any answer's head is.
const HEAD_LIMIT: u64 = 16 << 10;

/// Streams of a command or of a container.
pub(super) struct Streams {
    pub(super) stdin: Option<Writer>,
    pub(super) stdout: Option<Reader>,
    pub(super) stderr: Option<Reader>,
    pub(super) window: Option<Window>,
    /// How it ended.
    pub(super) exit: BoxFuture<'static, Result<i32>>,
}

/// Opens those of the streams that are wanted, at the address that the runtime gave.
pub(super) async fn open(url: &str, wanted: &ExecConfig) -> Result<Streams> {
    let session = connect(url).await.map_err(failed)?;
    let open = async |kind| session.open(Headers::of(&[("streamtype", kind)])).await.map_err(failed);
    // The other side waits for all of them before it begins.
    let error = open("error").await?;
    let mut opened = [None, None, None, None];
    let kinds = [
        ("stdin", wanted.stdin),
        ("stdout", wanted.stdout),
        ("stderr", wanted.stderr && !wanted.tty),
        ("resize", wanted.tty),
    ];
    for (stream, (kind, wanted)) in opened.iter_mut().zip(kinds) {
        if wanted {
            *stream = Some(open(kind).await?);
        }
    }
    let session = Arc::new(session);
    let [stdin, stdout, stderr, resize] = opened;
    Ok(Streams {
        stdin: stdin.map(|stream| writer(stream.sink, &session)),
        stdout: stdout.map(|stream| reader(stream, &session)),
        stderr: stderr.map(|stream| reader(stream, &session)),
        window: resize.map(|stream| window(stream.sink, &session)),
        exit: Box::pin(exit(error, session)),
    })
}

fn failed(error: io::Error) -> Error {
    Error::Failed(format!("the container runtime's streaming server: {error}"))
}

/// Agrees on SPDY with the server at `url`.
async fn connect(url: &str) -> io::Result<Session> {
    let invalid = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{url:?} is no plain http:// address"),
        )
    };
    let (authority, path) = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'))
        .ok_or_else(invalid)?;
    let mut stream = BufReader::new(TcpStream::connect(authority).await?);
    let request = format!(
        "POST /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
         X-Stream-Protocol-Version: {PROTOCOL}\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = String::new();
    loop {
        let mut line = String::new();
        (&mut stream).take(HEAD_LIMIT).read_line(&mut line).await?;
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let first = head.lines().next().unwrap_or_default();
    if first.split(' ').nth(1) != Some("101") {
        return Err(io::Error::other(format!("it does not change to SPDY: {first:?}")));
    }
    Session::start(stream)
}

/// Keeps the connection for as long as it is read from.
fn reader(stream: Stream, session: &Arc<Session>) -> Reader {
    let next = |(mut stream, session): (Stream, Arc<Session>)| async move {
        let bytes = stream.received.recv().await?;
        Some((Ok::<Bytes, io::Error>(bytes), (stream, session)))
    };
    let pieces = futures::stream::unfold((stream, session.clone()), next);
    let pieces: Pin<Box<dyn futures::Stream<Item = io::Result<Bytes>> + Send>> = Box::pin(pieces);
    Box::new(StreamReader::new(pieces))
}

fn writer(sink: Sink, session: &Arc<Session>) -> Writer {
    let (near, mut far) = tokio::io::duplex(PIECE);
    let gone = session.gone();
    tokio::spawn(gone.run_until_cancelled_owned(async move {
        let mut piece = vec![0; PIECE];
        loop {
            match far.read(&mut piece).await {
                Ok(0) | Err(_) => break drop(sink.finish().await),
                Ok(count) => {
                    if sink.write(&piece[..count]).await.is_err() {
                        break;
                    }
                }
            }
        }
    }));
    Box::new(near)
}

fn window(sink: Sink, session: &Arc<Session>) -> Window {
    let (sizes, mut changes) = watch::channel((0, 0));
    let gone = session.gone();
    tokio::spawn(gone.run_until_cancelled_owned(async move {
        while changes.changed().await.is_ok() {
            let (columns, rows) = *changes.borrow_and_update();
            let size = format!("{{\"Width\":{columns},\"Height\":{rows}}}\n");
            if sink.write(size.as_bytes()).await.is_err() {
                return;
            }
        }
    }));
    Window::Relayed(sizes)
}

/// What is said at the end.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    status: String,
    message: String,
    reason: String,
    details: Details,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    causes: Vec<Cause>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cause {
    reason: String,
    message: String,
}

async fn exit(mut error: Stream, session: Arc<Session>) -> Result<i32> {
    let mut text = Vec::new();
    while let Some(bytes) = error.received.recv().await {
        text.extend_from_slice(&bytes);
    }
    drop(session);
    exit_code(&text)
}

fn exit_code(text: &[u8]) -> Result<i32> {
    let unclear = || Error::Failed("the connection to the container runtime broke".to_owned());
    let status: Status = serde_json::from_slice(text).map_err(|_| unclear())?;
    if status.status == "Success" {
        return Ok(0);
    }
    if status.reason == "NonZeroExitCode" {
        let cause = status.details.causes.iter().find(|c| c.reason == "ExitCode");
        return cause.and_then(|c| c.message.parse().ok()).ok_or_else(unclear);
    }
    Err(match command_not_found(&status.message) {
        Some(text) => Error::CommandNotFound(text),
        None => Error::Failed(status.message),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_an_exit_code_or_why_there_is_none() {
        assert_eq!(exit_code(br#"{"metadata":{},"status":"Success"}"#).unwrap(), 0);
        let five = br#"{"status":"Failure","reason":"NonZeroExitCode","message":"command terminated with exit code 5",
            "details":{"causes":[{"reason":"ExitCode","message":"5"}]}}"#;
        assert_eq!(exit_code(five).unwrap(), 5);
        let missing = br#"{"status":"Failure","reason":"InternalError",
            "message":"error executing command: exec: \"nope\": executable file not found in $PATH: unknown"}"#;
        assert!(matches!(exit_code(missing), Err(Error::CommandNotFound(text)) if text.starts_with("exec: \"nope\"")));
        assert!(exit_code(b"").is_err());
    }
}
