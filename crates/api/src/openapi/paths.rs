//! The paths of rows: collections, objects, subresources, with the operations that their verbs allow. kubectl finds kinds
//! and the parameters of PATCH here.

use super::Form;
use super::json::Json;
use super::parameters::{DELETE, DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE, LIST, PRETTY, Parameter};
use super::schemas::custom_name;
use crate::resource::{Resource, Subresource, Verbs};
use crate::schema::built_in;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// What an operation does, and so its parameters, body and answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    List,
    Create,
    DeleteCollection,
    Get,
    Put,
    Patch,
    Delete,
    Connect,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Create => "post",
            Self::DeleteCollection => "deletecollection",
            Self::Get => "get",
            Self::Put => "put",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::Connect => "connect",
        }
    }

    /// The start of the operation's id.
    fn verb(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Create => "create",
            Self::DeleteCollection | Self::Delete => "delete",
            Self::Get => "read",
            Self::Put => "replace",
            Self::Patch => "patch",
            Self::Connect => "connect",
        }
    }
}

/// The definition's name of a kind, if it is published.
fn definition(group: &str, version: &str, kind: &str) -> Option<String> {
    let id = built_in().kind_node(group, version, kind)?;
    Some(built_in().at(id).object()?.name.as_deref()?.to_owned())
}

/// `AppsV1`, `CoreV1`, `RbacAuthorizationV1`.
fn operation_prefix(row: &Resource) -> String {
    let group = match row.group.as_ref() {
        "" => "core",
        group => group.strip_suffix(".k8s.io").unwrap_or(group),
    };
    group
        .split(['.', '-'])
        .chain([row.version.as_ref()])
        .map(capital)
        .collect()
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// `apps_v1`, `rbacAuthorization_v1`.
fn tag(row: &Resource) -> String {
    let group = match row.group.as_ref() {
        "" => "core",
        group => group.strip_suffix(".k8s.io").unwrap_or(group),
    };
    let mut words = group.split(['.', '-']);
    let first = words.next().unwrap_or_default().to_owned();
    format!(
        "{}_{}",
        words.map(capital).fold(first, |all, word| all + &word),
        row.version
    )
}

/// A path, and what its operations are about.
struct Place<'a> {
    row: &'a Resource,
    speaks: &'a Speaks,
    path: &'a str,
    namespaced: bool,
    /// It has an object's name in it.
    named: bool,
    /// The end of the operations' ids.
    suffix: &'a str,
}

/// Which kind an operation speaks, and the definitions of its body and answer.
struct Speaks {
    group: String,
    version: String,
    kind: String,
    definition: Option<String>,
}

pub(super) struct Writer {
    pub form: Form,
}

impl Writer {
    /// Writes the paths of a row into the object that `json` is in.
    pub fn row(&self, json: &mut Json, row: &Resource) {
        let base = match row.group.as_ref() {
            "" => format!("/api/{}", row.version),
            group => format!("/apis/{group}/{}", row.version),
        };
        let speaks = Speaks {
            group: row.group.to_string(),
            version: row.version.to_string(),
            kind: row.kind.to_string(),
            definition: match row.custom {
                true => Some(custom_name(row)),
                false => definition(&row.group, &row.version, &row.kind),
            },
        };
        let namespaced = row.is_namespaced();
        let namespace = if namespaced { "/namespaces/{namespace}" } else { "" };
        let collection = format!("{base}{namespace}/{}", row.plural);
        let on_collection = [
            (Verbs::LIST, Action::List),
            (Verbs::CREATE, Action::Create),
            (Verbs::DELETE_COLLECTION, Action::DeleteCollection),
        ];
        let on_object = [
            (Verbs::GET, Action::Get),
            (Verbs::UPDATE, Action::Put),
            (Verbs::PATCH, Action::Patch),
            (Verbs::DELETE, Action::Delete),
        ];
        let allowed = |table: &[(Verbs, Action)], verbs: Verbs| -> Vec<Action> {
            table
                .iter()
                .filter(|(v, _)| verbs.contains(*v))
                .map(|(_, a)| *a)
                .collect()
        };
        let object = format!("{collection}/{{name}}");
        let everywhere = format!("{base}/{}", row.plural);
        let place = |path, named, suffix| Place {
            row,
            speaks: &speaks,
            path,
            namespaced,
            named,
            suffix,
        };
        self.path(
            json,
            &place(&collection, false, ""),
            &allowed(&on_collection, row.verbs),
        );
        if namespaced && row.verbs.contains(Verbs::LIST) {
            let all = Place {
                namespaced: false,
                ..place(&everywhere, false, "ForAllNamespaces")
            };
            self.path(json, &all, &[Action::List]);
        }
        self.path(json, &place(&object, true, ""), &allowed(&on_object, row.verbs));
        for sub in &row.subresources {
            let actions = match sub.connect {
                true => vec![Action::Connect],
                false => {
                    let table = [(Verbs::CREATE, Action::Create)];
                    [allowed(&on_object, sub.verbs), allowed(&table, sub.verbs)].concat()
                }
            };
            let (path, suffix) = (format!("{object}/{}", sub.name), capital(&sub.name));
            let below = Place {
                row,
                speaks: &Self::subresource(row, sub, &speaks),
                path: &path,
                namespaced,
                named: true,
                suffix: &suffix,
            };
            self.path(json, &below, &actions);
        }
    }

    fn subresource(row: &Resource, sub: &Subresource, parent: &Speaks) -> Speaks {
        match &sub.kind {
            Some((group, version, kind)) => Speaks {
                group: group.to_string(),
                version: version.to_string(),
                kind: kind.to_string(),
                definition: definition(group, version, kind),
            },
            None => Speaks {
                group: row.group.to_string(),
                version: row.version.to_string(),
                kind: row.kind.to_string(),
                definition: parent.definition.clone(),
            },
        }
    }

    fn path(&self, json: &mut Json, place: &Place<'_>, actions: &[Action]) {
        if actions.is_empty() {
            return;
        }
        json.object_field(place.path, |json| {
            for action in actions {
                let method = match action {
                    Action::List | Action::Get | Action::Connect => "get",
                    Action::Create => "post",
                    Action::DeleteCollection | Action::Delete => "delete",
                    Action::Put => "put",
                    Action::Patch => "patch",
                };
                json.object_field(method, |json| self.operation(json, place, *action));
            }
            json.array_field("parameters", |json| {
                if place.named {
                    self.path_parameter(json, "name", &format!("name of the {}", place.row.kind));
                }
                if place.namespaced {
                    self.path_parameter(
                        json,
                        "namespace",
                        "object name and auth scope, such as for teams and projects",
                    );
                }
                self.query(json, PRETTY);
            });
        });
    }

    fn operation(&self, json: &mut Json, place: &Place<'_>, action: Action) {
        let Place {
            row, speaks, suffix, ..
        } = *place;
        let collection = if action == Action::DeleteCollection {
            "Collection"
        } else {
            ""
        };
        let scope = if place.namespaced { "Namespaced" } else { "" };
        let id = format!(
            "{}{}{collection}{scope}{}{suffix}",
            action.verb(),
            operation_prefix(row),
            row.kind
        );
        json.field("operationId", &id);
        let what = match action {
            Action::List => "list or watch objects of kind",
            Action::Create => "create",
            Action::DeleteCollection => "delete a collection of",
            Action::Get => "read the specified",
            Action::Put => "replace the specified",
            Action::Patch => "partially update the specified",
            Action::Delete => "delete",
            Action::Connect => "connect requests to the named",
        };
        json.field("description", &format!("{what} {}", row.kind));
        json.strings_field("tags", [tag(row).as_str()]);
        let body = match action {
            Action::Create | Action::Put => speaks.definition.clone(),
            Action::Patch => Some(format!("{META}.Patch")),
            Action::Delete | Action::DeleteCollection => Some(format!("{META}.DeleteOptions")),
            _ => None,
        };
        if self.form == Form::V2 {
            json.strings_field("consumes", [consumes(action)]);
            json.strings_field("produces", produces(row, action));
        }
        json.array_field("parameters", |json| {
            if let (Form::V2, Some(body)) = (self.form, &body) {
                json.object(|json| {
                    json.field("in", "body");
                    json.field("name", "body");
                    json.raw_field(
                        "required",
                        if matches!(action, Action::Delete | Action::DeleteCollection) {
                            "false"
                        } else {
                            "true"
                        },
                    );
                    self.reference(json, body);
                });
            }
            if matches!(action, Action::List | Action::DeleteCollection) {
                LIST.into_iter().for_each(|p| self.query(json, p));
            }
            if !matches!(action, Action::List | Action::Get | Action::Connect) {
                self.query(json, DRY_RUN);
            }
            if matches!(action, Action::Create | Action::Put | Action::Patch) {
                self.query(json, FIELD_MANAGER);
                self.query(json, FIELD_VALIDATION);
            }
            if action == Action::Patch {
                self.query(json, FORCE);
            }
            if matches!(action, Action::Delete | Action::DeleteCollection) {
                DELETE.into_iter().for_each(|p| self.query(json, p));
            }
        });
        if let (Form::V3, Some(body)) = (self.form, &body) {
            json.object_field("requestBody", |json| {
                json.object_field("content", |json| self.content(json, [consumes(action)], body));
            });
        }
        self.responses(json, row, speaks, action);
        json.field("x-kubernetes-action", action.name());
        json.object_field("x-kubernetes-group-version-kind", |json| {
            json.field("group", &speaks.group);
            json.field("kind", &speaks.kind);
            json.field("version", &speaks.version);
        });
    }

    fn responses(&self, json: &mut Json, row: &Resource, speaks: &Speaks, action: Action) {
        let answer = match action {
            Action::List => speaks.definition.as_ref().map(|d| format!("{d}List")),
            Action::Delete | Action::DeleteCollection => Some(format!("{META}.Status")),
            Action::Connect => None,
            _ => speaks.definition.clone(),
        };
        let codes: &[(&str, &str)] = match action {
            Action::Create => &[("200", "OK"), ("201", "Created"), ("202", "Accepted")],
            Action::Put | Action::Patch => &[("200", "OK"), ("201", "Created")],
            Action::Delete => &[("200", "OK"), ("202", "Accepted")],
            _ => &[("200", "OK")],
        };
        json.object_field("responses", |json| {
            for (code, text) in codes {
                json.object_field(code, |json| {
                    json.field("description", text);
                    match (&answer, self.form) {
                        (Some(answer), Form::V2) => self.reference(json, answer),
                        (Some(answer), Form::V3) => {
                            json.object_field("content", |json| self.content(json, produces(row, action), answer));
                        }
                        (None, Form::V2) => json.object_field("schema", |json| json.field("type", "string")),
                        (None, Form::V3) => json.object_field("content", |json| {
                            json.object_field("*/*", |json| {
                                json.object_field("schema", |json| json.field("type", "string"));
                            });
                        }),
                    }
                });
            }
            json.object_field("401", |json| json.field("description", "Unauthorized"));
        });
    }

    fn content<'s>(&self, json: &mut Json, types: impl IntoIterator<Item = &'s str>, definition: &str) {
        for content_type in types {
            json.object_field(content_type, |json| self.reference(json, definition));
        }
    }

    fn reference(&self, json: &mut Json, definition: &str) {
        let prefix = match self.form {
            Form::V2 => "#/definitions/",
            Form::V3 => "#/components/schemas/",
        };
        json.object_field("schema", |json| json.field("$ref", &format!("{prefix}{definition}")));
    }

    fn path_parameter(&self, json: &mut Json, name: &str, description: &str) {
        json.object(|json| {
            json.field("name", name);
            json.field("in", "path");
            json.field("description", description);
            json.raw_field("required", "true");
            self.parameter_type(json, "string");
        });
    }

    fn query(&self, json: &mut Json, (name, kind, description): Parameter) {
        json.object(|json| {
            json.field("name", name);
            json.field("in", "query");
            json.field("description", description);
            self.parameter_type(json, kind);
        });
    }

    fn parameter_type(&self, json: &mut Json, kind: &str) {
        let inside = |json: &mut Json| {
            json.field("type", kind);
            json.raw_field("uniqueItems", "true");
        };
        match self.form {
            Form::V2 => inside(json),
            Form::V3 => json.object_field("schema", inside),
        }
    }
}

fn consumes(action: Action) -> &'static str {
    match action {
        Action::Patch => "application/merge-patch+json",
        _ => "*/*",
    }
}

fn produces(row: &Resource, action: Action) -> impl Iterator<Item = &'static str> + use<> {
    let protobuf = row.protobuf;
    let watch = action == Action::List;
    [
        ("application/json", true),
        ("application/yaml", true),
        ("application/vnd.kubernetes.protobuf", protobuf),
        ("application/json;stream=watch", watch),
        ("application/vnd.kubernetes.protobuf;stream=watch", watch && protobuf),
    ]
    .into_iter()
    .filter_map(|(content_type, there)| there.then_some(content_type))
}
