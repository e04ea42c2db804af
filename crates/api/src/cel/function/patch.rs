//! What expressions that make patches need.

use super::Entry;
use crate::cel::value::Value;

pub(super) const ALL: &[Entry] = &[Entry {
    signatures: &["jsonpatch.escapeKey(string) string"],
    run: |_, a| {
        let key = a.first().and_then(Value::as_str);
        Ok(key.map(|key| Value::from(key.replace('~', "~0").replace('/', "~1"))))
    },
}];
