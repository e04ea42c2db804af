//! The OpenAPI documents, made by `coracle_api` when somebody first asks and kept until the table of resources changes.

use std::sync::Arc;

use coracle_api::status::Status;

use crate::core::Core;
use crate::http::{Answer, Inbound};

/// `/openapi/v2`.
pub(crate) fn v2(_core: &Arc<Core>, _inbound: &Inbound) -> Result<Answer, Status> {
    Err(Status::no_such_resource())
}

/// `/openapi/v3`: the paths of all documents with their hashes.
pub(crate) fn v3_root(_core: &Arc<Core>, _inbound: &Inbound) -> Result<Answer, Status> {
    Err(Status::no_such_resource())
}

/// `/openapi/v3/apis/apps/v1`.
pub(crate) fn v3(_core: &Arc<Core>, _inbound: &Inbound, _path: &str) -> Result<Answer, Status> {
    Err(Status::no_such_resource())
}
