//! Schedules in cron's form: five fields with lists, ranges, steps and names; macros such as `@daily`; `@every 1h30m`.
//! Validation reads them and the controller of CronJobs asks when they are due, so both mean the same by them. What is
//! wrong with one is told in upstream's words. Pure.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};

use crate::duration;

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// A schedule that is not due within so many years never is (as 30 February).
const HORIZON: i64 = 5;
const NANOSECONDS: i64 = 1_000_000_000;

/// When something is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    Fields(Fields),
    /// So long after the last time, in whole seconds.
    Every(SignedDuration),
}

/// One bit for each value that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// A day is due when both its fields say so if one of them is `*`, else when either does.
    any_day: bool,
}

impl Schedule {
    /// Reads a schedule, or tells what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("empty spec string".into());
        }
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
        let (minutes, _) = field(minute, 0, 59, &[])?;
        let (hours, _) = field(hour, 0, 23, &[])?;
        let (days, day_star) = field(day, 1, 31, &[])?;
        let (months, _) = field(month, 1, 12, &MONTHS)?;
        let (weekdays, weekday_star) = field(weekday, 0, 6, &WEEKDAYS)?;
        Ok(Self::Fields(Fields {
            minutes,
            hours,
            days,
            months,
            weekdays,
            any_day: day_star || weekday_star,
        }))
    }

    /// The first time after `after` that is due; none if there never is one.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(length) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(*length).ok()
            }
            Self::Fields(fields) => fields.next(after, zone),
        }
    }

    /// The last time in `(after, until]` that was due, and how many there were (counted up to `most` and one more).
    pub fn last(&self, after: Timestamp, until: Timestamp, zone: &TimeZone, most: usize) -> Option<(Timestamp, usize)> {
        let mut last = self.next(after, zone).filter(|t| *t <= until)?;
        let mut count = 1;
        while let Some(next) = self.next(last, zone).filter(|t| *t <= until) {
            count += 1;
            last = next;
            if count > most {
                return Some((self.latest(last, until, zone), count));
            }
        }
        Some((last, count))
    }

    /// The last time up to `until`, knowing that `known` was one: looks back in steps that double.
    fn latest(&self, known: Timestamp, until: Timestamp, zone: &TimeZone) -> Timestamp {
        if let Self::Every(length) = self {
            let times = until.duration_since(known).as_secs() / length.as_secs().max(1);
            let ahead = SignedDuration::from_secs(times.saturating_mul(length.as_secs()));
            return known.checked_add(ahead).unwrap_or(known);
        }
        let mut back = 60;
        loop {
            let from = until
                .checked_sub(SignedDuration::from_secs(back))
                .map_or(known, |t| t.max(known));
            let mut found = self.next(from, zone).filter(|t| *t <= until);
            while let Some(next) = found.and_then(|t| self.next(t, zone)).filter(|t| *t <= until) {
                found = Some(next);
            }
            if let Some(found) = found {
                return found;
            }
            if from == known {
                return known;
            }
            back *= 2;
        }
    }
}

impl Fields {
    fn day_is_due(&self, at: &Zoned) -> bool {
        let has = |set: u64, value: i8| u32::try_from(value).is_ok_and(|v| set & (1 << v) != 0);
        let day = has(self.days, at.day());
        let weekday = has(self.weekdays, at.weekday().to_sunday_zero_offset());
        if self.any_day { day && weekday } else { day || weekday }
    }

    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let has = |set: u64, value: i8| u32::try_from(value).is_ok_and(|v| set & (1 << v) != 0);
        let end = after.checked_add(SignedDuration::from_hours(24 * 366 * HORIZON)).ok()?;
        let minute = after.as_second().div_euclid(60).checked_add(1)?.checked_mul(60)?;
        let mut at = Timestamp::from_second(minute).ok()?.to_zoned(zone.clone());
        while at.timestamp() <= end {
            if !has(self.months, at.month()) {
                let next = at.date().first_of_month().checked_add(1.month()).ok()?;
                at = next.to_zoned(zone.clone()).ok()?.start_of_day().ok()?;
            } else if !self.day_is_due(&at) {
                let next = at.date().tomorrow().ok()?;
                at = next.to_zoned(zone.clone()).ok()?.start_of_day().ok()?;
            } else if !has(self.hours, at.hour()) {
                // In elapsed minutes, so that hours that a change of the clocks skips or repeats are what they are.
                at = at.checked_add((60 - i64::from(at.minute())).minutes()).ok()?;
            } else if !has(self.minutes, at.minute()) {
                at = at.checked_add(1.minute()).ok()?;
            } else {
                return Some(at.timestamp());
            }
        }
        None
    }
}

fn descriptor(text: &str, name: &str) -> Result<Schedule, String> {
    match name {
        "yearly" | "annually" => Schedule::parse("0 0 1 1 *"),
        "monthly" => Schedule::parse("0 0 1 * *"),
        "weekly" => Schedule::parse("0 0 * * 0"),
        "daily" | "midnight" => Schedule::parse("0 0 * * *"),
        "hourly" => Schedule::parse("0 * * * *"),
        _ => {
            let Some(every) = name.strip_prefix("every ") else {
                return Err(format!("unrecognized descriptor: {text}"));
            };
            match duration::parse(every) {
                // There are no finer steps than seconds, and there is no standing still.
                Some(nanoseconds) => Ok(Schedule::Every(SignedDuration::from_secs(
                    (nanoseconds / NANOSECONDS).max(1),
                ))),
                None => Err(format!(
                    "failed to parse duration {text}: time: invalid duration {every:?}"
                )),
            }
        }
    }
}

/// One field: a list of `*`, values and ranges, each with a step or without. Whether it has a plain `*`.
fn field(text: &str, low: u32, high: u32, names: &[&str]) -> Result<(u64, bool), String> {
    let (mut bits, mut star) = (0, false);
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (set, is_star) = range(part, low, high, names)?;
        bits |= set;
        star |= is_star;
    }
    Ok((bits, star))
}

fn range(part: &str, low: u32, high: u32, names: &[&str]) -> Result<(u64, bool), String> {
    let value = |text: &str| -> Result<u32, String> {
        let named = names.iter().position(|n| n.eq_ignore_ascii_case(text));
        match named.and_then(|at| u32::try_from(at).ok()) {
            Some(at) => Ok(at + low),
            None => number(text),
        }
    };
    let pieces: Vec<&str> = part.split('/').collect();
    let ends: Vec<&str> = pieces[0].split('-').collect();
    let is_star = matches!(ends[0], "*" | "?");
    let (start, mut end) = match ends[..] {
        _ if is_star => (low, high),
        [one] => (value(one)?, value(one)?),
        [start, end] => (value(start)?, value(end)?),
        _ => return Err(format!("too many hyphens: {part}")),
    };
    let step = match pieces[..] {
        [_] => 1,
        [_, step] => {
            // A single number with a step goes on to the end.
            if ends.len() == 1 {
                end = high;
            }
            number(step)?
        }
        _ => return Err(format!("too many slashes: {part}")),
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
    if step == 0 {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    let set = (start..=end).step_by(step as usize).fold(0, |set, bit| set | 1 << bit);
    Ok((set, is_star && step == 1))
}

fn number(text: &str) -> Result<u32, String> {
    match text.parse::<i64>() {
        Ok(n) if n < 0 => Err(format!("negative number ({n}) not allowed: {text}")),
        // What is too large for 32 bits is so for every field.
        Ok(n) => Ok(u32::try_from(n).unwrap_or(u32::MAX)),
        Err(_) => Err(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(schedule: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::parse(schedule).unwrap();
        let zone = TimeZone::get(zone).unwrap();
        let mut at: Timestamp = after.parse().unwrap();
        let mut all = Vec::new();
        for _ in 0..count {
            at = schedule.next(at, &zone).unwrap();
            all.push(at.to_string());
        }
        all
    }

    #[test]
    fn every_form_of_a_field_is_read() {
        let from = "2026-01-01T00:00:00Z"; // a Thursday
        for (schedule, next) in [
            ("* * * * *", "2026-01-01T00:01:00Z"),
            ("*/15 * * * *", "2026-01-01T00:15:00Z"),
            ("5/20 * * * *", "2026-01-01T00:05:00Z"),
            ("0 3-5,22 * * *", "2026-01-01T03:00:00Z"),
            ("30 8 * * MON-fri", "2026-01-01T08:30:00Z"),
            ("0 0 ? feb sun", "2026-02-01T00:00:00Z"),
            ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
            ("@yearly", "2027-01-01T00:00:00Z"),
            ("@monthly", "2026-02-01T00:00:00Z"),
            ("@weekly", "2026-01-04T00:00:00Z"),
            ("@midnight", "2026-01-02T00:00:00Z"),
            ("@hourly", "2026-01-01T01:00:00Z"),
            ("@every 1h30m", "2026-01-01T01:30:00Z"),
            ("@every 1.5m", "2026-01-01T00:01:30Z"),
            ("@every 0s", "2026-01-01T00:00:01Z"),
        ] {
            assert_eq!(times(schedule, "UTC", from, 1), [next], "{schedule}");
        }
    }

    #[test]
    fn a_day_is_due_when_either_day_field_says_so_unless_one_is_a_star() {
        // The 13th, or any Friday.
        let both = times("0 0 13 * 5", "UTC", "2026-01-01T00:00:00Z", 3);
        assert_eq!(
            both,
            ["2026-01-02T00:00:00Z", "2026-01-09T00:00:00Z", "2026-01-13T00:00:00Z"]
        );
        assert_eq!(
            times("0 0 * * 5", "UTC", "2026-01-03T00:00:00Z", 1),
            ["2026-01-09T00:00:00Z"]
        );
    }

    #[test]
    fn the_schedule_is_read_in_the_time_zone_with_its_changes_of_the_clocks() {
        assert_eq!(
            times("0 9 * * *", "Asia/Tokyo", "2026-01-01T00:00:00Z", 1),
            ["2026-01-02T00:00:00Z"]
        );
        // 02:30 does not exist on 29 March in Berlin.
        let spring = times("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 2);
        assert_eq!(spring, ["2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"]);
        // Every hour goes on every hour when the clocks go back.
        let autumn = times("0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", 3);
        assert_eq!(
            autumn,
            ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"]
        );
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
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            (
                "-1 * * * *",
                "failed to parse int from : strconv.Atoi: parsing \"\": invalid syntax",
            ),
            (
                "x * * * *",
                "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            ("@never", "unrecognized descriptor: @never"),
            (
                "@every day",
                "failed to parse duration @every day: time: invalid duration \"day\"",
            ),
        ] {
            assert_eq!(Schedule::parse(schedule), Err(fault.to_owned()));
        }
    }

    #[test]
    fn a_time_that_comes_twice_is_due_twice() {
        let twice = times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 3);
        assert_eq!(
            twice,
            ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"]
        );
    }

    #[test]
    fn what_is_not_a_schedule_is_refused() {
        for text in [
            "",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "* * * * 7",
            "5-1 * * * *",
            "*/0 * * * *",
            "a * * * *",
            "@often",
            "TZ=UTC * * * * *",
        ] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_day_that_never_comes_is_never_due() {
        let never = Schedule::parse("0 0 30 2 *").unwrap();
        assert_eq!(
            never.next("2026-01-01T00:00:00Z".parse().unwrap(), &TimeZone::UTC),
            None
        );
    }

    #[test]
    fn the_last_time_of_a_long_absence_is_found_without_walking_through_all() {
        let (after, until) = (
            "2020-01-01T00:00:30Z".parse().unwrap(),
            "2026-01-01T00:00:30Z".parse().unwrap(),
        );
        for (schedule, last) in [
            ("* * * * *", "2026-01-01T00:00:00Z"),
            ("*/7 3 * * *", "2025-12-31T03:56:00Z"),
            ("@every 1m", "2026-01-01T00:00:30Z"),
        ] {
            let schedule = Schedule::parse(schedule).unwrap();
            let (at, count) = schedule.last(after, until, &TimeZone::UTC, 100).unwrap();
            assert_eq!((at.to_string().as_str(), count), (last, 101));
        }
    }
}
