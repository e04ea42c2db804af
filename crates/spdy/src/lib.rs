//! SPDY/3.1 as Kubernetes speaks it: streams with headers over one connection that has been upgraded. It knows nothing of
//! HTTP, of what the streams are for, or of containers.
//!
//! [`Session`] is one side of a connection: it takes the streams that the peer opens ([`Session::next`]) and opens its own
//! ([`Session::open`]). There is no flow control by windows: the implementations that it meets neither honour them nor send
//! updates, so it is the connection that is held up when a stream is not read.

mod dictionary;
mod frame;
mod header;
mod session;

pub use header::Headers;
pub use session::{Session, Sink, Stream};
