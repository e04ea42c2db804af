//! Where the road meets `coracle_api`'s schema and patch code: their errors as Statuses, their findings as warnings.

use coracle_api::field::{FieldError, FieldErrorKind};
use coracle_api::object::Object;
use coracle_api::patch::{PatchError, apply_json_patch, apply_merge_patch, apply_strategic_patch};
use coracle_api::resource::Resource;
use coracle_api::schema::decode::{self, Mode};
use coracle_api::service::{FieldValidation, PatchKind};
use coracle_api::status::Status;
use serde_json::Value;

use super::Call;

/// Checks the types of an object against the row's schema and drops (or refuses) unknown fields. Of an applied
/// configuration, what is absent has not been said: its mode is partial.
pub(crate) fn decode(
    call: &mut Call<'_>,
    object: Object,
    mode: Mode,
    validation: FieldValidation,
) -> Result<Object, Status> {
    let row = call.row.clone();
    decode_as(call, object, validation, mode, |_, why| in_words_of(&row, why))
}

/// The same for what a patch has made. What is wrong with it is told as the patch's fault.
pub(crate) fn decode_patched(
    call: &mut Call<'_>,
    object: Object,
    kind: PatchKind,
    patch: &Value,
    validation: FieldValidation,
) -> Result<Object, Status> {
    if kind == PatchKind::Apply || call.row.custom {
        return decode(call, object, Mode::Whole, validation);
    }
    decode_as(call, object, validation, Mode::Whole, |patched, why| {
        let shown = match kind {
            PatchKind::Strategic => go_value(patch),
            _ => patched.to_string(),
        };
        refused_patch(&shown, why)
    })
}

/// A patch, or what it makes, is not as it should be.
pub(crate) fn refused_patch(shown: &str, why: &str) -> Status {
    let error = FieldError {
        kind: FieldErrorKind::Invalid,
        path: "patch".into(),
        value: format!("{shown:?}"),
        detail: why.to_owned(),
    };
    Status::invalid("", "", "", &[error])
}

/// As Go prints a value of JSON: upstream shows strategic patches so.
fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_value).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut entries: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go_value(v))).collect();
            entries.sort();
            format!("map[{}]", entries.join(" "))
        }
        scalar => scalar.to_string(),
    }
}

fn decode_as(
    call: &mut Call<'_>,
    object: Object,
    validation: FieldValidation,
    mode: Mode,
    refused: impl Fn(&Value, &str) -> Status,
) -> Result<Object, Status> {
    let row = call.row.clone();
    let mut value = object.into_value();
    let decoded = match decode::decode(&mut value, row.schema(), mode) {
        Ok(decoded) => decoded,
        Err(errors) if row.custom => {
            let name = value
                .pointer("/metadata/name")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let errors: Vec<_> = errors.iter().map(decode::TypeError::field_error).collect();
            return Err(Status::invalid(&row.group, &row.kind, name, &errors));
        }
        Err(errors) => {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            return Err(refused(&value, &texts.join(", ")));
        }
    };
    if !decoded.unknown.is_empty() {
        let texts: Vec<String> = decoded
            .unknown
            .iter()
            .map(|path| format!("unknown field {path:?}"))
            .collect();
        match validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => call.warnings.extend(texts),
            FieldValidation::Strict => {
                let text = format!("strict decoding error: {}", texts.join(", "));
                return Err(if row.custom {
                    Status::bad_request(text)
                } else {
                    refused(&value, &text)
                });
            }
        }
    }
    Object::from_value(value).ok_or_else(|| Status::bad_request("the body of the request is not an object"))
}

/// A body that is not what its kind says, in upstream's words.
fn in_words_of(row: &Resource, why: &str) -> Status {
    Status::bad_request(format!(
        "{} in version {:?} cannot be handled as a {}: {why}",
        row.kind, row.version, row.kind
    ))
}

/// The object that a JSON, merge or strategic merge patch makes of `current`.
pub(crate) fn patched(row: &Resource, kind: PatchKind, current: &Object, patch: &Value) -> Result<Object, Status> {
    let mut value = Value::Object(current.0.clone());
    match kind {
        PatchKind::Json => apply_json_patch(&mut value, patch),
        PatchKind::Merge => apply_merge_patch(&mut value, patch.clone()),
        PatchKind::Strategic if row.custom => {
            return Err(Status::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            ));
        }
        PatchKind::Strategic => apply_strategic_patch(&mut value, patch.clone(), row.schema()),
        PatchKind::Apply => return Err(Status::internal("an apply patch took the way of another patch")),
    }
    .map_err(refused)?;
    Object::from_value(value).ok_or_else(|| Status::bad_request("the patch does not leave an object"))
}

fn refused(error: PatchError) -> Status {
    match error {
        PatchError::Malformed(text) => Status::bad_request(text),
        PatchError::TooLarge(text) => Status::too_large(text),
        PatchError::Inapplicable(text) => {
            tracing::debug!(text, "a patch does not fit its object");
            Status::failure(
                422,
                "Invalid",
                "the server rejected our request due to an error in our request",
            )
        }
        PatchError::Contradictory(text) => Status::failure(500, "", text),
    }
}
