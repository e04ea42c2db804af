//! The server's side of one connection: it takes the streams that the client opens and hands data to and fro.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Headers;
use super::frame::{Frame, PIECE, PROTOCOL_ERROR, REFUSED_STREAM, Reader, Writer};
use crate::streaming::{Duplex, QUEUE};

/// More streams at once than any client of ours opens.
const STREAM_LIMIT: usize = 1024;

type Out = Arc<Mutex<Writer<WriteHalf<Duplex>>>>;

/// A connection. Dropping it ends it.
pub(in crate::streaming) struct Session {
    streams: mpsc::Receiver<Stream>,
    out: Out,
    gone: CancellationToken,
    reader: AbortOnDropHandle<()>,
}

/// A stream that the client has opened and that was taken.
pub(in crate::streaming) struct Stream {
    pub(in crate::streaming) id: u32,
    pub(in crate::streaming) headers: Headers,
    /// Ends when the client has ended its side.
    pub(in crate::streaming) received: mpsc::Receiver<Bytes>,
    pub(in crate::streaming) sink: Sink,
    /// The client wants no more of it.
    pub(in crate::streaming) reset: CancellationToken,
}

/// Our side of a stream.
#[derive(Clone)]
pub(in crate::streaming) struct Sink {
    id: u32,
    out: Out,
}

impl Sink {
    pub(in crate::streaming) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(PIECE) {
            self.out.lock().await.data(self.id, piece, false).await?;
        }
        Ok(())
    }

    /// Nothing more comes.
    pub(in crate::streaming) async fn finish(&self) -> io::Result<()> {
        self.out.lock().await.data(self.id, &[], true).await
    }

    /// The stream is not as it should be.
    pub(in crate::streaming) async fn refuse(&self) -> io::Result<()> {
        self.out.lock().await.reset(self.id, PROTOCOL_ERROR).await
    }
}

impl Session {
    pub(in crate::streaming) fn start(io: Duplex) -> io::Result<Self> {
        let (read, write) = tokio::io::split(io);
        let out: Out = Arc::new(Mutex::new(Writer::new(write)?));
        let (opened, streams) = mpsc::channel(QUEUE);
        let gone = CancellationToken::new();
        let side = Side {
            out: out.clone(),
            opened,
            open: HashMap::new(),
        };
        let ended = gone.clone().drop_guard();
        let reader = tokio::spawn(async move {
            let _ended = ended;
            if let Err(error) = side.read(Reader::new(read)).await {
                tracing::debug!(%error, "a SPDY connection broke");
            }
        });
        Ok(Self {
            streams,
            out,
            gone,
            reader: AbortOnDropHandle::new(reader),
        })
    }

    /// The next stream that the client opens; `None` when it is gone.
    pub(in crate::streaming) async fn next(&mut self) -> Option<Stream> {
        self.streams.recv().await
    }

    /// Cancelled when the client is gone.
    pub(in crate::streaming) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Says good-bye and waits until the client has gone: a connection that is dropped with something unread loses what
    /// was last sent on it.
    pub(in crate::streaming) async fn end(mut self) {
        self.streams.close();
        if self.out.lock().await.end(0).await.is_ok() {
            let _ = (&mut self.reader).await;
        }
    }
}

/// What the reading task keeps.
struct Side {
    out: Out,
    opened: mpsc::Sender<Stream>,
    open: HashMap<u32, (mpsc::Sender<Bytes>, CancellationToken)>,
}

impl Side {
    async fn read(mut self, mut frames: Reader<ReadHalf<Duplex>>) -> io::Result<()> {
        while let Some(frame) = frames.next().await? {
            match frame {
                Frame::Open {
                    stream,
                    finished,
                    headers,
                } => self.take(stream, finished, headers).await?,
                Frame::Data {
                    stream,
                    bytes,
                    finished,
                } => {
                    if let Some((received, _)) = self.open.get(&stream)
                        && !bytes.is_empty()
                    {
                        // Whoever does not read his stream any more does not want what comes on it.
                        let _ = received.send(bytes).await;
                    }
                    if finished {
                        self.open.remove(&stream);
                    }
                }
                Frame::Reset { stream } => {
                    if let Some((_, reset)) = self.open.remove(&stream) {
                        reset.cancel();
                    }
                }
                Frame::Ping(number) => self.out.lock().await.ping(number).await?,
                // What is open goes on until the connection ends.
                Frame::GoAway | Frame::Other => {}
            }
        }
        Ok(())
    }

    async fn take(&mut self, id: u32, finished: bool, headers: Headers) -> io::Result<()> {
        if self.open.len() >= STREAM_LIMIT || self.open.contains_key(&id) || self.opened.is_closed() {
            return self.out.lock().await.reset(id, REFUSED_STREAM).await;
        }
        self.out.lock().await.reply(id).await?;
        let (sender, received) = mpsc::channel(QUEUE);
        let reset = CancellationToken::new();
        if !finished {
            self.open.insert(id, (sender, reset.clone()));
        }
        let sink = Sink {
            id,
            out: self.out.clone(),
        };
        let stream = Stream {
            id,
            headers,
            received,
            sink,
            reset,
        };
        let _ = self.opened.send(stream).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (
        Session,
        Reader<ReadHalf<tokio::io::DuplexStream>>,
        Writer<WriteHalf<tokio::io::DuplexStream>>,
    ) {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (read, write) = tokio::io::split(far);
        let session = Session::start(Box::new(near)).unwrap();
        (session, Reader::new(read), Writer::new(write).unwrap())
    }

    #[tokio::test]
    async fn streams_are_taken_read_and_answered() {
        let (mut session, mut read, mut write) = pair();
        write.open(1, &Headers::of(&[("streamtype", "data")])).await.unwrap();
        write.data(1, b"ping", true).await.unwrap();
        let mut stream = session.next().await.unwrap();
        assert_eq!(stream.headers.get("streamType"), Some("data"));
        assert_eq!(stream.received.recv().await.unwrap(), "ping");
        assert!(stream.received.recv().await.is_none());
        assert_eq!(read.next().await.unwrap(), Some(Frame::Other), "the reply");
        stream.sink.write(b"pong").await.unwrap();
        let answer = Frame::Data {
            stream: 1,
            bytes: Bytes::from_static(b"pong"),
            finished: false,
        };
        assert_eq!(read.next().await.unwrap(), Some(answer));
        drop((read, write));
        session.gone().cancelled().await;
        assert!(session.next().await.is_none());
    }

    #[tokio::test]
    async fn a_reset_ends_a_stream_and_a_second_stream_of_one_number_is_refused() {
        let (mut session, mut read, mut write) = pair();
        write.open(1, &Headers::default()).await.unwrap();
        write.open(1, &Headers::default()).await.unwrap();
        let stream = session.next().await.unwrap();
        assert_eq!(read.next().await.unwrap(), Some(Frame::Other));
        assert_eq!(read.next().await.unwrap(), Some(Frame::Reset { stream: 1 }));
        write.reset(1, PROTOCOL_ERROR).await.unwrap();
        stream.reset.cancelled().await;
    }

    #[tokio::test]
    async fn a_stream_that_nobody_reads_holds_the_connection_up_and_takes_no_memory() {
        let (mut session, _read, mut write) = pair();
        write.open(1, &Headers::default()).await.unwrap();
        let mut stream = session.next().await.unwrap();
        let sent = tokio::spawn(async move {
            for _ in 0..100 {
                write.data(1, &[0; PIECE], false).await.unwrap();
            }
            write.data(1, &[], true).await.unwrap();
            write
        });
        tokio::task::yield_now().await;
        assert!(!sent.is_finished());
        let mut total = 0;
        while let Some(bytes) = stream.received.recv().await {
            total += bytes.len();
        }
        assert_eq!(total, 100 * PIECE);
        sent.await.unwrap();
    }
}
