//! The agent's side of the conversation with a shim.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_clock::Clock;
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::shim::protocol::{ErrorKind, Reply, Request, SOCKET, decode, encode};
use crate::shim::wire;

/// A shim that does not answer for so long is not going to.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// Speaks to the shim of one sandbox, a connection per request.
#[derive(Clone, Debug)]
pub struct ShimClient {
    directory: PathBuf,
    clock: Clock,
}

impl ShimClient {
    pub(super) fn new(directory: &Path, clock: Clock) -> Self {
        Self {
            directory: directory.to_owned(),
            clock,
        }
    }

    pub(super) fn connect(&self) -> Result<Connection> {
        let connect = || -> io::Result<UnixStream> {
            // The whole path may be longer than a socket's address; one by a descriptor never is.
            let directory = File::open(&self.directory)?;
            let address = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
            let stream = std::os::unix::net::UnixStream::connect(address)?;
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        };
        let stream = connect().map_err(|error| unreachable("it cannot be connected to", error))?;
        Ok(Connection {
            stream,
            buffer: Vec::new(),
            descriptors: VecDeque::new(),
        })
    }

    /// One request and its answer; an error of the shim's becomes one of ours.
    pub(super) async fn call(&self, request: &Request) -> Result<Reply> {
        self.open(request, &[]).await.map(|(reply, _)| reply)
    }

    /// As `call`, keeping the connection for what follows.
    pub(super) async fn open(&self, request: &Request, descriptors: &[&OwnedFd]) -> Result<(Reply, Connection)> {
        let exchange = async {
            let mut connection = self.connect()?;
            connection.send(request, descriptors).await?;
            match connection.receive().await? {
                Some(Reply::Error { kind, message }) => Err(explain(kind, message)),
                Some(reply) => Ok((reply, connection)),
                None => Err(Error::Shim {
                    reason: "it ended".to_owned(),
                    source: None,
                }),
            }
        };
        match self.clock.timeout(ANSWER_LIMIT, exchange).await {
            Ok(result) => result,
            Err(_) => Err(Error::Shim {
                reason: format!("no answer within {ANSWER_LIMIT:?}"),
                source: None,
            }),
        }
    }

    pub(crate) async fn resize(&self, container: &ContainerId, columns: u16, rows: u16) -> Result<()> {
        self.call(&Request::Resize {
            container: container.to_string(),
            columns,
            rows,
        })
        .await
        .map(|_| ())
    }
}

pub(super) struct Connection {
    stream: UnixStream,
    buffer: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Connection {
    pub(super) async fn send(&mut self, request: &Request, descriptors: &[&OwnedFd]) -> Result<()> {
        let failed = |error| unreachable("a request cannot be sent", error);
        let frame = encode(request).map_err(failed)?;
        let (first, mut rest) = frame.split_at(frame.len().min(64 << 10));
        let send = || wire::send(&self.stream, first, descriptors);
        self.stream.async_io(Interest::WRITABLE, send).await.map_err(failed)?;
        while !rest.is_empty() {
            let (part, more) = rest.split_at(rest.len().min(64 << 10));
            let send = || wire::send(&self.stream, part, &[]);
            self.stream.async_io(Interest::WRITABLE, send).await.map_err(failed)?;
            rest = more;
        }
        Ok(())
    }

    /// The next message; `None` when the shim has closed.
    pub(super) async fn receive(&mut self) -> Result<Option<Reply>> {
        let failed = |error| unreachable("its answer cannot be read", error);
        loop {
            if let Some(reply) = decode(&mut self.buffer).map_err(failed)? {
                return Ok(Some(reply));
            }
            let Self {
                stream,
                buffer,
                descriptors,
            } = self;
            let receive =
                || wire::receive(&*stream, buffer, descriptors)?.ok_or_else(|| io::ErrorKind::WouldBlock.into());
            match stream.async_io(Interest::READABLE, receive).await {
                Ok(0) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                result => result.map_err(failed)?,
            };
        }
    }

    pub(super) fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }
}

fn unreachable(reason: &str, source: io::Error) -> Error {
    Error::Shim {
        reason: reason.to_owned(),
        source: Some(source),
    }
}

fn explain(kind: ErrorKind, message: String) -> Error {
    match kind {
        ErrorKind::CommandNotFound => Error::CommandNotFound(message),
        ErrorKind::StartFailed => Error::StartFailed(message),
        ErrorKind::NoSuchContainer => Error::NoSuchContainer(message),
        ErrorKind::NotRunning => Error::WrongContainerState {
            id: message,
            state: "not running".to_owned(),
            wanted: "running",
        },
        ErrorKind::Failed => Error::Failed(message),
    }
}
