//! What the server publishes of its types: OpenAPI v3, one document for each group and version, and OpenAPI v2, one for
//! all. Written from the type table and the rows when somebody first asks, kept compressed, and written again when the
//! rows it is made of have changed.

mod descriptions;
mod gnostic;
mod json;
mod parameters;
mod paths;
mod schemas;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::resource::{Resource, Table};
use crate::schema::built_in;
use descriptions::Descriptions;
use json::Json;

/// Of `/openapi/v2` for clients that ask for protobuf.
pub const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// To be counted up when the documents change in form, so that clients do not keep old ones.
const FORM_REVISION: u32 = 1;
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    V2,
    V3,
}

/// A document as it is kept.
#[derive(Clone, Debug)]
pub struct Document {
    /// For `Content-Encoding: gzip`.
    pub gzip: Bytes,
    /// Changes when the document does.
    pub etag: Arc<str>,
}

impl Document {
    fn new(plain: &[u8], etag: String) -> Self {
        let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(plain.len() / 8), Compression::fast());
        // Writing into memory does not fail.
        let _ = encoder.write_all(plain);
        Self {
            gzip: encoder.finish().unwrap_or_default().into(),
            etag: etag.into(),
        }
    }

    /// For clients that take no compressed answer.
    pub fn plain(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let _ = flate2::read::GzDecoder::new(self.gzip.as_ref()).read_to_end(&mut out);
        out
    }
}

/// The documents of one server.
pub struct OpenApi {
    /// `v1.37.0`.
    version: String,
    kept: Mutex<HashMap<String, Document>>,
}

impl OpenApi {
    pub fn new(version: impl Into<String>) -> Self {
        Self {
            version: version.into(),
            kept: Mutex::default(),
        }
    }

    /// `/openapi/v3`: where the document of each group and version is, with a hash that changes with it.
    pub fn index(&self, table: &Table) -> Vec<u8> {
        let mut json = Json::default();
        json.object(|json| {
            json.object_field("paths", |json| {
                for (path, rows) in group_versions(table) {
                    let hash = self.hash(&rows);
                    json.object_field(&path, |json| {
                        json.field("serverRelativeURL", &format!("/openapi/v3/{path}?hash={hash}"));
                    });
                }
            });
        });
        json.finish()
    }

    /// `/openapi/v3/PATH`, as in `apis/apps/v1` or `api/v1`.
    pub fn v3(&self, table: &Table, path: &str) -> Option<Document> {
        let rows = group_versions(table).remove(path.trim_matches('/'))?;
        let etag = self.hash(&rows);
        Some(self.keep(path.trim_matches('/'), etag, || self.write(&rows, Form::V3)))
    }

    /// `/openapi/v2` as JSON.
    pub fn v2(&self, table: &Table) -> Document {
        let rows: Vec<Arc<Resource>> = table.iter().cloned().collect();
        self.keep("v2", self.hash(&rows), || self.write(&rows, Form::V2))
    }

    /// `/openapi/v2` as [`V2_PROTOBUF`].
    pub fn v2_protobuf(&self, table: &Table) -> Document {
        let rows: Vec<Arc<Resource>> = table.iter().cloned().collect();
        self.keep("v2 protobuf", self.hash(&rows), || {
            gnostic::encode(&self.write(&rows, Form::V2))
        })
    }

    /// The kept document if it is of these rows, else a new one. Two callers at once may both write it.
    fn keep(&self, key: &str, etag: String, write: impl FnOnce() -> Vec<u8>) -> Document {
        if let Some(kept) = self.kept.lock().get(key)
            && *kept.etag == *etag
        {
            return kept.clone();
        }
        let document = Document::new(&write(), etag);
        self.kept.lock().insert(key.to_owned(), document.clone());
        document
    }

    /// Of all that a document is made of.
    fn hash(&self, rows: &[Arc<Resource>]) -> String {
        let mut hash = Sha256::new();
        hash.update(format!(
            "{FORM_REVISION} {} {}",
            self.version,
            env!("CARGO_PKG_VERSION")
        ));
        for row in rows {
            let source = row.schema.source.as_deref().unwrap_or_default();
            let what = (
                &row.group,
                &row.version,
                &row.kind,
                &row.plural,
                row.scope,
                row.verbs,
                row.protobuf,
            );
            hash.update(format!("{what:?} {:?} {source}", row.subresources));
        }
        hash.finalize().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02X}");
            text
        })
    }

    fn write(&self, rows: &[Arc<Resource>], form: Form) -> Vec<u8> {
        let descriptions = Descriptions::unpack();
        let mut json = Json::default();
        json.object(|json| {
            match form {
                Form::V2 => json.field("swagger", "2.0"),
                Form::V3 => json.field("openapi", "3.0.0"),
            }
            json.object_field("info", |json| {
                json.field("title", "Kubernetes");
                json.field("version", &self.version);
            });
            json.object_field("paths", |json| {
                let writer = paths::Writer { form };
                rows.iter().for_each(|row| writer.row(json, row));
            });
            let token = |json: &mut Json| {
                json.object_field("BearerToken", |json| {
                    json.field("description", "Bearer Token authentication");
                    json.field("in", "header");
                    json.field("name", "authorization");
                    json.field("type", "apiKey");
                });
            };
            match form {
                Form::V2 => {
                    json.object_field("definitions", |json| definitions(json, rows, form, &descriptions));
                    json.object_field("securityDefinitions", token);
                }
                Form::V3 => json.object_field("components", |json| {
                    json.object_field("schemas", |json| definitions(json, rows, form, &descriptions));
                    json.object_field("securitySchemes", token);
                }),
            }
        });
        json.finish()
    }
}

/// The rows of each document, by its path.
fn group_versions(table: &Table) -> BTreeMap<String, Vec<Arc<Resource>>> {
    let mut all: BTreeMap<String, Vec<Arc<Resource>>> = BTreeMap::new();
    for row in table.iter() {
        let path = match row.group.as_ref() {
            "" => format!("api/{}", row.version),
            group => format!("apis/{group}/{}", row.version),
        };
        all.entry(path).or_default().push(row.clone());
    }
    all
}

/// All types that these rows speak, in order of their names, and then the custom ones.
fn definitions(json: &mut Json, rows: &[Arc<Resource>], form: Form, descriptions: &Descriptions) {
    let set = built_in();
    let mut names = BTreeSet::new();
    let mut of_kind = |group: &str, version: &str, kind: &str| {
        if let Some(id) = set.kind_node(group, version, kind) {
            schemas::collect(id, &mut names);
        }
    };
    let mut group_versions = BTreeSet::from([(String::new(), "v1".to_owned())]);
    for row in rows {
        group_versions.insert((row.group.to_string(), row.version.to_string()));
        if !row.custom {
            of_kind(&row.group, &row.version, &row.kind);
            of_kind(&row.group, &row.version, &format!("{}List", row.kind));
        }
        for (group, version, kind) in row.subresources.iter().filter_map(|s| s.kind.as_ref()) {
            of_kind(group, version, kind);
        }
    }
    for name in [
        "DeleteOptions",
        "Status",
        "WatchEvent",
        "APIResourceList",
        "ObjectMeta",
        "ListMeta",
    ] {
        if let Some(id) = set.type_node(&format!("{META}.{name}")) {
            schemas::collect(id, &mut names);
        }
    }
    names.insert(format!("{META}.Patch"));
    let group_versions: Vec<_> = group_versions.into_iter().collect();
    let writer = schemas::Writer {
        form,
        descriptions,
        group_versions: &group_versions,
    };
    names.iter().for_each(|name| writer.definition(json, name));
    for row in rows.iter().filter(|r| r.custom) {
        schemas::custom(json, row, form, descriptions);
    }
}
