//! The printed columns of a custom resource.

use coracle_api::kinds::human_duration;
use coracle_api::object::Object;
use coracle_api::resource::Column;
use coracle_clock::Timestamp;
use serde_json::Value;

use super::json_path::JsonPath;

/// A column and where its cells come from.
pub(super) struct PathColumn {
    pub column: Column,
    path: JsonPath,
}

/// The columns of a version: the name, then its own, or the age if it has none.
pub(super) fn parse(columns: Option<&Value>) -> Vec<PathColumn> {
    let name = Column::new("Name", "string", "The name of the object.").format("name");
    let mut all = vec![PathColumn {
        column: name,
        path: JsonPath::parse(".metadata.name"),
    }];
    let own = columns.and_then(Value::as_array).filter(|c| !c.is_empty());
    let Some(own) = own else {
        let age = Column::new("Age", "date", "When the object was created.");
        all.push(PathColumn {
            column: age,
            path: JsonPath::parse(".metadata.creationTimestamp"),
        });
        return all;
    };
    for column in own {
        let text = |field: &str| column.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut made = Column::new(text("name"), text("type"), text("description")).format(text("format"));
        made.priority = column
            .get("priority")
            .and_then(Value::as_i64)
            .and_then(|p| i32::try_from(p).ok())
            .unwrap_or(0);
        all.push(PathColumn {
            column: made,
            path: JsonPath::parse(&text("jsonPath")),
        });
    }
    all
}

/// The cells of one object.
pub(super) fn cells(columns: &[PathColumn], object: &Object, now: Timestamp) -> Vec<Value> {
    let root = Value::Object(object.0.clone());
    columns
        .iter()
        .map(|column| {
            let found = column.path.find(&root);
            let Some(first) = found.first().copied() else {
                return Value::Null;
            };
            match (column.column.kind.as_ref(), first) {
                ("integer", Value::Number(n)) => n.as_i64().map_or(Value::Null, Value::from),
                ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => first.clone(),
                ("string", Value::String(_)) => first.clone(),
                ("string", other) if !other.is_null() => Value::from(other.to_string()),
                ("date", time) => human_duration::since(Some(time), now).into(),
                _ => Value::Null,
            }
        })
        .collect()
}
