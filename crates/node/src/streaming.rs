//! exec, attach and port-forward: streams between a client and a container, over a WebSocket or over SPDY.
//!
//! `upgrade` agrees on a protocol, `websocket` and the crate `coracle_spdy` are the two wires, `channels` makes them one thing for a
//! command's streams, `command` runs commands and attaches, `port_forward` joins connections. Everything is handed on in
//! small pieces through small queues: a side that does not read holds the other one up, and nothing piles up here.

mod channels;
mod command;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod port_forward;
mod upgrade;
mod websocket;

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use command::{attach, exec};
pub(crate) use port_forward::port_forward;

/// An upgraded connection.
trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for T {}
type Duplex = Box<dyn ReadWrite>;

/// Pieces that wait in a queue at most.
const QUEUE: usize = 4;
/// What is read at once.
const PIECE: usize = 32 << 10;
/// A client has so long to open the streams that it announced.
const OPEN_LIMIT: Duration = Duration::from_secs(30);
/// A client has so long to close a connection that is over.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
