//! A run as people read it: a plain table, a comparison of two runs, a page with plots. All from a
//! [`Record`](crate::record::Record), none measuring anything.

pub mod compare;
mod html;
mod line;
mod plot;
mod table;

pub use html::page;
pub use table::{contents, run};

/// A figure's value with as many digits as it deserves.
pub fn number(value: f64) -> String {
    match value.abs() {
        _ if value.is_nan() => "–".into(),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 1.0 || v == 0.0 => format!("{value:.1}"),
        v if v >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_or_so() {
        let all = [1234.5, 12.34, 0.5, 0.0123, 0.0, f64::NAN];
        assert_eq!(all.map(number), ["1234", "12.3", "0.50", "0.012", "0.0", "–"]);
    }
}
