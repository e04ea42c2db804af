//! The form in which a version shows what is stored: under its own name, and with the defaults that its schema has now.
//! An object may have been stored in another version, or before the schema had these defaults.

use std::sync::Arc;

use coracle_api::object::{Object, StoredObject};
use coracle_api::resource::Convert;
use coracle_api::schema::{NodeId, SchemaSet, custom};
use serde_json::Value;

pub(super) struct Form {
    pub api_version: String,
    pub stored_version: String,
    pub schema: Arc<SchemaSet>,
    pub root: NodeId,
    pub has_defaults: bool,
    /// What was written later has the defaults already.
    pub since: u64,
}

impl Convert for Form {
    fn to_stored(&self, object: &mut Object) {
        object.set(&["apiVersion"], self.stored_version.as_str());
    }

    fn to_served(&self, object: &mut Object) {
        if self.has_defaults {
            let mut value = Value::Object(std::mem::take(&mut object.0));
            custom::apply_defaults(&mut value, self.schema.at(self.root));
            if let Value::Object(map) = value {
                object.0 = map;
            }
        }
        object.set(&["apiVersion"], self.api_version.as_str());
    }

    fn is_current(&self, stored: &StoredObject) -> bool {
        // Fields are stored in alphabetical order: hardly anything comes before this one.
        let after = stored.raw().strip_prefix(b"{\"apiVersion\":\"");
        let after = after.and_then(|rest| rest.strip_prefix(self.api_version.as_bytes()));
        after.is_some_and(|rest| rest.starts_with(b"\"")) && (!self.has_defaults || stored.revision() > self.since)
    }
}
