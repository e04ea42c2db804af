//! Quantities: `100m`, `1.5Gi`, `1e3`. Exact decimal arithmetic, canonical form as upstream's.
//!
//! A quantity is `value × 10^scale`, never finer than a nano; it remembers which family of suffixes it was written
//! with. Sums and products that leave the range saturate, so that no input can make them wrap or panic. (A file this
//! long because a third of it is tables of tests.)

mod parse;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde_json::Value;

pub use parse::canonicalize;
use parse::{Parts, Suffix};

/// Why a text is not a quantity, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// The family of suffixes a quantity is shown with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum QuantityFormat {
    /// `Ki`, `Mi`, `Gi`...
    BinarySi,
    /// `n`, `u`, `m`, none, `k`, `M`, `G`...
    #[default]
    DecimalSi,
    /// `e3`.
    DecimalExponent,
}

/// An exact amount of something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    value: i128,
    /// At least [`NANO`].
    scale: i32,
    format: QuantityFormat,
}

const NANO: i32 = -9;

/// `10^exponent`, if it is representable.
fn power(exponent: u32) -> Option<i128> {
    10i128.checked_pow(exponent)
}

/// `value × 10^scale`, but with a scale of at least `least`, rounding away from zero.
fn coarsen(value: i128, scale: i32, least: i32) -> (i128, i32) {
    if scale >= least {
        return (value, scale);
    }
    let unit = power(scale.abs_diff(least));
    let rounded = match unit {
        Some(unit) => value / unit + if value % unit == 0 { 0 } else { value.signum() },
        None => value.signum(),
    };
    (rounded, least)
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        Ok(Self::from_parts(&parse::split(text)?))
    }
}

impl Quantity {
    pub const ZERO: Self = Self {
        value: 0,
        scale: 0,
        format: QuantityFormat::DecimalSi,
    };

    pub fn new(value: i64, format: QuantityFormat) -> Self {
        Self {
            value: i128::from(value),
            scale: 0,
            format,
        }
    }

    /// `value` thousandths.
    pub fn from_milli(value: i64, format: QuantityFormat) -> Self {
        Self {
            value: i128::from(value),
            scale: -3,
            format,
        }
    }

    fn from_parts(parts: &Parts<'_>) -> Self {
        let (exponent, factor, mut format) = match parts.suffix {
            Suffix::Decimal(e) => (e, 1, QuantityFormat::DecimalSi),
            Suffix::Exponent(e) => (e, 1, QuantityFormat::DecimalExponent),
            Suffix::Binary(bits) => (0, 1i128 << bits, QuantityFormat::BinarySi),
        };
        let mut value: i128 = 0;
        let mut scale = exponent;
        let mut dropped = false;
        let fraction_at = parts.whole.len();
        for (i, digit) in parts.whole.bytes().chain(parts.fraction.bytes()).enumerate() {
            let grown = value
                .checked_mul(10)
                .and_then(|v| v.checked_add(i128::from(digit - b'0')));
            match grown {
                // Two factors of 2^60 and 10 must still fit; without a factor, the two zeros that an exponent may need.
                Some(grown) if grown < i128::MAX >> 64 || (factor == 1 && grown < i128::MAX / 1000) => {
                    value = grown;
                    scale -= i32::from(i >= fraction_at);
                }
                _ => {
                    dropped |= digit != b'0';
                    scale = scale.saturating_add(i32::from(i < fraction_at));
                }
            }
        }
        // Digits that did not fit count as something more.
        value = value.saturating_add(i128::from(dropped)).saturating_mul(factor);
        (value, scale) = coarsen(value, scale, NANO);
        let is_binary = format == QuantityFormat::BinarySi;
        if is_binary && compare(value, scale, i128::from(i64::MAX), 0) == Ordering::Greater {
            (value, scale) = (i128::from(i64::MAX), 0);
        }
        if is_binary && value > 0 && compare(value, scale, 1, 0) == Ordering::Less {
            format = QuantityFormat::DecimalSi;
        }
        Self {
            value: if parts.negative { -value } else { value },
            scale: if value == 0 { 0 } else { scale },
            format,
        }
    }

    /// From a field's value: a string, or a plain number.
    pub fn from_json(value: &Value) -> Result<Self, QuantityError> {
        match value {
            Value::String(text) => text.trim().parse(),
            Value::Number(number) => number.to_string().parse(),
            _ => Err(QuantityError::Format),
        }
    }

    pub fn format(&self) -> QuantityFormat {
        self.format
    }

    pub fn with_format(self, format: QuantityFormat) -> Self {
        Self { format, ..self }
    }

    pub fn is_zero(&self) -> bool {
        self.value == 0
    }

    pub fn is_negative(&self) -> bool {
        self.value < 0
    }

    /// In units of `10^scale`, rounded away from zero, at most what an `i64` holds.
    pub fn scaled_value(&self, scale: i32) -> i64 {
        let (value, own) = coarsen(self.value, self.scale, scale);
        let grown = power(own.abs_diff(scale)).and_then(|unit| value.checked_mul(unit));
        match grown.map(i64::try_from) {
            Some(Ok(fits)) => fits,
            _ if value == 0 => 0,
            _ if value < 0 => i64::MIN,
            _ => i64::MAX,
        }
    }

    /// Whole units, rounded away from zero.
    pub fn value(&self) -> i64 {
        self.scaled_value(0)
    }

    /// Thousandths, rounded away from zero.
    pub fn milli_value(&self) -> i64 {
        self.scaled_value(-3)
    }

    /// The whole number it is, if it is one.
    pub fn as_i64(&self) -> Option<i64> {
        let whole = self.value();
        (compare(i128::from(whole), 0, self.value, self.scale) == Ordering::Equal).then_some(whole)
    }

    pub fn as_f64(&self) -> f64 {
        self.value as f64 * 10f64.powi(self.scale)
    }

    fn sum(self, other: Self, sign: i128) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        let scale = self.scale.min(other.scale);
        let at = |q: Self| -> Option<i128> { q.value.checked_mul(power(q.scale.abs_diff(scale))?) };
        let other = Self {
            value: other.value.saturating_mul(sign),
            ..other
        };
        let (value, scale) = match (at(self), at(other)) {
            _ if other.value == 0 => (self.value, self.scale),
            _ if self.value == 0 => (other.value, other.scale),
            (Some(a), Some(b)) => (a.saturating_add(b), scale),
            // So far apart that the smaller one does not show.
            (None, _) => (self.value, self.scale),
            (_, None) => (other.value, other.scale),
        };
        Self { value, scale, format }
    }

    /// Times a whole number.
    pub fn times(self, factor: i64) -> Self {
        Self {
            value: self.value.saturating_mul(i128::from(factor)),
            ..self
        }
    }

    /// The mantissa and exponent that its canonical form shows: the exponent a multiple of three, as large as the
    /// value stays whole.
    fn canonical(&self) -> (i128, i32) {
        let (mut value, mut exponent) = (self.value, self.scale);
        if value == 0 {
            return (0, 0);
        }
        while value % 10 == 0 {
            value /= 10;
            exponent += 1;
        }
        let down = exponent.rem_euclid(3);
        let grown = power(down.unsigned_abs()).and_then(|unit| value.checked_mul(unit));
        match grown {
            Some(grown) => (grown, exponent - down),
            // No room for more digits: the last ones go instead, which may leave zeros at the end.
            None => {
                let (value, scale) = coarsen(value, exponent, exponent + 3 - down);
                Self { value, scale, ..*self }.canonical()
            }
        }
    }
}

fn compare(a: i128, a_scale: i32, b: i128, b_scale: i32) -> Ordering {
    if a_scale == b_scale || a.signum() != b.signum() || a == 0 {
        return if a_scale == b_scale {
            a.cmp(&b)
        } else {
            a.signum().cmp(&b.signum())
        };
    }
    let unit = power(a_scale.abs_diff(b_scale));
    if a_scale > b_scale {
        match unit.and_then(|unit| a.checked_mul(unit)) {
            Some(a) => a.cmp(&b),
            None => a.cmp(&0),
        }
    } else {
        match unit.and_then(|unit| b.checked_mul(unit)) {
            Some(b) => a.cmp(&b),
            None => 0.cmp(&b),
        }
    }
}

/// By amount; the format does not matter.
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.value, self.scale, other.value, other.scale)
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.canonical().hash(state);
    }
}

impl std::ops::Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.sum(other, 1)
    }
}

impl std::ops::Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.sum(other, -1)
    }
}

impl std::ops::AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::ops::SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl std::ops::Neg for Quantity {
    type Output = Self;

    fn neg(self) -> Self {
        self.times(-1)
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::ZERO, |a, b| a + b)
    }
}

impl TryFrom<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> for Quantity {
    type Error = QuantityError;

    fn try_from(typed: &k8s_openapi::apimachinery::pkg::api::resource::Quantity) -> Result<Self, QuantityError> {
        typed.0.trim().parse()
    }
}

impl From<Quantity> for k8s_openapi::apimachinery::pkg::api::resource::Quantity {
    fn from(quantity: Quantity) -> Self {
        Self(quantity.to_string())
    }
}

/// The canonical form: no fraction, the largest suffix of the quantity's format that loses nothing.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.value == 0 {
            return f.write_str("0");
        }
        let limit = i128::from(i64::MAX);
        let kibi = |sign: i128| compare(self.value, self.scale, sign * 1024, 0);
        let is_small = kibi(-1) == Ordering::Greater && kibi(1) == Ordering::Less;
        if self.format == QuantityFormat::BinarySi
            && !is_small
            && let Some(whole) = self.as_i64()
        {
            let mut value = i128::from(whole).clamp(-limit, limit);
            let mut suffix = 0;
            while value % 1024 == 0 {
                value /= 1024;
                suffix += 1;
            }
            let suffix = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].get(suffix).unwrap_or(&"");
            return write!(f, "{value}{suffix}");
        }
        let (value, exponent) = self.canonical();
        let suffix = match exponent {
            0 => "",
            _ if self.format == QuantityFormat::DecimalExponent => return write!(f, "{value}e{exponent}"),
            -9 => "n",
            -6 => "u",
            -3 => "m",
            3 => "k",
            6 => "M",
            9 => "G",
            12 => "T",
            15 => "P",
            18 => "E",
            // There is no suffix for it: the exponent says it.
            _ => return write!(f, "{value}e{exponent}"),
        };
        write!(f, "{value}{suffix}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn q(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    #[test]
    fn a_number_with_more_digits_than_there_is_room_for_is_shown() {
        for text in [
            "622930368033333333333333333333.454775807",
            "170141183460469231731687303715.88410572",
            "-99999999999999999999999999999999999999.9",
        ] {
            let quantity: Quantity = text.parse().unwrap();
            let shown = quantity.to_string();
            assert_eq!(shown.parse::<Quantity>().unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn quantities_are_shown_in_canonical_form() {
        for (text, canonical) in [
            ("0", "0"),
            ("0.0", "0"),
            ("0Gi", "0"),
            ("-0", "0"),
            ("1.5", "1500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1000Mi", "1000Mi"),
            ("0.5Ki", "512"),
            ("0.1Ki", "102400m"),
            ("1.1Mi", "1153433600m"),
            ("1000", "1k"),
            ("1000000", "1M"),
            ("0.001", "1m"),
            ("0.0001", "100u"),
            ("1e3", "1e3"),
            ("12e2", "1200"),
            ("1E6", "1e6"),
            ("1500e3", "1500e3"),
            ("1e-3", "1e-3"),
            ("-1.5", "-1500m"),
            ("+1", "1"),
            (".5", "500m"),
            ("5.", "5"),
            ("0.0000000001", "1n"),
            ("-0.0000000001", "-1n"),
            ("0.0000000011", "2n"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("16Ei", "9223372036854775807"),
            ("-16Ei", "-9223372036854775807"),
            ("9223372036854775807Ki", "9223372036854775807"),
            ("1000E", "1e21"),
            ("1e100", "10e99"),
            ("0.00000000001Gi", "10737419n"),
        ] {
            assert_eq!(q(text).to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn what_is_canonical_already_is_kept_as_written() {
        for same in [
            "1.500", "100m", "1Gi", "3Mi", "1e3", "1E3", "+1", "0", "01Gi", "250m", "2",
        ] {
            assert_eq!(canonicalize(same).unwrap(), same);
        }
        for (text, canonical) in [
            ("1024Mi", "1Gi"),
            ("0.5", "500m"),
            ("1000m", "1"),
            (" 1.5 ", "1500m"),
            ("8Gi", "8Gi"),
            ("1.0Gi", "1Gi"),
        ] {
            assert_eq!(canonicalize(text).unwrap(), canonical);
        }
    }

    #[test]
    fn mistakes_are_named_in_upstreams_words() {
        for text in ["", "1.1.M", "1 ", " 1", "aoeu", "1i ", "1+1.0M", "٣"] {
            assert_eq!(text.parse::<Quantity>().unwrap_err(), QuantityError::Format, "{text}");
        }
        for text in ["1i", ".5i", "-3.01i", "1e", "1e-", "1mi", "1ki", "1kK", "1Mi5"] {
            assert_eq!(text.parse::<Quantity>().unwrap_err(), QuantityError::Suffix, "{text}");
        }
        assert_eq!(
            QuantityError::Format.to_string(),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        );
        assert_eq!(
            Quantity::from_json(&serde_json::json!(1.5)).unwrap().to_string(),
            "1500m"
        );
        assert!(Quantity::from_json(&serde_json::json!(true)).is_err());
    }

    #[test]
    fn values_are_rounded_away_from_zero_and_never_wrap() {
        assert_eq!(q("1.1").value(), 2);
        assert_eq!(q("-1.1").value(), -2);
        assert_eq!(q("100m").value(), 1);
        assert_eq!(q("100u").milli_value(), 1);
        assert_eq!(q("1.5").milli_value(), 1500);
        assert_eq!(q("2Gi").value(), 2 << 30);
        assert_eq!(q("1e30").value(), i64::MAX);
        assert_eq!(q("-1e30").milli_value(), i64::MIN);
        assert_eq!(q("1.5").as_i64(), None);
        assert_eq!(q("1.0").as_i64(), Some(1));
        let huge = "9".repeat(200);
        assert!(q(&huge) > q("1e100"));
        assert!(q(&format!("0.{huge}")) <= q("1"));
        assert!(q("1e100000") + q("1n") > q("1e99999"));
    }

    #[test]
    fn sums_keep_the_format_of_what_they_started_with() {
        assert_eq!((q("1Gi") + q("1Mi")).to_string(), "1025Mi");
        assert_eq!((Quantity::ZERO + q("1Gi")).to_string(), "1Gi");
        assert_eq!((q("1") - q("250m")).to_string(), "750m");
        assert_eq!((q("1") - q("1500m")).to_string(), "-500m");
        assert_eq!(
            [q("100m"), q("1"), q("0.4")].into_iter().sum::<Quantity>().to_string(),
            "1500m"
        );
        assert_eq!(q("1Gi"), q("1073741824"));
        assert!(q("1Gi") > q("1G"));
    }

    proptest! {
        #[test]
        fn the_canonical_form_means_the_same_and_is_its_own(
            text in "[+-]?[0-9]{0,12}\\.?[0-9]{0,12}(|n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|e-?[0-9]{1,2})"
        ) {
            if let Ok(first) = text.parse::<Quantity>() {
                let shown = first.to_string();
                let again = q(&shown);
                prop_assert_eq!(again, first);
                prop_assert_eq!(again.to_string(), shown);
                let kept = canonicalize(&text).unwrap();
                prop_assert_eq!(q(&kept), first);
            }
        }

        #[test]
        fn arithmetic_agrees_with_integers(a in -1_000_000_000i64..1_000_000_000, b in -1_000_000_000i64..1_000_000_000) {
            let milli = |v| Quantity::from_milli(v, QuantityFormat::DecimalSi);
            prop_assert_eq!((milli(a) + milli(b)).milli_value(), a + b);
            prop_assert_eq!((milli(a) - milli(b)).milli_value(), a - b);
            prop_assert_eq!(milli(a).cmp(&milli(b)), a.cmp(&b));
            prop_assert_eq!(milli(a) + Quantity::new(b, QuantityFormat::BinarySi), milli(a + b * 1000));
        }

        #[test]
        fn no_text_makes_the_parser_fail_otherwise_than_by_an_error(
            a in "[0-9.eE+-]{0,60}[a-zA-Z]{0,3}", b in "[0-9.]{1,60}e[0-9]{1,9}"
        ) {
            if let (Ok(a), Ok(b)) = (a.parse::<Quantity>(), b.parse::<Quantity>()) {
                let _ = (a + b, a - b, a.cmp(&b), (a + b).to_string(), a.times(i64::MAX).value(), -b);
            }
        }
    }
}
