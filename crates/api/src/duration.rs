//! Durations as Go writes and reads them, which is how Kubernetes does: `1h2m3.5s`.

use std::time::Duration;

/// Nanoseconds of a duration: `1h2m3.5s`, `-300ms`, `0`.
pub fn parse(text: &str) -> Option<i64> {
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

/// A length of time, which is not negative.
pub fn parse_length(text: &str) -> Option<Duration> {
    u64::try_from(parse(text)?).ok().map(Duration::from_nanos)
}

/// So many nanoseconds.
pub fn format(nanoseconds: i64) -> String {
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
    fn durations_go_there_and_back() {
        for (text, nanoseconds) in [
            ("1h2m3.5s", 3_723_500_000_000),
            ("30s", 30_000_000_000),
            ("-300ms", -300_000_000),
            ("0s", 0),
            ("1.5µs", 1_500),
        ] {
            assert_eq!(parse(text), Some(nanoseconds), "{text}");
            assert_eq!(format(nanoseconds), text);
        }
        for wrong in ["", "1", "s", "1x", "-", "1..5s"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_length_of_time_is_written_in_any_units_and_is_not_negative() {
        for (text, milliseconds) in [
            ("1m30s", Some(90_000)),
            ("1h30m", Some(5_400_000)),
            ("1.5h", Some(5_400_000)),
            ("1h0m0.5s", Some(3_600_500)),
            ("250ms", Some(250)),
            ("0", Some(0)),
            ("5", None),
            ("5 minutes", None),
            ("-5s", None),
            ("", None),
        ] {
            assert_eq!(parse_length(text).map(|d| d.as_millis()), milliseconds, "{text}");
        }
    }
}
