//! A whole cluster inside a test: temporary directory, port 0, a clock to turn.
