//! What the fuzzers of `fuzz/` call in the node's agent: the frames of both wires. Compiled for tests and for the fuzzers
//! only. Each takes any bytes, must not panic and must come to an end.

use std::time::Duration;

use coracle_spdy as spdy;
use futures::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::channels::Sizes;
use super::websocket;

/// More than any input is.
const ROOM: usize = 1 << 20;
const LONG: Duration = Duration::from_secs(20);

/// Serves a client that sends these bytes and hangs up.
fn serve<F: Future<Output = ()>>(bytes: &[u8], server: impl FnOnce(DuplexStream) -> F) {
    // Time passes only where nothing else happens any more.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        let (near, mut far) = tokio::io::duplex(ROOM);
        let client = async move {
            let _ = far.write_all(bytes).await;
            let _ = far.shutdown().await;
            let mut answers = Vec::new();
            let _ = far.read_to_end(&mut answers).await;
        };
        let both = async { tokio::join!(client, server(near)) };
        assert!(tokio::time::timeout(LONG, both).await.is_ok(), "it comes to no end");
    });
}

/// A SPDY connection: its frames, header blocks and streams.
pub fn spdy_session(bytes: &[u8]) {
    serve(bytes, async |near| {
        let Ok(mut session) = spdy::Session::start(near) else {
            return;
        };
        while let Some(mut stream) = session.next().await {
            let name = stream.headers.get("streamtype").map(str::to_owned);
            tokio::spawn(async move {
                while let Some(bytes) = stream.received.recv().await {
                    let _ = stream.sink.write(&bytes).await;
                }
                name
            });
        }
    });
}

/// The frames of a WebSocket, and terminal sizes out of its messages.
pub fn websocket_frames(bytes: &[u8]) {
    serve(bytes, async |near| {
        let (mut receiver, sender) = websocket::open(Box::new(near));
        let mut sizes = Sizes::default();
        while let Ok(Some(piece)) = receiver.next().await {
            sizes.feed(&piece.bytes);
        }
        let _ = sender.shutdown().now_or_never();
    });
}

#[cfg(test)]
#[path = "../../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay::replay;
    use super::*;

    #[test]
    fn every_input_of_the_corpora_and_what_is_near_it_holds() {
        replay("spdy_session", spdy_session);
        replay("websocket_frames", websocket_frames);
    }
}
