//! Agreeing on a protocol: what a request asks to be upgraded to, and the answer.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use http::header::{SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use ring::digest;

use super::Duplex;
use crate::server::{Body, empty, plain};

const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
/// What a WebSocket's key is hashed with, by RFC 6455.
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    WebSocket,
    Spdy,
}

/// What was agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) wire: Wire,
    /// Empty when the client named none.
    pub(super) protocol: &'static str,
}

/// Finds the first of the client's protocols that is served: `web_socket` and `spdy` list what is, by wire.
pub(super) fn agree(
    headers: &HeaderMap,
    web_socket: &[&'static str],
    spdy: &[&'static str],
) -> Result<Agreed, Box<Response<Body>>> {
    let all = |name: &HeaderName| -> Vec<String> {
        let values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
        values.flat_map(|v| v.split(',')).map(|v| v.trim().to_owned()).collect()
    };
    let upgrades = all(&UPGRADE);
    let wanted = |what: &str| upgrades.iter().any(|u| u.eq_ignore_ascii_case(what));
    let (wire, offered, served) = if wanted("websocket") {
        (Wire::WebSocket, all(&SEC_WEBSOCKET_PROTOCOL), web_socket)
    } else if wanted("SPDY/3.1") {
        (Wire::Spdy, all(&STREAM_PROTOCOL), spdy)
    } else {
        let text = "you must use a WebSocket or SPDY/3.1: the request asks for neither";
        return Err(Box::new(plain(StatusCode::BAD_REQUEST, text)));
    };
    if wire == Wire::WebSocket && !headers.contains_key(SEC_WEBSOCKET_KEY) {
        return Err(Box::new(plain(StatusCode::BAD_REQUEST, "a WebSocket needs a key")));
    }
    let offered_one = offered.iter().any(|o| !o.is_empty());
    let offers: Vec<&str> = if offered_one {
        offered.iter().map(String::as_str).collect()
    } else {
        vec![""]
    };
    let common = offers.iter().find_map(|o| served.iter().find(|s| *s == o));
    match common {
        Some(protocol) => Ok(Agreed { wire, protocol }),
        None => {
            let text = format!(
                "unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts {served:?}"
            );
            let mut refusal = plain(StatusCode::FORBIDDEN, text);
            for protocol in served {
                refusal
                    .headers_mut()
                    .append(ACCEPTED, HeaderValue::from_static(protocol));
            }
            Err(Box::new(refusal))
        }
    }
}

/// The answer, and the connection once the answer is sent.
pub(super) fn accept(
    mut request: Request<Incoming>,
    agreed: &Agreed,
) -> (
    Response<Body>,
    impl Future<Output = Result<Duplex, hyper::Error>> + Send + use<>,
) {
    let upgraded = hyper::upgrade::on(&mut request);
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    let protocol = HeaderValue::from_static(agreed.protocol);
    match agreed.wire {
        Wire::WebSocket => {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            let key = request.headers().get(SEC_WEBSOCKET_KEY);
            if let Ok(value) = accept_key(key.map_or(&[], HeaderValue::as_bytes)).parse() {
                headers.insert(SEC_WEBSOCKET_ACCEPT, value);
            }
            if !agreed.protocol.is_empty() {
                headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
            }
        }
        Wire::Spdy => {
            headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
            headers.insert(STREAM_PROTOCOL, protocol);
        }
    }
    let connection = async { Ok(Box::new(TokioIo::new(upgraded.await?)) as Duplex) };
    (response, connection)
}

fn accept_key(key: &[u8]) -> String {
    // SHA-1 is what the protocol says; nothing rests on its strength.
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(ACCEPT_GUID);
    STANDARD.encode(hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_protocol_of_the_client_that_is_served_is_taken() {
        let served = ["v5.channel.k8s.io", "v4.channel.k8s.io", ""];
        let spdy = ["v4.channel.k8s.io", "v3.channel.k8s.io"];
        let case = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            agree(&headers, &served, &spdy)
                .map(|a| (a.wire, a.protocol))
                .map_err(|r| r.status().as_u16())
        };
        let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        for (pairs, expected) in [
            (
                vec![
                    ("upgrade", "websocket"),
                    key,
                    ("sec-websocket-protocol", "v9, v4.channel.k8s.io, v5.channel.k8s.io"),
                ],
                Ok((Wire::WebSocket, "v4.channel.k8s.io")),
            ),
            (vec![("upgrade", "WebSocket"), key], Ok((Wire::WebSocket, ""))),
            (vec![("upgrade", "websocket")], Err(400)),
            (
                vec![("upgrade", "websocket"), key, ("sec-websocket-protocol", "chat")],
                Err(403),
            ),
            (
                vec![
                    ("upgrade", "SPDY/3.1"),
                    ("x-stream-protocol-version", "v4.channel.k8s.io"),
                    ("x-stream-protocol-version", "v3.channel.k8s.io"),
                ],
                Ok((Wire::Spdy, "v4.channel.k8s.io")),
            ),
            (vec![("upgrade", "spdy/3.1")], Err(403)),
            (vec![("upgrade", "h2c")], Err(400)),
            (vec![], Err(400)),
        ] {
            assert_eq!(case(&pairs), expected, "{pairs:?}");
        }
    }

    #[test]
    fn the_key_is_accepted_as_the_rfc_has_it() {
        assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
