//! How much of a resource a container uses: `250m`, a share of what it requests (`60%`), or from the seed between two such:
//! `100m..300m`.

use coracle_api::quantity::Quantity;

use crate::draw::Draw;

/// From the first to the second, in the resource's base unit or as fractions of the request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Amount {
    least: f64,
    most: f64,
    of_request: bool,
}

impl Amount {
    pub const ZERO: Self = Self {
        least: 0.0,
        most: 0.0,
        of_request: false,
    };

    /// What it comes to for a container that requests so much, by its chances.
    pub(crate) fn draw(self, draw: Draw, question: &str, request: f64) -> f64 {
        let width = (self.most - self.least).max(0.0);
        let drawn = self.least + width * draw.fraction(question, 0);
        if self.of_request { drawn * request } else { drawn }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (least, most) = text.split_once("..").unwrap_or((text, text));
        let ((least, of_request), (most, other)) = (one(least)?, one(most)?);
        if of_request != other {
            return Err(format!("the range {text:?} has a share of the request at one end only"));
        }
        if most < least {
            return Err(format!("the range {text:?} ends before it begins"));
        }
        Ok(Self {
            least,
            most,
            of_request,
        })
    }

    /// One that is no share of a request.
    pub(crate) fn parse_absolute(text: &str) -> Result<Self, String> {
        match Self::parse(text)? {
            share if share.of_request => Err(format!(
                "{text:?} is a share of a request; several containers together have none: write a quantity"
            )),
            absolute => Ok(absolute),
        }
    }
}

/// The number, and whether it is a fraction of the request.
fn one(text: &str) -> Result<(f64, bool), String> {
    let text = text.trim();
    let wrong =
        || format!("{text:?} is no amount; write a quantity such as 250m or 64Mi, or a share of the request: 60%");
    let (amount, of_request) = match text.strip_suffix('%') {
        Some(percent) => (percent.parse::<f64>().map_err(|_| wrong())? / 100.0, true),
        None => (text.parse::<Quantity>().map_err(|_| wrong())?.as_f64(), false),
    };
    match amount.is_finite() && amount >= 0.0 {
        true => Ok((amount, of_request)),
        false => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_quantities_or_shares_of_the_request() {
        let draws = || (0..100).map(|n| Draw::of_pod(1, 1, n));
        for (text, least, most) in [
            ("0", 0.0, 0.0),
            ("250m", 0.25, 0.25),
            ("64Mi", 67_108_864.0, 67_108_864.0),
            ("60%", 1.2, 1.2),
            ("1..3", 1.0, 3.0),
            ("50%..150%", 1.0, 3.0),
        ] {
            let amount = Amount::parse(text).unwrap();
            let drawn: Vec<f64> = draws().map(|d| amount.draw(d, "cpu", 2.0)).collect();
            assert!(drawn.iter().all(|d| (least..=most).contains(d)), "{text}: {drawn:?}");
            assert!(drawn.iter().any(|d| *d <= least + (most - least) * 0.1), "{text}");
        }
        for text in [
            "", "%", "-1", "-5%", "NaN%", "inf%", "1..", "3..1", "1..50%", "a lot", "1 2",
        ] {
            assert!(Amount::parse(text).is_err(), "{text}");
        }
        assert!(Amount::parse_absolute("1..2").is_ok());
        assert!(Amount::parse_absolute("50%").unwrap_err().contains("write a quantity"));
    }
}
