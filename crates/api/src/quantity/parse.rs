//! The text of a quantity taken apart, and texts that are canonical already.

use std::borrow::Cow;

use super::{NANO, Quantity, QuantityError};

/// What the text consists of, before it is turned into a number.
pub(super) struct Parts<'t> {
    pub(super) negative: bool,
    /// Without leading zeros; empty for none.
    pub(super) whole: &'t str,
    pub(super) fraction: &'t str,
    pub(super) suffix: Suffix,
}

#[derive(Clone, Copy)]
pub(super) enum Suffix {
    Decimal(i32),
    Binary(u32),
    Exponent(i32),
}

pub(super) fn split(text: &str) -> Result<Parts<'_>, QuantityError> {
    if text.is_empty() {
        return Err(QuantityError::Format);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = |t: &str| t.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = unsigned.split_at(digits(unsigned));
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    let letters = rest.bytes().take_while(|b| b"eEinumkKMGTP".contains(b)).count();
    let tail = &rest[letters..];
    let tail = tail.strip_prefix(['-', '+']).unwrap_or(tail);
    if digits(tail) != tail.len() {
        return Err(QuantityError::Format);
    }
    Ok(Parts {
        negative: text.starts_with('-'),
        whole: whole.trim_start_matches('0'),
        fraction,
        suffix: suffix(rest)?,
    })
}

fn suffix(text: &str) -> Result<Suffix, QuantityError> {
    Ok(match text {
        "" => Suffix::Decimal(0),
        "n" => Suffix::Decimal(-9),
        "u" => Suffix::Decimal(-6),
        "m" => Suffix::Decimal(-3),
        "k" => Suffix::Decimal(3),
        "M" => Suffix::Decimal(6),
        "G" => Suffix::Decimal(9),
        "T" => Suffix::Decimal(12),
        "P" => Suffix::Decimal(15),
        "E" => Suffix::Decimal(18),
        "Ki" => Suffix::Binary(10),
        "Mi" => Suffix::Binary(20),
        "Gi" => Suffix::Binary(30),
        "Ti" => Suffix::Binary(40),
        "Pi" => Suffix::Binary(50),
        "Ei" => Suffix::Binary(60),
        _ => {
            let exponent = text.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
            let exponent: i64 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
            // Far beyond what any sum needs, and safe to add to.
            Suffix::Exponent(exponent.clamp(-100_000, 100_000) as i32)
        }
    })
}

/// The text as it is stored: what is already canonical (by upstream's quick look) stays as it was written.
pub fn canonicalize(text: &str) -> Result<Cow<'_, str>, QuantityError> {
    let text = text.trim();
    let parts = split(text)?;
    let digits = parts.whole.len().max(1) + parts.fraction.len();
    let ends_in_thousands = || {
        let zeros = |t: &str| t.bytes().rev().take_while(|b| *b == b'0').count();
        zeros(parts.fraction)
            + if zeros(parts.fraction) == parts.fraction.len() {
                zeros(parts.whole)
            } else {
                0
            }
            >= 3
    };
    let stays = match parts.suffix {
        Suffix::Binary(bits) => {
            let fits = parts.fraction.is_empty() && digits + (bits as usize * 3 / 10) < 15;
            fits && parts.whole.parse::<i64>().is_ok_and(|v| v & 7 != 0)
        }
        Suffix::Decimal(exponent) | Suffix::Exponent(exponent) => {
            let scale = exponent - parts.fraction.len() as i32;
            let fits = digits <= 18 && scale >= NANO;
            text == "0" || fits && scale % 3 == 0 && !ends_in_thousands() && !parts.whole.is_empty()
        }
    };
    if stays {
        return Ok(Cow::Borrowed(text));
    }
    Ok(Cow::Owned(Quantity::from_parts(&parts).to_string()))
}
