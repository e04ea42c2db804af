//! One side of a connection: it takes the streams that the peer opens, opens its own, and hands data to and fro.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Headers;
use super::frame::{Frame, PIECE, PROTOCOL_ERROR, REFUSED_STREAM, Reader, Writer};

/// More streams at once than any peer of ours opens.
const STREAM_LIMIT: usize = 1024;
/// Pieces that wait in a stream's queue at most.
const QUEUE: usize = 4;

trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for T {}
type Duplex = Box<dyn ReadWrite>;

type Out = Arc<Mutex<Writer<WriteHalf<Duplex>>>>;
/// Streams whose peers have not ended their side.
type Open = Arc<parking_lot::Mutex<HashMap<u32, (mpsc::Sender<Bytes>, CancellationToken)>>>;

/// A connection. Dropping it ends it.
pub struct Session {
    streams: mpsc::Receiver<Stream>,
    out: Out,
    open: Open,
    /// The number of the next stream that this side opens.
    number: AtomicU32,
    gone: CancellationToken,
    reader: AbortOnDropHandle<()>,
}

/// A stream that either side has opened.
pub struct Stream {
    pub id: u32,
    pub headers: Headers,
    /// Ends when the peer has ended its side.
    pub received: mpsc::Receiver<Bytes>,
    pub sink: Sink,
    /// The peer wants no more of it.
    pub reset: CancellationToken,
}

/// Our side of a stream.
#[derive(Clone)]
pub struct Sink {
    id: u32,
    out: Out,
}

impl Sink {
    pub async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(PIECE) {
            self.out.lock().await.data(self.id, piece, false).await?;
        }
        Ok(())
    }

    /// Nothing more comes.
    pub async fn finish(&self) -> io::Result<()> {
        self.out.lock().await.data(self.id, &[], true).await
    }

    /// The stream is not as it should be.
    pub async fn refuse(&self) -> io::Result<()> {
        self.out.lock().await.reset(self.id, PROTOCOL_ERROR).await
    }
}

impl Session {
    pub fn start(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> io::Result<Self> {
        let (read, write) = tokio::io::split(Box::new(io) as Duplex);
        let out: Out = Arc::new(Mutex::new(Writer::new(write)?));
        let (opened, streams) = mpsc::channel(QUEUE);
        let gone = CancellationToken::new();
        let open = Open::default();
        let side = Side {
            out: out.clone(),
            opened,
            open: open.clone(),
            gone: gone.clone(),
        };
        let reader = tokio::spawn(async move {
            if let Err(error) = side.read(Reader::new(read)).await {
                tracing::debug!(%error, "a SPDY connection broke");
            }
        });
        Ok(Self {
            streams,
            out,
            open,
            number: AtomicU32::new(1),
            gone,
            reader: AbortOnDropHandle::new(reader),
        })
    }

    /// The next stream that the peer opens; `None` when it is gone.
    pub async fn next(&mut self) -> Option<Stream> {
        self.streams.recv().await
    }

    /// Opens a stream: for the side that has made the connection, whose streams have the odd numbers.
    pub async fn open(&self, headers: Headers) -> io::Result<Stream> {
        // Numbers go up on the wire too.
        let mut out = self.out.lock().await;
        let id = self.number.fetch_add(2, Ordering::Relaxed);
        let stream = track(&self.open, &self.out, id, headers, false);
        if self.gone.is_cancelled() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        out.open(id, &stream.headers).await?;
        Ok(stream)
    }

    /// Cancelled when the peer is gone.
    pub fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Says good-bye and waits until the peer has gone: a connection that is dropped with something unread loses what
    /// was last sent on it.
    pub async fn end(mut self) {
        self.streams.close();
        if self.out.lock().await.end(0).await.is_ok() {
            let _ = (&mut self.reader).await;
        }
    }
}

/// A stream whose data is to be handed on, unless the peer has `finished` already.
fn track(open: &Open, out: &Out, id: u32, headers: Headers, finished: bool) -> Stream {
    let (sender, received) = mpsc::channel(QUEUE);
    let reset = CancellationToken::new();
    if !finished {
        open.lock().insert(id, (sender, reset.clone()));
    }
    Stream {
        id,
        headers,
        received,
        sink: Sink { id, out: out.clone() },
        reset,
    }
}

/// What the reading task keeps.
struct Side {
    out: Out,
    opened: mpsc::Sender<Stream>,
    open: Open,
    gone: CancellationToken,
}

impl Drop for Side {
    /// Nothing comes on any stream any more.
    fn drop(&mut self) {
        self.gone.cancel();
        self.open.lock().clear();
    }
}

impl Side {
    async fn read(self, mut frames: Reader<ReadHalf<Duplex>>) -> io::Result<()> {
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
                    let received = self.open.lock().get(&stream).map(|(received, _)| received.clone());
                    if let Some(received) = received
                        && !bytes.is_empty()
                    {
                        // Whoever does not read his stream any more does not want what comes on it.
                        let _ = received.send(bytes).await;
                    }
                    if finished {
                        self.open.lock().remove(&stream);
                    }
                }
                Frame::Reset { stream } => {
                    let removed = self.open.lock().remove(&stream);
                    if let Some((_, reset)) = removed {
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

    async fn take(&self, id: u32, finished: bool, headers: Headers) -> io::Result<()> {
        let refused = {
            let open = self.open.lock();
            open.len() >= STREAM_LIMIT || open.contains_key(&id) || self.opened.is_closed()
        };
        if refused {
            return self.out.lock().await.reset(id, REFUSED_STREAM).await;
        }
        self.out.lock().await.reply(id).await?;
        let stream = track(&self.open, &self.out, id, headers, finished);
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
        let session = Session::start(near).unwrap();
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

    #[tokio::test]
    async fn a_stream_of_our_own_is_opened_written_read_and_ended_by_both() {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (ours, mut theirs) = (Session::start(near).unwrap(), Session::start(far).unwrap());
        let mut numbers = Vec::new();
        for name in ["error", "stdin"] {
            let mut mine = ours.open(Headers::of(&[("streamtype", name)])).await.unwrap();
            let mut taken = theirs.next().await.unwrap();
            assert_eq!(taken.headers.get("streamType"), Some(name));
            mine.sink.write(b"ping").await.unwrap();
            mine.sink.finish().await.unwrap();
            assert_eq!(taken.received.recv().await.unwrap(), "ping");
            assert!(taken.received.recv().await.is_none());
            taken.sink.write(b"pong").await.unwrap();
            taken.sink.finish().await.unwrap();
            assert_eq!(mine.received.recv().await.unwrap(), "pong");
            assert!(mine.received.recv().await.is_none());
            numbers.push(mine.id);
        }
        assert_eq!(numbers, [1, 3]);
        let mut left = ours.open(Headers::default()).await.unwrap();
        drop(theirs);
        assert!(left.received.recv().await.is_none(), "the peer's end is every stream's");
    }
}
