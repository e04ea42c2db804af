//! Binding: puts one pod on one node. Created, never kept; the pod's `binding` subresource does the same.

use super::row::namespaced;
use crate::resource::{Resource, Verbs};

pub(super) fn row() -> Resource {
    namespaced("", "v1", "Binding", "bindings")
        .verbs(Verbs::CREATE_ONLY)
        .build()
}
