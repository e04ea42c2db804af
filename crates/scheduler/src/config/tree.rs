//! A configuration file as it stands there, every value with its line; and a reader that turns it into what is wanted, or
//! says which field on which line is wrong.

use std::fmt;

use coracle_api::names::qualified_name;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// What is wrong with a configuration, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// From 1; 0 if it is not known.
    pub line: u64,
    /// As `profiles[0].schedulerName`; empty for the file as a whole.
    pub field: String,
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

#[derive(Debug)]
enum Tree {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
}

impl Tree {
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("YAML")
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }

            fn visit_none<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
                Tree::deserialize(deserializer)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Int(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(i64::try_from(value).map_or(Tree::Float(value as f64), Tree::Int))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Float(value))
            }

            fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
                let mut out = Vec::new();
                while let Some(item) = seq.next_element()? {
                    out.push(item);
                }
                Ok(Tree::List(out))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut out = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    out.push(entry);
                }
                Ok(Tree::Map(out))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// A whole file.
#[derive(Debug)]
pub struct Document(Spanned<Tree>);

impl Document {
    /// From YAML, of which JSON is a part.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        serde_saphyr::from_str(text).map(Self).map_err(|error| ConfigError {
            line: error.location().map_or(0, |l| l.line()),
            field: String::new(),
            message: error.to_string(),
        })
    }

    pub fn root(&self) -> Field<'_> {
        Field {
            path: String::new(),
            line: self.0.referenced.line(),
            tree: &self.0.value,
        }
    }
}

/// A value, where it stands.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    path: String,
    line: u64,
    tree: &'a Tree,
}

impl<'a> Field<'a> {
    pub fn error(&self, message: impl Into<String>) -> ConfigError {
        ConfigError {
            line: self.line,
            field: self.path.clone(),
            message: message.into(),
        }
    }

    fn unexpected(&self, wanted: &str) -> ConfigError {
        self.error(format!("must be {wanted}, not {}", self.tree.kind()))
    }

    pub fn text(&self) -> Result<&'a str, ConfigError> {
        match self.tree {
            Tree::Text(text) => Ok(text),
            _ => Err(self.unexpected("text")),
        }
    }

    pub fn bool(&self) -> Result<bool, ConfigError> {
        match self.tree {
            Tree::Bool(value) => Ok(*value),
            _ => Err(self.unexpected("true or false")),
        }
    }

    /// A whole number from `least` to `most`.
    pub fn int(&self, least: i64, most: i64) -> Result<i64, ConfigError> {
        match self.tree {
            Tree::Int(n) if (least..=most).contains(n) => Ok(*n),
            Tree::Int(n) if most == i64::MAX => Err(self.error(format!("must be at least {least}, not {n}"))),
            Tree::Int(n) => Err(self.error(format!("must be from {least} to {most}, not {n}"))),
            _ => Err(self.unexpected("a whole number")),
        }
    }

    pub fn number(&self) -> Result<f64, ConfigError> {
        match self.tree {
            Tree::Int(n) => Ok(*n as f64),
            Tree::Float(n) => Ok(*n),
            _ => Err(self.unexpected("a number")),
        }
    }

    pub fn list(&self) -> Result<Vec<Field<'a>>, ConfigError> {
        let Tree::List(list) = self.tree else {
            return Err(self.unexpected("a list"));
        };
        let items = list.iter().enumerate().map(|(i, item)| Field {
            path: format!("{}[{i}]", self.path),
            line: item.referenced.line(),
            tree: &item.value,
        });
        Ok(items.collect())
    }

    /// What `read` makes of each item of a list.
    pub fn each<T>(&self, read: impl Fn(&Field<'a>) -> Result<T, ConfigError>) -> Result<Vec<T>, ConfigError> {
        self.list()?.iter().map(read).collect()
    }

    /// Text that a label could be called.
    pub fn label_name(&self) -> Result<&'a str, ConfigError> {
        let text = self.text()?;
        match qualified_name(text).first() {
            Some(problem) => Err(self.error(format!("{text:?} is no label's name: {problem}"))),
            None => Ok(text),
        }
    }

    pub fn map(&self) -> Result<Fields<'a>, ConfigError> {
        let Tree::Map(map) = self.tree else {
            return Err(self.unexpected("a map"));
        };
        let mut entries: Vec<(&'a str, Field<'a>)> = Vec::new();
        for (key, value) in map {
            let path = match self.path.as_str() {
                "" => key.value.clone(),
                path => format!("{path}.{}", key.value),
            };
            let field = Field {
                path,
                line: key.referenced.line(),
                tree: &value.value,
            };
            if entries.iter().any(|(known, _)| *known == key.value) {
                return Err(field.error("is there twice"));
            }
            entries.push((&key.value, field));
        }
        Ok(Fields {
            of: self.clone(),
            entries,
            known: Vec::new(),
        })
    }

    /// As `15s`, `1m30s` or `100ms`.
    pub fn duration(&self) -> Result<std::time::Duration, ConfigError> {
        let text = self.text()?;
        duration(text).ok_or_else(|| self.error(format!("{text:?} is no duration; write for example 15s or 1m30s")))
    }
}

fn duration(text: &str) -> Option<std::time::Duration> {
    if text == "0" {
        return Some(std::time::Duration::ZERO);
    }
    let mut rest = text;
    let mut millis = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..];
        let length = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        millis += number
            * match &unit[..length] {
                "ms" => 1.0,
                "s" => 1e3,
                "m" => 60e3,
                "h" => 3600e3,
                _ => return None,
            };
        rest = &unit[length..];
    }
    (!text.is_empty()).then(|| std::time::Duration::from_millis(millis as u64))
}

/// The fields of a map; [`end`](Self::end) complains of those that nobody asked for.
pub struct Fields<'a> {
    of: Field<'a>,
    entries: Vec<(&'a str, Field<'a>)>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The field of this name; one that is null is as good as absent.
    pub fn take(&mut self, name: &'static str) -> Option<Field<'a>> {
        self.known.push(name);
        let at = self.entries.iter().position(|(key, _)| *key == name)?;
        let (_, field) = self.entries.swap_remove(at);
        (!matches!(field.tree, Tree::Null)).then_some(field)
    }

    /// The same, of one that must be there.
    pub fn require(&mut self, name: &'static str) -> Result<Field<'a>, ConfigError> {
        let of = self.of.clone();
        self.take(name).ok_or_else(|| ConfigError {
            field: if of.path.is_empty() {
                name.to_owned()
            } else {
                format!("{}.{name}", of.path)
            },
            ..of.error("is required")
        })
    }

    pub fn end(self) -> Result<(), ConfigError> {
        let first = self.entries.into_iter().min_by_key(|(_, field)| field.line);
        match first {
            None => Ok(()),
            Some((_, field)) => Err(field.error(format!("is no field here; there are {}", self.known.join(", ")))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_know_where_they_stand() {
        let document = Document::parse("a:\n  b:\n  - 1\n  - c: x\n").unwrap();
        let mut root = document.root().map().unwrap();
        let b = root.take("a").unwrap().map().unwrap().take("b").unwrap();
        let items = b.list().unwrap();
        assert_eq!(items[0].int(0, 5), Ok(1));
        assert_eq!(
            items[0].int(2, 5).unwrap_err().to_string(),
            "line 3: a.b[0]: must be from 2 to 5, not 1"
        );
        let c = items[1].map().unwrap().take("c").unwrap();
        assert_eq!(
            c.bool().unwrap_err().to_string(),
            "line 4: a.b[1].c: must be true or false, not text"
        );
        root.end().unwrap();
    }

    #[test]
    fn what_is_no_yaml_names_its_line() {
        assert_eq!(Document::parse("a: 1\nb: [1\n").unwrap_err().line, 2);
    }

    #[test]
    fn durations_are_written_as_in_go() {
        for (text, millis) in [
            ("15s", Some(15_000)),
            ("1m30s", Some(90_000)),
            ("1.5s", Some(1500)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("5", None),
            ("-5s", None),
            ("", None),
        ] {
            assert_eq!(duration(text).map(|d| d.as_millis()), millis, "{text}");
        }
    }
}
