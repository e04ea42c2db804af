//! Parts of times and durations, in UTC or the zone that is named.

use jiff::Zoned;
use jiff::tz::{Offset, TimeZone};

use super::{Entry, Found};
use crate::cel::eval::Fault;
use crate::cel::value::Value;

const SECOND: i64 = 1_000_000_000;

pub(super) const ALL: &[Entry] = &[
    Entry {
        signatures: &["timestamp.getFullYear() int", "timestamp.getFullYear(string) int"],
        run: |_, a| part(a, |t| t.year().into()),
    },
    Entry {
        signatures: &["timestamp.getMonth() int", "timestamp.getMonth(string) int"],
        run: |_, a| part(a, |t| i64::from(t.month()) - 1),
    },
    Entry {
        signatures: &["timestamp.getDate() int", "timestamp.getDate(string) int"],
        run: |_, a| part(a, |t| t.day().into()),
    },
    Entry {
        signatures: &["timestamp.getDayOfMonth() int", "timestamp.getDayOfMonth(string) int"],
        run: |_, a| part(a, |t| i64::from(t.day()) - 1),
    },
    Entry {
        signatures: &["timestamp.getDayOfWeek() int", "timestamp.getDayOfWeek(string) int"],
        run: |_, a| part(a, |t| t.weekday().to_sunday_zero_offset().into()),
    },
    Entry {
        signatures: &["timestamp.getDayOfYear() int", "timestamp.getDayOfYear(string) int"],
        run: |_, a| part(a, |t| i64::from(t.day_of_year()) - 1),
    },
    Entry {
        signatures: &[
            "timestamp.getHours() int",
            "timestamp.getHours(string) int",
            "duration.getHours() int",
        ],
        run: |_, a| either(a, |n| n / (3600 * SECOND), |t| t.hour().into()),
    },
    Entry {
        signatures: &[
            "timestamp.getMinutes() int",
            "timestamp.getMinutes(string) int",
            "duration.getMinutes() int",
        ],
        run: |_, a| either(a, |n| n / (60 * SECOND), |t| t.minute().into()),
    },
    Entry {
        signatures: &[
            "timestamp.getSeconds() int",
            "timestamp.getSeconds(string) int",
            "duration.getSeconds() int",
        ],
        run: |_, a| either(a, |n| n / SECOND, |t| t.second().into()),
    },
    Entry {
        signatures: &[
            "timestamp.getMilliseconds() int",
            "timestamp.getMilliseconds(string) int",
            "duration.getMilliseconds() int",
        ],
        run: |_, a| either(a, |n| n / 1_000_000, |t| t.millisecond().into()),
    },
];

fn either(a: &[Value], of_span: fn(i64) -> i64, of_time: fn(&Zoned) -> i64) -> Found {
    match &a[0] {
        Value::Duration(n) => Ok(Some(Value::Int(of_span(*n)))),
        _ => part(a, of_time),
    }
}

fn part(a: &[Value], of: fn(&Zoned) -> i64) -> Found {
    let Value::Timestamp(time) = &a[0] else { return Ok(None) };
    let zone = match a.get(1) {
        None => TimeZone::UTC,
        Some(Value::String(name)) => zone(name).ok_or_else(|| Fault::of(format!("unknown time zone {name}")))?,
        Some(_) => return Ok(None),
    };
    Ok(Some(Value::Int(of(&time.to_zoned(zone)))))
}

/// `Europe/Berlin`, or an offset: `+02:00`, `-7:30`.
fn zone(name: &str) -> Option<TimeZone> {
    let Some((hours, minutes)) = name.split_once(':') else {
        return TimeZone::get(name).ok();
    };
    let negative = hours.starts_with('-');
    let hours: i32 = hours.trim_start_matches(['+', '-']).parse().ok()?;
    let minutes: i32 = minutes.parse().ok()?;
    let seconds = hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?;
    let offset = Offset::from_seconds(if negative { -seconds } else { seconds }).ok()?;
    Some(TimeZone::fixed(offset))
}
