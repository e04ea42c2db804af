//! Query parameters, read as upstream reads them.

use coracle_api::field::{FieldError, FieldErrorKind};
use coracle_api::patch::managed::{MAX_MANAGER_BYTES, manager_name};
use coracle_api::service::{
    DeleteOptions, FieldValidation, ListOptions, PatchKind, Propagation, VersionMatch, WriteOptions,
};
use coracle_api::status::Status;
use http::HeaderMap;
use serde_json::json;

use crate::registry::check::{self, fault, not_supported, refuse};

/// Decoded parameters in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

/// Whose options a query has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Create,
    Update,
    Patch(PatchKind),
}

impl Write {
    fn options_kind(self) -> &'static str {
        match self {
            Self::Create => "CreateOptions",
            Self::Update => "UpdateOptions",
            Self::Patch(_) => "PatchOptions",
        }
    }
}

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
        self.flag_if_said(name).unwrap_or(false)
    }

    /// The same, unless it is not there.
    pub fn flag_if_said(&self, name: &str) -> Option<bool> {
        self.get(name).map(|v| !(v == "0" || v.eq_ignore_ascii_case("false")))
    }

    fn text(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }

    /// A whole number, if there is one.
    pub fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        self.get(name)
            .map(|text| number(text).map_err(Status::bad_request))
            .transpose()
    }

    /// The options of a list, or with `watch` of a watch.
    pub fn list_options(&self, watch: bool) -> Result<ListOptions, Status> {
        let limit = self.number("limit")?.unwrap_or(0);
        let timeout = self.number("timeoutSeconds")?;
        let matching = self.text("resourceVersionMatch");
        let options = ListOptions {
            label_selector: self.text("labelSelector"),
            metric_label_selector: self.text("metricLabelSelector"),
            field_selector: self.text("fieldSelector"),
            limit: u64::try_from(limit).unwrap_or(0),
            continue_token: self.text("continue"),
            resource_version: self.text("resourceVersion"),
            resource_version_match: match matching.as_str() {
                "Exact" => Some(VersionMatch::Exact),
                "NotOlderThan" => Some(VersionMatch::NotOlderThan),
                _ => None,
            },
            timeout_seconds: timeout.and_then(|t| u64::try_from(t).ok()),
            allow_watch_bookmarks: self.flag("allowWatchBookmarks"),
            send_initial_events: self.flag_if_said("sendInitialEvents"),
        };
        check::list_options(&options, &matching, watch)?;
        Ok(options)
    }

    /// The options of a create, update or patch. Without a manager it is the client's program.
    pub fn write_options(&self, of: Write, headers: &HeaderMap) -> Result<WriteOptions, Status> {
        let mut faults = Vec::new();
        let mut field_manager = self.text("fieldManager");
        if let Write::Patch(kind) = of {
            let says_force = self.get("force").is_some();
            faults.extend(check::patch_options(kind, &field_manager, says_force));
        }
        manager_faults(&field_manager, &mut faults);
        let dry_run = dry_run(self.all("dryRun"), &mut faults);
        let field_validation = match self.get("fieldValidation").unwrap_or_default() {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                let supported = ["", "Ignore", "Strict", "Warn"];
                faults.push(not_supported("fieldValidation", &other.into(), &supported));
                FieldValidation::Warn
            }
        };
        refuse(of.options_kind(), &faults)?;
        if field_manager.is_empty() {
            let agent = headers
                .get(http::header::USER_AGENT)
                .and_then(|v| v.to_str().ok())
                .unwrap_or_default();
            field_manager = manager_name("", agent);
            if field_manager.is_empty() {
                field_manager = "unknown".into();
            }
        }
        Ok(WriteOptions {
            dry_run,
            field_manager,
            field_validation,
            force: self.flag("force"),
        })
    }

    /// What a delete without a body says.
    pub fn delete_options(&self) -> Result<DeleteOptions, Status> {
        deletion(&Deletion {
            grace_period_seconds: self.number("gracePeriodSeconds")?,
            propagation: self.get("propagationPolicy"),
            orphan: self.flag_if_said("orphanDependents"),
            dry_run: self.all("dryRun").collect(),
        })
    }
}

/// Go's reading of a number, with its complaint.
fn number(text: &str) -> Result<i64, String> {
    use std::num::IntErrorKind;
    text.parse().map_err(|error: std::num::ParseIntError| {
        let why = match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.ParseInt: parsing {text:?}: {why}")
    })
}

/// How something is to be deleted, as the query or the body says it.
pub(crate) struct Deletion<'a> {
    pub grace_period_seconds: Option<i64>,
    pub propagation: Option<&'a str>,
    /// The deprecated way to say it.
    pub orphan: Option<bool>,
    pub dry_run: Vec<&'a str>,
}

/// The options of a delete, if they make sense.
pub(crate) fn deletion(said: &Deletion<'_>) -> Result<DeleteOptions, Status> {
    let mut faults = Vec::new();
    if let (Some(policy), Some(_)) = (said.propagation, said.orphan) {
        let detail = "orphanDependents and deletionPropagation cannot be both set";
        faults.push(fault(
            FieldErrorKind::Invalid,
            "propagationPolicy",
            coracle_api::field::show(&policy.into()),
            detail.to_owned(),
        ));
    }
    let propagation = match said.propagation {
        None => said.orphan.map(|orphan| {
            if orphan {
                Propagation::Orphan
            } else {
                Propagation::Background
            }
        }),
        Some("Orphan") => Some(Propagation::Orphan),
        Some("Background") => Some(Propagation::Background),
        Some("Foreground") => Some(Propagation::Foreground),
        Some(other) => {
            let supported = ["Foreground", "Background", "Orphan", "nil"];
            faults.push(not_supported("propagationPolicy", &other.into(), &supported));
            None
        }
    };
    let dry_run = dry_run(said.dry_run.iter().copied(), &mut faults);
    refuse("DeleteOptions", &faults)?;
    Ok(DeleteOptions {
        grace_period_seconds: said.grace_period_seconds,
        uid: None,
        resource_version: None,
        propagation,
        dry_run,
    })
}

fn dry_run<'a>(said: impl Iterator<Item = &'a str>, faults: &mut Vec<FieldError>) -> bool {
    let said: Vec<&str> = said.collect();
    if said.iter().any(|v| *v != "All") {
        faults.push(not_supported("dryRun", &json!(said), &["All"]));
    }
    !said.is_empty()
}

fn manager_faults(name: &str, faults: &mut Vec<FieldError>) {
    if name.len() > MAX_MANAGER_BYTES {
        faults.push(fault(
            FieldErrorKind::TooLong,
            "fieldManager",
            String::new(),
            format!("may not be more than {MAX_MANAGER_BYTES} bytes"),
        ));
    }
    for (at, c) in name.char_indices().filter(|(_, c)| c.is_control()) {
        faults.push(fault(
            FieldErrorKind::Invalid,
            "fieldManager",
            coracle_api::field::show(&name.into()),
            format!("invalid character U+{:04X} (at position {at})", u32::from(c)),
        ));
    }
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
            .list_options(false)
            .unwrap();
        assert_eq!((options.limit, options.continue_token.as_str()), (0, ""));
    }
}
