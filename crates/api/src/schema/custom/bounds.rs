//! How large the values of a custom resource's schema can be: what its rules may cost is reckoned from it. Where a schema
//! sets no bound, a request does.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::cel::{Bound, Within, escape};

/// The largest request, as upstream assumes it for this.
const REQUEST: u64 = 3 << 20;

/// Of one schema.
pub(crate) struct Bounds {
    pub bound: Bound,
    /// The fewest bytes that such a value takes in a request.
    least: u64,
}

impl Bounds {
    /// Nothing for what no expression can see.
    pub fn new(schema: &Json, is_resource: bool) -> Option<Self> {
        Self::at(schema, is_resource, 0)
    }

    /// How often such a value can be in one request, when nothing above it says how often.
    pub fn most_in_a_request(&self) -> u64 {
        REQUEST / (self.least + 1)
    }

    fn plain(most: u64, least: u64) -> Self {
        Self {
            bound: Bound {
                most,
                within: Within::Nothing,
            },
            least,
        }
    }

    fn at(schema: &Json, is_resource: bool, depth: usize) -> Option<Self> {
        if depth > super::MOST_DEPTH {
            return None;
        }
        let below = |schema: &Json| {
            let embedded = super::flag(schema, "x-kubernetes-embedded-resource");
            Self::at(schema, embedded, depth + 1)
        };
        let number = |key: &str| {
            let found = schema.get(key)?;
            found
                .as_i64()
                .map(|n| u64::try_from(n).unwrap_or(0))
                .or_else(|| found.as_u64())
        };
        // A length is of characters, each of up to four bytes.
        let length = number("maxLength").map(|most| most.saturating_mul(4));
        if super::flag(schema, "x-kubernetes-int-or-string") {
            return Some(Self::plain(length.unwrap_or(REQUEST - 2), 1));
        }
        let text = |key: &str| schema.get(key).and_then(Json::as_str).unwrap_or_default();
        match text("type") {
            "boolean" => Some(Self::plain(0, 4)),
            "integer" | "number" => Some(Self::plain(0, 1)),
            "string" => Some(match text("format") {
                "byte" => Self::plain(number("maxLength").unwrap_or(REQUEST - 2), 2),
                "duration" => Self::plain(32, 3),
                "date" => Self::plain(12, 12),
                "date-time" | "datetime" => Self::plain(32, 21),
                _ => Self::plain(length.or_else(|| longest(schema)).unwrap_or(REQUEST - 2), 2),
            }),
            "array" => {
                let items = below(schema.get("items")?)?;
                let most = number("maxItems").unwrap_or((REQUEST - 2) / (items.least + 1));
                Some(Self {
                    bound: Bound {
                        most,
                        within: Within::Items(Box::new(items.bound)),
                    },
                    least: 2,
                })
            }
            "object" => match schema.get("additionalProperties") {
                Some(values @ Json::Object(_)) => {
                    let values = below(values)?;
                    let most = number("maxProperties").unwrap_or((REQUEST - 2) / (values.least + 6));
                    Some(Self {
                        bound: Bound {
                            most,
                            within: Within::Map(Box::new(values.bound)),
                        },
                        least: 2,
                    })
                }
                _ => Some(Self::object(schema, is_resource, below)),
            },
            _ => None,
        }
    }

    fn object(schema: &Json, is_resource: bool, below: impl Fn(&Json) -> Option<Self>) -> Self {
        let required = |name: &str| {
            let names = schema.get("required").and_then(Json::as_array);
            names.into_iter().flatten().any(|n| n.as_str() == Some(name))
        };
        let mut fields = BTreeMap::new();
        let mut least = 2;
        for (name, property) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
            let Some(of) = below(property) else { continue };
            // What has a default need not be in the request.
            if required(name) && property.get("default").is_none_or(Json::is_null) {
                least += name.len() as u64 + of.least + 4;
            }
            if let Some(name) = escape(name) {
                fields.insert(name, of.bound);
            }
        }
        if is_resource {
            let string = || Self::plain(REQUEST - 2, 2).bound;
            let names = ["name", "generateName"].map(|name| (name.to_owned(), string()));
            let metadata = Bound {
                most: 0,
                within: Within::Fields(BTreeMap::from(names)),
            };
            fields.extend([("apiVersion".to_owned(), string()), ("kind".to_owned(), string())]);
            fields.insert("metadata".to_owned(), metadata);
        }
        Self {
            bound: Bound {
                most: 0,
                within: Within::Fields(fields),
            },
            least,
        }
    }
}

/// The longest of the values that a string may have.
fn longest(schema: &Json) -> Option<u64> {
    let values = schema.get("enum")?.as_array().filter(|v| !v.is_empty())?;
    Some(
        values
            .iter()
            .filter_map(Json::as_str)
            .map(|v| v.len() as u64)
            .max()
            .unwrap_or(0),
    )
}
