//! `Status`: how the API says what went wrong. One constructor per reason, with upstream's code and wording.

use serde::{Deserialize, Serialize};

use crate::field::FieldError;

/// The `Status` kind of `v1`, as an error and as a body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{message}")]
pub struct Status {
    #[serde(default)]
    pub status: String,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
    #[serde(default)]
    pub code: u16,
    /// `metadata.continue`: how a list goes on whose token has expired.
    #[serde(skip)]
    pub continue_token: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    pub reason: String,
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// Which resource an error speaks of: its group and plural.
#[derive(Clone, Copy, Debug)]
pub struct Of<'a> {
    pub group: &'a str,
    pub plural: &'a str,
}

impl Of<'_> {
    /// `deployments.apps`, or `pods` in the core group.
    fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    fn details(&self, name: &str) -> Option<Box<Details>> {
        Some(Box::new(Details {
            name: name.to_owned(),
            group: self.group.to_owned(),
            kind: self.plural.to_owned(),
            ..Details::default()
        }))
    }
}

impl Status {
    /// A failure of the given code and reason, without details.
    pub fn failure(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self {
            status: "Failure".into(),
            message: message.into(),
            reason: reason.into(),
            details: None,
            code,
            continue_token: String::new(),
        }
    }

    pub fn with_details(mut self, details: Option<Box<Details>>) -> Self {
        self.details = details;
        self
    }

    pub fn is(&self, reason: &str) -> bool {
        self.reason == reason
    }

    pub fn is_not_found(&self) -> bool {
        self.is("NotFound")
    }

    pub fn is_already_exists(&self) -> bool {
        self.is("AlreadyExists")
    }

    pub fn is_conflict(&self) -> bool {
        self.is("Conflict")
    }

    /// The version asked for is older than the window: list again.
    pub fn is_expired(&self) -> bool {
        self.is("Expired") || self.is("Gone")
    }

    pub fn not_found(of: Of<'_>, name: &str) -> Self {
        Self::failure(404, "NotFound", format!("{} \"{name}\" not found", of.qualified()))
            .with_details(of.details(name))
    }

    /// No such path or resource.
    pub fn no_such_resource() -> Self {
        Self::failure(404, "NotFound", "the server could not find the requested resource")
            .with_details(Some(Box::default()))
    }

    pub fn already_exists(of: Of<'_>, name: &str) -> Self {
        Self::failure(
            409,
            "AlreadyExists",
            format!("{} \"{name}\" already exists", of.qualified()),
        )
        .with_details(of.details(name))
    }

    pub fn conflict(of: Of<'_>, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", of.qualified());
        Self::failure(409, "Conflict", message).with_details(of.details(name))
    }

    /// A conflict because the caller's resourceVersion is no longer the newest.
    pub fn modified(of: Of<'_>, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(of, name, why)
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, "BadRequest", message)
    }

    pub fn unauthorized() -> Self {
        Self::failure(401, "Unauthorized", "Unauthorized")
    }

    pub fn forbidden(of: Of<'_>, name: &str, why: &str) -> Self {
        let subject = if name.is_empty() {
            String::new()
        } else {
            format!(" \"{name}\"")
        };
        Self::failure(
            403,
            "Forbidden",
            format!("{}{subject} is forbidden: {why}", of.qualified()),
        )
        .with_details(of.details(name))
    }

    /// Validation failed; `kind` is the object's kind and `group` its group.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let qualified = if group.is_empty() {
            kind.to_owned()
        } else {
            format!("{kind}.{group}")
        };
        // What is said twice is told once.
        let mut texts: Vec<String> = Vec::new();
        for text in errors.iter().map(ToString::to_string) {
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let list = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let causes = errors
            .iter()
            .map(|e| Cause {
                reason: e.kind.reason().into(),
                message: e.body(),
                field: e.path.clone(),
            })
            .collect();
        let details = Details {
            name: name.into(),
            group: group.into(),
            kind: kind.into(),
            causes,
            ..Details::default()
        };
        Self::failure(422, "Invalid", format!("{qualified} \"{name}\" is invalid: {list}"))
            .with_details(Some(Box::new(details)))
    }

    pub fn method_not_allowed(message: impl Into<String>) -> Self {
        Self::failure(405, "MethodNotAllowed", message)
    }

    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::failure(406, "NotAcceptable", message)
    }

    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, "Expired", message)
    }

    pub fn too_large(message: impl Into<String>) -> Self {
        Self::failure(413, "RequestEntityTooLarge", message)
    }

    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::failure(415, "UnsupportedMediaType", message)
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let details = Details {
            retry_after_seconds: Some(retry_after_seconds),
            ..Details::default()
        };
        Self::failure(429, "TooManyRequests", message).with_details(Some(Box::new(details)))
    }

    pub fn internal(message: impl Into<String>) -> Self {
        let message = message.into();
        Self::failure(500, "InternalError", format!("Internal error occurred: {message}"))
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, "ServiceUnavailable", message)
    }

    pub fn timeout(message: impl Into<String>) -> Self {
        Self::failure(504, "Timeout", message)
    }
}
