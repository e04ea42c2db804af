//! What the fuzzers of `fuzz/` call in the client: kubeconfig files and what servers answer. Compiled for tests and for the
//! fuzzers only. Each takes any bytes and must not panic.

use coracle_api::service::{ListOptions, Operation, Request};

use crate::config::Kubeconfig;
use crate::http::{watch, wire};

/// A kubeconfig file and, where it names no other files, the configuration that it gives.
pub fn kubeconfig(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(parsed) = Kubeconfig::parse(text) else { return };
    if ["authority:", "certificate:", "key:", "tokenFile"]
        .iter()
        .any(|file| text.contains(file))
    {
        return;
    }
    let _ = parsed.config(None);
    for context in parsed.contexts() {
        let _ = parsed.config(Some(context));
    }
}

/// What a server answers: an object, a list, an error, a line of a watch.
pub fn answer(bytes: &[u8]) {
    let Ok(answer) = http::Response::builder().body(()) else {
        return;
    };
    let (parts, ()) = answer.into_parts();
    for operation in [
        Operation::List(ListOptions::default()),
        Operation::Get {
            resource_version: String::new(),
        },
    ] {
        let request = Request {
            target: Default::default(),
            operation,
        };
        let _ = wire::decode(&request, &parts, bytes);
    }
    wire::failure(http::StatusCode::CONFLICT, bytes);
    let _ = watch::decode(bytes);
    if let Ok(value) = http::HeaderValue::from_bytes(bytes) {
        wire::warnings(&http::HeaderMap::from_iter([(http::header::WARNING, value)]));
    }
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay::replay;
    use super::*;

    #[test]
    fn every_input_of_the_corpora_and_what_is_near_it_holds() {
        replay("kubeconfig", kubeconfig);
        replay("answer", answer);
    }
}
