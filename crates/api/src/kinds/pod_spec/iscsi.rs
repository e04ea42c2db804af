//! Disks by iSCSI, in a pod's volume and in a PersistentVolume.

use super::super::check::not_empty;
use crate::field::{Cursor, ErrorList};
use crate::names;

pub(in crate::kinds) const LONG_PORTAL: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
    iscsi.initiatorName is specified.";

/// Whether the name of a volume and the portal together are too long to name an initiator by.
pub(in crate::kinds) fn portal_is_too_long(source: &Cursor<'_>, volume: &str) -> bool {
    let portal = source.at("targetPortal");
    source.at("initiatorName").is_set() && volume.len() + 1 + portal.str().len() > 64
}

/// The parts that a pod's volume and a PersistentVolume have in common; `prefixes` is what is said of a name that
/// starts like none.
pub(in crate::kinds) fn validate(source: &Cursor<'_>, prefixes: &str, errors: &mut ErrorList) {
    not_empty(&source.at("targetPortal"), errors);
    let (iqn, initiator) = (source.at("iqn"), source.at("initiatorName"));
    not_empty(&iqn, errors);
    if !iqn.is_empty() {
        iscsi_name(&iqn, iqn.str(), prefixes, errors);
    }
    let lun = source.at("lun");
    errors.faults(&lun, names::in_range(lun.int(), 0, 255));
    let secret = source.at("secretRef");
    if (source.at("chapAuthDiscovery").is_true() || source.at("chapAuthSession").is_true()) && !secret.is_set() {
        errors.required(&secret, "");
    }
    if initiator.is_set() {
        iscsi_name(&source.said("initiatorname"), initiator.str(), prefixes, errors);
    }
}

fn iscsi_name(place: &Cursor<'_>, name: &str, prefixes: &str, errors: &mut ErrorList) {
    if !["iqn", "eui", "naa"].iter().any(|p| name.starts_with(p)) {
        errors.invalid_value(place, &name.into(), prefixes);
    } else if !is_iscsi_name(name) {
        errors.invalid_value(place, &name.into(), "must be valid format");
    }
}

/// `iqn.2001-04.com.example:storage`, `eui.` and 16 letters or digits, `naa.` and 32.
fn is_iscsi_name(name: &str) -> bool {
    let Some((kind, rest)) = name.split_once('.') else {
        return false;
    };
    let is_plain = rest.bytes().all(|b| b.is_ascii_alphanumeric());
    match kind {
        "iqn" => {
            let Some((date, (authority, storage))) =
                rest.split_once('.').and_then(|(d, r)| Some((d, r.split_once(':')?)))
            else {
                return false;
            };
            let is_date = |d: &[u8]| {
                d.len() == 7
                    && d.iter()
                        .enumerate()
                        .all(|(i, b)| if i == 4 { *b == b'-' } else { b.is_ascii_digit() })
            };
            is_date(date.as_bytes())
                && !authority.is_empty()
                && authority
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
                && !storage.is_empty()
                && !storage.contains([',', ';', '*', '&', '$', '|'])
                && !storage.contains(char::is_whitespace)
        }
        "eui" => is_plain && rest.len() == 16,
        "naa" => is_plain && rest.len() == 32,
        _ => false,
    }
}
