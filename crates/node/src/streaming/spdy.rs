//! SPDY/3.1 as Kubernetes clients speak it: streams with headers over one connection, for exec, attach and port-forward of
//! kubectl before 1.31, and for port-forward of all versions (inside a WebSocket in newer ones).
//!
//! [`Session`] is the server's side. There is no flow control by windows: the clients' implementation neither honours
//! them nor sends updates, so it is the connection that is held up when a stream is not read.

mod dictionary;
mod frame;
mod header;
mod session;

pub(super) use header::Headers;
pub(super) use session::{Session, Sink, Stream};
