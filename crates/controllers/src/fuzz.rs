//! What the fuzzers of `fuzz/` call in the controllers. Compiled for tests and for the fuzzers only.

use coracle_clock::Timestamp;
use jiff::tz::TimeZone;

use coracle_api::kinds::cron_job::schedule::Schedule;

/// A schedule in cron's form: whatever is read is due in order, and the last time due is one of those.
pub fn cron(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(schedule) = Schedule::parse(text) else { return };
    let zone = TimeZone::get("Europe/Berlin").unwrap_or(TimeZone::UTC);
    let start = Timestamp::from_second(1_711_800_000).unwrap_or_default();
    let mut at = start;
    for _ in 0..4 {
        let Some(next) = schedule.next(at, &zone) else { return };
        assert!(next > at, "{next} comes after {at}");
        assert_eq!(schedule.last(at, next, &zone, 10), Some((next, 1)));
        at = next;
    }
    let _ = schedule.next(Timestamp::MAX, &zone);
    let _ = schedule.next(Timestamp::MIN, &zone);
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay::replay;
    use super::*;

    #[test]
    fn every_input_of_the_corpora_and_what_is_near_it_holds() {
        replay("cron", cron);
    }
}
