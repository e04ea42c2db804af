//! A value of a file with the place where it stands, and what it may be taken for.

use serde_json::Value;
use serde_saphyr::Spanned;

use super::ConfigError;
use super::delay::{Delay, duration_ms};

/// A value, the path to it and its line.
pub(crate) struct Field<'a> {
    pub(crate) path: String,
    pub(crate) line: u64,
    pub(crate) value: &'a Value,
}

impl<'a> Field<'a> {
    pub(crate) fn new(path: impl Into<String>, spanned: &'a Spanned<Value>) -> Self {
        Self {
            path: path.into(),
            line: spanned.referenced.line(),
            value: &spanned.value,
        }
    }

    pub(crate) fn wrong(&self, message: impl Into<String>) -> ConfigError {
        ConfigError {
            field: self.path.clone(),
            line: self.line,
            message: message.into(),
        }
    }

    /// What a value of another type is refused with.
    fn not(&self, wanted: &str) -> ConfigError {
        self.wrong(format!("{} is not {wanted}", self.value))
    }

    pub(crate) fn text(&self) -> Result<&'a str, ConfigError> {
        self.value.as_str().ok_or_else(|| self.not("a text"))
    }

    /// Numbers come without quotes in files and with them in annotations.
    fn number<T: std::str::FromStr>(&self, wanted: &str) -> Result<T, ConfigError> {
        let text = match self.value {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.clone(),
            _ => return Err(self.not(wanted)),
        };
        text.parse().map_err(|_| self.not(wanted))
    }

    pub(crate) fn seed(&self) -> Result<u64, ConfigError> {
        self.number("a whole number from 0 on")
    }

    pub(crate) fn switch(&self) -> Result<bool, ConfigError> {
        self.value.as_bool().ok_or_else(|| self.not("true or false"))
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
        match self.value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            _ => Err(self.not("a duration such as 10s or 1s..5s")),
        }
    }

    pub(crate) fn delay(&self) -> Result<Delay, ConfigError> {
        Delay::parse(&self.duration_text()?).map_err(|e| self.wrong(e))
    }

    /// `never` and `forever` are `None`.
    pub(crate) fn delay_or(&self, none: &str) -> Result<Option<Delay>, ConfigError> {
        if self.value.as_str() == Some(none) {
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
