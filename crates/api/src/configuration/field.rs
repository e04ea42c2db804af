//! A value of a file with the place where it stands, and what it may be taken for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use serde_json::Value;

use super::{ConfigError, Node};
use crate::duration;
use crate::names::qualified_name;

/// A value, the path to it and its line.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    pub path: String,
    pub line: u64,
    pub node: &'a Node,
}

impl<'a> Field<'a> {
    pub fn error(&self, message: impl Into<String>) -> ConfigError {
        ConfigError {
            line: self.line,
            field: self.path.clone(),
            message: message.into(),
        }
    }

    /// What a value of another type is refused with.
    pub fn not(&self, wanted: &str) -> ConfigError {
        match self.node {
            Node::Scalar(value) => self.error(format!("{value} is not {wanted}")),
            Node::List(_) => self.error(format!("a list is not {wanted}")),
            Node::Map(_) => self.error(format!("a map is not {wanted}")),
        }
    }

    pub fn scalar(&self) -> Option<&'a Value> {
        match self.node {
            Node::Scalar(value) => Some(value),
            _ => None,
        }
    }

    pub fn text(&self) -> Result<&'a str, ConfigError> {
        self.scalar().and_then(Value::as_str).ok_or_else(|| self.not("a text"))
    }

    /// A text, or a number as a text: `0` is as good as `"0"` for a duration or a quantity.
    pub fn written(&self) -> Option<Cow<'a, str>> {
        match self.scalar()? {
            Value::String(text) => Some(Cow::Borrowed(text)),
            Value::Number(number) => Some(Cow::Owned(number.to_string())),
            _ => None,
        }
    }

    /// Refuses any other text than this.
    pub fn expect(&self, wanted: &str) -> Result<(), ConfigError> {
        match self.text()? {
            found if found == wanted => Ok(()),
            found => Err(self.error(format!("must be {wanted}, not {found:?}"))),
        }
    }

    /// As `15s`, `1m30s` or `100ms`.
    pub fn duration(&self) -> Result<Duration, ConfigError> {
        let text = self.written().ok_or_else(|| self.not("a duration"))?;
        let parsed = duration::parse_length(&text);
        parsed.ok_or_else(|| self.error(format!("{text:?} is no duration; write for example 15s or 1m30s")))
    }

    pub fn bool(&self) -> Result<bool, ConfigError> {
        let value = self.scalar().and_then(Value::as_bool);
        value.ok_or_else(|| self.not("true or false"))
    }

    /// A whole number from `least` to `most`.
    pub fn int<T>(&self, least: T, most: T) -> Result<T, ConfigError>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let number = self.scalar().and_then(Value::as_i64);
        let number = number.ok_or_else(|| self.not("a whole number"))?;
        match T::try_from(number) {
            Ok(number) if (&least..=&most).contains(&&number) => Ok(number),
            _ => Err(self.error(format!("must be from {least} to {most}, not {number}"))),
        }
    }

    pub fn number(&self) -> Result<f64, ConfigError> {
        let value = self.scalar().and_then(Value::as_f64);
        value.ok_or_else(|| self.not("a number"))
    }

    /// Text that a label could be called.
    pub fn label_name(&self) -> Result<&'a str, ConfigError> {
        let text = self.text()?;
        match qualified_name(text).first() {
            Some(problem) => Err(self.error(format!("{text:?} is no label's name: {problem}"))),
            None => Ok(text),
        }
    }

    pub fn list(&self) -> Result<Vec<Self>, ConfigError> {
        let Node::List(list) = self.node else {
            return Err(self.not("a list"));
        };
        let items = list.iter().enumerate().map(|(n, item)| Field {
            path: format!("{}[{n}]", self.path),
            line: item.referenced.line(),
            node: &item.value,
        });
        Ok(items.collect())
    }

    /// What `read` makes of each item of a list.
    pub fn each<T>(&self, read: impl Fn(&Self) -> Result<T, ConfigError>) -> Result<Vec<T>, ConfigError> {
        self.list()?.iter().map(read).collect()
    }

    fn entries(&self, path: impl Fn(&str) -> String) -> Result<Vec<(&'a str, Self)>, ConfigError> {
        let Node::Map(map) = self.node else {
            return Err(self.not("a map"));
        };
        let entries = map.iter().map(|(key, value)| {
            let field = Field {
                path: path(&key.value),
                line: key.referenced.line(),
                node: &value.value,
            };
            (key.value.as_str(), field)
        });
        let entries: Vec<_> = entries.collect();
        for (n, (key, field)) in entries.iter().enumerate() {
            if entries.iter().take(n).any(|(before, _)| before == key) {
                return Err(field.error("is there twice"));
            }
        }
        Ok(entries)
    }

    fn child(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    /// A map of known fields.
    pub fn map(&self) -> Result<Fields<'a>, ConfigError> {
        Ok(Fields {
            entries: self.entries(|key| self.child(key))?,
            of: self.clone(),
            known: Vec::new(),
        })
    }

    /// What `read` makes of each value of a map whose keys are names of labels or resources.
    pub fn named<T>(&self, read: impl Fn(&Self) -> Result<T, ConfigError>) -> Result<BTreeMap<String, T>, ConfigError> {
        let entries = self.entries(|key| format!("{}[{key}]", self.path))?;
        let entry = |(key, field): (&str, Self)| match qualified_name(key).first() {
            Some(problem) => Err(field.error(format!("is no name: {problem}"))),
            None => Ok((key.to_owned(), read(&field)?)),
        };
        entries.into_iter().map(entry).collect()
    }
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
        let (_, field) = self.entries.remove(at);
        (!matches!(field.node, Node::Scalar(Value::Null))).then_some(field)
    }

    /// The same, of one that must be there.
    pub fn require(&mut self, name: &'static str) -> Result<Field<'a>, ConfigError> {
        self.take(name).ok_or_else(|| ConfigError {
            field: self.of.child(name),
            ..self.of.error("is required")
        })
    }

    /// Those that nobody has asked for, in their order.
    pub fn rest(self) -> Vec<(&'a str, Field<'a>)> {
        self.entries
    }

    pub fn end(self) -> Result<(), ConfigError> {
        let Some((_, unknown)) = self.entries.first() else {
            return Ok(());
        };
        let there_are = match self.known.split_last() {
            Some((last, [])) => format!("there is {last}"),
            Some((last, others)) => format!("there are {} and {last}", others.join(", ")),
            None => "there are none here".to_owned(),
        };
        Err(unknown.error(format!("unknown field; {there_are}")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Document;
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
            "line 4: a.b[1].c: \"x\" is not true or false"
        );
        root.end().unwrap();
    }

    #[test]
    fn what_is_missing_twice_there_or_unknown_is_told_with_its_place() {
        let document = Document::parse("a:\n  b: ~\n  c: 1\n").unwrap();
        let mut fields = document.root().map().unwrap().take("a").unwrap().map().unwrap();
        assert_eq!(
            fields.require("b").err().unwrap().to_string(),
            "line 1: a.b: is required"
        );
        fields.take("d");
        assert_eq!(
            fields.end().unwrap_err().to_string(),
            "line 3: a.c: unknown field; there are b and d"
        );
        let error = Document::parse("a: 1\nb: 2\na: 3\n").unwrap_err();
        assert_eq!(error.line, 3, "{error}");
    }

    #[test]
    fn what_is_no_yaml_names_its_line() {
        assert_eq!(Document::parse("a: 1\nb: [1\n").unwrap_err().line, 2);
        assert_eq!(Document::parse("a: 1\nb: .inf\n").unwrap_err().line, 2);
    }

    #[test]
    fn what_nothing_stands_in_has_no_fields() {
        let document = Document::parse(" \n# nothing\n").unwrap();
        let error = document.root().map().unwrap().require("kind").err().unwrap();
        assert_eq!(error.to_string(), "line 1: kind: is required");
    }

    #[test]
    fn a_number_is_as_good_as_its_text_where_there_are_units() {
        let document = Document::parse("[0, '0', 1m30s, 5, ~]\n").unwrap();
        let read = document.root().list().unwrap();
        let read: Vec<_> = read.iter().map(Field::duration).collect();
        let seconds: Vec<_> = read.iter().flatten().map(Duration::as_secs).collect();
        assert_eq!(seconds, [0, 0, 90]);
        let errors: Vec<_> = read
            .iter()
            .filter_map(|r| r.as_ref().err())
            .map(ToString::to_string)
            .collect();
        assert!(errors[0].starts_with("line 1: [3]: \"5\" is no duration"), "{errors:?}");
        assert_eq!(errors[1], "line 1: [4]: null is not a duration");
    }
}
