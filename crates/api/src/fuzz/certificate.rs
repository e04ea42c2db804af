//! PEM, and the certificates and requests in it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::x509;

pub fn certificates(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = x509::check_request(text);
    for block in x509::blocks(text) {
        let _ = (
            x509::certificate(&block.bytes),
            x509::check_request_der(&block.bytes),
            x509::requested_key(&block.bytes),
        );
        // A block that is written alone is read as it was.
        let (kind, body) = (block.kind, STANDARD.encode(&block.bytes));
        let again = format!("-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n");
        let read = x509::blocks(&again);
        assert!(
            matches!(&read[..], [one] if one.kind == kind && one.bytes == block.bytes && !one.has_headers),
            "{read:?} of {again:?}"
        );
    }
}
