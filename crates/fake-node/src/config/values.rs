//! What values of these files may be taken for, beside what those of every file may.

use std::time::Duration;

use coracle_api::configuration::{ConfigError, Field};
use serde_json::Value;

use super::amount::Amount;
use super::delay::Delay;

/// Reads values that only the lives of fake nodes and pods have.
pub(crate) trait Values {
    fn seed(&self) -> Result<u64, ConfigError>;
    /// A whole number.
    fn size(&self) -> Result<i64, ConfigError>;
    fn prefix_length(&self) -> Result<u8, ConfigError>;
    fn exit_code(&self) -> Result<i32, ConfigError>;
    fn fraction(&self) -> Result<f64, ConfigError>;
    fn delay(&self) -> Result<Delay, ConfigError>;
    /// `never` and `forever` are `None`.
    fn delay_or(&self, none: &str) -> Result<Option<Delay>, ConfigError>;
    fn amount(&self) -> Result<Amount, ConfigError>;
    /// Of several containers, which have no request together.
    fn shared_amount(&self) -> Result<Amount, ConfigError>;
    /// A duration that something is repeated after.
    fn interval(&self) -> Result<Duration, ConfigError>;
}

/// Numbers come without quotes in files and with them in annotations.
fn number<T: std::str::FromStr>(field: &Field<'_>, wanted: &str) -> Result<T, ConfigError> {
    let number = field.written().and_then(|text| text.parse().ok());
    number.ok_or_else(|| field.not(wanted))
}

fn delay(field: &Field<'_>) -> Result<Result<Delay, String>, ConfigError> {
    let text = field.written();
    text.map(|text| Delay::parse(&text))
        .ok_or_else(|| field.not("a duration such as 10s or 1s..5s"))
}

fn amount(field: &Field<'_>, parse: fn(&str) -> Result<Amount, String>) -> Result<Amount, ConfigError> {
    let text = field.written();
    let text = text.ok_or_else(|| field.not("an amount such as 250m, 64Mi or 100m..300m"))?;
    parse(&text).map_err(|e| field.error(e))
}

impl Values for Field<'_> {
    fn seed(&self) -> Result<u64, ConfigError> {
        number(self, "a whole number from 0 on")
    }

    fn size(&self) -> Result<i64, ConfigError> {
        let size: i64 = number(self, "a whole number from 0 on")?;
        match size < 0 {
            true => Err(self.not("a whole number from 0 on")),
            false => Ok(size),
        }
    }

    fn prefix_length(&self) -> Result<u8, ConfigError> {
        number(self, "a prefix length")
    }

    fn exit_code(&self) -> Result<i32, ConfigError> {
        let code: i32 = number(self, "an exit code from 0 to 255")?;
        if (0..=255).contains(&code) {
            Ok(code)
        } else {
            Err(self.not("an exit code from 0 to 255"))
        }
    }

    fn fraction(&self) -> Result<f64, ConfigError> {
        let fraction: f64 = number(self, "a fraction from 0 to 1")?;
        if (0.0..=1.0).contains(&fraction) {
            Ok(fraction)
        } else {
            Err(self.not("a fraction from 0 to 1"))
        }
    }

    fn delay(&self) -> Result<Delay, ConfigError> {
        delay(self)?.map_err(|e| self.error(e))
    }

    fn delay_or(&self, none: &str) -> Result<Option<Delay>, ConfigError> {
        if self.scalar().and_then(Value::as_str) == Some(none) {
            return Ok(None);
        }
        delay(self)?
            .map(Some)
            .map_err(|e| self.error(format!("{e}, or {none}")))
    }

    fn amount(&self) -> Result<Amount, ConfigError> {
        amount(self, Amount::parse)
    }

    fn shared_amount(&self) -> Result<Amount, ConfigError> {
        amount(self, Amount::parse_absolute)
    }

    fn interval(&self) -> Result<Duration, ConfigError> {
        match self.duration()? {
            short if short < Duration::from_secs(1) => Err(self.error("must be at least 1s")),
            interval => Ok(interval),
        }
    }
}
