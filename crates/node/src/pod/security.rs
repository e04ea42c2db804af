//! The security context of a container: the pod's settings, overridden by its own, checked against the image. Pure.

use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, SeccompProfile as Wanted};

use coracle_runtime::{SeccompProfile, Security};

/// The user that an image says to run as.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ImageUser<'a> {
    pub(crate) uid: Option<u32>,
    pub(crate) name: Option<&'a str>,
}

/// `name_namespace(uid)`, as upstream's messages show a pod.
pub(crate) fn shown(pod: &Pod) -> String {
    let meta = &pod.metadata;
    format!(
        "{}_{}({})",
        meta.name.as_deref().unwrap_or_default(),
        meta.namespace.as_deref().unwrap_or_default(),
        meta.uid.as_deref().unwrap_or_default()
    )
}

/// What the runtime is told. The error is the message of `CreateContainerConfigError`.
pub(crate) fn of_container(
    pod: &Pod,
    container: &Container,
    image: ImageUser<'_>,
    seccomp_root: &Path,
) -> Result<Security, String> {
    let pod_context = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    let own = container.security_context.as_ref();
    let user = own
        .and_then(|c| c.run_as_user)
        .or_else(|| pod_context.and_then(|c| c.run_as_user));
    let group = own
        .and_then(|c| c.run_as_group)
        .or_else(|| pod_context.and_then(|c| c.run_as_group));
    let non_root = own
        .and_then(|c| c.run_as_non_root)
        .or_else(|| pod_context.and_then(|c| c.run_as_non_root));
    if non_root == Some(true) {
        verify_non_root(pod, container, user, image)?;
    }
    let privileged = own.and_then(|c| c.privileged) == Some(true);
    let capabilities = own.and_then(|c| c.capabilities.as_ref());
    let groups = pod_context
        .into_iter()
        .flat_map(|c| c.supplemental_groups.iter().flatten().chain(c.fs_group.iter()));
    let profile = own
        .and_then(|c| c.seccomp_profile.as_ref())
        .or_else(|| pod_context.and_then(|c| c.seccomp_profile.as_ref()));
    let apparmor = own
        .and_then(|c| c.app_armor_profile.as_ref())
        .or_else(|| pod_context.and_then(|c| c.app_armor_profile.as_ref()));
    Ok(Security {
        user: user.map(id).transpose()?,
        username: None,
        group: group.map(id).transpose()?,
        supplemental_groups: groups.map(|g| id(*g)).collect::<Result<_, _>>()?,
        strict_groups: pod_context.and_then(|c| c.supplemental_groups_policy.as_deref()) == Some("Strict"),
        add_capabilities: capabilities.and_then(|c| c.add.clone()).unwrap_or_default(),
        drop_capabilities: capabilities.and_then(|c| c.drop.clone()).unwrap_or_default(),
        privileged,
        readonly_rootfs: own.and_then(|c| c.read_only_root_filesystem) == Some(true),
        no_new_privileges: own.and_then(|c| c.allow_privilege_escalation) == Some(false),
        seccomp: if privileged {
            SeccompProfile::Unconfined
        } else {
            seccomp(profile, seccomp_root)?
        },
        apparmor_profile: match apparmor {
            Some(p) if p.type_ == "Localhost" => p.localhost_profile.clone(),
            Some(p) if p.type_ == "Unconfined" => Some("unconfined".into()),
            _ => None,
        },
        unmasked_proc: own.and_then(|c| c.proc_mount.as_deref()) == Some("Unmasked"),
    })
}

/// Whether a container of the pod, of whatever kind, is privileged.
pub(super) fn any_privileged(spec: &PodSpec) -> bool {
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| &c.security_context);
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let mut all = containers.map(|c| &c.security_context).chain(ephemeral);
    all.any(|c| c.as_ref().and_then(|c| c.privileged) == Some(true))
}

fn id(value: i64) -> Result<u32, String> {
    u32::try_from(value).map_err(|_| format!("user or group id {value} is out of range"))
}

fn seccomp(profile: Option<&Wanted>, root: &Path) -> Result<SeccompProfile, String> {
    let Some(profile) = profile else {
        return Ok(SeccompProfile::Unconfined);
    };
    match profile.type_.as_str() {
        "RuntimeDefault" => Ok(SeccompProfile::RuntimeDefault),
        "Localhost" => match profile.localhost_profile.as_deref().filter(|p| !p.is_empty()) {
            Some(path) => Ok(SeccompProfile::Localhost(root.join(path.trim_start_matches('/')))),
            None => Err("localhostProfile must be set if seccompProfile type is Localhost.".into()),
        },
        _ => Ok(SeccompProfile::Unconfined),
    }
}

fn verify_non_root(pod: &Pod, container: &Container, user: Option<i64>, image: ImageUser<'_>) -> Result<(), String> {
    let at = format!("(pod: \"{}\", container: {})", shown(pod), container.name);
    match (user, image) {
        (Some(0), _) => Err(format!("container's runAsUser breaks non-root policy {at}")),
        (Some(_), _) => Ok(()),
        (None, ImageUser { uid: Some(0), .. } | ImageUser { uid: None, name: None }) => {
            Err(format!("container has runAsNonRoot and image will run as root {at}"))
        }
        (
            None,
            ImageUser {
                uid: None,
                name: Some(name),
            },
        ) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {at}"
        )),
        (None, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn security(pod: serde_json::Value, own: serde_json::Value, image: ImageUser<'_>) -> Result<Security, String> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"securityContext": pod, "containers": [{"name": "c", "securityContext": own}]}}))
        .unwrap();
        of_container(&pod, &pod.spec.as_ref().unwrap().containers[0], image, Path::new("/s"))
    }

    #[test]
    fn the_container_overrides_the_pod() {
        let s = security(
            json!({"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4],
                "seccompProfile": {"type": "RuntimeDefault"}}),
            json!({"runAsUser": 9, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "Localhost", "localhostProfile": "a/b.json"}}),
            ImageUser::default(),
        )
        .unwrap();
        assert_eq!((s.user, s.group, s.supplemental_groups), (Some(9), Some(2), vec![4, 3]));
        assert!(s.no_new_privileges && !s.privileged);
        assert_eq!(s.seccomp, SeccompProfile::Localhost("/s/a/b.json".into()));
        assert_eq!(s.drop_capabilities, ["ALL"]);
    }

    #[test]
    fn non_root_is_verified_against_user_and_image() {
        let by = |user: serde_json::Value, uid, name| {
            security(json!({"runAsNonRoot": true}), user, ImageUser { uid, name }).map(|_| ())
        };
        let at = "(pod: \"p_n(u)\", container: c)";
        assert_eq!(
            by(json!({"runAsUser": 0}), Some(5), None),
            Err(format!("container's runAsUser breaks non-root policy {at}"))
        );
        assert_eq!(by(json!({"runAsUser": 7}), None, None), Ok(()));
        assert_eq!(by(json!({}), Some(5), None), Ok(()));
        assert_eq!(
            by(json!({}), None, None),
            Err(format!("container has runAsNonRoot and image will run as root {at}"))
        );
        assert!(
            by(json!({}), None, Some("web"))
                .unwrap_err()
                .contains("non-numeric user (web)")
        );
        assert_eq!(by(json!({"runAsNonRoot": false}), None, None), Ok(()));
    }
}
