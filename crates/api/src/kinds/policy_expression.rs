//! The expressions of policies and of webhooks' match conditions: they are typed when they are stored, with the variables
//! that a request brings.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use crate::cel::{AUTHORIZER, Env, ObjectType, RESOURCE_CHECK, Type};
use crate::field::{Cursor, ErrorList};

/// What a policy's expressions may name beyond the request.
#[derive(Default)]
pub(super) struct Scope {
    /// Whether there are parameters.
    pub params: bool,
    /// Whether they may make what a mutation is made of.
    pub patches: bool,
    /// The policy's own variables so far, by their types.
    variables: Vec<(String, Type)>,
}

impl Scope {
    pub fn with_params(params: bool) -> Self {
        Self {
            params,
            ..Self::default()
        }
    }

    /// Types the expression `text` that stands at `at` and refuses what comes out as none of `wanted`; all is well with
    /// any type if there are none.
    pub fn check(
        &self,
        at: &Cursor<'_>,
        text: &str,
        wanted: &[Type],
        authorizer: bool,
        errors: &mut ErrorList,
    ) -> Type {
        let mut refuse = |detail| errors.invalid_value(at, &text.into(), detail);
        match self.env(authorizer).compile(text) {
            Err(report) => {
                refuse(format!("compilation failed: {report}"));
                Type::Dyn
            }
            Ok(program) => {
                let found = program.result().clone();
                match wanted {
                    [] => {}
                    wanted if wanted.contains(&found) => {}
                    [one] => refuse(format!("must evaluate to {one} but got {found}")),
                    several => {
                        let names: Vec<String> = several.iter().map(type_name).collect();
                        refuse(format!("must evaluate to one of [{}]", names.join(" ")));
                    }
                }
                found
            }
        }
    }

    /// From here on, expressions may name one more variable.
    pub fn declare(&mut self, name: &str, of: Type) {
        self.variables.push((name.to_owned(), of));
    }

    fn env(&self, authorizer: bool) -> Env {
        let mut env = Env::new()
            .variable("object", Type::Dyn)
            .variable("oldObject", Type::Dyn)
            .variable("request", REQUEST.clone())
            .variable("namespaceObject", NAMESPACE.clone());
        if self.patches {
            env = env.messages(patch_type);
        }
        if self.params {
            env = env.variable("params", Type::Dyn);
        }
        if authorizer {
            env = env
                .variable("authorizer", Type::Opaque(AUTHORIZER))
                .variable("authorizer.requestResource", Type::Opaque(RESOURCE_CHECK));
        }
        if !self.variables.is_empty() {
            env = env.variable(
                "variables",
                object("kubernetes.variables", self.variables.iter().cloned()),
            );
        }
        env
    }
}

/// What an expression makes that is applied to an object.
pub(super) static APPLIED: LazyLock<Type> = LazyLock::new(|| open("Object"));
/// What an expression makes that is a patch: its operations.
pub(super) static PATCH: LazyLock<Type> = LazyLock::new(|| Type::list(OPERATION.clone()));

static OPERATION: LazyLock<Type> = LazyLock::new(|| {
    let text = Type::String;
    of(
        "JSONPatch",
        &[
            ("op", text.clone()),
            ("path", text.clone()),
            ("from", text),
            ("value", Type::Dyn),
        ],
    )
});

/// `Object` stands for the object, `Object.spec` for what is in a field of it. Which fields there are is known when there
/// is an object.
fn patch_type(name: &str) -> Option<Type> {
    match name {
        "JSONPatch" => Some(OPERATION.clone()),
        "Object" => Some(APPLIED.clone()),
        _ if name.starts_with("Object.") => Some(open(name)),
        _ => None,
    }
}

fn open(name: &str) -> Type {
    Type::Object(Arc::new(ObjectType {
        open: true,
        name: name.to_owned(),
        fields: BTreeMap::default(),
    }))
}

/// As a type is called where several are told of.
fn type_name(of: &Type) -> String {
    match of {
        Type::Null => "null_type".to_owned(),
        other => other.to_string(),
    }
}

fn object(name: &str, fields: impl IntoIterator<Item = (String, Type)>) -> Type {
    Type::Object(Arc::new(ObjectType {
        open: false,
        name: name.to_owned(),
        fields: fields.into_iter().collect(),
    }))
}

fn of(name: &str, fields: &[(&str, Type)]) -> Type {
    object(name, fields.iter().map(|(name, of)| ((*name).to_owned(), of.clone())))
}

fn strings(names: &[&str]) -> Vec<(String, Type)> {
    names.iter().map(|name| ((*name).to_owned(), Type::String)).collect()
}

static REQUEST: LazyLock<Type> = LazyLock::new(|| {
    let kind = object("kubernetes.GroupVersionKind", strings(&["group", "version", "kind"]));
    let resource = object(
        "kubernetes.GroupVersionResource",
        strings(&["group", "version", "resource"]),
    );
    let list = Type::list(Type::String);
    let mut user = strings(&["username", "uid"]);
    user.push(("groups".to_owned(), list.clone()));
    user.push(("extra".to_owned(), Type::map(Type::String, list)));
    let mut fields = strings(&["subResource", "requestSubResource", "name", "namespace", "operation"]);
    fields.extend(
        [
            ("kind", kind.clone()),
            ("requestKind", kind),
            ("resource", resource.clone()),
            ("requestResource", resource),
            ("userInfo", object("kubernetes.UserInfo", user)),
            ("dryRun", Type::Bool),
            ("options", Type::Dyn),
        ]
        .map(|(name, of)| (name.to_owned(), of)),
    );
    object("kubernetes.AdmissionRequest", fields)
});

static NAMESPACE: LazyLock<Type> = LazyLock::new(|| {
    let (list, map) = (Type::list(Type::String), Type::map(Type::String, Type::String));
    let mut metadata = strings(&["name", "generateName", "namespace", "UID", "resourceVersion"]);
    metadata.extend(
        [
            ("labels", map.clone()),
            ("annotations", map),
            ("creationTimestamp", Type::Timestamp),
            ("deletionTimestamp", Type::Timestamp),
            ("deletionGracePeriodSeconds", Type::Int),
            ("generation", Type::Int),
            ("finalizers", list.clone()),
        ]
        .map(|(name, of)| (name.to_owned(), of)),
    );
    let mut condition = strings(&["status", "type", "message", "reason"]);
    condition.push(("lastTransitionTime".to_owned(), Type::Timestamp));
    let conditions = Type::list(object("kubernetes.NamespaceCondition", condition));
    of(
        "kubernetes.Namespace",
        &[
            ("metadata", object("kubernetes.NamespaceMetadata", metadata)),
            ("spec", of("kubernetes.NamespaceSpec", &[("finalizers", list)])),
            (
                "status",
                of(
                    "kubernetes.NamespaceStatus",
                    &[("conditions", conditions), ("phase", Type::String)],
                ),
            ),
        ],
    )
});
