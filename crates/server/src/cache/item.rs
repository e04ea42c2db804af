//! One object in the cache, with the values its fields are selected by.

use std::sync::{Arc, OnceLock};

use coracle_api::object::StoredObject;

use super::fields::FieldIndex;

/// A cached revision of an object.
pub(crate) struct Item {
    pub object: Arc<StoredObject>,
    fields: OnceLock<Box<[Box<str>]>>,
}

impl Item {
    pub fn new(object: Arc<StoredObject>) -> Self {
        Self {
            object,
            fields: OnceLock::new(),
        }
    }

    /// The values by the shard's index, extracted the first time somebody selects by them.
    pub fn fields(&self, index: &FieldIndex) -> &[Box<str>] {
        self.fields.get_or_init(|| index.extract(self.object.raw()))
    }
}
