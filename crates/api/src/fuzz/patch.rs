//! The four patch kinds. The input is two lines of JSON, the object and the patch; for an apply the second is the
//! configuration, and a third line says `force`.

use serde_json::Value;

use super::{decoded, has_null, lines};
use crate::object::Object;
use crate::patch::apply::{BEFORE_FIRST_APPLY, apply};
use crate::patch::entry::MANAGED_FIELDS;
use crate::patch::fields::FieldSet;
use crate::patch::managed::{Form, Manager, compared, ignore_times};
use crate::patch::{
    apply_json_patch, apply_merge_patch, apply_strategic_patch, create_merge_patch, create_strategic_patch,
};
use crate::schema::decode::Mode;
use crate::schema::parse::parse_json;

fn pair(bytes: &[u8]) -> Option<(Value, Value)> {
    let lines = lines(bytes)?;
    let [object, patch, ..] = lines[..] else { return None };
    Some((
        parse_json(object.as_bytes()).ok()?.0,
        parse_json(patch.as_bytes()).ok()?.0,
    ))
}

pub fn json_patch(bytes: &[u8]) {
    if let Some((mut object, patch)) = pair(bytes) {
        let _ = apply_json_patch(&mut object, &patch);
    }
}

pub fn merge_patch(bytes: &[u8]) {
    let Some((object, other)) = pair(bytes) else { return };
    let mut patched = object.clone();
    let _ = apply_merge_patch(&mut patched, other.clone());
    if object.is_object() && other.is_object() && !has_null(&object) && !has_null(&other) {
        let mut led = object.clone();
        let done = apply_merge_patch(&mut led, create_merge_patch(&object, &other));
        assert_eq!(done, Ok(()));
        assert_eq!(led, other, "from {object}");
    }
}

pub fn strategic_patch(bytes: &[u8]) {
    let Some(lines) = lines(bytes) else { return };
    let [object, patch, ..] = lines[..] else { return };
    let Some((object, row)) = decoded(object, Mode::Whole) else {
        return;
    };
    let Ok((patch, _)) = parse_json(patch.as_bytes()) else {
        return;
    };
    let object = object.into_value();
    let mut patched = object.clone();
    if apply_strategic_patch(&mut patched, patch, row.schema()).is_err() {
        return;
    }
    // A patch that says nothing changes nothing.
    let nothing = create_strategic_patch(&patched, &patched, row.schema());
    let mut same = patched.clone();
    assert_eq!(apply_strategic_patch(&mut same, nothing, row.schema()), Ok(()));
    assert_eq!(same, patched);
}

pub fn apply_patch(bytes: &[u8]) {
    let Some(lines) = lines(bytes) else { return };
    let [live, config, ..] = lines[..] else { return };
    let Some((config, row)) = decoded(config, Mode::Partial) else {
        return;
    };
    let live = match live {
        "" => None,
        live => match decoded(live, Mode::Whole) {
            Some((live, of)) if of.kind == row.kind => Some(live),
            _ => return,
        },
    };
    let force = lines.get(2).is_some_and(|third| *third == "force");
    let (api_version, reset) = (row.api_version(), FieldSet::new());
    let form = Form {
        api_version: &api_version,
        kind: &row.kind,
        schema: row.schema(),
        reset: &reset,
    };
    let by = |second| Manager {
        name: "fuzz",
        subresource: "",
        time: jiff::Timestamp::from_second(second).unwrap_or_default(),
    };
    let again = |live: &Object, second| {
        let again = apply(Some(live), &config, &form, &by(second), false);
        assert!(again.is_ok(), "{again:?} after {live:?}");
        let mut again = again.unwrap_or_default();
        ignore_times(live, &mut again);
        again
    };
    let Ok(mut first) = apply(live.as_ref(), &config, &form, &by(1), force) else {
        return;
    };
    if first.get(MANAGED_FIELDS).is_none() {
        // Nobody is tracked, so the configuration sets nothing that can be owned. The next apply takes the object for one
        // that was there before any apply: that is booked once, and changes nothing else.
        let set = compared(None, &config.0, &form);
        assert!(set.added.is_empty(), "{} was applied", config.clone().into_value());
        let mut second = again(&first, 2);
        let booked = second.clone();
        if let Some(managers) = second.remove(MANAGED_FIELDS) {
            let names: Vec<_> = managers
                .as_array()
                .into_iter()
                .flatten()
                .map(|m| &m["manager"])
                .collect();
            assert_eq!(names, [BEFORE_FIRST_APPLY]);
        }
        assert_eq!(second, first);
        first = booked;
    }
    // Who applies the same again changes nothing.
    assert_eq!(again(&first, 3), first);
}
