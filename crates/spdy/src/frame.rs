//! Frames as they are on the wire. Data frames are handed over in pieces, so that no frame is ever held whole.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use super::header::{Decoder, Encoder, Headers};

/// Data is read and written in pieces of this size.
pub(crate) const PIECE: usize = 32 << 10;
/// The longest control frame: a compressed header block and little else.
const CONTROL_LIMIT: usize = 64 << 10;

const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const FINISHED: u8 = 1;

/// Why a stream is refused.
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const REFUSED_STREAM: u32 = 3;

/// What a peer says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Open {
        stream: u32,
        finished: bool,
        headers: Headers,
    },
    /// A piece of a stream's data; `finished` with the last of a frame that says so.
    Data {
        stream: u32,
        bytes: Bytes,
        finished: bool,
    },
    Reset {
        stream: u32,
    },
    Ping([u8; 4]),
    GoAway,
    /// Settings, window updates, replies: nothing to do.
    Other,
}

pub(crate) struct Reader<R> {
    io: BufReader<R>,
    headers: Decoder,
    /// What is left of a data frame: stream, bytes, whether the stream ends with it.
    data: Option<(u32, usize, bool)>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(io: R) -> Self {
        Self {
            io: BufReader::with_capacity(PIECE, io),
            headers: Decoder::new(),
            data: None,
        }
    }

    /// The next frame, or piece of one; `None` when the peer has ended between frames.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Frame>> {
        if let Some((stream, left, finishes)) = self.data.take() {
            return self.piece(stream, left, finishes).await.map(Some);
        }
        let mut head = [0; 8];
        match self.io.read(&mut head[..1]).await? {
            0 => return Ok(None),
            _ => self.io.read_exact(&mut head[1..]).await?,
        };
        let [a, b, c, d, flags, x, y, z] = head;
        let length = usize::try_from(u32::from_be_bytes([0, x, y, z])).map_err(io::Error::other)?;
        if a & 0x80 == 0 {
            let stream = u32::from_be_bytes([a, b, c, d]);
            return self.piece(stream, length, flags & FINISHED != 0).await.map(Some);
        }
        if u16::from_be_bytes([a & 0x7f, b]) != VERSION || length > CONTROL_LIMIT {
            return Err(invalid("a control frame of another protocol or length"));
        }
        let mut payload = vec![0; length];
        self.io.read_exact(&mut payload).await?;
        self.control(u16::from_be_bytes([c, d]), flags, &payload).map(Some)
    }

    /// The next piece of a data frame of which so much is left.
    async fn piece(&mut self, stream: u32, left: usize, finishes: bool) -> io::Result<Frame> {
        let mut piece = vec![0; left.min(PIECE)];
        self.io.read_exact(&mut piece).await?;
        let left = left - piece.len();
        if left > 0 {
            self.data = Some((stream, left, finishes));
        }
        Ok(Frame::Data {
            stream,
            bytes: piece.into(),
            finished: finishes && left == 0,
        })
    }

    fn control(&mut self, kind: u16, flags: u8, payload: &[u8]) -> io::Result<Frame> {
        let first = payload.first_chunk::<4>().copied();
        let stream = || {
            first
                .map(|id| u32::from_be_bytes(id) & 0x7fff_ffff)
                .ok_or_else(|| invalid("a control frame is too short"))
        };
        // Every header block has to be read, wanted or not: those that follow build on it.
        let mut block = |from: usize| match payload.get(from..) {
            Some(block) => self.headers.decode(block),
            None => Err(invalid("a control frame is too short")),
        };
        Ok(match kind {
            SYN_STREAM => Frame::Open {
                stream: stream()?,
                finished: flags & FINISHED != 0,
                headers: block(10)?,
            },
            SYN_REPLY | HEADERS => {
                block(4)?;
                Frame::Other
            }
            RST_STREAM => Frame::Reset { stream: stream()? },
            PING => Frame::Ping(first.ok_or_else(|| invalid("a ping without a number"))?),
            GOAWAY => Frame::GoAway,
            _ => Frame::Other,
        })
    }
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

pub(crate) struct Writer<W> {
    io: W,
    headers: Encoder,
    frame: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub(crate) fn new(io: W) -> io::Result<Self> {
        Ok(Self {
            io,
            headers: Encoder::new()?,
            frame: Vec::new(),
        })
    }

    async fn send(&mut self, head: [u8; 4], flags: u8, payload: &[&[u8]]) -> io::Result<()> {
        let length: usize = payload.iter().map(|part| part.len()).sum();
        let length = u32::try_from(length).map_err(io::Error::other)?;
        self.frame.clear();
        self.frame.extend_from_slice(&head);
        self.frame
            .extend_from_slice(&(u32::from(flags) << 24 | length).to_be_bytes());
        payload.iter().for_each(|part| self.frame.extend_from_slice(part));
        self.io.write_all(&self.frame).await?;
        self.io.flush().await
    }

    async fn control(&mut self, kind: u16, flags: u8, payload: &[&[u8]]) -> io::Result<()> {
        let [c, d] = kind.to_be_bytes();
        let [a, b] = (VERSION | 0x8000).to_be_bytes();
        self.send([a, b, c, d], flags, payload).await
    }

    pub(crate) async fn open(&mut self, stream: u32, headers: &Headers) -> io::Result<()> {
        let block = self.headers.encode(headers)?;
        self.control(SYN_STREAM, 0, &[&stream.to_be_bytes(), &[0; 6], &block])
            .await
    }

    pub(crate) async fn reply(&mut self, stream: u32) -> io::Result<()> {
        let block = self.headers.encode(&Headers::default())?;
        self.control(SYN_REPLY, 0, &[&stream.to_be_bytes(), &block]).await
    }

    /// At most [`PIECE`] bytes at once, so that streams take turns.
    pub(crate) async fn data(&mut self, stream: u32, bytes: &[u8], finished: bool) -> io::Result<()> {
        let flags = if finished { FINISHED } else { 0 };
        self.send((stream & 0x7fff_ffff).to_be_bytes(), flags, &[bytes]).await
    }

    pub(crate) async fn reset(&mut self, stream: u32, reason: u32) -> io::Result<()> {
        self.control(RST_STREAM, 0, &[&stream.to_be_bytes(), &reason.to_be_bytes()])
            .await
    }

    pub(crate) async fn ping(&mut self, number: [u8; 4]) -> io::Result<()> {
        self.control(PING, 0, &[&number]).await
    }

    /// Says that no stream after `last` was taken, and that nothing more comes.
    pub(crate) async fn end(&mut self, last: u32) -> io::Result<()> {
        self.control(GOAWAY, 0, &[&last.to_be_bytes(), &[0; 4]]).await?;
        self.io.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn frames(bytes: &[u8]) -> Vec<Frame> {
        let mut reader = Reader::new(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = reader.next().await.unwrap() {
            frames.push(frame);
        }
        frames
    }

    #[tokio::test]
    async fn frames_are_read_as_they_are_written() {
        let mut writer = Writer::new(Vec::new()).unwrap();
        let headers = Headers::of(&[("streamtype", "stdin")]);
        writer.open(1, &headers).await.unwrap();
        writer.reply(1).await.unwrap();
        writer.data(1, b"hello", false).await.unwrap();
        writer.data(1, b"", true).await.unwrap();
        writer.ping([0, 0, 0, 7]).await.unwrap();
        writer.reset(1, PROTOCOL_ERROR).await.unwrap();
        writer.end(1).await.unwrap();
        let data = |bytes: &'static [u8], finished| Frame::Data {
            stream: 1,
            bytes: Bytes::from_static(bytes),
            finished,
        };
        let expected = [
            Frame::Open {
                stream: 1,
                finished: false,
                headers,
            },
            Frame::Other,
            data(b"hello", false),
            data(b"", true),
            Frame::Ping([0, 0, 0, 7]),
            Frame::Reset { stream: 1 },
            Frame::GoAway,
        ];
        assert_eq!(frames(&writer.io).await, expected);
    }

    #[tokio::test]
    async fn a_long_data_frame_comes_in_pieces_and_ends_with_the_last() {
        let long = vec![7; 2 * PIECE + 1];
        let mut bytes = vec![0, 0, 0, 3, FINISHED];
        bytes.extend_from_slice(&u32::try_from(long.len()).unwrap().to_be_bytes()[1..]);
        bytes.extend_from_slice(&long);
        let pieces: Vec<(usize, bool)> = frames(&bytes)
            .await
            .into_iter()
            .map(|frame| match frame {
                Frame::Data {
                    stream: 3,
                    bytes,
                    finished,
                } => (bytes.len(), finished),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(pieces, [(PIECE, false), (PIECE, false), (1, true)]);
    }

    #[tokio::test]
    async fn what_is_no_frame_is_an_error_and_not_an_allocation() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..9],
            &[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff],
            &[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1],
            &[0x80, 3, 0, 6, 0, 0, 0, 1, 0],
            &[0x80, 3, 0, 1, 0, 0, 0, 4, 0, 0, 0, 1],
        ] {
            let mut reader = Reader::new(bytes);
            assert!(reader.next().await.is_err(), "{bytes:?}");
        }
    }
}
