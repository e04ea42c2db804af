//! Strings that stand for something else: times, bytes, durations. Read as upstream reads them, written in its form.

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

/// Nanoseconds of a Go duration: `1h2m3.5s`, `-300ms`, `0`.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
        let (digits, after) = rest.split_at(number);
        let unit = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || whole.len() > 18 {
            return None;
        }
        total += whole.parse::<i128>().unwrap_or(0) * scale;
        let mut part = scale;
        for digit in fraction.bytes().take(18) {
            part /= 10;
            total += i128::from(digit - b'0') * part;
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// A duration as Go prints it: `1h2m3.5s`.
pub(crate) fn format_duration(nanoseconds: i64) -> String {
    let negative = if nanoseconds < 0 { "-" } else { "" };
    let all = nanoseconds.unsigned_abs();
    let trimmed = |whole: u64, fraction: u64, width: usize| {
        let fraction = format!("{fraction:0width$}");
        match fraction.trim_end_matches('0') {
            "" => whole.to_string(),
            fraction => format!("{whole}.{fraction}"),
        }
    };
    match all {
        0 => "0s".into(),
        1..1_000 => format!("{negative}{all}ns"),
        1_000..1_000_000 => format!("{negative}{}µs", trimmed(all / 1_000, all % 1_000, 3)),
        1_000_000..1_000_000_000 => format!("{negative}{}ms", trimmed(all / 1_000_000, all % 1_000_000, 6)),
        _ => {
            let seconds = all / 1_000_000_000;
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let rest = trimmed(seconds % 60, all % 1_000_000_000, 9);
            match (hours, minutes) {
                (0, 0) => format!("{negative}{rest}s"),
                (0, _) => format!("{negative}{minutes}m{rest}s"),
                _ => format!("{negative}{hours}h{minutes}m{rest}s"),
            }
        }
    }
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
    fn durations_go_there_and_back() {
        for (text, nanoseconds) in [
            ("1h2m3.5s", 3_723_500_000_000),
            ("30s", 30_000_000_000),
            ("-300ms", -300_000_000),
            ("0s", 0),
            ("1.5µs", 1_500),
        ] {
            assert_eq!(parse_duration(text), Some(nanoseconds), "{text}");
            assert_eq!(format_duration(nanoseconds), text);
        }
        for wrong in ["", "1", "s", "1x", "-", "1..5s"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn bytes_may_have_line_breaks() {
        assert_eq!(decode_bytes("aGVs\nbG8=").unwrap(), b"hello");
        assert_eq!(decode_bytes("a?==").unwrap_err(), "illegal base64 data at input byte 1");
    }
}
