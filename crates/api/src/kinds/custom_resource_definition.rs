//! CustomResourceDefinition: a kind that is added at run time. What its rows are is the server's to make.

use super::row::cluster;
use crate::resource::Resource;

pub(super) fn row() -> Resource {
    cluster(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
    )
    .short(&["crd", "crds"])
    .category("api-extensions")
    .status()
    .generation()
    .conditional_update()
    .build()
}
