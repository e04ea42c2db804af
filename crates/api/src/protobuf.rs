//! The wire form of built-in kinds: a table of messages, and one transcoder between decoded JSON and protobuf.
