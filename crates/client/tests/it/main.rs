//! The client against servers that behave, and servers that do not.

mod election;
mod events;
mod front;
mod http;
mod in_process;
mod memory;
mod tls;
mod watch;
