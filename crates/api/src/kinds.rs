//! Every built-in kind: one file each, and the list of their rows.
//!
//! A kind's file holds its row, its strategy (defaults, preparation, validation, cells) and the tests of both. What
//! several kinds share has a file of its own: the pod's spec in [`pod_spec`], selectors, quantities, tables.

use jiff::Timestamp;
use serde_json::Value;

use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub mod human_duration;
pub mod pod_spec;

mod cells;
mod check;
mod fill;
mod row;

mod admission_policy;
mod admission_policy_binding;
mod admission_rule;
mod api_service;
mod binding;
mod certificate_signing_request;
mod cluster_trust_bundle;
mod component_status;
mod conditions;
mod config_map;
mod controller_revision;
pub mod cron_job;
mod csi_driver;
mod csi_node;
mod csi_storage_capacity;
pub mod custom_resource_definition;
mod daemon_set;
mod deployment;
mod device;
mod device_class;
mod device_taint_rule;
mod endpoint_slice;
mod endpoints;
mod event;
pub mod flow_control;
mod flow_schema;
mod horizontal_pod_autoscaler;
mod ingress;
mod ingress_class;
mod ip_address;
mod job;
mod lease;
mod limit_range;
mod namespace;
mod network_policy;
mod node;
mod persistent_volume;
mod persistent_volume_claim;
mod pod;
mod pod_certificate_request;
mod pod_disruption_budget;
mod pod_template;
mod policy_expression;
mod priority_class;
mod priority_level_configuration;
mod replica_set;
mod replication_controller;
mod resource_claim;
mod resource_claim_template;
mod resource_quota;
mod resource_slice;
mod review;
mod role;
mod role_binding;
mod runtime_class;
pub mod scale;
mod secret;
mod service;
mod service_account;
mod service_cidr;
mod stateful_set;
mod storage_class;
mod storage_version_migration;
mod volume_attachment;
mod volume_attributes_class;
mod webhook_client;
mod webhook_configuration;
mod workload;

/// The rows of all built-in kinds.
pub fn all() -> Vec<Resource> {
    let mut rows = vec![
        // core
        binding::row(),
        component_status::row(),
        config_map::row(),
        endpoints::row(),
        event::row(),
        limit_range::row(),
        namespace::row(),
        node::row(),
        persistent_volume::row(),
        persistent_volume_claim::row(),
        pod::row(),
        pod_template::row(),
        replication_controller::row(),
        resource_quota::row(),
        secret::row(),
        service::row(),
        service_account::row(),
        // apps, batch, autoscaling, policy
        controller_revision::row(),
        daemon_set::row(),
        deployment::row(),
        replica_set::row(),
        stateful_set::row(),
        cron_job::row(),
        job::row(),
        horizontal_pod_autoscaler::row_v1(),
        horizontal_pod_autoscaler::row_v2(),
        pod_disruption_budget::row(),
        // rbac.authorization.k8s.io, coordination.k8s.io, discovery.k8s.io, events.k8s.io, networking.k8s.io
        role::role_row(),
        role::cluster_role_row(),
        role_binding::role_binding_row(),
        role_binding::cluster_role_binding_row(),
        lease::row(),
        endpoint_slice::row(),
        event::events_row(),
        ingress::row(),
        ingress_class::row(),
        ip_address::row(),
        network_policy::row(),
        service_cidr::row(),
        // scheduling.k8s.io, node.k8s.io, storage.k8s.io, resource.k8s.io
        priority_class::row(),
        runtime_class::row(),
        csi_driver::row(),
        csi_node::row(),
        csi_storage_capacity::row(),
        storage_class::row(),
        volume_attachment::row(),
        volume_attributes_class::row(),
        device_class::row(),
        device_taint_rule::row(),
        resource_claim::row(),
        resource_claim_template::row(),
        resource_slice::row(),
        // what extends the API
        admission_policy::validating_row(),
        admission_policy::mutating_row(),
        admission_policy_binding::validating_row(),
        admission_policy_binding::mutating_row(),
        webhook_configuration::validating_row(),
        webhook_configuration::mutating_row(),
        custom_resource_definition::row(),
        api_service::row(),
        // certificates.k8s.io, flowcontrol.apiserver.k8s.io, storagemigration.k8s.io
        certificate_signing_request::row(),
        cluster_trust_bundle::row(),
        pod_certificate_request::row(),
        flow_schema::row(),
        priority_level_configuration::row(),
        storage_version_migration::row(),
    ];
    // authentication.k8s.io, authorization.k8s.io
    rows.extend(review::rows());
    rows
}

/// A kind without rules of its own. Its table is upstream's default one: Name and Created At.
struct Plain;

impl Strategy for Plain {
    fn cells(&self, object: &Object, _now: Timestamp) -> Vec<Value> {
        cells::created_at_cells(object)
    }
}

#[cfg(test)]
mod walk;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{Registry, Verbs};
    use serde_json::json;
    use std::collections::BTreeMap;

    #[test]
    fn every_row_has_as_many_cells_as_columns() {
        let now: Timestamp = "2024-01-01T00:00:00Z".parse().unwrap();
        for row in all() {
            let object = Object::from_value(json!({"metadata": {"name": "x"}})).unwrap();
            let cells = row.strategy.cells(&object, now);
            assert_eq!(cells.len(), row.columns.len(), "{row:?}");
            assert!(row.columns.iter().any(|c| c.name == "Name"), "{row:?}");
        }
    }

    #[test]
    fn every_row_has_its_schema() {
        for row in all() {
            assert!(row.schema().object().is_some(), "{row:?}");
        }
    }

    #[test]
    fn no_two_rows_serve_the_same_path_or_kind() {
        let mut paths = BTreeMap::new();
        for row in all() {
            let path = format!("{}/{}/{}", row.group, row.version, row.plural);
            assert!(paths.insert(path, ()).is_none(), "{row:?}");
        }
        let table = Registry::built_in().table();
        for row in table.iter() {
            assert_eq!(
                table.by_kind(&row.group, &row.version, &row.kind).unwrap().plural,
                row.plural
            );
        }
    }

    #[test]
    fn rows_that_share_a_prefix_are_versions_of_one_kind() {
        let mut owners: BTreeMap<String, String> = BTreeMap::new();
        for row in all() {
            let owner = format!("{} {}", row.kind, row.storage.api_version);
            let first = owners
                .entry(row.storage.prefix.to_string())
                .or_insert_with(|| owner.clone());
            assert_eq!(*first, owner);
        }
    }

    #[test]
    fn objects_are_kept_where_upstream_keeps_them() {
        let table = Registry::built_in().table();
        for (group, version, plural, prefix) in [
            ("", "v1", "pods", "pods"),
            ("", "v1", "services", "services/specs"),
            ("", "v1", "endpoints", "services/endpoints"),
            ("", "v1", "nodes", "minions"),
            ("", "v1", "replicationcontrollers", "controllers"),
            ("", "v1", "events", "events"),
            ("events.k8s.io", "v1", "events", "events"),
            ("networking.k8s.io", "v1", "ingresses", "ingress"),
            ("apps", "v1", "deployments", "deployments"),
            ("rbac.authorization.k8s.io", "v1", "clusterroles", "clusterroles"),
            (
                "apiextensions.k8s.io",
                "v1",
                "customresourcedefinitions",
                "apiextensions.k8s.io/customresourcedefinitions",
            ),
        ] {
            assert_eq!(table.get(group, version, plural).unwrap().storage.prefix, prefix);
        }
    }

    #[test]
    fn a_status_that_nobody_wrote_is_what_upstream_prints_of_it() {
        let table = Registry::built_in().table();
        let reset = |group: &str, version: &str, plural: &str| {
            let row = table.get(group, version, plural).unwrap();
            let mut object = Object::from_value(json!({"status": {"phase": "forged"}})).unwrap();
            row.reset_status(&mut object);
            object.get(&["status"]).cloned().unwrap_or_default()
        };
        for (group, version, plural, status) in [
            ("apps", "v1", "deployments", json!({})),
            ("apps", "v1", "replicasets", json!({"replicas": 0})),
            (
                "apps",
                "v1",
                "statefulsets",
                json!({"replicas": 0, "availableReplicas": 0}),
            ),
            ("", "v1", "services", json!({"loadBalancer": {}})),
            ("networking.k8s.io", "v1", "ingresses", json!({"loadBalancer": {}})),
            ("apiregistration.k8s.io", "v1", "apiservices", json!({})),
            (
                "policy",
                "v1",
                "poddisruptionbudgets",
                json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}),
            ),
        ] {
            assert_eq!(reset(group, version, plural), status, "{plural}");
        }
        // Every kind with a status has one from the start.
        for row in table.iter().filter(|row| row.has_status()) {
            assert!(reset(&row.group, &row.version, &row.plural).is_object(), "{row:?}");
        }
    }

    #[test]
    fn reviews_and_bindings_are_created_and_never_kept() {
        for row in all() {
            let review = row.group.starts_with("auth") && row.group.ends_with(".k8s.io");
            assert_eq!(
                row.verbs == Verbs::CREATE_ONLY,
                (review && !row.group.starts_with("autoscaling")) || row.kind == "Binding",
                "{row:?}"
            );
        }
    }
}
