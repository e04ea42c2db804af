//! Where the road meets `coracle_api`'s schema and patch code: their errors as Statuses, their findings as warnings.

use coracle_api::object::Object;
use coracle_api::patch::{PatchError, apply_json_patch, apply_merge_patch, apply_strategic_patch};
use coracle_api::resource::Resource;
use coracle_api::schema::decode::{self, Mode};
use coracle_api::service::{FieldValidation, PatchKind};
use coracle_api::status::Status;
use serde_json::Value;

use super::Call;

/// Checks the types of an object against the row's schema and drops (or refuses) unknown fields.
pub(crate) fn decode(call: &mut Call<'_>, object: Object, validation: FieldValidation) -> Result<Object, Status> {
    decode_as(call, object, validation, Mode::Whole)
}

/// The same for an applied configuration, in which what is absent has not been said.
pub(crate) fn decode_partial(
    call: &mut Call<'_>,
    object: Object,
    validation: FieldValidation,
) -> Result<Object, Status> {
    decode_as(call, object, validation, Mode::Partial)
}

fn decode_as(call: &mut Call<'_>, object: Object, validation: FieldValidation, mode: Mode) -> Result<Object, Status> {
    let row = call.row.clone();
    let mut value = object.into_value();
    let decoded = decode::decode(&mut value, row.schema(), mode).map_err(|errors| {
        if row.custom {
            let name = value
                .pointer("/metadata/name")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let errors: Vec<_> = errors.iter().map(decode::TypeError::field_error).collect();
            return Status::invalid(&row.group, &row.kind, name, &errors);
        }
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Status::bad_request(cannot_be_handled(&row, &texts.join(", ")))
    })?;
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
                return Err(Status::bad_request(if row.custom {
                    text
                } else {
                    cannot_be_handled(&row, &text)
                }));
            }
        }
    }
    Object::from_value(value).ok_or_else(|| Status::bad_request("the body of the request is not an object"))
}

/// A body that is not what its kind says, in upstream's words.
fn cannot_be_handled(row: &Resource, why: &str) -> String {
    format!(
        "{} in version {:?} cannot be handled as a {}: {why}",
        row.kind, row.version, row.kind
    )
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
