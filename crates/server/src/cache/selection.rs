//! Which objects of a shard a reader wants: a namespace or one key, and selectors on labels and fields.

use std::sync::Arc;

use coracle_api::resource::Resource;
use coracle_api::selector::{FieldSelector, LabelSelector};
use coracle_api::status::Status;

use super::fields::FieldIndex;
use super::{Item, Shard};

/// See the module.
pub(crate) struct Selection {
    prefix: String,
    /// The one key that can match, when a field selector names the object.
    single: Option<String>,
    labels: LabelSelector,
    fields: Vec<FieldTerm>,
    /// How fields are read, and whether the items keep the values.
    index: Option<(Arc<FieldIndex>, bool)>,
}

struct FieldTerm {
    field: Field,
    equal: bool,
    value: String,
}

enum Field {
    Name,
    Namespace,
    /// A place in the index.
    At(usize),
}

impl Selection {
    /// Everything in a namespace; in all of them when it is empty.
    pub fn all(row: &Resource, namespace: &str) -> Self {
        Self {
            prefix: row.key_prefix(namespace),
            single: None,
            labels: LabelSelector::everything(),
            fields: Vec::new(),
            index: None,
        }
    }

    /// By the selectors of a request.
    pub fn parse(
        row: &Arc<Resource>,
        shard: &Shard,
        namespace: &str,
        label_selector: &str,
        field_selector: &str,
    ) -> Result<Self, Status> {
        let mut selection = Self::all(row, namespace);
        if !label_selector.is_empty() {
            selection.labels = LabelSelector::parse(label_selector).map_err(|e| Status::bad_request(e.to_string()))?;
        }
        if !field_selector.is_empty() {
            let parsed = FieldSelector::parse(field_selector).map_err(|e| Status::bad_request(e.to_string()))?;
            for term in parsed.requirements() {
                selection.add(row, shard, namespace, &term.field, !term.negated, &term.value)?;
            }
        }
        Ok(selection)
    }

    fn add(
        &mut self,
        row: &Arc<Resource>,
        shard: &Shard,
        namespace: &str,
        field: &str,
        equal: bool,
        value: &str,
    ) -> Result<(), Status> {
        let field = match field {
            "metadata.name" => {
                if equal && (!namespace.is_empty() || !row.is_namespaced()) && !value.is_empty() {
                    self.single = Some(row.key(namespace, value));
                }
                Field::Name
            }
            "metadata.namespace" if row.is_namespaced() => {
                if equal && namespace.is_empty() && !value.is_empty() {
                    self.prefix = row.key_prefix(value);
                }
                Field::Namespace
            }
            other => {
                let (index, _) = self.index.get_or_insert_with(|| shard.field_index(row));
                match index.position(other) {
                    Some(at) => Field::At(at),
                    None => return Err(Status::bad_request(format!("field label not supported: {other}"))),
                }
            }
        };
        self.fields.push(FieldTerm {
            field,
            equal,
            value: value.to_owned(),
        });
        Ok(())
    }

    /// All keys that can match start with this.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The only key that can match.
    pub fn single(&self) -> Option<&str> {
        self.single.as_deref()
    }

    /// Whether every object below the prefix matches.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_empty()
    }

    pub fn covers(&self, key: &str) -> bool {
        match &self.single {
            Some(single) => single == key,
            None => key.starts_with(&self.prefix),
        }
    }

    pub fn matches(&self, item: &Item) -> bool {
        let head = item.object.head();
        if !self.labels.is_everything() && !self.labels.matches_head(head) {
            return false;
        }
        if self.fields.is_empty() {
            return true;
        }
        let fresh;
        let values: &[Box<str>] = match &self.index {
            None => &[],
            Some((index, true)) => item.fields(index),
            Some((index, false)) => {
                fresh = index.extract(item.object.raw());
                &fresh
            }
        };
        self.fields.iter().all(|term| {
            let same = match &term.field {
                Field::Name => *head.name == *term.value,
                Field::Namespace => *head.namespace == *term.value,
                Field::At(at) => values.get(*at).is_some_and(|v| **v == *term.value),
            };
            same == term.equal
        })
    }
}
