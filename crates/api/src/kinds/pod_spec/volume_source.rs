//! What is in a volume: one source, and what each sort of source requires. PersistentVolumes use the same rules where
//! they have the same sources.

use std::collections::BTreeSet;

use super::super::check::{named_if_set, not_empty, one_of_if_set, signer_name};
use super::super::persistent_volume_claim;
use super::environment::{FILE_FIELDS, field_ref, resource_field_ref};
use super::iscsi;
use crate::field::{Cursor, ErrorList};
use crate::meta;
use crate::names;
use crate::selector::validate_label_selector;

const ONLY_ONE: &str = "may not specify more than 1 volume type";
const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Every source, with the fields that it cannot do without.
const SOURCES: [(&str, &[&str]); 31] = [
    ("emptyDir", &[]),
    ("hostPath", &[]),
    ("gitRepo", &["repository"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("secret", &["secretName"]),
    ("nfs", &["server", "path"]),
    ("iscsi", &[]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("persistentVolumeClaim", &["claimName"]),
    ("rbd", &["monitors", "image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &["monitors"]),
    ("quobyte", &["volume"]),
    ("downwardAPI", &[]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("configMap", &["name"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("storageos", &["volumeName"]),
    ("projected", &[]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("csi", &[]),
    ("ephemeral", &[]),
    ("image", &[]),
    ("local", &["path"]),
];

/// Refuses the absence of what a source cannot do without.
pub(in crate::kinds) fn required_fields(source: &Cursor<'_>, kind: &str, errors: &mut ErrorList) {
    let fields = SOURCES
        .iter()
        .find(|(name, _)| *name == kind)
        .map_or(&[][..], |(_, fields)| fields);
    for field in fields {
        not_empty(&source.at(field), errors);
    }
}

/// The rules for the source of a pod's volume.
pub(super) fn pod_source(volume: &Cursor<'_>, pod_name: Option<&str>, errors: &mut ErrorList) {
    let mut found = false;
    for (kind, _) in SOURCES {
        if kind == "local" {
            continue;
        }
        let source = volume.at(kind);
        if !source.is_set() {
            continue;
        }
        if found {
            errors.forbidden(&source, ONLY_ONE);
            continue;
        }
        found = true;
        required_fields(&source, kind, errors);
        one_source(volume, &source, kind, pod_name, errors);
    }
    if !found {
        errors.required(volume, "must specify a volume type");
    }
}

fn one_source(volume: &Cursor<'_>, source: &Cursor<'_>, kind: &str, pod_name: Option<&str>, errors: &mut ErrorList) {
    match kind {
        "emptyDir" => {
            let limit = source.at("sizeLimit");
            if limit.quantity().is_some_and(|q| q.is_negative()) {
                errors.forbidden(&limit, "SizeLimit field must be a valid resource quantity");
            }
        }
        "hostPath" => host_path(source, errors),
        "gitRepo" => local_descending_path(&source.at("directory"), errors),
        "secret" | "configMap" => {
            file_mode(&source.at("defaultMode"), errors);
            keys(&source.at("items"), errors);
        }
        "iscsi" => {
            iscsi::validate(source, "must be valid format starting with iqn, eui, or naa", errors);
            let name = volume.at("name");
            if iscsi::portal_is_too_long(source, name.str()) {
                errors.invalid(&name, iscsi::LONG_PORTAL);
            }
        }
        "downwardAPI" => {
            file_mode(&source.at("defaultMode"), errors);
            for file in source.at("items").items() {
                downward_file(source, &file, errors);
            }
        }
        "projected" => projected(source, errors),
        "csi" => {
            csi_driver_name(&source.at("driver"), errors);
            let secret = source.at("nodePublishSecretRef");
            if secret.is_set() {
                not_empty(&secret.at("name"), errors);
                named_if_set(&secret.at("name"), names::dns1123_subdomain, errors);
            }
        }
        "ephemeral" => ephemeral(volume, source, pod_name, errors),
        "image" => {
            not_empty(&source.at("reference"), errors);
            one_of_if_set(&source.at("pullPolicy"), &["Always", "IfNotPresent", "Never"], errors);
        }
        "cinder" | "storageos" => {
            let secret = source.at("secretRef");
            if secret.is_set() {
                not_empty(&secret.at("name"), errors);
            }
            plugin(source, kind, errors);
        }
        _ => plugin(source, kind, errors),
    }
}

/// Sources of plugins, the same in pods and PersistentVolumes.
pub(in crate::kinds) fn plugin(source: &Cursor<'_>, kind: &str, errors: &mut ErrorList) {
    match kind {
        "gcePersistentDisk" | "awsElasticBlockStore" => {
            let partition = source.at("partition");
            if !(0..=255).contains(&partition.int()) {
                errors.invalid(&partition, "must be between 1 and 255, inclusive");
            }
        }
        "nfs" => {
            let path = source.at("path");
            if !path.str().starts_with('/') {
                errors.invalid_value(&path, &path.str().into(), "must be an absolute path");
            }
        }
        "fc" => fibre_channel(source, errors),
        "flocker" => {
            let (name, uuid) = (source.at("datasetName"), source.at("datasetUUID"));
            if name.is_empty() && uuid.is_empty() {
                errors.required(source, "one of datasetName and datasetUUID is required");
            }
            if !name.is_empty() && !uuid.is_empty() {
                errors.invalid_value(
                    source,
                    &"resource".into(),
                    "datasetName and datasetUUID can not be specified simultaneously",
                );
            }
            if name.str().contains('/') {
                errors.invalid(&name, "must not contain '/'");
            }
        }
        "flexVolume" => {
            for (key, option) in source.at("options").entries() {
                let domain = format!(".{}", key.split('/').next().unwrap_or(key).to_lowercase());
                if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
                    errors.invalid_value(&option, &key.into(), "kubernetes.io and k8s.io namespaces are reserved");
                }
            }
        }
        "azureDisk" => azure_disk(source, errors),
        "quobyte" => {
            let registry = source.at("registry");
            let detail = "must be a host:port pair or multiple pairs separated by commas";
            if registry.is_empty() {
                errors.required(&registry, detail);
            } else if source.at("tenant").str().len() >= 65 {
                errors.required(
                    &source.at("tenant"),
                    "must be a UUID and may not exceed a length of 64 characters",
                );
            } else if !registry.str().split(',').all(|pair| pair.contains(':')) {
                errors.invalid(&registry, detail);
            }
        }
        "storageos" => {
            named_if_set(&source.at("volumeName"), names::dns1123_label, errors);
            named_if_set(&source.at("volumeNamespace"), names::dns1123_label, errors);
        }
        _ => {}
    }
}

fn fibre_channel(source: &Cursor<'_>, errors: &mut ErrorList) {
    let (targets, wwids, lun) = (source.at("targetWWNs"), source.at("wwids"), source.at("lun"));
    match (targets.is_empty(), wwids.is_empty()) {
        (true, true) => errors.required(&targets, "must specify either targetWWNs or wwids, but not both"),
        (false, false) => errors.invalid(&targets, "targetWWNs and wwids can not be specified simultaneously"),
        _ => {}
    }
    if !targets.is_empty() {
        match lun.i64() {
            None => errors.required(&lun, "lun is required if targetWWNs is specified"),
            Some(n) => errors.faults(&lun, names::in_range(n, 0, 255)),
        }
    }
}

fn azure_disk(source: &Cursor<'_>, errors: &mut ErrorList) {
    one_of_if_set(&source.at("cachingMode"), &["None", "ReadOnly", "ReadWrite"], errors);
    let kind = source.at("kind");
    one_of_if_set(&kind, &["Dedicated", "Managed", "Shared"], errors);
    let uri = source.at("diskURI");
    if !kind.is_set() {
        return;
    }
    let (prefix, form) = if kind.str() == "Managed" {
        (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        )
    } else {
        (
            "https://",
            "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd",
        )
    };
    if !uri.str().starts_with(prefix) {
        errors.not_supported_value(&uri, &uri.str().into(), &[form]);
    }
}

pub(in crate::kinds) fn host_path(source: &Cursor<'_>, errors: &mut ErrorList) {
    let path = source.at("path");
    if path.is_empty() {
        errors.required(&path, "");
        return;
    }
    no_backsteps(&path, errors);
    one_of_if_set(
        &source.at("type"),
        &[
            "",
            "BlockDevice",
            "CharDevice",
            "Directory",
            "DirectoryOrCreate",
            "File",
            "FileOrCreate",
            "Socket",
        ],
        errors,
    );
}

pub(in crate::kinds) fn csi_driver_name(name: &Cursor<'_>, errors: &mut ErrorList) {
    not_empty(name, errors);
    if name.is_empty() {
        return;
    }
    if name.str().len() > 63 {
        errors.too_long(name, 63);
    }
    errors.faults(name, names::dns1123_subdomain(&name.str().to_lowercase()));
}

fn ephemeral(volume: &Cursor<'_>, source: &Cursor<'_>, pod_name: Option<&str>, errors: &mut ErrorList) {
    let template = source.at("volumeClaimTemplate");
    if !template.is_set() {
        errors.required(&template, "");
        return;
    }
    let metadata = template.at("metadata");
    meta::validate_template(&metadata, errors);
    for (field, value) in metadata.entries() {
        if !matches!(field, "annotations" | "labels" | "creationTimestamp") && !value.is_empty() {
            errors.forbidden(&metadata.at(field), "cannot be set");
        }
    }
    persistent_volume_claim::validate_spec(&template.at("spec"), errors);
    let name = volume.at("name");
    if let Some(pod) = pod_name.filter(|p| !p.is_empty())
        && !name.is_empty()
    {
        let claim = format!("{pod}-{}", name.str());
        for fault in names::dns1123_subdomain(&claim) {
            errors.invalid(&name, format!("PVC name {claim:?}: {fault}"));
        }
    }
}

fn file_mode(mode: &Cursor<'_>, errors: &mut ErrorList) {
    if mode.i64().is_some_and(|m| !is_file_mode(m)) {
        errors.invalid(mode, FILE_MODE);
    }
}

fn is_file_mode(mode: i64) -> bool {
    (0..=0o777).contains(&mode)
}

fn keys(items: &Cursor<'_>, errors: &mut ErrorList) {
    for item in items.items() {
        not_empty(&item.at("key"), errors);
        let path = item.at("path");
        not_empty(&path, errors);
        local_path(&path, errors);
        file_mode(&item.at("mode"), errors);
    }
}

/// Upstream tells of a file as if what is wrong were the volume's (or source's): its paths have neither list nor index.
fn downward_file(volume: &Cursor<'_>, file: &Cursor<'_>, errors: &mut ErrorList) {
    let (path, place) = (file.at("path"), volume.said("path"));
    if path.is_empty() {
        errors.required(&place, "");
    }
    local_path_at(&place, path.str(), errors);
    let (field, resource) = (file.at("fieldRef"), file.at("resourceFieldRef"));
    match (field.is_set(), resource.is_set()) {
        (true, both) => {
            field_ref(&field, &volume.said("fieldRef"), &FILE_FIELDS, errors);
            if both {
                errors.invalid_value(
                    volume,
                    &"resource".into(),
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                );
            }
        }
        (false, true) => resource_field_ref(&resource, &volume.said("resourceFieldRef"), true, errors),
        (false, false) => errors.required(volume, "one of fieldRef and resourceFieldRef is required"),
    }
    if let Some(mode) = file.at("mode").i64().filter(|m| !is_file_mode(*m)) {
        errors.invalid_value(&volume.said("mode"), &mode.into(), FILE_MODE);
    }
}

fn projected(volume: &Cursor<'_>, errors: &mut ErrorList) {
    file_mode(&volume.at("defaultMode"), errors);
    let mut paths = BTreeSet::new();
    let mut claim_path = |path: &str, shown: &str, errors: &mut ErrorList| {
        if !path.is_empty() && !paths.insert(path.to_owned()) {
            errors.invalid_value(volume, &shown.into(), "conflicting duplicate paths");
        }
    };
    for source in volume.at("sources").items() {
        let mut count = 0;
        for kind in ["secret", "configMap"] {
            let map = source.at(kind);
            if !map.is_set() {
                continue;
            }
            count += 1;
            let name = map.at("name");
            not_empty(&name, errors);
            keys(&map.at("items"), errors);
            for item in map.at("items").items() {
                claim_path(item.at("path").str(), name.str(), errors);
            }
        }
        let downward = source.at("downwardAPI");
        if downward.is_set() {
            count += 1;
            for file in downward.at("items").items() {
                downward_file(&downward, &file, errors);
                let path = file.at("path");
                claim_path(path.str(), path.str(), errors);
            }
        }
        let token = source.at("serviceAccountToken");
        if token.is_set() {
            count += 1;
            service_account_token(volume, &token, errors);
        }
        let bundle = source.at("clusterTrustBundle");
        if bundle.is_set() {
            count += 1;
            trust_bundle(&bundle, errors);
            let path = bundle.at("path");
            claim_path(path.str(), path.str(), errors);
        }
        let certificate = source.at("podCertificate");
        if certificate.is_set() {
            count += 1;
            pod_certificate(&certificate, errors);
            for field in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
                let path = certificate.at(field);
                claim_path(path.str(), path.str(), errors);
            }
        }
        if count > 1 {
            errors.forbidden(&source, "may not specify more than 1 volume type per source");
        }
    }
}

fn service_account_token(volume: &Cursor<'_>, token: &Cursor<'_>, errors: &mut ErrorList) {
    let seconds = token.at("expirationSeconds");
    if seconds.int() < 600 {
        errors.invalid(&seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds.int() > 1 << 32 {
        errors.invalid(&seconds, "may not specify a duration larger than 2^32 seconds");
    }
    // Upstream tells of a token's path as if it were the volume's.
    let (path, place) = (token.at("path"), volume.said("path"));
    if path.is_empty() {
        errors.required(&place, "");
    } else {
        local_path_at(&place, path.str(), errors);
    }
}

fn trust_bundle(bundle: &Cursor<'_>, errors: &mut ErrorList) {
    let (name, signer) = (bundle.at("name"), bundle.at("signerName"));
    let selector = bundle.at("labelSelector");
    match (name.is_set(), signer.is_set()) {
        (true, true) => errors.invalid(bundle, "only one of name and signerName may be used"),
        (true, false) => {
            if name.is_empty() {
                errors.required(&name, "must be a valid object name");
            }
            // A bundle of a signer has the signer's name in front: `example.com:foo:bar`.
            let last = name.str().rsplit(':').next().unwrap_or_default();
            for fault in names::dns1123_subdomain(last) {
                errors.invalid(&name, format!("not a valid clustertrustbundlename: {fault}"));
            }
            if selector.is_set() {
                errors.invalid(&selector, "labelSelector must be unset if name is specified");
            }
        }
        (false, true) => {
            if signer.is_empty() {
                errors.required(&signer, "must be a valid signer name");
            }
            signer_name(&signer, errors);
            validate_label_selector(&selector, errors);
        }
        (false, false) => errors.required(bundle, "either name or signerName must be specified"),
    }
    let path = bundle.at("path");
    not_empty(&path, errors);
    local_path(&path, errors);
}

fn pod_certificate(certificate: &Cursor<'_>, errors: &mut ErrorList) {
    signer_name(&certificate.at("signerName"), errors);
    let key = certificate.at("keyType");
    if !matches!(
        key.str(),
        "RSA3072" | "RSA4096" | "ECDSAP256" | "ECDSAP384" | "ECDSAP521" | "ED25519"
    ) {
        errors.not_supported(
            &key,
            &["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"],
        );
    }
    let seconds = certificate.at("maxExpirationSeconds");
    if let Some(n) = seconds.i64() {
        if n < 3600 {
            errors.invalid(&seconds, "if provided, maxExpirationSeconds must be >= 3600");
        }
        if n > 91 * 86400 {
            errors.invalid(&seconds, "if provided, maxExpirationSeconds must be <= 7862400");
        }
    }
    let fields = ["credentialBundlePath", "keyPath", "certificateChainPath"];
    if fields.iter().all(|f| certificate.at(f).is_empty()) {
        errors.required(
            certificate,
            "specify at least one of credentialBundlePath, keyPath, and certificateChainPath",
        );
    }
    for field in fields {
        local_path(&certificate.at(field), errors);
    }
}

/// A relative path that stays below where it starts.
pub(in crate::kinds) fn local_descending_path(path: &Cursor<'_>, errors: &mut ErrorList) {
    local_descending(path, path.str(), errors);
}

/// The same of a path that is told of somewhere else than where it is.
pub(super) fn local_descending(place: &Cursor<'_>, path: &str, errors: &mut ErrorList) {
    if path.starts_with('/') {
        errors.invalid_value(place, &path.into(), "must be a relative path");
    }
    if has_backsteps(path) {
        errors.invalid_value(place, &path.into(), "must not contain '..'");
    }
}

/// [`local_descending_path`] whose name is not one of the volume's own (`..data`).
pub(super) fn local_path(path: &Cursor<'_>, errors: &mut ErrorList) {
    local_path_at(path, path.str(), errors);
}

fn local_path_at(place: &Cursor<'_>, path: &str, errors: &mut ErrorList) {
    local_descending(place, path, errors);
    if path.starts_with("..") && path != ".." && !path.starts_with("../") {
        errors.invalid_value(place, &path.into(), "must not start with '..'");
    }
}

pub(in crate::kinds) fn no_backsteps(path: &Cursor<'_>, errors: &mut ErrorList) {
    if has_backsteps(path.str()) {
        errors.invalid(path, "must not contain '..'");
    }
}

fn has_backsteps(path: &str) -> bool {
    path.split('/').any(|step| step == "..")
}
