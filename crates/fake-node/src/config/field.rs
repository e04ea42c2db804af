//! A value of a file with the place where it stands, and what it may be taken for.

use std::collections::BTreeMap;

use coracle_api::names::qualified_name;
use serde_json::Value;

use super::ConfigError;
use super::delay::{Delay, duration_ms};
use super::document::Node;

/// A value, the path to it and its line.
#[derive(Clone)]
pub(crate) struct Field<'a> {
    pub(crate) path: String,
    pub(crate) line: u64,
    pub(crate) node: &'a Node,
}

impl<'a> Field<'a> {
    pub(crate) fn wrong(&self, message: impl Into<String>) -> ConfigError {
        ConfigError {
            field: self.path.clone(),
            line: self.line,
            message: message.into(),
        }
    }

    /// What a value of another type is refused with.
    fn not(&self, wanted: &str) -> ConfigError {
        match self.node {
            Node::Scalar(value) => self.wrong(format!("{value} is not {wanted}")),
            Node::List(_) => self.wrong(format!("a list is not {wanted}")),
            Node::Map(_) => self.wrong(format!("a map is not {wanted}")),
        }
    }

    pub(crate) fn scalar(&self) -> Option<&'a Value> {
        match self.node {
            Node::Scalar(value) => Some(value),
            _ => None,
        }
    }

    /// What `read` makes of each item of a list.
    pub(crate) fn each<T>(&self, read: impl Fn(&Self) -> Result<T, ConfigError>) -> Result<Vec<T>, ConfigError> {
        let Node::List(list) = self.node else {
            return Err(self.not("a list"));
        };
        let items = list.iter().enumerate().map(|(n, item)| Field {
            path: format!("{}[{n}]", self.path),
            line: item.referenced.line(),
            node: &item.value,
        });
        items.map(|item| read(&item)).collect()
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
            if entries[..n].iter().any(|(before, _)| before == key) {
                return Err(field.wrong("is there twice"));
            }
        }
        Ok(entries)
    }

    /// A map of known fields.
    pub(crate) fn map(&self) -> Result<Fields<'a>, ConfigError> {
        let entries = self.entries(|key| match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        })?;
        Ok(Fields {
            entries,
            known: Vec::new(),
        })
    }

    /// What `read` makes of each value of a map whose keys are names of labels or resources.
    pub(crate) fn named<T>(
        &self,
        read: impl Fn(&Self) -> Result<T, ConfigError>,
    ) -> Result<BTreeMap<String, T>, ConfigError> {
        let entries = self.entries(|key| format!("{}[{key}]", self.path))?;
        let entry = |(key, field): (&str, Self)| match qualified_name(key).first() {
            Some(problem) => Err(field.wrong(format!("is no name: {problem}"))),
            None => Ok((key.to_owned(), read(&field)?)),
        };
        entries.into_iter().map(entry).collect()
    }

    pub(crate) fn text(&self) -> Result<&'a str, ConfigError> {
        self.scalar().and_then(Value::as_str).ok_or_else(|| self.not("a text"))
    }

    /// Numbers come without quotes in files and with them in annotations.
    fn number<T: std::str::FromStr>(&self, wanted: &str) -> Result<T, ConfigError> {
        let text = match self.scalar() {
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::String(text)) => text.clone(),
            _ => return Err(self.not(wanted)),
        };
        text.parse().map_err(|_| self.not(wanted))
    }

    pub(crate) fn seed(&self) -> Result<u64, ConfigError> {
        self.number("a whole number from 0 on")
    }

    pub(crate) fn switch(&self) -> Result<bool, ConfigError> {
        self.scalar()
            .and_then(Value::as_bool)
            .ok_or_else(|| self.not("true or false"))
    }

    /// A whole number.
    pub(crate) fn size(&self) -> Result<i64, ConfigError> {
        let size: i64 = self.number("a whole number from 0 on")?;
        match size < 0 {
            true => Err(self.not("a whole number from 0 on")),
            false => Ok(size),
        }
    }

    pub(crate) fn prefix_length(&self) -> Result<u8, ConfigError> {
        self.number("a prefix length")
    }

    pub(crate) fn exit_code(&self) -> Result<i32, ConfigError> {
        let code: i32 = self.number("an exit code from 0 to 255")?;
        if (0..=255).contains(&code) {
            Ok(code)
        } else {
            Err(self.not("an exit code from 0 to 255"))
        }
    }

    pub(crate) fn fraction(&self) -> Result<f64, ConfigError> {
        let fraction: f64 = self.number("a fraction from 0 to 1")?;
        if (0.0..=1.0).contains(&fraction) {
            Ok(fraction)
        } else {
            Err(self.not("a fraction from 0 to 1"))
        }
    }

    fn duration_text(&self) -> Result<String, ConfigError> {
        match self.scalar() {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            _ => Err(self.not("a duration such as 10s or 1s..5s")),
        }
    }

    pub(crate) fn delay(&self) -> Result<Delay, ConfigError> {
        Delay::parse(&self.duration_text()?).map_err(|e| self.wrong(e))
    }

    /// `never` and `forever` are `None`.
    pub(crate) fn delay_or(&self, none: &str) -> Result<Option<Delay>, ConfigError> {
        if self.scalar().and_then(Value::as_str) == Some(none) {
            return Ok(None);
        }
        let parsed = Delay::parse(&self.duration_text()?);
        parsed.map(Some).map_err(|e| self.wrong(format!("{e}, or {none}")))
    }

    /// A duration that something is repeated after.
    pub(crate) fn interval(&self) -> Result<std::time::Duration, ConfigError> {
        let ms = duration_ms(&self.duration_text()?).map_err(|e| self.wrong(e))?;
        if ms < 1000 {
            return Err(self.wrong("must be at least 1s"));
        }
        Ok(std::time::Duration::from_millis(ms))
    }
}

/// The fields of a map; [`end`](Self::end) complains of those that nobody asked for.
pub(crate) struct Fields<'a> {
    entries: Vec<(&'a str, Field<'a>)>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The field of this name; one that is null is as good as absent.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<Field<'a>> {
        self.known.push(name);
        let at = self.entries.iter().position(|(key, _)| *key == name)?;
        let (_, field) = self.entries.remove(at);
        (!matches!(field.node, Node::Scalar(Value::Null))).then_some(field)
    }

    /// Those that nobody has asked for, in their order.
    pub(crate) fn rest(self) -> Vec<(&'a str, Field<'a>)> {
        self.entries
    }

    pub(crate) fn end(self) -> Result<(), ConfigError> {
        let Some((_, unknown)) = self.entries.first() else {
            return Ok(());
        };
        let there_are = match self.known.split_last() {
            Some((last, [])) => format!("there is {last}"),
            Some((last, others)) => format!("there are {} and {last}", others.join(", ")),
            None => "there are none here".to_owned(),
        };
        Err(unknown.wrong(format!("unknown field; {there_are}")))
    }
}
