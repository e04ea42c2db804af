//! Which manager owns which fields: managedFields on every write, and server-side apply.

use coracle_api::object::Object;
use coracle_api::patch::apply::{self, ApplyError};
use coracle_api::patch::fields::FieldSet;
use coracle_api::patch::managed::{self, Form, Manager};
use coracle_api::resource::Resource;
use coracle_api::schema::decode::Mode;
use coracle_api::service::WriteOptions;
use coracle_api::status::{Details, Status};
use serde_json::Value;

use super::{Call, codec};

/// What a write of this subresource cannot change, and so nobody comes to own by it.
fn reset(row: &Resource, subresource: &str) -> FieldSet {
    match subresource {
        "" if row.has_status() => FieldSet::of_fields(&[&["status"]]),
        "status" => {
            let properties = row.schema().object().map_or(&[][..], |o| o.properties.as_slice());
            let others: Vec<&str> = properties
                .iter()
                .map(|p| p.name.as_ref())
                .filter(|name| !matches!(*name, "apiVersion" | "kind" | "metadata" | "status"))
                .chain(row.custom.then_some("metadata"))
                .collect();
            let paths: Vec<&[&str]> = others.iter().map(std::slice::from_ref).collect();
            FieldSet::of_fields(&paths)
        }
        _ => FieldSet::new(),
    }
}

/// Gives the fields that differ between `old` and `new` to the request's manager.
pub(crate) fn track(call: &Call<'_>, old: Option<&Object>, new: &mut Object, options: &WriteOptions) {
    let row = &call.row;
    let reset = reset(row, &call.target.subresource);
    let api_version = row.api_version();
    let form = Form {
        api_version: &api_version,
        kind: &row.kind,
        schema: row.schema(),
        reset: &reset,
    };
    let name = if options.field_manager.is_empty() {
        &call.user.name
    } else {
        &options.field_manager
    };
    let by = Manager {
        name,
        subresource: &call.target.subresource,
        time: call.core.clock.now(),
    };
    managed::update(old, new, &form, &by);
}

/// The object that an apply patch makes of `live`, with its managedFields.
pub(crate) fn apply(
    call: &mut Call<'_>,
    live: Option<&Object>,
    patch: &Value,
    options: &WriteOptions,
) -> Result<Object, Status> {
    let row = call.row.clone();
    let config = Object::from_value(patch.clone())
        .ok_or_else(|| Status::bad_request("error decoding YAML: the applied configuration is not an object"))?;
    let config = codec::decode(call, config, Mode::Partial, options.field_validation)?;
    let reset = reset(&row, &call.target.subresource);
    let api_version = row.api_version();
    let form = Form {
        api_version: &api_version,
        kind: &row.kind,
        schema: row.schema(),
        reset: &reset,
    };
    let by = Manager {
        name: &options.field_manager,
        subresource: &call.target.subresource,
        time: call.core.clock.now(),
    };
    apply::apply(live, &config, &form, &by, options.force).map_err(|error| match error {
        ApplyError::BadRequest(text) => Status::bad_request(text),
        ApplyError::Nonconforming(text) => Status::failure(500, "", text),
        ApplyError::Conflicts(conflicts) => {
            let details = Details {
                name: call.target.name.clone(),
                group: row.group.to_string(),
                kind: row.plural.to_string(),
                causes: conflicts.causes(),
                ..Details::default()
            };
            Status::failure(409, "Conflict", conflicts.to_string()).with_details(Some(Box::new(details)))
        }
    })
}
