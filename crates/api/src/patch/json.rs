//! JSON patch (RFC 6902), with the leniencies that clients of upstream rely on: an index may be negative (counted from
//! the end), replacing an absent key adds it, and testing an absent key for null succeeds. The messages are matched by
//! clients in the wild, which is why no library does this.

use serde_json::Value;

use super::PatchError;

/// The most operations one patch may have.
pub const MAX_JSON_PATCH_OPERATIONS: usize = 10_000;

/// How many bytes all `copy` operations of one patch may add.
pub const MAX_COPY_BYTES: usize = 3 * 1024 * 1024;

/// How many elements all operations of one patch may shift in lists: a bound on work, not met by honest patches.
const MAX_SHIFTED: usize = 50_000_000;

/// What the operations so far have cost.
#[derive(Default)]
struct Spent {
    copied_bytes: usize,
    shifted: usize,
}

impl Spent {
    fn shift(&mut self, elements: usize) -> Result<(), PatchError> {
        self.shifted += elements;
        if self.shifted > MAX_SHIFTED {
            return Err(PatchError::TooLarge(format!(
                "The allowed maximum of list elements that a JSON patch moves is {MAX_SHIFTED}: send the list as a whole"
            )));
        }
        Ok(())
    }
}

/// Applies a decoded patch. On error the object may have been changed in part: work on a copy.
pub fn apply_json_patch(object: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let Value::Array(operations) = patch else {
        return Err(PatchError::Malformed("a JSON patch is an array of operations".into()));
    };
    if operations.len() > MAX_JSON_PATCH_OPERATIONS {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {MAX_JSON_PATCH_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let mut spent = Spent::default();
    for operation in operations {
        apply(object, operation, &mut spent)?;
    }
    Ok(())
}

/// How many elements are behind the place where one is put in or taken out.
fn behind(parent: &Value, key: &str) -> usize {
    match parent {
        Value::Array(items) => items.len() - index(key, items.len()).map_or(items.len(), |at| at.min(items.len())),
        _ => 0,
    }
}

fn inapplicable<T>(text: String) -> Result<T, PatchError> {
    Err(PatchError::Inapplicable(text))
}

/// A field of the operation that is a pointer.
fn pointer<'a>(operation: &'a Value, kind: &str, field: &str) -> Result<&'a str, PatchError> {
    match operation.get(field) {
        Some(Value::String(path)) => Ok(path),
        _ => inapplicable(format!(
            "{kind} operation failed to decode {field}: operation missing {field} field: missing value"
        )),
    }
}

fn apply(object: &mut Value, operation: &Value, spent: &mut Spent) -> Result<(), PatchError> {
    let kind = operation.get("op").and_then(Value::as_str).unwrap_or("unknown");
    let value = || operation.get("value").cloned().unwrap_or(Value::Null);
    match kind {
        "add" => {
            let path = pointer(operation, kind, "path")?;
            let Some((parent, key)) = find(object, path) else {
                return inapplicable(format!(
                    "add operation does not apply: doc is missing path: \"{path}\": missing value"
                ));
            };
            spent.shift(behind(parent, &key))?;
            insert(parent, &key, value()).or_else(|e| inapplicable(format!("error in add for path: '{path}': {e}")))
        }
        "remove" => {
            let path = pointer(operation, kind, "path")?;
            let Some((parent, key)) = find(object, path) else {
                return inapplicable(format!(
                    "remove operation does not apply: doc is missing path: \"{path}\": missing value"
                ));
            };
            spent.shift(behind(parent, &key))?;
            match remove(parent, &key) {
                Ok(_) => Ok(()),
                Err(e) => inapplicable(format!("error in remove for path: '{path}': {e}")),
            }
        }
        "replace" => replace(object, pointer(operation, kind, "path")?, value()),
        "move" => {
            let from = pointer(operation, kind, "from")?;
            let path = pointer(operation, kind, "path")?;
            let Some((parent, key)) = find(object, from) else {
                return inapplicable(format!(
                    "move operation does not apply: doc is missing from path: {from}: missing value"
                ));
            };
            spent.shift(behind(parent, &key))?;
            let moved =
                remove(parent, &key).or_else(|e| inapplicable(format!("error in move for path: '{key}': {e}")))?;
            let Some((parent, key)) = find(object, path) else {
                return inapplicable(format!(
                    "move operation does not apply: doc is missing destination path: {path}: missing value"
                ));
            };
            spent.shift(behind(parent, &key))?;
            insert(parent, &key, moved).or_else(|e| inapplicable(format!("error in move for path: '{path}': {e}")))
        }
        "copy" => copy(object, operation, spent),
        "test" => test(object, pointer(operation, kind, "path")?, operation.get("value")),
        other => inapplicable(format!("Unexpected kind: {other}")),
    }
}

fn replace(object: &mut Value, path: &str, value: Value) -> Result<(), PatchError> {
    if path.is_empty() {
        if !value.is_object() {
            return inapplicable("replace operation value must be object or array".into());
        }
        *object = value;
        return Ok(());
    }
    match find(object, path) {
        None => inapplicable(format!(
            "replace operation does not apply: doc is missing path: {path}: missing value"
        )),
        Some((Value::Array(items), key)) => match index(&key, items.len()).map(|i| items.get_mut(i)) {
            Ok(Some(slot)) => {
                *slot = value;
                Ok(())
            }
            _ => inapplicable(format!(
                "replace operation does not apply: doc is missing key: {path}: missing value"
            )),
        },
        Some((parent, key)) => {
            insert(parent, &key, value).or_else(|e| inapplicable(format!("error in replace for path: '{path}': {e}")))
        }
    }
}

fn copy(object: &mut Value, operation: &Value, spent: &mut Spent) -> Result<(), PatchError> {
    let from = pointer(operation, "copy", "from")?;
    let path = pointer(operation, "copy", "path")?;
    let Some((parent, key)) = find(object, from) else {
        return inapplicable(format!(
            "copy operation does not apply: doc is missing from path: {from}: missing value"
        ));
    };
    let value = get(parent, &key).or_else(|e| inapplicable(format!("error in copy for from: '{from}': {e}")))?;
    let value = value.cloned().unwrap_or(Value::Null);
    spent.copied_bytes += encoded_len(&value);
    let copied = spent.copied_bytes;
    if copied > MAX_COPY_BYTES {
        return Err(PatchError::TooLarge(format!(
            "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit \
             {MAX_COPY_BYTES}"
        )));
    }
    let Some((parent, key)) = find(object, path) else {
        return inapplicable(format!(
            "copy operation does not apply: doc is missing destination path: {path}: missing value"
        ));
    };
    spent.shift(behind(parent, &key))?;
    insert(parent, &key, value).or_else(|e| inapplicable(format!("error while adding value during copy: {e}")))
}

fn test(object: &mut Value, path: &str, expected: Option<&Value>) -> Result<(), PatchError> {
    let expected = expected.unwrap_or(&Value::Null);
    let failed = || inapplicable(format!("testing value {path} failed: test failed"));
    if path.is_empty() {
        return if object == expected { Ok(()) } else { failed() };
    }
    let Some((parent, key)) = find(object, path) else {
        return inapplicable(format!(
            "test operation does not apply: is missing path: {path}: missing value"
        ));
    };
    let actual = get(parent, &key).or_else(|e| inapplicable(format!("error in test for path: '{path}': {e}")))?;
    if actual.unwrap_or(&Value::Null) == expected {
        Ok(())
    } else {
        failed()
    }
}

/// The container that `path` ends in, and its last step.
fn find<'v>(object: &'v mut Value, path: &str) -> Option<(&'v mut Value, String)> {
    let (parents, last) = path.rsplit_once('/')?;
    let mut at = object;
    for step in parents.split('/').skip(1) {
        let step = decode(step);
        at = match at {
            Value::Array(items) => {
                let i = index(&step, items.len()).ok()?;
                items.get_mut(i)?
            }
            Value::Object(map) => map.get_mut(&step)?,
            _ => return None,
        };
    }
    matches!(at, Value::Array(_) | Value::Object(_)).then(|| (at, decode(last)))
}

fn decode(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

/// A position in a list of `len`; negative ones count from the end.
fn index(step: &str, len: usize) -> Result<usize, String> {
    let number: i64 = step
        .parse()
        .map_err(|_| format!("strconv.Atoi: parsing {step:?}: invalid syntax"))?;
    let invalid = || format!("Unable to access invalid index: {number}: invalid index referenced");
    let at = if number < 0 { number + len as i64 } else { number };
    usize::try_from(at).map_err(|_| invalid())
}

fn get<'v>(parent: &'v Value, key: &str) -> Result<Option<&'v Value>, String> {
    match parent {
        Value::Array(items) => match items.get(index(key, items.len())?) {
            Some(item) => Ok(Some(item)),
            None => Err(format!(
                "Unable to access invalid index: {key}: invalid index referenced"
            )),
        },
        other => Ok(other.get(key)),
    }
}

fn insert(parent: &mut Value, key: &str, value: Value) -> Result<(), String> {
    match parent {
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => {
            let at = index(key, items.len() + 1).map_err(|e| {
                if key.parse::<i64>().is_ok() {
                    e
                } else {
                    format!("value was not a proper array index: '{key}': {e}")
                }
            })?;
            if at > items.len() {
                return Err(format!(
                    "Unable to access invalid index: {key}: invalid index referenced"
                ));
            }
            items.insert(at, value);
        }
        Value::Object(map) => {
            map.insert(key.to_owned(), value);
        }
        _ => return Err("invalid state detected".into()),
    }
    Ok(())
}

fn remove(parent: &mut Value, key: &str) -> Result<Value, String> {
    match parent {
        Value::Array(items) => {
            let at = index(key, items.len())?;
            if at >= items.len() {
                return Err(format!(
                    "Unable to access invalid index: {key}: invalid index referenced"
                ));
            }
            Ok(items.remove(at))
        }
        Value::Object(map) => map
            .remove(key)
            .ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value")),
        _ => Err("invalid state detected".into()),
    }
}

/// How long the value is as JSON, escapes not counted.
fn encoded_len(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(|v| encoded_len(v) + 1).sum::<usize>(),
        Value::Object(map) => 2 + map.iter().map(|(k, v)| k.len() + encoded_len(v) + 4).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn patched(mut object: Value, patch: Value) -> Result<Value, PatchError> {
        apply_json_patch(&mut object, &patch).map(|()| object)
    }

    #[test]
    fn every_operation_does_what_the_standard_says() {
        for (object, patch, result) in [
            (
                json!({}),
                json!([{"op": "add", "path": "/a", "value": 1}]),
                json!({"a": 1}),
            ),
            (
                json!({"a": [1, 3]}),
                json!([{"op": "add", "path": "/a/1", "value": 2}]),
                json!({"a": [1, 2, 3]}),
            ),
            (
                json!({"a": [1]}),
                json!([{"op": "add", "path": "/a/-", "value": 2}]),
                json!({"a": [1, 2]}),
            ),
            (
                json!({"a": 1, "b": 2}),
                json!([{"op": "remove", "path": "/a"}]),
                json!({"b": 2}),
            ),
            (
                json!({"a": [1, 2]}),
                json!([{"op": "remove", "path": "/a/0"}]),
                json!({"a": [2]}),
            ),
            (
                json!({"a": 1}),
                json!([{"op": "replace", "path": "/a", "value": null}]),
                json!({"a": null}),
            ),
            (
                json!({"a": {"b": 1}}),
                json!([{"op": "move", "from": "/a/b", "path": "/c"}]),
                json!({"a": {}, "c": 1}),
            ),
            (
                json!({"a": 1}),
                json!([{"op": "copy", "from": "/a", "path": "/b"}]),
                json!({"a": 1, "b": 1}),
            ),
            (
                json!({"a/b~": 1}),
                json!([{"op": "test", "path": "/a~1b~0", "value": 1}]),
                json!({"a/b~": 1}),
            ),
            (
                json!({"a": 1}),
                json!([{"op": "replace", "path": "", "value": {"b": 2}}]),
                json!({"b": 2}),
            ),
        ] {
            assert_eq!(patched(object, patch.clone()).unwrap(), result, "{patch}");
        }
    }

    #[test]
    fn what_upstream_tolerates_is_tolerated() {
        for (object, patch, result) in [
            (
                json!({}),
                json!([{"op": "replace", "path": "/a", "value": 1}]),
                json!({"a": 1}),
            ),
            (
                json!({"a": [1, 2]}),
                json!([{"op": "remove", "path": "/a/-1"}]),
                json!({"a": [1]}),
            ),
            (
                json!({"a": [1, 2]}),
                json!([{"op": "replace", "path": "/a/-1", "value": 3}]),
                json!({"a": [1, 3]}),
            ),
            (
                json!({"a": [1]}),
                json!([{"op": "add", "path": "/a/-1", "value": 2}]),
                json!({"a": [1, 2]}),
            ),
            (
                json!({}),
                json!([{"op": "test", "path": "/a", "value": null}]),
                json!({}),
            ),
        ] {
            assert_eq!(patched(object, patch.clone()).unwrap(), result, "{patch}");
        }
    }

    #[test]
    fn refusals_are_worded_as_upstreams() {
        for (patch, text) in [
            (
                json!([{"op": "remove", "path": "/x"}]),
                "error in remove for path: '/x': Unable to remove nonexistent key: x: missing value",
            ),
            (
                json!([{"op": "add", "path": "/x/y", "value": 1}]),
                "add operation does not apply: doc is missing path: \"/x/y\": missing value",
            ),
            (
                json!([{"op": "replace", "path": "/x/y", "value": 1}]),
                "replace operation does not apply: doc is missing path: /x/y: missing value",
            ),
            (
                json!([{"op": "replace", "path": "/a/7", "value": 1}]),
                "replace operation does not apply: doc is missing key: /a/7: missing value",
            ),
            (
                json!([{"op": "add", "path": "/a/7", "value": 1}]),
                "error in add for path: '/a/7': Unable to access invalid index: 7: invalid index referenced",
            ),
            (
                json!([{"op": "add", "path": "/a/x", "value": 1}]),
                "error in add for path: '/a/x': value was not a proper array index: 'x': strconv.Atoi: parsing \"x\": \
                 invalid syntax",
            ),
            (
                json!([{"op": "test", "path": "/a", "value": 1}]),
                "testing value /a failed: test failed",
            ),
            (json!([{"op": "jump"}]), "Unexpected kind: jump"),
            (
                json!([{"op": "move", "from": "/x", "path": "/y"}]),
                "error in move for path: 'x': Unable to remove nonexistent key: x: missing value",
            ),
        ] {
            assert_eq!(
                patched(json!({"a": [1]}), patch).unwrap_err(),
                PatchError::Inapplicable(text.into())
            );
        }
        assert!(matches!(patched(json!({}), json!({})), Err(PatchError::Malformed(_))));
    }

    #[test]
    fn a_patch_is_bounded_in_operations_and_growth() {
        let many = vec![json!({"op": "test", "path": "/x", "value": null}); MAX_JSON_PATCH_OPERATIONS + 1];
        assert_eq!(
            patched(json!({}), Value::Array(many)).unwrap_err(),
            PatchError::TooLarge("The allowed maximum operations in a JSON patch is 10000, got 10001".into())
        );
        let shifting = vec![json!({"op": "add", "path": "/a/0", "value": 1}); MAX_JSON_PATCH_OPERATIONS];
        assert!(matches!(
            patched(json!({"a": vec![0; 10_000]}), Value::Array(shifting)),
            Err(PatchError::TooLarge(_))
        ));
        let doubling = vec![json!({"op": "copy", "from": "/a", "path": "/a/-"}); 64];
        assert!(matches!(
            patched(json!({"a": ["x"]}), Value::Array(doubling)),
            Err(PatchError::TooLarge(_))
        ));
    }
}
