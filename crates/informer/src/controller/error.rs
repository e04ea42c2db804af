//! Why a reconcile failed, and whether trying again may help.

use std::fmt;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// What a reconcile fails with: any error, by `?`. It is tried again, unless it is [terminal](Self::terminal).
#[derive(Debug)]
pub struct Error {
    source: Source,
    terminal: bool,
}

impl Error {
    /// Trying again cannot help until the object changes: it is logged and left.
    pub fn terminal(error: impl Into<Source>) -> Self {
        Self {
            source: error.into(),
            terminal: true,
        }
    }

    /// A failure in words, to be tried again.
    pub fn message(message: impl Into<String>) -> Self {
        Self {
            source: message.into().into(),
            terminal: false,
        }
    }

    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// The client's error, if that is what it was.
    pub fn client(&self) -> Option<&coracle_client::Error> {
        self.source.downcast_ref()
    }

    /// A write found that its object has changed: the cache will soon say how.
    pub fn is_conflict(&self) -> bool {
        self.client().is_some_and(coracle_client::Error::is_conflict)
    }
}

/// Not an `std::error::Error` itself, so that every such error converts into it.
impl<E: std::error::Error + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Self {
            source: error.into(),
            terminal: false,
        }
    }
}

/// The error and what caused it, in one line.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        let mut cause = self.source.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
