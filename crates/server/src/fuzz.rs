//! What the fuzzers of `fuzz/` call in the server: paths, queries, headers, bodies, tokens. Compiled for tests and for the
//! fuzzers only. Each takes any bytes and must not panic.

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Uri};

use coracle_api::service::{FieldValidation, PatchKind, UserInfo};

use crate::authn::token_file::TokenFile;
use crate::custom::json_path::JsonPath;
use crate::http::body;
use crate::http::negotiate;
use crate::http::query::{Query, Write};
use crate::http::request_info::RequestInfo;
use crate::registry::token::ContinueToken;

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// The token of a list's next page.
pub fn continue_token(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(token) = ContinueToken::decode(text) {
        let written = ContinueToken::encode(token.revision, &token.after);
        assert_eq!(ContinueToken::decode(&written), Ok(token));
    }
}

/// A path with its query.
pub fn request_info(bytes: &[u8]) {
    let Ok(uri) = Uri::try_from(bytes) else { return };
    let query = Query::parse(uri.query().unwrap_or_default());
    for watch in [false, true] {
        let _ = query.list_options(watch);
    }
    let _ = query.delete_options();
    for of in [
        Write::Create,
        Write::Update,
        Write::Patch(PatchKind::Apply),
        Write::Patch(PatchKind::Merge),
    ] {
        let _ = query.write_options(of, &HeaderMap::new());
    }
    for method in [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ] {
        let info = RequestInfo::parse(&method, uri.path(), &query);
        let attributes = info.attributes(&UserInfo::default());
        assert!(attributes.resource.is_some() || info.target.resource.is_empty());
        let _ = (
            info.labels(),
            info.is_open_to_all(),
            info.is_long_running(),
            info.is_mutating(),
        );
    }
}

/// An Accept header.
pub fn accept(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else {
        return;
    };
    if let Ok(text) = value.to_str() {
        negotiate::accepted(text);
    }
    let headers = HeaderMap::from_iter([(ACCEPT, value)]);
    let wish = negotiate::Wish::of(&headers, &Query::default());
    let _ = (wish.object(true), wish.watch(true), wish.status());
}

/// A body, behind a line with its content type: as an object, as a patch and as the options of a delete.
pub fn request_body(bytes: &[u8]) {
    let at = bytes.iter().position(|b| *b == b'\n').unwrap_or(0);
    let (kind, rest) = bytes.split_at(at);
    let Ok(value) = HeaderValue::from_bytes(kind) else {
        return;
    };
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, value)]);
    let content = rest.get(1..).unwrap_or_default();
    for validation in [FieldValidation::Strict, FieldValidation::Warn, FieldValidation::Ignore] {
        let _ = body::object(&headers, content, "Pod", validation);
        if let Ok(kind) = body::patch_kind(&headers, false) {
            let _ = body::patch(kind, content, validation);
        }
    }
    let _ = body::delete_options(&headers, &Query::default(), content);
}

/// The file of static tokens.
pub fn token_file(bytes: &[u8]) {
    if let Some(text) = text(bytes) {
        let _ = TokenFile::parse(text);
    }
}

/// The path of a printer column, on a first line, into the JSON behind it.
pub fn json_path(bytes: &[u8]) {
    let Some((path, value)) = text(bytes).and_then(|t| t.split_once('\n')) else {
        return;
    };
    if let Ok(value) = serde_json::from_str(value) {
        JsonPath::parse(path).find(&value);
    }
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay::replay;
    use super::*;

    type Target = fn(&[u8]);

    #[test]
    fn every_input_of_the_corpora_and_what_is_near_it_holds() {
        let targets: &[(&str, Target)] = &[
            ("continue_token", continue_token),
            ("request_info", request_info),
            ("accept", accept),
            ("request_body", request_body),
            ("token_file", token_file),
            ("json_path", json_path),
        ];
        for (name, target) in targets {
            replay(name, *target);
        }
    }
}
