//! A device's capacity, and what of it one of several users of the device may take.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::field::{Cursor, ErrorList};
use crate::kinds::check::NOT_NEGATIVE;
use crate::quantity::Quantity;

const MOST_VALUES: usize = 10;

/// `shared`: whether several claims may have the device.
pub(super) fn validate(capacity: &Cursor<'_>, shared: bool, errors: &mut ErrorList) {
    let policy = capacity.at("requestPolicy");
    if !policy.is_set() {
        return;
    }
    if !shared {
        return errors.forbidden(&policy, "allowMultipleAllocations must be true");
    }
    let (values, range, default) = (policy.at("validValues"), policy.at("validRange"), policy.at("default"));
    let most = capacity.at("value").quantity().unwrap_or(Quantity::ZERO);
    match (!values.is_empty(), range.is_set(), default.quantity()) {
        (true, true, _) => errors.forbidden(
            &policy,
            "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time",
        ),
        (true, false, None) => errors.required(&default, "required when validValues is defined"),
        (false, true, None) => errors.required(&default, "required when validRange is defined"),
        (true, false, Some(default)) => one_of_values(&values, default, most, errors),
        (false, true, Some(default)) => within(&range, default, most, errors),
        (false, false, _) => {}
    }
}

fn shown(quantity: Quantity) -> Value {
    quantity.to_string().into()
}

fn one_of_values(values: &Cursor<'_>, default: Quantity, most: Quantity, errors: &mut ErrorList) {
    let all: Vec<Quantity> = values.items().filter_map(|v| v.quantity()).collect();
    for (i, pair) in all.windows(2).enumerate() {
        if let [before, value] = pair
            && before > value
        {
            let at = values.index(i + 1);
            errors.invalid_value(&at, &shown(*value), "values must be sorted in ascending order");
        }
    }
    let fits = values.len() <= MOST_VALUES;
    if !fits {
        errors.too_many(values, values.len(), MOST_VALUES);
    }
    let mut seen = BTreeSet::new();
    for (i, value) in all.iter().enumerate().filter(|_| fits) {
        let at = values.index(i);
        if *value > most {
            errors.invalid_value(
                &at,
                &shown(*value),
                format!("option is larger than capacity value: {most}"),
            );
        }
        if !seen.insert(*value) {
            errors.duplicate_value(&at, &shown(*value), "");
        }
    }
    if !(fits && all.contains(&default)) {
        errors.invalid_value(
            values,
            &shown(default),
            "default value is not valid according to the requestPolicy",
        );
    }
}

fn within(range: &Cursor<'_>, default: Quantity, most: Quantity, errors: &mut ErrorList) {
    let quantity = |field: &str| range.at(field).quantity();
    let (min, max, step) = (quantity("min"), quantity("max"), quantity("step"));
    let Some(min) = min else {
        return errors.required(&range.at("min"), "required when validRange is defined");
    };
    let mut refuse = |field: &str, value: Quantity, detail: String| {
        errors.invalid_value(&range.said(field), &shown(value), detail);
    };
    if min > most {
        refuse("min", min, format!("min is larger than capacity value: {most}"));
    }
    if default < min {
        refuse("default", default, format!("default is less than min: {min}"));
    }
    if let Some(max) = max {
        if min > max {
            refuse("max", min, format!("min is larger than max: {max}"));
        }
        if max > most {
            refuse("max", max, format!("max is larger than capacity value: {most}"));
        }
        if default > max {
            refuse("default", default, format!("default is more than max: {max}"));
        }
    }
    let named = [
        ("default", Some(default)),
        ("min", Some(min)),
        ("max", max),
        ("step", step),
    ];
    let bounds: Vec<(&str, Quantity)> = named.into_iter().filter_map(|(n, q)| Some((n, q?))).collect();
    let in_thousandths = bounds.iter().any(|(_, q)| !is_whole(*q));
    if in_thousandths {
        let before = refused(&bounds, |q| !is_in_thousandths(q));
        for (field, value) in &before {
            refuse(field, *value, "value cannot be represented as a milli value".to_owned());
        }
        if !before.is_empty() {
            return;
        }
    }
    let Some(step) = step else { return };
    if step <= Quantity::ZERO {
        return refuse("step", step, "must be greater than zero".to_owned());
    }
    let one = min + step;
    if one > most {
        refuse(
            "step",
            step,
            format!("one step {one} is larger than capacity value: {most}"),
        );
    }
    if !in_thousandths {
        let largest = Quantity::new(i64::MAX, min.format());
        let outside = refused(&bounds, |q| q.is_negative() || q > largest);
        for (field, value) in &outside {
            let detail = if value.is_negative() {
                NOT_NEGATIVE
            } else {
                "must not be larger than 9223372036854775807"
            };
            refuse(field, *value, detail.to_owned());
        }
        if !outside.is_empty() {
            return;
        }
    }
    let units = |q: Quantity| i128::from(if in_thousandths { q.milli_value() } else { q.value() });
    for value in [Some(default), max].into_iter().flatten() {
        if (units(value) - units(min)) % units(step).max(1) != 0 {
            refuse(
                "step",
                value,
                format!("value is not a multiple of a given step ({step}) from ({min})"),
            );
        }
    }
}

fn refused<'n>(bounds: &[(&'n str, Quantity)], is_wrong: impl Fn(Quantity) -> bool) -> Vec<(&'n str, Quantity)> {
    bounds.iter().copied().filter(|(_, q)| is_wrong(*q)).collect()
}

fn is_whole(quantity: Quantity) -> bool {
    let truncated = quantity.value();
    // What is too large for the number has no room for a fraction either.
    truncated == i64::MAX || truncated == i64::MIN || Quantity::new(truncated, quantity.format()) == quantity
}

fn is_in_thousandths(quantity: Quantity) -> bool {
    Quantity::from_milli(quantity.milli_value(), quantity.format()) == quantity
}
