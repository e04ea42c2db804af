//! Probes and lifecycle hooks: what runs, and how often.

use super::super::check::{NOT_NEGATIVE, not_empty, not_negative, one_of, port};
use super::Context;
use crate::field::{Cursor, ErrorList};
use crate::names;

/// The signals that may stop a container on Linux.
const SIGNALS: [&str; 31] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGKILL",
    "SIGPIPE",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

pub(super) fn all(container: &Cursor<'_>, cx: &Context<'_>, errors: &mut ErrorList) {
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = container.at(field);
        if !probe.is_set() {
            continue;
        }
        handler(&probe, &["exec", "httpGet", "tcpSocket", "grpc"], cx, errors);
        for number in [
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ] {
            not_negative(&probe.at(number), errors);
        }
        let grace = probe.at("terminationGracePeriodSeconds");
        if grace.i64().is_some_and(|seconds| seconds <= 0) {
            errors.invalid(&grace, "must be greater than 0");
        }
        let success = probe.at("successThreshold");
        if field == "readinessProbe" {
            if grace.is_set() {
                errors.invalid(&grace, "must not be set for readinessProbes");
            }
        } else if success.int() != 1 {
            errors.invalid(&success, "must be 1");
        }
    }
}

pub(super) fn lifecycle(lifecycle: &Cursor<'_>, cx: &Context<'_>, errors: &mut ErrorList) {
    for hook in ["postStart", "preStop"] {
        let hook = lifecycle.at(hook);
        if hook.is_set() {
            handler(&hook, &["exec", "httpGet", "tcpSocket", "sleep"], cx, errors);
        }
    }
    let signal = lifecycle.at("stopSignal");
    if !signal.is_set() {
        return;
    }
    match cx.operating_system {
        "" => errors.forbidden(&signal, "may not be set for containers with empty `spec.os.name`"),
        "windows" => one_of(&signal, &["SIGKILL", "SIGTERM"], errors),
        _ if is_realtime(signal.str()) => {}
        _ => one_of(&signal, &SIGNALS, errors),
    }
}

/// `SIGRTMIN`, `SIGRTMIN+3`, `SIGRTMAX-1`.
fn is_realtime(signal: &str) -> bool {
    let offset = |rest: &str, sign: char, most: u8| {
        rest.is_empty()
            || rest
                .strip_prefix(sign)
                .and_then(|n| n.parse::<u8>().ok())
                .is_some_and(|n| (1..=most).contains(&n))
    };
    match (signal.strip_prefix("SIGRTMIN"), signal.strip_prefix("SIGRTMAX")) {
        (Some(rest), _) => offset(rest, '+', 15),
        (_, Some(rest)) => offset(rest, '-', 14),
        _ => false,
    }
}

fn handler(at: &Cursor<'_>, kinds: &[&str], cx: &Context<'_>, errors: &mut ErrorList) {
    let mut found = false;
    for kind in kinds {
        let action = at.at(kind);
        if !action.is_set() {
            continue;
        }
        if found {
            errors.forbidden(&action, "may not specify more than 1 handler type");
            continue;
        }
        found = true;
        match *kind {
            "exec" => not_empty(&action.at("command"), errors),
            "httpGet" => http_get(&action, errors),
            "sleep" => sleep(&action, cx, errors),
            _ => port(&action.at("port"), errors),
        }
    }
    if !found {
        errors.required(at, "must specify a handler type");
    }
}

fn http_get(action: &Cursor<'_>, errors: &mut ErrorList) {
    not_empty(&action.at("path"), errors);
    port(&action.at("port"), errors);
    let scheme = action.at("scheme");
    if !matches!(scheme.str(), "HTTP" | "HTTPS") {
        errors.not_supported(&scheme, &["HTTP", "HTTPS"]);
    }
    let headers = action.at("httpHeaders");
    for header in headers.items() {
        let name = header.at("name");
        for fault in names::http_header_name(name.str()) {
            errors.invalid_value(&headers, &name.str().into(), fault);
        }
    }
}

fn sleep(action: &Cursor<'_>, cx: &Context<'_>, errors: &mut ErrorList) {
    let seconds = action.at("seconds");
    let Some(grace) = cx.grace else {
        if seconds.int() < 0 {
            errors.invalid(action, NOT_NEGATIVE);
        }
        return;
    };
    if seconds.int() < 0 || seconds.int() > grace {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.invalid_value(action, &seconds.int().into(), detail);
    }
}
