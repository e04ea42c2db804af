//! WebSocket frames (RFC 6455), the server's side. Written here because messages have to be handed on in pieces: libraries
//! collect a message whole before they give it out, and a client may put a gigabyte into one.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf};
use tokio::sync::Mutex;

use super::{Duplex, PIECE};

const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// Of a control frame's payload.
const CONTROL_LIMIT: u64 = 125;
/// Status codes of a close frame.
const NORMAL: u16 = 1000;

/// Both sides of a connection.
pub(super) fn open(io: Duplex) -> (Receiver<ReadHalf<Duplex>>, Sender) {
    let (read, write) = tokio::io::split(io);
    let sender = Sender {
        io: Arc::new(Mutex::new(Box::new(write) as Box<dyn AsyncWrite + Send + Unpin>)),
    };
    (Receiver::new(read, sender.clone()), sender)
}

/// A part of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// A message begins with it.
    pub(super) first: bool,
    pub(super) bytes: Bytes,
}

/// Reads messages; answers pings by itself.
pub(super) struct Receiver<R> {
    io: BufReader<R>,
    answers: Sender,
    frame: Option<DataFrame>,
    /// A message has begun and not ended.
    within: bool,
}

/// A data frame that is not wholly read.
struct DataFrame {
    first: bool,
    last: bool,
    left: u64,
    mask: Mask,
}

#[derive(Clone, Copy)]
struct Mask {
    key: [u8; 4],
    at: usize,
}

impl Mask {
    fn apply(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte ^= self.key[self.at];
            self.at = (self.at + 1) % 4;
        }
    }
}

impl<R: AsyncRead + Unpin> Receiver<R> {
    fn new(io: R, answers: Sender) -> Self {
        Self {
            io: BufReader::with_capacity(PIECE, io),
            answers,
            frame: None,
            within: false,
        }
    }

    /// The next piece of a message; `None` when the client has closed.
    pub(super) async fn next(&mut self) -> io::Result<Option<Piece>> {
        loop {
            if let Some(mut frame) = self.frame.take() {
                let size = usize::try_from(frame.left).unwrap_or(PIECE).min(PIECE);
                let mut piece = vec![0; size];
                self.io.read_exact(&mut piece).await?;
                frame.mask.apply(&mut piece);
                frame.left -= piece.len() as u64;
                let first = std::mem::take(&mut frame.first);
                if frame.left > 0 {
                    self.frame = Some(frame);
                } else {
                    self.within = !frame.last;
                }
                return Ok(Some(Piece {
                    first,
                    bytes: piece.into(),
                }));
            }
            let mut head = [0; 2];
            match self.io.read(&mut head[..1]).await? {
                0 => return Ok(None),
                _ => self.io.read_exact(&mut head[1..]).await?,
            };
            let [flags, length] = head;
            if flags & 0x70 != 0 || length & 0x80 == 0 {
                return Err(invalid("a frame with extensions or without a mask"));
            }
            let left = match length & 0x7f {
                126 => self.io.read_u16().await?.into(),
                127 => self.io.read_u64().await?,
                short => short.into(),
            };
            let mut mask = Mask { key: [0; 4], at: 0 };
            self.io.read_exact(&mut mask.key).await?;
            let (last, opcode) = (flags & 0x80 != 0, flags & 0x0f);
            if opcode < CLOSE {
                if opcode > BINARY || (opcode == 0) != self.within {
                    return Err(invalid("a frame out of its order"));
                }
                self.within = true;
                self.frame = Some(DataFrame {
                    first: opcode != 0,
                    last,
                    left,
                    mask,
                });
                continue;
            }
            if left > CONTROL_LIMIT || !last {
                return Err(invalid("a control frame is too long"));
            }
            let mut payload = vec![0; usize::try_from(left).unwrap_or(0)];
            self.io.read_exact(&mut payload).await?;
            mask.apply(&mut payload);
            match opcode {
                PING => self.answers.frame(PONG, &[&payload]).await?,
                PONG => {}
                CLOSE => {
                    // The same code back, as the protocol wants it; a client that is gone already needs none.
                    let code = payload.get(..2).unwrap_or_default();
                    let _ = self.answers.frame(CLOSE, &[code]).await;
                    return Ok(None);
                }
                _ => return Err(invalid("a frame of unknown kind")),
            }
        }
    }
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Writes messages. Cheap to clone.
#[derive(Clone)]
pub(super) struct Sender {
    io: Arc<Mutex<Box<dyn AsyncWrite + Send + Unpin>>>,
}

impl Sender {
    /// A binary message of these parts.
    pub(super) async fn message(&self, parts: &[&[u8]]) -> io::Result<()> {
        self.frame(BINARY, parts).await
    }

    async fn frame(&self, opcode: u8, parts: &[&[u8]]) -> io::Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut frame = Vec::with_capacity(length + 10);
        frame.push(0x80 | opcode);
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short), _) if short < 126 => frame.push(short),
            (_, Ok(medium)) => {
                frame.push(126);
                frame.extend_from_slice(&medium.to_be_bytes());
            }
            _ => {
                frame.push(127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        parts.iter().for_each(|part| frame.extend_from_slice(part));
        let mut io = self.io.lock().await;
        io.write_all(&frame).await?;
        io.flush().await
    }

    /// Says good-bye. The client's answer is still to be read.
    pub(super) async fn close(&self) -> io::Result<()> {
        self.frame(CLOSE, &[&NORMAL.to_be_bytes()]).await
    }

    pub(super) async fn shutdown(&self) -> io::Result<()> {
        self.io.lock().await.shutdown().await
    }
}

/// The bytes inside binary messages as a connection of its own.
pub(super) fn tunnel(io: Duplex) -> Duplex {
    let (mut receiver, sender) = open(io);
    let (near, far) = tokio::io::duplex(2 * PIECE);
    let (mut from_near, mut to_near) = tokio::io::split(near);
    tokio::spawn(async move {
        while let Ok(Some(piece)) = receiver.next().await {
            if to_near.write_all(&piece.bytes).await.is_err() {
                // Read on: what the client still sends must not make the connection end with an error.
                while matches!(receiver.next().await, Ok(Some(_))) {}
                return;
            }
        }
        let _ = to_near.shutdown().await;
    });
    tokio::spawn(async move {
        let mut buffer = vec![0; PIECE];
        loop {
            match from_near.read(&mut buffer).await {
                Ok(count) if count > 0 => {
                    if sender.message(&[&buffer[..count]]).await.is_err() {
                        return;
                    }
                }
                _ => {
                    let _ = sender.close().await;
                    let _ = sender.shutdown().await;
                    return;
                }
            }
        }
    });
    Box::new(far)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A frame as clients send it.
    pub(in crate::streaming) fn masked(flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![flags];
        match payload.len() {
            short @ 0..126 => frame.push(0x80 | u8::try_from(short).unwrap()),
            medium @ 126..65536 => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&u16::try_from(medium).unwrap().to_be_bytes());
            }
            long => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(long as u64).to_be_bytes());
            }
        }
        let mut mask = Mask {
            key: [1, 2, 3, 4],
            at: 0,
        };
        frame.extend_from_slice(&mask.key);
        let mut payload = payload.to_vec();
        mask.apply(&mut payload);
        frame.extend(payload);
        frame
    }

    #[tokio::test]
    async fn messages_come_in_pieces_and_pings_between_them_are_answered() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let (mut receiver, _sender) = open(Box::new(near));
        let long = vec![9; PIECE + 10];
        for frame in [
            masked(0x02, b"ab"),
            masked(0x89, b"are you there"),
            masked(0x80, b"c"),
            masked(0x82, &long),
            masked(0x82, b""),
            masked(0x88, &NORMAL.to_be_bytes()),
        ] {
            far.write_all(&frame).await.unwrap();
        }
        let mut got = Vec::new();
        while let Some(piece) = receiver.next().await.unwrap() {
            got.push((piece.first, piece.bytes.len()));
        }
        assert_eq!(got, [(true, 2), (false, 1), (true, PIECE), (false, 10), (true, 0)]);
        let mut answers = vec![0; 15 + 4];
        far.read_exact(&mut answers).await.unwrap();
        assert_eq!(&answers[..15], b"\x8a\x0dare you there");
        assert_eq!(answers[15..], [0x88, 2, 3, 0xe8]);
    }

    #[tokio::test]
    async fn what_the_protocol_forbids_ends_the_connection() {
        for bytes in [
            b"\x82\x01x".to_vec(),
            masked(0x80, b"a continuation of nothing"),
            masked(0xc2, b"an extension"),
            masked(0x83, b"an unknown kind"),
            masked(0x09, b"a ping in parts"),
            masked(0x89, &[0; 126]),
        ] {
            let (near, mut far) = tokio::io::duplex(1 << 10);
            let (mut receiver, _sender) = open(Box::new(near));
            far.write_all(&bytes).await.unwrap();
            assert!(receiver.next().await.is_err(), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn lengths_are_written_as_short_as_they_can_be() {
        for (length, head) in [
            (125, vec![0x82, 125]),
            (126, vec![0x82, 126, 0, 126]),
            (65536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let (near, mut far) = tokio::io::duplex(1 << 20);
            let (_receiver, sender) = open(Box::new(near));
            sender.message(&[&vec![5; length]]).await.unwrap();
            let mut frame = vec![0; head.len() + length];
            far.read_exact(&mut frame).await.unwrap();
            assert_eq!(frame[..head.len()], head);
        }
    }

    #[tokio::test]
    async fn a_tunnel_carries_bytes_both_ways_and_its_end() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut inner = tunnel(Box::new(near));
        far.write_all(&masked(0x82, b"in")).await.unwrap();
        let mut read = [0; 2];
        inner.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"in");
        inner.write_all(b"out").await.unwrap();
        let mut frame = [0; 5];
        far.read_exact(&mut frame).await.unwrap();
        assert_eq!(&frame, b"\x82\x03out");
        far.write_all(&masked(0x88, &[])).await.unwrap();
        assert_eq!(inner.read(&mut read).await.unwrap(), 0);
    }
}
