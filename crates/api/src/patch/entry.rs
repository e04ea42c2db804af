//! Entries of `metadata.managedFields`: read, written and put in order. What they own is decided elsewhere.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::fields::FieldSet;
use super::managed::Manager;
use crate::object::Object;

pub(crate) const MANAGED_FIELDS: &[&str] = &["metadata", "managedFields"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// The fields of an entry: as they are stored, until somebody needs to look at them.
#[derive(Clone, Debug)]
enum Fields {
    Stored(Map<String, Value>),
    Set(FieldSet),
}

/// One entry: a manager, how it wrote, and what it owns.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) manager: Box<str>,
    pub(super) operation: Operation,
    pub(super) api_version: Box<str>,
    pub(super) subresource: Box<str>,
    /// As it is written; empty for none.
    pub(super) time: Box<str>,
    fields: Fields,
}

/// An entry that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadEntry(String);

impl Entry {
    pub(super) fn new(by: &Manager<'_>, operation: Operation, api_version: &str, fields: FieldSet) -> Self {
        Self {
            manager: if by.name.is_empty() { "unknown" } else { by.name }.into(),
            operation,
            api_version: api_version.into(),
            subresource: by.subresource.into(),
            time: show_time(by.time),
            fields: Fields::Set(fields),
        }
    }

    fn read(value: Value, at: usize) -> Result<Self, BadEntry> {
        let bad = |why: String| Err(BadEntry(why));
        let Value::Object(mut entry) = value else {
            return bad(format!("managed fields entry {at} is not an object"));
        };
        let mut text = |field: &str| -> Box<str> {
            match entry.remove(field) {
                Some(Value::String(text)) => text.into(),
                _ => "".into(),
            }
        };
        let operation = match &*text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return bad("operation must be `Apply` or `Update`".into()),
        };
        let api_version = text("apiVersion");
        if api_version.is_empty() {
            return bad("apiVersion must not be empty".into());
        }
        match &*text("fieldsType") {
            "FieldsV1" => {}
            "" => return bad(format!("missing fieldsType in managed fields entry {at}")),
            other => return bad(format!("invalid fieldsType {other:?} in managed fields entry {at}")),
        }
        let (manager, subresource, time) = (text("manager"), text("subresource"), text("time"));
        let fields = match entry.remove("fieldsV1") {
            Some(Value::Object(fields)) => fields,
            None | Some(Value::Null) => Map::new(),
            Some(_) => return bad(format!("fieldsV1 of managed fields entry {at} is not an object")),
        };
        Ok(Self {
            manager,
            operation,
            api_version,
            subresource,
            time,
            fields: Fields::Stored(fields),
        })
    }

    fn into_value(self) -> Value {
        let mut entry = Map::new();
        entry.insert("apiVersion".into(), self.api_version.as_ref().into());
        entry.insert("fieldsType".into(), "FieldsV1".into());
        let fields = match self.fields {
            Fields::Stored(fields) => fields,
            Fields::Set(set) => set.to_json(),
        };
        entry.insert("fieldsV1".into(), Value::Object(fields));
        entry.insert("manager".into(), self.manager.as_ref().into());
        entry.insert("operation".into(), self.operation.name().into());
        if !self.subresource.is_empty() {
            entry.insert("subresource".into(), self.subresource.as_ref().into());
        }
        if !self.time.is_empty() {
            entry.insert("time".into(), self.time.as_ref().into());
        }
        Value::Object(entry)
    }

    /// Reads the fields, if that has not been done.
    pub(super) fn set(&mut self) -> Result<&mut FieldSet, BadEntry> {
        if let Fields::Stored(fields) = &self.fields {
            let set = FieldSet::from_json(fields).map_err(|e| BadEntry(format!("error decoding set: {e}")))?;
            self.fields = Fields::Set(set);
        }
        match &mut self.fields {
            Fields::Set(set) => Ok(set),
            // Replaced just above.
            Fields::Stored(_) => Err(BadEntry("fields were not read".into())),
        }
    }

    /// The fields as they are stored, while nobody has needed to read them.
    pub(super) fn stored(&self) -> Option<&Map<String, Value>> {
        match &self.fields {
            Fields::Stored(fields) => Some(fields),
            Fields::Set(_) => None,
        }
    }

    fn is_empty(&self) -> bool {
        match &self.fields {
            Fields::Stored(fields) => fields.is_empty(),
            Fields::Set(set) => set.is_empty(),
        }
    }

    /// Two entries with the same identity are one. An applier is the same whatever version it applied.
    pub(super) fn identity(&self) -> (&str, Operation, &str, &str) {
        let version = match self.operation {
            Operation::Apply => "",
            Operation::Update => &self.api_version,
        };
        (&self.manager, self.operation, version, &self.subresource)
    }

    pub(super) fn seconds(&self) -> i64 {
        self.time.parse::<Timestamp>().map_or(0, Timestamp::as_second)
    }
}

pub(super) fn show_time(time: Timestamp) -> Box<str> {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()
}

pub(super) fn read_entries(list: Option<Value>) -> Result<Vec<Entry>, BadEntry> {
    let list = match list {
        Some(Value::Array(list)) => list,
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(_) => return Err(BadEntry("managedFields is not a list".into())),
    };
    list.into_iter()
        .enumerate()
        .map(|(at, entry)| Entry::read(entry, at))
        .collect()
}

pub(super) fn take_managed_fields(object: &mut Object) -> Option<Value> {
    object.remove(MANAGED_FIELDS)
}

/// Sorts and stores the entries; none leaves the field out.
pub(super) fn write_entries(object: &mut Object, mut entries: Vec<Entry>) {
    entries.retain(|e| !e.is_empty());
    if entries.is_empty() {
        object.remove(MANAGED_FIELDS);
        return;
    }
    entries.sort_by_cached_key(|e| {
        (
            e.operation,
            e.seconds(),
            e.manager.clone(),
            e.api_version.clone(),
            e.subresource.clone(),
        )
    });
    let list: Vec<Value> = entries.into_iter().map(Entry::into_value).collect();
    object.set(MANAGED_FIELDS, list);
}
