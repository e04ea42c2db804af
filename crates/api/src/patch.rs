//! The four patch kinds: JSON patch, JSON merge patch, strategic merge patch and server-side apply; and who owns which
//! field (`metadata.managedFields`), which every write keeps up to date.
//!
//! Everything here is a function from values to values. Which kinds a resource takes, and the HTTP code of a refusal,
//! is the server's.

pub mod apply;
mod atom;
mod combine;
mod compare;
mod conform;
mod diff;
mod elements;
pub(crate) mod entry;
#[cfg(test)]
mod every_kind;
pub mod fields;
mod json;
pub mod managed;
mod merge;
#[cfg(test)]
mod ownership;
mod show;
mod step;
mod strategic;
#[cfg(test)]
mod testing;

pub use compare::{Comparison, fields_of};
pub use diff::{create_merge_patch, create_strategic_patch};
pub use json::{MAX_COPY_BYTES, MAX_JSON_PATCH_OPERATIONS, apply_json_patch};
pub use merge::apply_merge_patch;
pub use strategic::apply_strategic_patch;

/// Why a patch was not applied, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The body is not a patch of this kind. Upstream answers 400.
    #[error("{0}")]
    Malformed(String),
    /// It has more operations, or would grow the object by more, than is allowed. Upstream answers 413.
    #[error("{0}")]
    TooLarge(String),
    /// It is a patch, but this object cannot take it. Upstream answers 422 with the message "the server rejected our
    /// request due to an error in our request".
    #[error("{0}")]
    Inapplicable(String),
    /// A strategic patch that contradicts the schema or itself. Upstream answers 500 with this message and no reason.
    #[error("{0}")]
    Contradictory(String),
}
