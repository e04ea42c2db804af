//! The client against servers that behave, and servers that do not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod access;
mod election;
mod events;
mod front;
mod http;
mod in_process;
mod memory;
mod tls;
mod watch;
