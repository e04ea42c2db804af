//! Field selector values, taken from an object's bytes without building the object.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use coracle_api::object::Object;
use coracle_api::resource::{Name, Resource};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// How the selectable fields of one row are read. Which fields those are, and what they mean, the kind's strategy
/// says; a field that it reads plainly (the scalar at the path) is taken from the bytes, for speed.
pub(crate) struct FieldIndex {
    paths: Vec<Name>,
    /// What an absent field reads as.
    zeros: Vec<Box<str>>,
    plain: Tree,
    /// Fields that the strategy computes.
    computed: Vec<usize>,
    row: Arc<Resource>,
}

impl FieldIndex {
    pub fn new(row: &Arc<Resource>) -> Self {
        let mut index = Self {
            paths: row.selectable_fields.clone(),
            zeros: Vec::new(),
            plain: Tree::default(),
            computed: Vec::new(),
            row: row.clone(),
        };
        let needs_conversion = row.convert.is_some();
        for (i, path) in row.selectable_fields.iter().enumerate() {
            index
                .zeros
                .push(row.strategy.selectable_field(&Object::default(), path).into());
            let mut probe = Object::default();
            probe.set(&path.split('.').collect::<Vec<_>>(), "probe");
            if !needs_conversion && row.strategy.selectable_field(&probe, path) == "probe" {
                index.plain.add(path, i);
            } else {
                index.computed.push(i);
            }
        }
        index
    }

    pub fn position(&self, path: &str) -> Option<usize> {
        self.paths.iter().position(|p| p == path)
    }

    pub fn paths(&self) -> &[Name] {
        &self.paths
    }

    /// The values of all fields of the object in these stored bytes.
    pub fn extract(&self, raw: &[u8]) -> Box<[Box<str>]> {
        let mut found: Vec<Option<Box<str>>> = vec![None; self.paths.len()];
        if !self.plain.below.is_empty() {
            let mut from = serde_json::Deserializer::from_slice(raw);
            // The bytes were JSON when they were stored; what cannot be read selects as absent.
            let _ = Pick {
                tree: &self.plain,
                found: &mut found,
            }
            .deserialize(&mut from);
        }
        if !self.computed.is_empty() {
            let mut object: Object = serde_json::from_slice(raw).unwrap_or_default();
            if let Some(convert) = &self.row.convert {
                convert.to_served(&mut object);
            }
            for i in &self.computed {
                if let (Some(path), Some(slot)) = (self.paths.get(*i), found.get_mut(*i)) {
                    *slot = Some(self.row.strategy.selectable_field(&object, path).into());
                }
            }
        }
        found
            .into_iter()
            .zip(&self.zeros)
            .map(|(value, zero)| value.unwrap_or_else(|| zero.clone()))
            .collect()
    }
}

#[derive(Default)]
struct Tree {
    /// The path that ends here.
    here: Option<usize>,
    below: HashMap<String, Tree>,
}

impl Tree {
    fn add(&mut self, path: &str, index: usize) {
        let mut at = self;
        for step in path.split('.') {
            at = at.below.entry(step.to_owned()).or_default();
        }
        at.here = Some(index);
    }
}

struct Pick<'a> {
    tree: &'a Tree,
    found: &'a mut Vec<Option<Box<str>>>,
}

impl Pick<'_> {
    fn keep(self, value: &str) {
        if let Some(slot) = self.tree.here.and_then(|i| self.found.get_mut(i))
            && !value.is_empty()
        {
            *slot = Some(value.into());
        }
    }
}

impl<'de> DeserializeSeed<'de> for Pick<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Pick<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match self.tree.below.get(key.as_ref()) {
                Some(tree) => map.next_value_seed(Pick {
                    tree,
                    found: &mut *self.found,
                })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, v: &str) -> Result<(), E> {
        self.keep(v);
        Ok(())
    }

    fn visit_bool<E>(self, v: bool) -> Result<(), E> {
        self.keep(if v { "true" } else { "false" });
        Ok(())
    }

    fn visit_i64<E>(self, v: i64) -> Result<(), E> {
        self.keep(&v.to_string());
        Ok(())
    }

    fn visit_u64<E>(self, v: u64) -> Result<(), E> {
        self.keep(&v.to_string());
        Ok(())
    }

    fn visit_f64<E>(self, v: f64) -> Result<(), E> {
        self.keep(&v.to_string());
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}
