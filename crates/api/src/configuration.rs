//! Configuration files, of YAML or JSON: a document as it stands there, every value with its line, and a reader
//! ([`Field`]) that takes values for what is wanted or says which field on which line is wrong. No I/O.

mod field;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_saphyr::Spanned;

pub use field::{Field, Fields};

/// A file that cannot be used: the first mistake, since further ones might only follow from it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{field}{}{message}", place(*.line), if field.is_empty() { "" } else { ": " })]
pub struct ConfigError {
    /// From 1; 0 when nobody knows.
    pub line: u64,
    /// As `profiles[0].schedulerName`. Empty for the file as a whole.
    pub field: String,
    pub message: String,
}

fn place(line: u64) -> String {
    if line == 0 {
        String::new()
    } else {
        format!("line {line}: ")
    }
}

/// A value of a file.
#[derive(Debug)]
pub enum Node {
    Scalar(Value),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Node;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("YAML")
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Scalar(Value::Null))
            }

            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Scalar(Value::Null))
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
                Node::deserialize(deserializer)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Scalar(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Scalar(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Scalar(value.into()))
            }

            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
                let number = Number::from_f64(value).ok_or_else(|| E::custom("a number must be finite"))?;
                Ok(Node::Scalar(Value::Number(number)))
            }

            fn visit_str<E>(self, value: &str) -> Result<Node, E> {
                Ok(Node::Scalar(value.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut out = Vec::new();
                while let Some(item) = seq.next_element()? {
                    out.push(item);
                }
                Ok(Node::List(out))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut out = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    out.push(entry);
                }
                Ok(Node::Map(out))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// A whole file.
#[derive(Debug)]
pub struct Document {
    root: Node,
    line: u64,
}

impl Document {
    /// From YAML, of which JSON is a part. A text with nothing in it is a map of no fields.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let is_empty = |l: &str| l.trim().is_empty() || l.trim_start().starts_with('#');
        if text.lines().all(is_empty) {
            let root = Node::Map(Vec::new());
            return Ok(Self { root, line: 1 });
        }
        let root: Spanned<Node> = serde_saphyr::from_str(text).map_err(|error| syntax(&error))?;
        Ok(Self {
            line: root.referenced.line(),
            root: root.value,
        })
    }

    pub fn root(&self) -> Field<'_> {
        Field {
            path: String::new(),
            line: self.line,
            node: &self.root,
        }
    }
}

/// An error of the parser, by its place. The place is told once, and how to program the parser not at all.
fn syntax(error: &serde_saphyr::Error) -> ConfigError {
    let text = error.without_snippet().to_string();
    let end = [" at line ", ", set DuplicateKeyPolicy"]
        .into_iter()
        .filter_map(|mark| text.find(mark));
    let message = text[..end.min().unwrap_or(text.len())].to_owned();
    ConfigError {
        line: error.location().map_or(0, |l| l.line()),
        field: String::new(),
        message,
    }
}
