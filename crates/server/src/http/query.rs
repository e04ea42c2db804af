//! Query parameters, read as upstream reads them.

use coracle_api::field::{FieldError, FieldErrorKind};
use coracle_api::service::{DeleteOptions, FieldValidation, ListOptions, Propagation, VersionMatch, WriteOptions};
use coracle_api::status::Status;
use http::HeaderMap;

/// Decoded parameters in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// A boolean: there without a value it is true, and so is anything but `false` and `0`.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|v| !(v == "0" || v.eq_ignore_ascii_case("false")))
    }

    fn text(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }

    fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        match self.get(name) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                Status::bad_request(format!(
                    "strconv.ParseInt: parsing {text:?}: invalid syntax (parameter {name})"
                ))
            }),
        }
    }

    pub fn list_options(&self) -> Result<ListOptions, Status> {
        let limit = self.number("limit")?.unwrap_or(0);
        let timeout = self.number("timeoutSeconds")?;
        Ok(ListOptions {
            label_selector: self.text("labelSelector"),
            metric_label_selector: self.text("metricLabelSelector"),
            field_selector: self.text("fieldSelector"),
            limit: u64::try_from(limit).unwrap_or(0),
            continue_token: self.text("continue"),
            resource_version: self.text("resourceVersion"),
            resource_version_match: match self.get("resourceVersionMatch") {
                None | Some("") => None,
                Some("Exact") => Some(VersionMatch::Exact),
                Some("NotOlderThan") => Some(VersionMatch::NotOlderThan),
                Some(other) => {
                    let supported = "supported values: \"Exact\", \"NotOlderThan\", \"\"";
                    return Err(invalid(
                        "ListOptions",
                        FieldErrorKind::NotSupported,
                        "resourceVersionMatch",
                        other,
                        supported,
                    ));
                }
            },
            timeout_seconds: timeout.and_then(|t| u64::try_from(t).ok()),
            allow_watch_bookmarks: self.flag("allowWatchBookmarks"),
            send_initial_events: self
                .get("sendInitialEvents")
                .filter(|v| !v.is_empty())
                .map(|_| self.flag("sendInitialEvents")),
        })
    }

    /// `dryRun=All`.
    pub fn dry_run(&self, kind: &str) -> Result<bool, Status> {
        let mut dry = false;
        for value in self.all("dryRun").filter(|v| !v.is_empty()) {
            if value != "All" {
                let supported = "supported values: \"All\"";
                return Err(invalid(kind, FieldErrorKind::NotSupported, "dryRun", value, supported));
            }
            dry = true;
        }
        Ok(dry)
    }

    /// The options of a create, update or patch. Without a manager it is the client's program.
    pub fn write_options(&self, kind: &str, headers: &HeaderMap) -> Result<WriteOptions, Status> {
        let mut field_manager = self.text("fieldManager");
        if field_manager.chars().count() > 128 {
            let detail = "may not be more than 128 bytes";
            return Err(invalid(
                kind,
                FieldErrorKind::TooLong,
                "fieldManager",
                &field_manager,
                detail,
            ));
        }
        if field_manager.is_empty() && !self.is_apply(headers) {
            let agent = headers
                .get(http::header::USER_AGENT)
                .and_then(|v| v.to_str().ok())
                .unwrap_or_default();
            field_manager = agent.split('/').next().unwrap_or_default().chars().take(128).collect();
            if field_manager.is_empty() {
                field_manager = "unknown".into();
            }
        }
        let field_validation = match self.get("fieldValidation").unwrap_or_default() {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                let supported = "supported values: \"Ignore\", \"Strict\", \"Warn\"";
                return Err(invalid(
                    kind,
                    FieldErrorKind::NotSupported,
                    "fieldValidation",
                    other,
                    supported,
                ));
            }
        };
        Ok(WriteOptions {
            dry_run: self.dry_run(kind)?,
            field_manager,
            field_validation,
            force: self.flag("force"),
        })
    }

    fn is_apply(&self, headers: &HeaderMap) -> bool {
        let content_type = headers
            .get(http::header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        content_type.starts_with("application/apply-patch")
    }

    /// What a delete without a body says.
    pub fn delete_options(&self) -> Result<DeleteOptions, Status> {
        let propagation = match self.get("propagationPolicy").unwrap_or_default() {
            "" => None,
            text => Some(propagation(text)?),
        };
        let orphan = self.get("orphanDependents").map(|_| self.flag("orphanDependents"));
        Ok(DeleteOptions {
            grace_period_seconds: self.number("gracePeriodSeconds")?,
            uid: None,
            resource_version: None,
            propagation: propagation.or(orphan.map(by_orphan)),
            dry_run: self.dry_run("DeleteOptions")?,
        })
    }
}

/// The deprecated way to say it.
pub(crate) fn by_orphan(orphan: bool) -> Propagation {
    if orphan {
        Propagation::Orphan
    } else {
        Propagation::Background
    }
}

pub(crate) fn propagation(text: &str) -> Result<Propagation, Status> {
    match text {
        "Orphan" => Ok(Propagation::Orphan),
        "Background" => Ok(Propagation::Background),
        "Foreground" => Ok(Propagation::Foreground),
        other => {
            let supported = "supported values: \"Background\", \"Foreground\", \"Orphan\"";
            Err(invalid(
                "DeleteOptions",
                FieldErrorKind::NotSupported,
                "propagationPolicy",
                other,
                supported,
            ))
        }
    }
}

pub(crate) fn invalid(kind: &str, error: FieldErrorKind, path: &str, value: &str, detail: &str) -> Status {
    let error = FieldError {
        kind: error,
        path: path.into(),
        value: format!("{value:?}"),
        detail: detail.into(),
    };
    Status::invalid("meta.k8s.io", kind, "", &[error])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_true_unless_they_say_no() {
        for (text, expected) in [
            ("watch=1", true),
            ("watch=true", true),
            ("watch=True", true),
            ("watch", true),
            ("watch=0", false),
            ("watch=False", false),
            ("", false),
        ] {
            assert_eq!(Query::parse(text).flag("watch"), expected, "{text}");
        }
    }

    #[test]
    fn a_limit_of_zero_and_an_empty_continue_are_no_limit() {
        let options = Query::parse("limit=0&continue=&resourceVersion=")
            .list_options()
            .unwrap();
        assert_eq!((options.limit, options.continue_token.as_str()), (0, ""));
        assert_eq!(Query::parse("limit=x").list_options().unwrap_err().code, 400);
    }
}
