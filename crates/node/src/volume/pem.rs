//! Certificates in PEM, each by itself: without what may stand between them or before them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_parser::pem::Pem;

/// As long as a line of PEM is.
const COLUMNS: usize = 64;

/// The certificates of a text, as their bytes.
pub(super) fn certificates(text: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut found = Vec::new();
    for block in Pem::iter_from_buffer(text.as_bytes()) {
        let block = block.map_err(|e| format!("not PEM: {e}"))?;
        if block.label == "CERTIFICATE" {
            found.push(block.contents);
        }
    }
    Ok(found)
}

pub(super) fn encode<'a>(certificates: impl IntoIterator<Item = &'a Vec<u8>>) -> String {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = STANDARD.encode(certificate);
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, behind) = rest.split_at(rest.len().min(COLUMNS));
            text.push_str(line);
            text.push('\n');
            rest = behind;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_certificates_is_dropped() {
        let (a, b) = (vec![1_u8; 100], vec![2_u8; 48]);
        let text = encode([&a, &b]);
        assert_eq!(text.lines().map(str::len).max(), Some(COLUMNS));
        assert_eq!(certificates(&format!("# of mine\n{text}the end\n")), Ok(vec![a, b]));
        assert_eq!(certificates("nothing"), Ok(vec![]));
    }
}
