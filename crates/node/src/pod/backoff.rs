//! Exponential back-off, as upstream's restarts and image pulls have it: 10 s doubling to 5 min (or to less, as the node is
//! set up), forgotten after ten minutes without a failure. Pure.

use coracle_clock::Timestamp;
use jiff::SignedDuration;

const FIRST: SignedDuration = SignedDuration::from_secs(10);
pub(crate) const LONGEST: SignedDuration = SignedDuration::from_secs(300);
const FORGOTTEN: SignedDuration = SignedDuration::from_secs(600);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    entry: Option<(SignedDuration, Timestamp)>,
}

impl Backoff {
    /// The delay that applies to a failure at `since`.
    pub(crate) fn delay(&self, since: Timestamp) -> Option<SignedDuration> {
        let (delay, updated) = self.entry?;
        (since.duration_since(updated) <= FORGOTTEN).then_some(delay)
    }

    /// When the next attempt after a failure at `since` may start; `None` is at once.
    pub(crate) fn ready_at(&self, since: Timestamp) -> Option<Timestamp> {
        since.checked_add(self.delay(since)?).ok()
    }

    /// An attempt starts now, after a failure at `since`.
    pub(crate) fn next(&mut self, since: Timestamp, now: Timestamp, longest: SignedDuration) {
        let delay = self.delay(since).map_or(FIRST, |delay| delay * 2);
        self.entry = Some((delay.min(longest), now));
    }
}

/// A delay as Go prints it: `10s`, `1m20s`, `5m0s`.
pub(crate) fn shown(delay: SignedDuration) -> String {
    let seconds = delay.as_secs();
    match seconds / 60 {
        0 => format!("{seconds}s"),
        minutes => format!("{minutes}m{}s", seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_to_five_minutes_and_is_forgotten_after_ten() {
        let mut now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut backoff = Backoff::default();
        assert_eq!(backoff.ready_at(now), None, "the first restart is at once");
        for expected in [10, 20, 40, 80, 160, 300, 300] {
            backoff.next(now, now, LONGEST);
            now += SignedDuration::from_secs(1);
            assert_eq!(backoff.ready_at(now), Some(now + SignedDuration::from_secs(expected)));
            now += SignedDuration::from_secs(expected);
        }
        let later = now + SignedDuration::from_secs(601);
        assert_eq!(backoff.ready_at(later), None);
        backoff.next(later, later, LONGEST);
        assert_eq!(backoff.delay(later), Some(FIRST));
    }

    #[test]
    fn a_node_may_have_a_shorter_longest_delay_which_is_forgotten_no_sooner() {
        for (longest, delays) in [(60, [10, 20, 40, 60, 60]), (10, [10; 5]), (1, [1; 5])] {
            let mut now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
            let mut backoff = Backoff::default();
            for expected in delays {
                backoff.next(now, now, SignedDuration::from_secs(longest));
                now += SignedDuration::from_secs(300);
                assert_eq!(
                    backoff.delay(now),
                    Some(SignedDuration::from_secs(expected)),
                    "{longest}"
                );
            }
        }
    }

    #[test]
    fn delays_print_as_in_go() {
        for (seconds, text) in [(10, "10s"), (80, "1m20s"), (300, "5m0s")] {
            assert_eq!(shown(SignedDuration::from_secs(seconds)), text);
        }
    }
}
