//! The type table against the schemas that `k8s-openapi` carries: the same types, the same properties, the same kinds of
//! value. A misspelt entry fails here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Schema, Shape, StringFormat, built_in, table};

/// The schemas of every kind of the crate, which bring in those of every other type.
fn crate_schemas() -> BTreeMap<String, Value> {
    let mut generator = schemars::SchemaGenerator::default();
    macro_rules! add {
        ($($module:path { $($kind:ident),* $(,)? })*) => {$({
            use $module as module;
            $(generator.subschema_for::<module::$kind>();)*
        })*};
    }
    add! {
        k8s_openapi::api::admissionregistration::v1 { MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration }
        k8s_openapi::api::admissionregistration::v1alpha1 { MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding }
        k8s_openapi::api::admissionregistration::v1beta1 { MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding }
        k8s_openapi::api::apiserverinternal::v1alpha1 { StorageVersion }
        k8s_openapi::api::apps::v1 { ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet }
        k8s_openapi::api::authentication::v1 { SelfSubjectReview, TokenRequest, TokenReview }
        k8s_openapi::api::authorization::v1 { LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview }
        k8s_openapi::api::autoscaling::v1 { HorizontalPodAutoscaler, Scale }
        k8s_openapi::api::autoscaling::v2 { HorizontalPodAutoscaler }
        k8s_openapi::api::batch::v1 { CronJob, Job }
        k8s_openapi::api::certificates::v1 { CertificateSigningRequest, ClusterTrustBundle, PodCertificateRequest }
        k8s_openapi::api::certificates::v1beta1 { ClusterTrustBundle, PodCertificateRequest }
        k8s_openapi::api::coordination::v1 { Lease }
        k8s_openapi::api::coordination::v1alpha2 { LeaseCandidate }
        k8s_openapi::api::coordination::v1beta1 { LeaseCandidate }
        k8s_openapi::api::core::v1 { Binding, ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, PodTemplate, ReplicationController, ResourceQuota, Secret, Service, ServiceAccount }
        k8s_openapi::api::discovery::v1 { EndpointSlice }
        k8s_openapi::api::events::v1 { Event }
        k8s_openapi::api::flowcontrol::v1 { FlowSchema, PriorityLevelConfiguration }
        k8s_openapi::api::lifecycle::v1alpha1 { Eviction, EvictionRequest }
        k8s_openapi::api::networking::v1 { IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR }
        k8s_openapi::api::node::v1 { RuntimeClass }
        k8s_openapi::api::policy::v1 { Eviction, PodDisruptionBudget }
        k8s_openapi::api::rbac::v1 { ClusterRole, ClusterRoleBinding, Role, RoleBinding }
        k8s_openapi::api::resource::v1 { DeviceClass, DeviceTaintRule, ResourceClaim, ResourceClaimTemplate, ResourceSlice }
        k8s_openapi::api::resource::v1alpha3 { DeviceTaintRule, ResourcePoolStatusRequest }
        k8s_openapi::api::resource::v1beta1 { DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice }
        k8s_openapi::api::resource::v1beta2 { DeviceClass, DeviceTaintRule, ResourceClaim, ResourceClaimTemplate, ResourceSlice }
        k8s_openapi::api::scheduling::v1 { PriorityClass }
        k8s_openapi::api::scheduling::v1alpha3 { CompositePodGroup, PodGroup, Workload }
        k8s_openapi::api::scheduling::v1beta1 { PodGroup, Workload }
        k8s_openapi::api::storage::v1 { CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment, VolumeAttributesClass }
        k8s_openapi::api::storagemigration::v1 { StorageVersionMigration }
        k8s_openapi::api::storagemigration::v1beta1 { StorageVersionMigration }
        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 { CustomResourceDefinition }
        k8s_openapi::apimachinery::pkg::apis::meta::v1 { APIGroup, APIGroupList, APIResourceList, APIVersions, Status }
        k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 { APIService }
    }
    generator.definitions().clone().into_iter().collect()
}

/// What the crate says a value is.
fn theirs(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        return reference.rsplit('/').next().unwrap().to_owned();
    }
    let format = schema["format"].as_str().unwrap_or_default();
    match schema["type"].as_str() {
        Some("array") => format!("[]{}", theirs(&schema["items"])),
        Some("object") if schema["additionalProperties"].is_object() => {
            format!("map:{}", theirs(&schema["additionalProperties"]))
        }
        Some(other) => format!("{other}{}{format}", if format.is_empty() { "" } else { " " }),
        None => schema.to_string(),
    }
}

/// What the table says it is, in the same words.
fn ours(schema: Schema<'_>) -> Vec<String> {
    const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
    let extensions = |name: &str| format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.{name}");
    let wrap = |prefix: &str, inner: Vec<String>| inner.into_iter().map(|i| format!("{prefix}{i}")).collect();
    match schema.shape() {
        Shape::Any => vec![
            "io.k8s.apimachinery.pkg.runtime.RawExtension".into(),
            format!("{META}FieldsV1"),
            extensions("JSON"),
        ],
        Shape::Boolean => vec!["boolean".into()],
        Shape::Integer { bits: 32 } => vec!["integer int32".into()],
        Shape::Integer { .. } => vec!["integer int64".into()],
        Shape::Number => vec!["number double".into()],
        Shape::String(StringFormat::Plain) => vec!["string".into()],
        Shape::String(StringFormat::Bytes) => vec!["string byte".into()],
        Shape::String(StringFormat::Time) => vec![format!("{META}Time")],
        Shape::String(StringFormat::MicroTime) => vec![format!("{META}MicroTime")],
        Shape::String(StringFormat::Duration) => vec!["string".into()],
        Shape::IntOrString => vec!["io.k8s.apimachinery.pkg.util.intstr.IntOrString".into()],
        Shape::Quantity => vec!["io.k8s.apimachinery.pkg.api.resource.Quantity".into()],
        Shape::SchemaOr { or, .. } => vec![extensions(match or {
            super::SchemaOr::Bool => "JSONSchemaPropsOrBool",
            super::SchemaOr::Array => "JSONSchemaPropsOrArray",
            super::SchemaOr::Strings => "JSONSchemaPropsOrStringArray",
        })],
        Shape::List { .. } => wrap("[]", ours(schema.items().unwrap())),
        Shape::Map { .. } => wrap("map:", ours(schema.values().unwrap())),
        Shape::Object(object) => vec![object.name.as_deref().unwrap().to_owned()],
    }
}

#[test]
fn the_committed_table_has_no_line_that_the_reader_does_not_understand() {
    let set = table::read(table::TYPES).unwrap();
    assert!(set.types().count() > 800);
    assert_eq!(set.types().count(), built_in().types().count());
}

#[test]
fn every_type_and_property_agrees_with_the_crates_schemas() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (name, schema) in crate_schemas() {
        let Some(properties) = schema["properties"].as_object() else {
            continue;
        };
        let Some(node) = built_in().type_node(&name) else {
            wrong.push(format!("{name} is missing"));
            continue;
        };
        seen += 1;
        let here = built_in().at(node);
        let listed: BTreeSet<&str> = here
            .object()
            .unwrap()
            .properties
            .iter()
            .map(|p| p.name.as_ref())
            .collect();
        let expected: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        for property in listed.symmetric_difference(&expected) {
            wrong.push(format!("{name}.{property} is only on one side"));
        }
        for (property, value) in properties {
            let Some(mine) = here.property(property) else { continue };
            if !ours(mine).contains(&theirs(value)) {
                wrong.push(format!("{name}.{property}: {:?}, not {}", ours(mine), theirs(value)));
            }
        }
        let required: BTreeSet<&str> = here.object().unwrap().required.iter().map(AsRef::as_ref).collect();
        let expected = schema["required"].as_array().into_iter().flatten();
        // The crate requires metadata of every kind; upstream does not.
        let expected: BTreeSet<&str> = expected
            .filter_map(Value::as_str)
            .filter(|r| *r != "metadata")
            .collect();
        if required != expected {
            wrong.push(format!("{name} requires {required:?}, not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 600, "{seen} types compared");
}

#[test]
fn every_kind_of_the_crate_and_its_list_has_a_row() {
    for (group, version, kind) in [
        ("", "v1", "Pod"),
        ("apps", "v1", "DeploymentList"),
        ("policy", "v1", "Eviction"),
    ] {
        assert!(built_in().kind_node(group, version, kind).is_some(), "{kind}");
    }
}

#[test]
fn protobuf_numbers_are_unique_and_complete() {
    for (name, id) in built_in().types() {
        // Never sent in protobuf.
        if name.contains(".meta.v1.Table") || name.ends_with("version.Info") {
            continue;
        }
        let object = built_in().at(id).object().unwrap();
        let own = object.properties.iter().filter(|p| !p.field.inherited);
        let mut numbers: Vec<u16> = object.inlined.iter().map(|i| i.number).collect();
        for property in own {
            match property.name.as_ref() {
                "apiVersion" | "kind" if property.field.number == 0 => {}
                other => {
                    assert_ne!(property.field.number, 0, "{name}.{other}");
                    numbers.push(property.field.number);
                }
            }
        }
        let unique: BTreeSet<u16> = numbers.iter().copied().collect();
        assert_eq!(unique.len(), numbers.len(), "{name}");
    }
}

#[test]
fn keys_of_lists_are_properties_of_their_elements() {
    for (name, id) in built_in().types() {
        let object = built_in().at(id).object().unwrap();
        for property in &object.properties {
            let here = built_in().at(property.node);
            let Shape::List { list_type, .. } = here.shape() else {
                assert_eq!(property.patch.merge_key, None, "{name}.{}", property.name);
                continue;
            };
            let keys = match list_type {
                super::ListType::Map(keys) => keys.as_slice(),
                _ => &[],
            };
            for key in keys.iter().chain(&property.patch.merge_key) {
                let element = here.items().unwrap();
                assert!(
                    element.property(key).is_some(),
                    "{name}.{}: no key {key}",
                    property.name
                );
            }
        }
    }
}

#[test]
fn inlined_parts_lend_their_properties() {
    let set = built_in();
    let volume = set.at(set.type_node("io.k8s.api.core.v1.Volume").unwrap());
    assert!(volume.property_row("emptyDir").unwrap().field.inherited);
    assert!(!volume.property_row("name").unwrap().field.inherited);
    let claim = set.at(set.type_node("io.k8s.api.core.v1.PersistentVolumeSpec").unwrap());
    assert!(!claim.property("claimRef").unwrap().object().unwrap().atomic);
    assert!(claim.property("claimRef").unwrap().property("name").is_some());
    let reference = set.at(set.type_node("io.k8s.api.core.v1.ObjectReference").unwrap());
    assert!(reference.object().unwrap().atomic);
}
