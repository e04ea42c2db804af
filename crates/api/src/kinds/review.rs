//! Reviews: questions about who someone is and what they may do. Created, answered, never kept.

use super::row::{cluster, namespaced};
use crate::resource::{Resource, Verbs};

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

pub(super) fn rows() -> Vec<Resource> {
    [
        cluster(AUTHENTICATION, "v1", "TokenReview", "tokenreviews"),
        cluster(AUTHENTICATION, "v1", "SelfSubjectReview", "selfsubjectreviews"),
        cluster(AUTHORIZATION, "v1", "SubjectAccessReview", "subjectaccessreviews"),
        cluster(
            AUTHORIZATION,
            "v1",
            "SelfSubjectAccessReview",
            "selfsubjectaccessreviews",
        ),
        cluster(AUTHORIZATION, "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews"),
        namespaced(
            AUTHORIZATION,
            "v1",
            "LocalSubjectAccessReview",
            "localsubjectaccessreviews",
        ),
    ]
    .into_iter()
    .map(|row| row.verbs(Verbs::CREATE_ONLY).build())
    .collect()
}
