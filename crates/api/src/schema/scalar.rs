//! Strings that stand for something else: times and bytes. Read as upstream reads them, written in its form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

/// The Go zero time, which upstream takes for "not set".
pub(crate) const ZERO_TIME: i64 = -62_135_596_800;

/// RFC 3339 as Go's `time.Parse` takes it; the error is upstream's sentence.
pub(crate) fn parse_time(text: &str) -> Result<Timestamp, String> {
    let refused = || {
        let shown = format!("{text:?}");
        format!("parsing time {shown} as \"2006-01-02T15:04:05Z07:00\": cannot parse {shown} as \"2006\"")
    };
    let bytes = text.as_bytes();
    let form = b"0000-00-00T00:00:00";
    let fits = bytes.len() > form.len()
        && form.iter().zip(bytes).all(|(f, b)| match f {
            b'0' => b.is_ascii_digit(),
            other => other == b,
        });
    if !fits {
        return Err(refused());
    }
    let mut rest = &bytes[form.len()..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return Err(refused());
        }
        rest = &fraction[digits..];
    }
    let zone = match rest {
        b"Z" => true,
        [b'+' | b'-', a, b, b':', c, d] => [a, b, c, d].iter().all(|b| b.is_ascii_digit()),
        _ => false,
    };
    if !zone {
        return Err(refused());
    }
    text.parse().map_err(|_| format!("parsing time {text:?}: out of range"))
}

/// `2006-01-02T15:04:05Z`.
pub(crate) fn format_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2006-01-02T15:04:05.000000Z`.
pub(crate) fn format_micro_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// The bytes of a base64 text, line breaks allowed; the error is upstream's sentence.
pub(crate) fn decode_bytes(text: &str) -> Result<Vec<u8>, String> {
    let decoded = match text.contains(['\n', '\r']) {
        true => STANDARD.decode(text.replace(['\n', '\r'], "")),
        false => STANDARD.decode(text),
    };
    decoded.map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
            _ => text.len() / 4 * 4,
        };
        format!("illegal base64 data at input byte {at}")
    })
}

pub(crate) fn encode_bytes(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_any_zone_and_written_in_utc() {
        let time = parse_time("2024-02-29T12:00:00.123456789+02:00").unwrap();
        assert_eq!(format_time(time), "2024-02-29T10:00:00Z");
        assert_eq!(format_micro_time(time), "2024-02-29T10:00:00.123456Z");
        for wrong in [
            "",
            "now",
            "2024-02-29",
            "2024-02-29 12:00:00Z",
            "2024-02-29T12:00:00",
            "2023-02-29T12:00:00Z",
        ] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_time("0001-01-01T00:00:00Z").unwrap().as_second(), ZERO_TIME);
    }

    #[test]
    fn bytes_may_have_line_breaks() {
        assert_eq!(decode_bytes("aGVs\nbG8=").unwrap(), b"hello");
        assert_eq!(decode_bytes("a?==").unwrap_err(), "illegal base64 data at input byte 1");
    }
}
