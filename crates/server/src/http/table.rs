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

pub(crate) fn rows(form: &Form<'_>, objects: &[Arc<StoredObject>]) -> Result<Vec<Value>, Status> {
    let broken = |e: serde_json::Error| Status::internal(e.to_string());
    objects
        .iter()
        .map(|stored| {
            let object = stored.to_object();
            let cells = form.row.strategy.cells(&object, form.now);
            let with = match form.table.include {
                Include::None => Value::Null,
                Include::Metadata => serde_json::from_slice(&metadata_only(stored)?).map_err(broken)?,
                Include::Object => object.into_value(),
            };
            let mut row = serde_json::Map::new();
            row.insert("cells".into(), cells.into());
            row.insert("object".into(), with);
            Ok(Value::Object(row))
        })
        .collect()
}

/// A whole table; without `columns` it continues one.
pub(crate) fn table(form: &Form<'_>, version: &str, metadata: Value, rows: Vec<Value>, with_columns: bool) -> Value {
    let definitions = if with_columns { columns(form) } else { Value::Null };
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": metadata,
        "columnDefinitions": definitions,
        "rows": rows,
    })
}
