//! What is written in the same transaction as an object because it must never disagree with it: the addresses and ports
//! that a service holds.

use coracle_api::object::Object;
use coracle_api::status::Status;
use coracle_store::{Compare, Op};

use super::Call;

/// More conditions and writes for a transaction.
#[derive(Default)]
pub(crate) struct Plan {
    pub compare: Vec<Compare>,
    pub ops: Vec<Op>,
}

/// Plans what goes with the change from `old` to `new` (which it may complete).
pub(crate) async fn plan(
    call: &Call<'_>,
    old: Option<&Object>,
    new: Option<&mut Object>,
    dry_run: bool,
    plan: &mut Plan,
) -> Result<(), Status> {
    if call.is_core("services") {
        crate::service_ip::plan(call, old, new, dry_run, plan).await?;
    }
    Ok(())
}
