//! A remote command's streams, whichever wire they come by: input and sizes from the client, output and errors to it, and
//! at the end how it went.

use std::collections::HashMap;
use std::io;

use bytes::Bytes;
use coracle_clock::Clock;
use coracle_spdy as spdy;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::upgrade::{Agreed, Wire};
use super::{CLOSE_LIMIT, Duplex, OPEN_LIMIT, QUEUE, websocket};

/// By wire, what is served.
pub(super) const WEB_SOCKET: [&str; 4] = ["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io", ""];
pub(super) const SPDY: [&str; 3] = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io"];

/// The numbers of the streams in a WebSocket's messages.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Says that the channel named next is closed (`v5`).
const CLOSED: u8 = 255;

/// Which streams a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

/// Ends when the client has closed it.
pub(super) type Input = mpsc::Receiver<Bytes>;

/// A stream to the client.
pub(super) enum Output {
    Spdy(spdy::Sink),
    WebSocket(websocket::Sender, u8),
}

impl Output {
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Spdy(sink) => sink.write(bytes).await,
            Self::WebSocket(sender, channel) => sender.message(&[&[*channel], bytes]).await,
        }
    }

    async fn finish(&self) -> io::Result<()> {
        match self {
            Self::Spdy(sink) => sink.finish().await,
            // The connection's end is every channel's.
            Self::WebSocket(..) => Ok(()),
        }
    }
}

/// How a command went, as the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    /// A code that is not 0.
    Exit(i32),
    Failed(String),
}

impl Outcome {
    fn text(&self) -> String {
        match self {
            Self::Success => String::new(),
            Self::Exit(code) => format!("command terminated with non-zero exit code: exit status {code}"),
            Self::Failed(why) => why.clone(),
        }
    }

    /// As a `Status`, for the protocols since `v4`.
    fn status(&self) -> Value {
        match self {
            Self::Success => json!({"metadata": {}, "status": "Success"}),
            Self::Exit(code) => json!({
                "metadata": {},
                "status": "Failure",
                "message": self.text(),
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Failed(why) => json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("Internal error occurred: {why}"),
                "reason": "InternalError",
                "details": {"causes": [{"message": why}]},
                "code": 500,
            }),
        }
    }
}

/// The streams of one command.
pub(super) struct Channels {
    pub(super) stdin: Option<Input>,
    pub(super) resize: Option<Input>,
    pub(super) stdout: Option<Output>,
    pub(super) stderr: Option<Output>,
    /// The client is gone.
    pub(super) gone: CancellationToken,
    end: End,
}

/// What is needed to end well.
pub(super) struct End {
    error: Output,
    structured: bool,
    connection: Connection,
}

enum Connection {
    Spdy(spdy::Session),
    WebSocket(websocket::Sender, AbortOnDropHandle<()>),
}

impl Channels {
    /// Waits for the client to open what it wants.
    pub(super) async fn open(io: Duplex, agreed: &Agreed, wanted: Wanted, clock: Clock) -> io::Result<Self> {
        match agreed.wire {
            Wire::WebSocket => over_websocket(io, agreed.protocol, wanted).await,
            Wire::Spdy => {
                let mut session = spdy::Session::start(io)?;
                let opening = over_spdy(&mut session, agreed.protocol, wanted);
                match clock.timeout(OPEN_LIMIT, opening).await {
                    Ok(streams) => streams?.with(session, agreed.protocol),
                    Err(_) => Err(invalid("the client has not opened its streams in time")),
                }
            }
        }
    }

    /// The streams without their end, and the end.
    pub(super) fn split(self) -> (Streams, End) {
        let streams = Streams {
            stdin: self.stdin,
            resize: self.resize,
            stdout: self.stdout,
            stderr: self.stderr,
            gone: self.gone,
        };
        (streams, self.end)
    }
}

pub(super) struct Streams {
    pub(super) stdin: Option<Input>,
    pub(super) resize: Option<Input>,
    pub(super) stdout: Option<Output>,
    pub(super) stderr: Option<Output>,
    pub(super) gone: CancellationToken,
}

impl End {
    /// Tells the client how it went, and lets it close. `outputs` have been written to their end.
    pub(super) async fn tell(self, outcome: &Outcome, outputs: Vec<Output>, clock: Clock) {
        let telling = async {
            for output in &outputs {
                output.finish().await?;
            }
            if self.structured {
                self.error.write(outcome.status().to_string().as_bytes()).await?;
            } else if *outcome != Outcome::Success {
                self.error.write(outcome.text().as_bytes()).await?;
            }
            self.error.finish().await?;
            match self.connection {
                Connection::Spdy(session) => session.end().await,
                Connection::WebSocket(sender, reader) => {
                    sender.close().await?;
                    sender.shutdown().await?;
                    let _ = reader.await;
                }
            }
            io::Result::Ok(())
        };
        match clock.timeout(CLOSE_LIMIT, telling).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a client was gone before it was told how its command went"),
            Err(_) => tracing::debug!("a client does not close a connection that is over"),
        }
    }
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

/// The streams that a client has opened by SPDY.
#[derive(Default)]
struct Opened {
    error: Option<spdy::Stream>,
    stdin: Option<spdy::Stream>,
    stdout: Option<spdy::Stream>,
    stderr: Option<spdy::Stream>,
    resize: Option<spdy::Stream>,
}

async fn over_spdy(session: &mut spdy::Session, protocol: &str, wanted: Wanted) -> io::Result<Opened> {
    let mut opened = Opened::default();
    let expected = 1
        + usize::from(wanted.stdin)
        + usize::from(wanted.stdout)
        + usize::from(wanted.stderr)
        + usize::from(wanted.tty && protocol != "v2.channel.k8s.io");
    for _ in 0..expected {
        let stream = session
            .next()
            .await
            .ok_or_else(|| invalid("the client went before it opened its streams"))?;
        let kind = stream.headers.get("streamType").unwrap_or_default().to_owned();
        let slot = match kind.as_str() {
            "error" => &mut opened.error,
            "stdin" => &mut opened.stdin,
            "stdout" => &mut opened.stdout,
            "stderr" => &mut opened.stderr,
            "resize" => &mut opened.resize,
            _ => {
                let _ = stream.sink.refuse().await;
                return Err(invalid(format!("unexpected stream type: {kind:?}")));
            }
        };
        *slot = Some(stream);
    }
    Ok(opened)
}

impl Opened {
    fn with(self, session: spdy::Session, protocol: &str) -> io::Result<Channels> {
        let error = self.error.ok_or_else(|| invalid("the client opened no error stream"))?;
        let output = |stream: Option<spdy::Stream>| stream.map(|s| Output::Spdy(s.sink));
        Ok(Channels {
            stdin: self.stdin.map(|s| s.received),
            resize: self.resize.map(|s| s.received),
            stdout: output(self.stdout),
            stderr: output(self.stderr),
            gone: session.gone(),
            end: End {
                error: Output::Spdy(error.sink),
                structured: protocol == "v4.channel.k8s.io",
                connection: Connection::Spdy(session),
            },
        })
    }
}

async fn over_websocket(io: Duplex, protocol: &str, wanted: Wanted) -> io::Result<Channels> {
    let (receiver, sender) = websocket::open(io);
    let mut inputs = HashMap::new();
    let mut input = |wanted: bool, channel: u8| {
        let (send, receive) = mpsc::channel(QUEUE);
        wanted.then(|| {
            inputs.insert(channel, send);
            receive
        })
    };
    let stdin = input(wanted.stdin, STDIN);
    let resize = input(wanted.tty, RESIZE);
    let output = |wanted: bool, channel| wanted.then(|| Output::WebSocket(sender.clone(), channel));
    let (stdout, stderr) = (output(wanted.stdout, STDOUT), output(wanted.stderr, STDERR));
    let error = Output::WebSocket(sender.clone(), ERROR);
    // Clients take the first message for the word that all is set up.
    stdout.as_ref().or(stderr.as_ref()).unwrap_or(&error).write(&[]).await?;
    let gone = CancellationToken::new();
    let ended = gone.clone().drop_guard();
    let reader = tokio::spawn(async move {
        let _ended = ended;
        if let Err(error) = demultiplex(receiver, inputs).await {
            tracing::debug!(%error, "a WebSocket broke");
        }
    });
    Ok(Channels {
        stdin,
        resize,
        stdout,
        stderr,
        gone,
        end: End {
            error,
            structured: matches!(protocol, "v5.channel.k8s.io" | "v4.channel.k8s.io"),
            connection: Connection::WebSocket(sender, AbortOnDropHandle::new(reader)),
        },
    })
}

/// Gives each message to its channel, by its first byte.
async fn demultiplex<R: AsyncRead + Unpin>(
    mut receiver: websocket::Receiver<R>,
    mut inputs: HashMap<u8, mpsc::Sender<Bytes>>,
) -> io::Result<()> {
    let mut channel = None;
    while let Some(piece) = receiver.next().await? {
        let mut bytes = piece.bytes;
        if piece.first {
            channel = None;
        }
        if channel.is_none() && !bytes.is_empty() {
            channel = Some(bytes.split_to(1)[0]);
        }
        match channel {
            Some(CLOSED) => {
                for closed in &bytes {
                    inputs.remove(closed);
                }
            }
            Some(number) if !bytes.is_empty() => {
                if let Some(input) = inputs.get(&number) {
                    // Whoever does not read any more wants no more.
                    let _ = input.send(bytes).await;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The size of a terminal, as clients send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Size {
    pub(super) width: u16,
    pub(super) height: u16,
}

/// A client that sends so much without a size in it is not heard any more.
const SIZE_LIMIT: usize = 4096;

/// Cuts sizes out of what comes on the resize stream. Pure.
#[derive(Default)]
pub(super) struct Sizes {
    pending: Vec<u8>,
}

impl Sizes {
    /// The sizes that `bytes` complete, in order.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<Size> {
        self.pending.extend_from_slice(bytes);
        let mut read = serde_json::Deserializer::from_slice(&self.pending).into_iter::<Size>();
        let mut sizes = Vec::new();
        let mut taken = 0;
        while let Some(Ok(size)) = read.next() {
            taken = read.byte_offset();
            sizes.push(size);
        }
        self.pending.drain(..taken);
        self.pending.truncate(SIZE_LIMIT);
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streaming::websocket::tests::masked;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn outcomes_are_told_as_clients_look_for_them() {
        let status = Outcome::Exit(3).status();
        assert_eq!(status["reason"], "NonZeroExitCode");
        assert_eq!(
            status["details"]["causes"][0],
            json!({"reason": "ExitCode", "message": "3"})
        );
        assert_eq!(Outcome::Success.status()["status"], "Success");
        let failed = Outcome::Failed("no such thing".into()).status();
        assert_eq!(failed["message"], "Internal error occurred: no such thing");
    }

    #[test]
    fn sizes_are_read_whole_and_in_parts() {
        let mut sizes = Sizes::default();
        let size = |width, height| Size { width, height };
        let two = b"{\"Width\":80,\"Height\":24}\n{\"Width\":81,\"Height\":25}{\"Wid";
        assert_eq!(sizes.feed(two), [size(80, 24), size(81, 25)]);
        assert_eq!(sizes.feed(b"th\":1,\"Height\":2}"), [size(1, 2)]);
    }

    #[tokio::test]
    async fn a_websocket_s_channels_are_told_apart_and_stdin_is_closed_alone() {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let wanted = Wanted {
            stdin: true,
            stdout: true,
            ..Wanted::default()
        };
        let agreed = Agreed {
            wire: Wire::WebSocket,
            protocol: "v5.channel.k8s.io",
        };
        let clock = Clock::system();
        let channels = Channels::open(Box::new(near), &agreed, wanted, clock).await.unwrap();
        let (mut streams, end) = channels.split();
        let mut first = [0; 3];
        far.read_exact(&mut first).await.unwrap();
        assert_eq!(first, [0x82, 1, STDOUT], "all is set up");
        far.write_all(&masked(0x02, b"\0he")).await.unwrap();
        far.write_all(&masked(0x80, b"llo")).await.unwrap();
        far.write_all(&masked(0x82, b"\x07nobody's")).await.unwrap();
        far.write_all(&masked(0x82, &[CLOSED, STDIN])).await.unwrap();
        let mut stdin = streams.stdin.take().unwrap();
        let mut got = Vec::new();
        while let Some(bytes) = stdin.recv().await {
            got.extend_from_slice(&bytes);
        }
        assert_eq!(got, b"hello");
        assert!(!streams.gone.is_cancelled());
        let telling = tokio::spawn(async move { end.tell(&Outcome::Exit(7), Vec::new(), clock).await });
        far.write_all(&masked(0x88, &[])).await.unwrap();
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).await.unwrap();
        drop(far);
        telling.await.unwrap();
        let text = String::from_utf8_lossy(&rest);
        assert!(text.contains("\x03{") && text.contains("\"ExitCode\""), "{text}");
        streams.gone.cancelled().await;
    }
}
