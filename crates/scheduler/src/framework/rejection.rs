//! Why a node, or the pod as a whole, was turned down.

use std::fmt;
use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

/// Upstream's words, counted per reason in `FailedScheduling`. Those said of many nodes take no memory to say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    Fixed(&'static str),
    /// Too little of this extended resource.
    Insufficient(Arc<str>),
    Text(Arc<str>),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(text) => f.write_str(text),
            Self::Insufficient(resource) => write!(f, "Insufficient {resource}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// What could be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Evicting other pods may help.
    Unschedulable,
    /// It would not.
    Unresolvable,
    /// Something went wrong; the same may work in a moment.
    Error,
}

/// See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reasons: SmallVec<[Reason; 2]>,
    pub severity: Severity,
}

impl Rejection {
    pub const fn reasons(reasons: SmallVec<[Reason; 2]>, severity: Severity) -> Self {
        Self { reasons, severity }
    }

    pub fn new(reason: &'static str) -> Self {
        Self::reasons(smallvec![Reason::Fixed(reason)], Severity::Unschedulable)
    }

    pub fn unresolvable(reason: &'static str) -> Self {
        Self::reasons(smallvec![Reason::Fixed(reason)], Severity::Unresolvable)
    }

    pub fn unresolvable_text(reason: impl Into<String>) -> Self {
        Self::reasons(smallvec![Reason::Text(reason.into().into())], Severity::Unresolvable)
    }

    pub fn error(reason: impl Into<String>) -> Self {
        Self::reasons(smallvec![Reason::Text(reason.into().into())], Severity::Error)
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, reason) in self.reasons.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            reason.fmt(f)?;
        }
        Ok(())
    }
}
