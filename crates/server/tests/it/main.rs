//! The server from outside: through HTTPS with a real client, and through the in-process way in.

mod custom;
mod harness;
mod http;
mod read;
mod rights;
mod special;
mod watch;
mod write;
