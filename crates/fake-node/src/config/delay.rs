//! How long something takes: `500ms`, or from the seed between two such: `1s..5s`.

use std::time::Duration;

use coracle_api::duration;

use crate::draw::Draw;

/// From the first to the second, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    least: u64,
    most: u64,
}

/// Longer than any cluster lives: a hundred years.
const LONGEST: u64 = 100 * 365 * 24 * 3600 * 1000;

impl Delay {
    pub const ZERO: Self = Self { least: 0, most: 0 };

    pub fn exactly(delay: Duration) -> Self {
        let ms = u64::try_from(delay.as_millis()).unwrap_or(LONGEST).min(LONGEST);
        Self { least: ms, most: ms }
    }

    pub const fn between_ms(least: u64, most: u64) -> Self {
        Self { least, most }
    }

    /// In milliseconds, by the pod's chances.
    pub(crate) fn draw(self, draw: Draw, question: &str, attempt: u32) -> i64 {
        let width = self.most.saturating_sub(self.least);
        let extra = if width == 0 {
            0
        } else {
            (draw.fraction(question, attempt) * (width + 1) as f64) as u64
        };
        i64::try_from(self.least + extra.min(width)).unwrap_or(i64::MAX)
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (least, most) = text.split_once("..").unwrap_or((text, text));
        let (least, most) = (milliseconds(least)?, milliseconds(most)?);
        if most < least {
            return Err(format!("the range {text:?} ends before it begins"));
        }
        Ok(Self { least, most })
    }
}

fn milliseconds(text: &str) -> Result<u64, String> {
    let duration = duration::parse_length(text.trim())
        .ok_or_else(|| format!("{text:?} is no duration; write 250ms, 10s, 5m or 1h30m"))?;
    let milliseconds = u64::try_from(duration.as_millis()).ok();
    milliseconds
        .filter(|ms| *ms <= LONGEST)
        .ok_or_else(|| format!("{text:?} is longer than a hundred years"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_one_duration_or_two() {
        for (text, expected) in [
            ("0", (0, 0)),
            ("250ms", (250, 250)),
            ("1.5s", (1500, 1500)),
            ("1h30m", (5_400_000, 5_400_000)),
            ("1s..5s", (1000, 5000)),
        ] {
            let (least, most) = expected;
            assert_eq!(Delay::parse(text), Ok(Delay { least, most }), "{text}");
        }
        for text in [
            "",
            "5",
            "five",
            "5 s",
            "5s..",
            "5s..1s",
            "-1s",
            "1e9s",
            "99999999999h",
            "1.2.3s",
        ] {
            assert!(Delay::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_is_drawn_from_evenly_and_never_left() {
        let delay = Delay::between_ms(10, 20);
        let drawn: Vec<i64> = (0..1000).map(|n| delay.draw(Draw::of_pod(1, 1, n), "x", 0)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&10), Some(&20)));
        let mean = drawn.iter().sum::<i64>() as f64 / 1000.0;
        assert!((14.0..16.0).contains(&mean), "{mean}");
    }
}
