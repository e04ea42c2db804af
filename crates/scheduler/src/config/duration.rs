//! How long something takes, as such files tell it.

use std::time::Duration;

use coracle_api::configuration::{ConfigError, Field};

/// As `15s`, `1m30s` or `100ms`.
pub fn duration(field: &Field<'_>) -> Result<Duration, ConfigError> {
    let text = field.text()?;
    parse(text).ok_or_else(|| field.error(format!("{text:?} is no duration; write for example 15s or 1m30s")))
}

fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut millis = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..];
        let length = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        millis += number
            * match &unit[..length] {
                "ms" => 1.0,
                "s" => 1e3,
                "m" => 60e3,
                "h" => 3600e3,
                _ => return None,
            };
        rest = &unit[length..];
    }
    (!text.is_empty()).then(|| Duration::from_millis(millis as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_go() {
        for (text, millis) in [
            ("15s", Some(15_000)),
            ("1m30s", Some(90_000)),
            ("1.5s", Some(1500)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("5", None),
            ("-5s", None),
            ("", None),
        ] {
            assert_eq!(parse(text).map(|d| d.as_millis()), millis, "{text}");
        }
    }
}
