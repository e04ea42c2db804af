//! Label selectors and field selectors: parsed once, matched many times. What fields a kind offers is its row's.

mod field;
mod label;
mod parse;

pub use field::{FieldRequirement, FieldSelector};
pub use label::{LabelSelector, Operator, Requirement, validate_label_selector};

/// The longest selector that is read; a request line holds no more.
pub const MAX_SELECTOR_BYTES: usize = 1024 * 1024;

/// Why a selector cannot be used, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

impl SelectorError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}
