//! Cron schedules: five fields, or a name like `@daily`, or `@every 1h30m`. Read once, asked for the next time after any.

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp};

/// When something is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    Fields(Fields),
    /// `@every`: so many seconds after the last time.
    Every(i64),
}

/// The minutes, hours and days that match, each as a set of bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// `*` in a day field: then the other one alone decides, else either may.
    any_day: bool,
    any_weekday: bool,
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// How far ahead a day is looked for: 29 February comes at least every eight years.
const HORIZON_DAYS: usize = 366 * 8 + 1;

impl Schedule {
    /// Reads a schedule, or tells what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix('@') {
            return descriptor(text, name);
        }
        let parts: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts[..] else {
            return Err(format!(
                "expected exactly 5 fields, found {}: [{}]",
                parts.len(),
                parts.join(" ")
            ));
        };
        Ok(Self::Fields(Fields {
            minutes: field(minute, 0, 59, &[], 0)?,
            hours: field(hour, 0, 23, &[], 0)?,
            days: field(day, 1, 31, &[], 0)?,
            months: field(month, 1, 12, &MONTHS, 1)?,
            weekdays: field(weekday, 0, 6, &WEEKDAYS, 0)?,
            any_day: is_any(day),
            any_weekday: is_any(weekday),
        }))
    }

    /// The first time after `after` that matches in `zone`; none if no day ever does.
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(seconds) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(Span::new().try_seconds(*seconds).ok()?).ok()
            }
            Self::Fields(fields) => fields.next_after(after, zone),
        }
    }
}

impl Fields {
    fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let start = zone.to_datetime(after);
        let mut date = start.date();
        for _ in 0..HORIZON_DAYS {
            if self.is_day(date)
                && let Some(found) = self.on(date, start, after, zone)
            {
                return Some(found);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn is_day(&self, date: Date) -> bool {
        let has = |set: u64, bit: i8| set & (1 << bit) != 0;
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        let fits = if self.any_day || self.any_weekday {
            day && weekday
        } else {
            day || weekday
        };
        has(self.months, date.month()) && fits
    }

    /// The first match on a day. A time that the clocks skip is not due; one that comes twice is due once.
    fn on(&self, date: Date, start: DateTime, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        for hour in bits(self.hours) {
            if date == start.date() && hour < start.hour() {
                continue;
            }
            for minute in bits(self.minutes) {
                let at = date.at(hour, minute, 0, 0);
                let ambiguous = zone.to_ambiguous_timestamp(at);
                if matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. }) {
                    continue;
                }
                if let Ok(time) = ambiguous.compatible()
                    && time > after
                {
                    return Some(time);
                }
            }
        }
        None
    }
}

fn bits(set: u64) -> impl Iterator<Item = i8> {
    (0..63).filter(move |bit| set & (1 << bit) != 0)
}

fn is_any(field: &str) -> bool {
    field
        .split(',')
        .any(|part| matches!(part.split('/').next(), Some("*" | "?")))
}

fn descriptor(text: &str, name: &str) -> Result<Schedule, String> {
    match name {
        "yearly" | "annually" => Schedule::parse("0 0 1 1 *"),
        "monthly" => Schedule::parse("0 0 1 * *"),
        "weekly" => Schedule::parse("0 0 * * 0"),
        "daily" | "midnight" => Schedule::parse("0 0 * * *"),
        "hourly" => Schedule::parse("0 * * * *"),
        _ => {
            let Some(duration) = name.strip_prefix("every ") else {
                return Err(format!("unrecognized descriptor: {text}"));
            };
            match seconds(duration) {
                // A schedule has no finer steps than seconds.
                Some(seconds) => Ok(Schedule::Every(seconds.max(1))),
                None => Err(format!(
                    "failed to parse duration {text}: time: invalid duration {duration:?}"
                )),
            }
        }
    }
}

/// `1h30m`, `90s`.
fn seconds(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += match rest.get(..unit)? {
            "h" => number.checked_mul(3600)?,
            "m" => number.checked_mul(60)?,
            "s" => number,
            "ms" => number / 1000,
            _ => return None,
        };
        rest = rest.get(unit..)?;
    }
    Some(total)
}

/// One field: `*`, `1-5`, `*/10`, `mon,wed`, as a set of bits.
fn field(text: &str, low: u32, high: u32, names: &[&str], first: u32) -> Result<u64, String> {
    let mut set = 0;
    for part in text.split(',') {
        set |= range(part, low, high, names, first)?;
    }
    Ok(set)
}

fn range(part: &str, low: u32, high: u32, names: &[&str], first: u32) -> Result<u64, String> {
    let number = |text: &str| -> Result<u32, String> {
        let lower = text.to_lowercase();
        if let Some(at) = names.iter().position(|n| *n == lower) {
            return Ok(first + u32::try_from(at).unwrap_or_default());
        }
        match text.parse::<i64>() {
            Ok(n) => u32::try_from(n).map_err(|_| format!("negative number ({n}) not allowed: {text}")),
            Err(_) => Err(format!(
                "failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"
            )),
        }
    };
    let pieces: Vec<&str> = part.split('/').collect();
    let (bounds, step) = match pieces[..] {
        [bounds] => (bounds, None),
        [bounds, step] => (bounds, Some(number(step)?)),
        _ => return Err(format!("too many slashes: {part}")),
    };
    let ends: Vec<&str> = bounds.split('-').collect();
    let (start, end) = match ends[..] {
        ["*" | "?"] => (low, high),
        // A single number with a step goes on to the end.
        [one] => (number(one)?, if step.is_some() { high } else { number(one)? }),
        [start, end] => (number(start)?, number(end)?),
        _ => return Err(format!("too many hyphens: {part}")),
    };
    if start < low {
        return Err(format!("beginning of range ({start}) below minimum ({low}): {part}"));
    }
    if end > high {
        return Err(format!("end of range ({end}) above maximum ({high}): {part}"));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {part}"
        ));
    }
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    Ok((start..=end).step_by(step as usize).fold(0, |set, bit| set | 1 << bit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str, zone: &str) -> String {
        let zone = TimeZone::get(zone).unwrap();
        let found = Schedule::parse(schedule)
            .unwrap()
            .next_after(after.parse().unwrap(), &zone);
        found.map_or_else(|| "never".to_owned(), |t| t.to_string())
    }

    #[test]
    fn the_next_time_is_the_first_that_matches() {
        for (schedule, after, expected) in [
            ("*/5 * * * *", "2024-01-01T00:00:00Z", "2024-01-01T00:05:00Z"),
            ("*/5 * * * *", "2024-01-01T00:04:59Z", "2024-01-01T00:05:00Z"),
            ("0 9 * * mon-fri", "2024-01-05T09:00:00Z", "2024-01-08T09:00:00Z"),
            ("30 4 1,15 * 5", "2024-01-01T05:00:00Z", "2024-01-05T04:30:00Z"),
            ("0 0 29 2 *", "2024-03-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 31 2 *", "2024-03-01T00:00:00Z", "never"),
            ("@hourly", "2024-01-01T00:00:00Z", "2024-01-01T01:00:00Z"),
            ("@every 90s", "2024-01-01T00:00:00.5Z", "2024-01-01T00:01:30Z"),
            ("0 0 * JAN SUN", "2024-01-01T00:00:00Z", "2024-01-07T00:00:00Z"),
        ] {
            assert_eq!(next(schedule, after, "UTC"), expected, "{schedule}");
        }
    }

    #[test]
    fn clocks_that_change_neither_repeat_nor_invent_a_time() {
        // 2:30 does not exist on 31 March, and comes twice on 27 October.
        let zone = "Europe/Berlin";
        assert_eq!(next("30 2 * * *", "2024-03-30T12:00:00Z", zone), "2024-04-01T00:30:00Z");
        assert_eq!(next("30 2 * * *", "2024-10-26T12:00:00Z", zone), "2024-10-27T00:30:00Z");
        assert_eq!(next("30 2 * * *", "2024-10-27T00:30:00Z", zone), "2024-10-28T01:30:00Z");
    }

    #[test]
    fn mistakes_are_told() {
        for (schedule, fault) in [
            ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            (
                "x * * * *",
                "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            ("@never", "unrecognized descriptor: @never"),
        ] {
            assert_eq!(Schedule::parse(schedule), Err(fault.to_owned()));
        }
    }
}
