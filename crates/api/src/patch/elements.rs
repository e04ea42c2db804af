//! The lists of a strategic merge patch: elements merged by their key or as a set, and put in order.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::strategic::{DIRECTIVE, Field, Result, SET_ORDER, contradictory, merge_map, no_merge_key};
use super::{PatchError, show};
use crate::schema::Schema;

/// The patch's elements must come in the order of the directive, and all be in it.
pub(super) fn check_order(patched: &[Value], order: &[Value], merge_key: Option<&str>) -> Result<()> {
    if order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in patched.iter().filter(|i| i.get(DIRECTIVE).is_none()) {
        let wanted = required_ident(item, merge_key)?;
        loop {
            let Some(candidate) = rest.next() else {
                return contradictory(format!(
                    "The order in patch list:\n{}\n doesn't match {SET_ORDER} list:\n{}\n",
                    show::plain(&Value::from(patched)),
                    show::plain(&Value::from(order))
                ));
            };
            if required_ident(candidate, merge_key)? == wanted {
                break;
            }
        }
    }
    Ok(())
}

/// What tells an element from the others: the value under the merge key, or the element itself.
fn ident(item: &Value, merge_key: Option<&str>) -> Option<String> {
    match merge_key {
        Some(key) => item.get(key).map(Value::to_string),
        None => Some(item.to_string()),
    }
}

fn required_ident(item: &Value, merge_key: Option<&str>) -> Result<String> {
    match ident(item, merge_key) {
        Some(ident) => Ok(ident),
        None if item.is_object() => no_merge_key(item, merge_key.unwrap_or_default()),
        None => contradictory(format!(
            "expected a map[string]interface {{}}, but received a {}",
            show::type_name(item)
        )),
    }
}

/// The first position of each element.
pub(super) fn idents(items: &[Value], merge_key: Option<&str>) -> HashMap<String, usize> {
    let mut positions = HashMap::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        if let Some(ident) = ident(item, merge_key) {
            positions.entry(ident).or_insert(i);
        }
    }
    positions
}

/// Elements of `order` in that order; between them the others, in the order they were in and as near as possible to
/// where they stood.
pub(super) fn in_order(
    items: Vec<Value>,
    order: &[Value],
    live: &HashMap<String, usize>,
    merge_key: Option<&str>,
) -> Result<Vec<Value>> {
    let mut wanted = HashMap::with_capacity(order.len());
    for (i, item) in order.iter().enumerate() {
        wanted.entry(required_ident(item, merge_key)?).or_insert(i);
    }
    let mut named = Vec::new();
    let mut others = Vec::new();
    for item in items {
        let ident = required_ident(&item, merge_key)?;
        let stood = live.get(&ident).copied();
        match wanted.get(&ident) {
            Some(at) => named.push((*at, stood, item)),
            None => others.push((stood, item)),
        }
    }
    named.sort_by_key(|(at, _, _)| *at);
    others.sort_by_key(|(stood, _)| stood.unwrap_or(usize::MAX));

    let mut out = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for (_, at, item) in named {
        while let (Some((Some(stood), _)), Some(at)) = (others.peek(), at) {
            if *stood >= at {
                break;
            }
            out.extend(others.next().map(|(_, item)| item));
        }
        out.push(item);
    }
    out.extend(others.map(|(_, item)| item));
    Ok(out)
}

pub(super) fn merge_list(original: Vec<Value>, patch: Vec<Value>, field: &Field<'_>) -> Result<Vec<Value>> {
    if !field.merges() {
        return Ok(patch);
    }
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    let is_map_list = patch.iter().chain(&original).next().is_some_and(Value::is_object);
    let mut all = patch.iter().chain(&original);
    if all.any(Value::is_array) {
        return Err(PatchError::Inapplicable("lists of lists are not supported".into()));
    }
    if patch.iter().chain(&original).any(|v| v.is_object() != is_map_list) {
        return contradictory(format!(
            "list element types are not identical: [{} {}]",
            show::plain(&Value::Array(original)),
            show::plain(&Value::Array(patch))
        ));
    }
    if !is_map_list {
        let live = idents(&original, None);
        let mut merged = original;
        let mut seen = live.clone();
        for item in &patch {
            if seen.insert(item.to_string(), 0).is_none() {
                merged.push(item.clone());
            }
        }
        return in_order(merged, &patch, &live, None);
    }
    let Some(merge_key) = field.merge_key() else {
        return contradictory("cannot merge lists without merge key for map".into());
    };
    merge_maps(original, patch, merge_key, field.schema.and_then(|s| s.items()))
}

fn merge_maps(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    merge_key: &str,
    items: Option<Schema<'_>>,
) -> Result<Vec<Value>> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut replaces = false;
    let mut deleted = HashSet::new();
    for item in patch {
        match item.get(DIRECTIVE) {
            None => {
                required_ident(&item, Some(merge_key))?;
                plain.push(item);
            }
            Some(Value::String(directive)) => match directive.as_str() {
                "delete" => {
                    deleted.insert(required_ident(&item, Some(merge_key))?);
                }
                "replace" => replaces = true,
                "merge" => return contradictory("merging lists cannot yet be specified in the patch".into()),
                _ => return unknown_item_directive(&item),
            },
            Some(_) => return unknown_item_directive(&item),
        }
    }
    if replaces {
        original.clear();
    }
    original.retain(|item| ident(item, Some(merge_key)).is_none_or(|i| !deleted.contains(&i)));
    let live = idents(&original, Some(merge_key));
    let mut positions = live.clone();
    let order: Vec<Value> = plain
        .iter()
        .map(|item| {
            Value::Object(
                item.as_object()
                    .into_iter()
                    .flatten()
                    .filter(|(k, _)| *k == merge_key)
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect(),
            )
        })
        .collect();
    for item in plain {
        let ident = required_ident(&item, Some(merge_key))?;
        let Value::Object(new) = item else { continue };
        match positions.get(&ident).and_then(|at| original.get_mut(*at)) {
            Some(slot) => {
                let old = match slot.take() {
                    Value::Object(old) => old,
                    _ => Map::new(),
                };
                *slot = Value::Object(merge_map(old, new, items)?);
            }
            None => {
                positions.insert(ident, original.len());
                original.push(Value::Object(merge_map(Map::new(), new, items)?));
            }
        }
    }
    in_order(original, &order, &live, Some(merge_key))
}

fn unknown_item_directive<T>(item: &Value) -> Result<T> {
    contradictory(format!(
        "unknown patch type: {} in map: {}",
        show::plain(item.get(DIRECTIVE).unwrap_or(&Value::Null)),
        show::plain(item)
    ))
}
