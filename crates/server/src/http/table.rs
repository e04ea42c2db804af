//! Objects as rows of a table, which is how kubectl prints them.

use std::sync::Arc;

use coracle_api::object::StoredObject;
use coracle_api::status::Status;
use serde_json::{Value, json};

use super::encode::{Form, metadata_only};
use super::query::Query;

/// What goes with each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    Metadata,
    Object,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub include: Include,
}

impl Options {
    pub fn parse(query: &Query) -> Self {
        let include = match query.get("includeObject") {
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            _ => Include::Metadata,
        };
        Self { include }
    }
}

/// The columns of the form's kind.
pub(crate) fn columns(form: &Form<'_>) -> Value {
    let columns = form.row.columns.iter().map(|c| {
        json!({
            "name": c.name,
            "type": c.kind,
            "format": c.format,
            "description": c.description,
            "priority": c.priority,
        })
    });
    Value::Array(columns.collect())
}

/// The cells of an object's row. Only a column that a user has declared may be of managedFields.
fn cells(form: &Form<'_>, stored: &StoredObject) -> Vec<Value> {
    let object = match form.row.custom {
        true => stored.to_object(),
        false => stored.to_object_unmanaged(),
    };
    form.row.strategy.cells(&object, form.now)
}

/// A whole table as JSON; without `columns` it continues one. What goes with a row is copied as it is stored.
pub(crate) fn table(
    form: &Form<'_>,
    version: &str,
    metadata: Value,
    objects: &[Arc<StoredObject>],
    with_columns: bool,
) -> Result<Vec<u8>, Status> {
    let broken = |e: serde_json::Error| Status::internal(e.to_string());
    let definitions = if with_columns { columns(form) } else { Value::Null };
    let head = json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": metadata,
        "columnDefinitions": definitions,
    });
    let mut out = serde_json::to_vec(&head).map_err(broken)?;
    // The map goes on with the rows.
    out.pop();
    out.extend_from_slice(b",\"rows\":[");
    for (index, stored) in objects.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"{\"cells\":" } else { b",{\"cells\":" });
        serde_json::to_writer(&mut out, &cells(form, stored)).map_err(broken)?;
        out.extend_from_slice(b",\"object\":");
        match form.table.include {
            Include::None => out.extend_from_slice(b"null"),
            Include::Metadata => out.extend(metadata_only(stored)?),
            Include::Object => stored.write_json(&mut out),
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}
