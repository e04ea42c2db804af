//! Quantities as the kernel wants them: whole bytes and thousandths of a CPU, rounded up. Pure. What arrives has been
//! validated by the API server; a malformed quantity counts as nothing.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Resources by name, as requests, limits and capacity are written.
pub(crate) type Amounts = BTreeMap<String, Quantity>;

fn parsed(quantity: &Quantity) -> coracle_api::quantity::Quantity {
    quantity.0.parse().unwrap_or(coracle_api::quantity::Quantity::ZERO)
}

/// Thousandths of the quantity, rounded up.
pub(crate) fn milli(quantity: &Quantity) -> i64 {
    parsed(quantity).milli_value()
}

/// The quantity in whole units, rounded up.
pub(crate) fn whole(quantity: &Quantity) -> i64 {
    parsed(quantity).value()
}

/// `amount / divisor`, rounded up, as the downward API shows it. No divisor is 1.
pub(crate) fn divided(amount: &Quantity, divisor: Option<&Quantity>) -> i64 {
    match divisor.map(milli).filter(|d| *d > 0) {
        None | Some(1000) => whole(amount),
        Some(divisor) => {
            let amount = milli(amount);
            amount / divisor + i64::from(amount % divisor != 0)
        }
    }
}

pub(crate) fn milli_of(amounts: Option<&Amounts>, name: &str) -> Option<i64> {
    amounts?.get(name).map(milli)
}

pub(crate) fn whole_of(amounts: Option<&Amounts>, name: &str) -> Option<i64> {
    amounts?.get(name).map(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_round_up() {
        let q = |text: &str| Quantity(text.into());
        for (text, m, w) in [
            ("1", 1000, 1),
            ("100m", 100, 1),
            ("0.5", 500, 1),
            ("1500m", 1500, 2),
            ("64Mi", 67_108_864_000, 67_108_864),
            ("1.5Gi", 1_610_612_736_000, 1_610_612_736),
            ("1e3", 1_000_000, 1000),
            ("128k", 128_000_000, 128_000),
            ("1u", 1, 1),
            ("0", 0, 0),
        ] {
            assert_eq!((milli(&q(text)), whole(&q(text))), (m, w), "{text}");
        }
        assert_eq!(divided(&q("1500m"), None), 2);
        assert_eq!(divided(&q("1500m"), Some(&q("1m"))), 1500);
        assert_eq!(divided(&q("64Mi"), Some(&q("1Mi"))), 64);
        assert_eq!(divided(&q("64Mi"), Some(&q("0"))), 67_108_864);
    }
}
