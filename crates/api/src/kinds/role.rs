//! Role and ClusterRole: what one may do, in a namespace or everywhere.

use super::row::{Row, cluster, namespaced};
use crate::resource::Resource;
use crate::strategy::{NameRule, Strategy};

pub(super) fn role_row() -> Resource {
    shared(namespaced("rbac.authorization.k8s.io", "v1", "Role", "roles"))
}

pub(super) fn cluster_role_row() -> Resource {
    shared(cluster(
        "rbac.authorization.k8s.io",
        "v1",
        "ClusterRole",
        "clusterroles",
    ))
}

fn shared(row: Row) -> Resource {
    row.create_on_update().strategy(Role).build()
}

struct Role;

impl Strategy for Role {
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }
}
