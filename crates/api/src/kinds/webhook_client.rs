//! How a webhook is reached: a URL, or a service of the cluster. Of admission and of conversion alike.

use serde_json::Value;

use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::x509;

/// The rules for a `clientConfig`, told of at `place`.
pub(super) fn validate(place: &Cursor<'_>, config: &Cursor<'_>, errors: &mut ErrorList) {
    let (url, service) = (config.at("url"), config.at("service"));
    match (url.is_set(), service.is_set()) {
        (true, true) | (false, false) => errors.required(place, "exactly one of url or service is required"),
        (true, false) => validate_url(&place.said("url"), url.str(), errors),
        (false, true) => validate_service(&place.said("service"), &service, errors),
    }
}

fn validate_url(place: &Cursor<'_>, url: &str, errors: &mut ErrorList) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = if scheme.is_empty() {
        ""
    } else {
        rest.split('/').next().unwrap_or_default()
    };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let mut refuse = |part: &str, detail: String| errors.invalid_value(place, &Value::from(part), detail);
    if scheme != "https" {
        refuse(scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if host.is_empty() {
        refuse(host, format!("host must be specified{FORM}"));
    }
    if !user.is_empty() {
        refuse(user, "user information is not permitted in the URL".to_owned());
    }
    if !fragment.is_empty() {
        refuse(fragment, "fragments are not permitted in the URL".to_owned());
    }
    if !query.is_empty() {
        refuse(query, "query parameters are not permitted in the URL".to_owned());
    }
}

fn validate_service(place: &Cursor<'_>, service: &Cursor<'_>, errors: &mut ErrorList) {
    for field in ["name", "namespace"] {
        if service.at(field).is_empty() {
            errors.required(&place.said(field), format!("service {field} is required"));
        }
    }
    let port = service.at("port").int();
    let faults = names::port_number(port);
    if !faults.is_empty() {
        let detail = format!("port is not valid: {}", faults.join(","));
        errors.invalid_value(&place.said("port"), &port.into(), detail);
    }
    let path = service.at("path").str();
    let place = place.said("path");
    let mut refuse = |detail: String| errors.invalid_value(&place, &path.into(), detail);
    match path {
        "" | "/" => return,
        "//" => return refuse("segment[0] may not be empty".to_owned()),
        _ if !path.starts_with('/') => refuse("must start with a '/'".to_owned()),
        _ => {}
    }
    let mut rest = path.chars();
    rest.next();
    let rest = rest.as_str();
    for (i, step) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if step.is_empty() {
            refuse(format!("segment[{i}] may not be empty"));
            continue;
        }
        for fault in names::dns1123_subdomain(step) {
            refuse(format!("segment[{i}]: {fault}"));
        }
    }
}

/// Why a bundle of authorities (base64 of PEM) cannot be used; nothing for an empty one.
pub(super) fn bundle_fault(bundle: &str) -> Option<String> {
    use base64::Engine;
    if bundle.is_empty() {
        return None;
    }
    let pem = base64::engine::general_purpose::STANDARD
        .decode(bundle)
        .unwrap_or_default();
    let pem = String::from_utf8_lossy(&pem);
    let blocks = x509::blocks(&pem);
    let mut certificates = blocks.iter().filter(|b| b.kind == "CERTIFICATE").peekable();
    let why = if certificates.peek().is_none() {
        "unable to parse bytes as PEM block"
    } else if certificates.any(|b| x509::certificate(&b.bytes).is_none()) {
        "x509: malformed certificate"
    } else {
        return None;
    };
    Some(format!("unable to load root certificates: {why}"))
}
