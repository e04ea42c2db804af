//! ConfigMap: text and bytes by key, at most 1 MiB of them.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, text};
use super::row::namespaced;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("", "v1", "ConfigMap", "configmaps")
        .short(&["cm"])
        .columns([name(), text("Data", "How many keys the map has."), age()])
        .strategy(ConfigMap)
        .build()
}

struct ConfigMap;

impl Strategy for ConfigMap {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let count = |field| object.get(&[field]).and_then(Value::as_object).map_or(0, |m| m.len());
        let keys = count("data") + count("binaryData");
        vec![object.name().into(), keys.into(), age_of(object, now)]
    }
}
