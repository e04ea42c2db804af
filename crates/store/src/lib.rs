//! A revisioned key-value store of bytes, with an embedded engine.
