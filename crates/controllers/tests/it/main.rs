//! Controllers on the real API, in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;
mod identities;
mod volumes;
