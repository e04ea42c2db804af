//! LimitRange: the least, the most and the defaults of what pods in a namespace may ask for.

use super::row::namespaced;
use crate::resource::Resource;

pub(super) fn row() -> Resource {
    namespaced("", "v1", "LimitRange", "limitranges")
        .short(&["limits"])
        .create_on_update()
        .build()
}
