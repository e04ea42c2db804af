//! The four patch kinds. The input is two lines of JSON, the object and the patch; for an apply the second is the
//! configuration, and a third line says `force`.

use serde_json::Value;

use super::{decoded, has_null, lines};
use crate::object::Object;
use crate::patch::apply::apply;
use crate::patch::fields::FieldSet;
use crate::patch::managed::{Form, Manager, ignore_times};
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
    let Ok(first) = apply(live.as_ref(), &config, &form, &by(1), force) else {
        return;
    };
    // One who applies nothing owns nothing: where nobody else does, the next apply finds an object that was never tracked.
    if first.get(&["metadata", "managedFields"]).is_some() {
        again(&first, &config, &form, &by(2));
    }
}

/// Who applies the same again changes nothing.
fn again(first: &Object, config: &Object, form: &Form<'_>, by: &Manager<'_>) {
    let second = apply(Some(first), config, form, by, false);
    assert!(second.is_ok(), "{second:?} after {first:?}");
    if let Ok(mut second) = second {
        ignore_times(first, &mut second);
        assert_eq!(&second, first);
    }
}
