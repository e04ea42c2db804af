//! Asking whether somebody may do something, as rules on requests can. Such rules are typed when they are stored; no value
//! of these types is ever made.

use super::{Entry, Found};
use crate::cel::eval::Run;
use crate::cel::value::Value;

pub(super) const ALL: &[Entry] = &[Entry {
    signatures: &[
        "Authorizer.path(string) PathCheck",
        "Authorizer.group(string) GroupCheck",
        "Authorizer.serviceAccount(string, string) Authorizer",
        "GroupCheck.resource(string) ResourceCheck",
        "ResourceCheck.subresource(string) ResourceCheck",
        "ResourceCheck.namespace(string) ResourceCheck",
        "ResourceCheck.name(string) ResourceCheck",
        "ResourceCheck.fieldSelector(string) ResourceCheck",
        "ResourceCheck.labelSelector(string) ResourceCheck",
        "PathCheck.check(string) Decision",
        "ResourceCheck.check(string) Decision",
        "Decision.allowed() bool",
        "Decision.errored() bool",
        "Decision.reason() string",
        "Decision.error() string",
    ],
    run: no_such_value,
}];

fn no_such_value(_: &mut Run<'_>, _: &[Value]) -> Found {
    Ok(None)
}
