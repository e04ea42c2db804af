//! Ages as tables show them: `45s`, `3m20s`, `5h`, `2d4h`. The rules are upstream's `duration.HumanDuration`, which
//! keeps at most two units and drops the smaller one as the larger grows.

use jiff::Timestamp;
use serde_json::Value;

/// How long, in at most two units. A little (under two seconds) before now counts as now.
pub fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |whole: i64, unit: &str, rest: i64, small: &str| {
        if rest == 0 {
            format!("{whole}{unit}")
        } else {
            format!("{whole}{unit}{rest}{small}")
        }
    };
    match seconds {
        ..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(s / MINUTE, "m", s % MINUTE, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(s / HOUR, "h", s % HOUR / MINUTE, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(s / DAY, "d", s % DAY / HOUR, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(s / YEAR, "y", s % YEAR / DAY, "d"),
        s => format!("{}y", s / YEAR),
    }
}

/// How long ago an RFC 3339 time was; `<unknown>` when there is none.
pub fn since(time: Option<&Value>, now: Timestamp) -> String {
    match parse(time) {
        Some(then) => human_duration(whole_seconds(now, then)),
        None => "<unknown>".to_owned(),
    }
}

/// An RFC 3339 time, if there is one.
pub fn parse(time: Option<&Value>) -> Option<Timestamp> {
    time?.as_str()?.parse().ok()
}

/// From `earlier` to `later`, rounded towards zero.
pub fn whole_seconds(later: Timestamp, earlier: Timestamp) -> i64 {
    later.duration_since(earlier).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_kubectl_shows_them() {
        let minute = 60;
        let hour = 60 * minute;
        let day = 24 * hour;
        let year = 365 * day;
        for (seconds, shown) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (2 * minute, "2m"),
            (2 * minute + 5, "2m5s"),
            (10 * minute - 1, "9m59s"),
            (10 * minute + 59, "10m"),
            (3 * hour - 1, "179m"),
            (3 * hour, "3h"),
            (3 * hour + 5 * minute + 3, "3h5m"),
            (8 * hour + 59 * minute, "8h"),
            (2 * day - 1, "47h"),
            (2 * day, "2d"),
            (2 * day + 5 * hour, "2d5h"),
            (8 * day + 5 * hour, "8d"),
            (2 * year - 1, "729d"),
            (2 * year, "2y"),
            (2 * year + 3 * day, "2y3d"),
            (8 * year + 300 * day, "8y"),
        ] {
            assert_eq!(human_duration(seconds), shown, "{seconds}");
        }
    }

    #[test]
    fn a_time_that_is_absent_or_unreadable_is_unknown() {
        let now: Timestamp = "2024-01-01T00:00:10Z".parse().unwrap();
        assert_eq!(since(None, now), "<unknown>");
        assert_eq!(since(Some(&Value::from("soon")), now), "<unknown>");
        assert_eq!(since(Some(&Value::from("2024-01-01T00:00:00Z")), now), "10s");
    }
}
