//! Counts that are given as numbers or as percentages.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// A number, or a percentage of `total`. Absent is 0.
pub fn resolve(value: Option<&IntOrString>, total: i32, round_up: bool) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(n)) => *n,
        Some(IntOrString::String(text)) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let product = percent * i64::from(total);
            let whole = if round_up {
                (product + 99).div_euclid(100)
            } else {
                product.div_euclid(100)
            };
            i32::try_from(whole).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_rounded_as_asked() {
        let half = IntOrString::String("50%".into());
        assert_eq!((resolve(Some(&half), 3, true), resolve(Some(&half), 3, false)), (2, 1));
        assert_eq!(resolve(Some(&IntOrString::Int(4)), 3, false), 4);
        assert_eq!(resolve(None, 3, true), 0);
    }
}
