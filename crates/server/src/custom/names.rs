//! Whether a definition's names are free, and what its status says of it. Pure.

use coracle_api::kinds::custom_resource_definition::{APPROVAL, is_protected};
use coracle_api::object::Object;
use coracle_api::resource::Table;
use serde_json::{Value, json};

/// Why names are not accepted: a reason and a text.
pub(super) type Refusal = (&'static str, String);

/// Looks for another resource of the group that has one of the definition's names.
pub(super) fn decide(table: &Table, definition: &Object) -> Result<(), Refusal> {
    let text = |path: &[&str]| definition.str(path).unwrap_or_default();
    let (group, plural) = (text(&["spec", "group"]), text(&["spec", "names", "plural"]));
    let kind = text(&["spec", "names", "kind"]);
    let usual = format!("{kind}List");
    let list_kind = Some(text(&["spec", "names", "listKind"]))
        .filter(|s| !s.is_empty())
        .unwrap_or(&usual);
    let lower = kind.to_lowercase();
    let singular = Some(text(&["spec", "names", "singular"]))
        .filter(|s| !s.is_empty())
        .unwrap_or(&lower);
    let short: Vec<&str> = definition
        .array(&["spec", "names", "shortNames"])
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let taken = |name: &str| format!("{name:?} is already in use");
    for other in table.iter().filter(|r| r.group == group && r.plural != plural) {
        let theirs =
            |name: &str| other.plural == name || other.singular == name || other.short_names.iter().any(|s| s == name);
        if theirs(plural) {
            return Err(("PluralConflict", taken(plural)));
        }
        if theirs(singular) {
            return Err(("SingularConflict", taken(singular)));
        }
        if let Some(name) = short.iter().find(|s| theirs(s)) {
            return Err(("ShortNamesConflict", taken(name)));
        }
        if other.kind == kind || other.list_kind == kind {
            return Err(("KindConflict", taken(kind)));
        }
        if other.kind == list_kind || other.list_kind == list_kind {
            return Err(("ListKindConflict", taken(list_kind)));
        }
    }
    // A built-in resource cannot be redefined.
    if table
        .iter()
        .any(|r| !r.custom && r.group == group && r.plural == plural)
    {
        return Err(("PluralConflict", taken(plural)));
    }
    Ok(())
}

fn condition<'a>(definition: &'a Object, kind: &str) -> Option<&'a Value> {
    definition
        .array(&["status", "conditions"])
        .iter()
        .find(|c| c.get("type").and_then(Value::as_str) == Some(kind))
}

fn is_true(definition: &Object, kind: &str) -> bool {
    condition(definition, kind).and_then(|c| c.get("status")?.as_str()) == Some("True")
}

pub(super) fn is_established(definition: &Object) -> bool {
    is_true(definition, "Established")
}

pub(super) fn are_accepted(definition: &Object) -> bool {
    is_true(definition, "NamesAccepted")
}

/// What the status says while the objects of a definition go, and when they are gone.
pub(super) fn write_terminating(definition: &mut Object, done: bool, now: &str) -> bool {
    let before = definition.get(&["status"]).cloned();
    let (reason, message) = if done {
        ("InstanceDeletionCompleted", "removed all instances")
    } else {
        ("InstanceDeletionInProgress", "CustomResource deletion is in progress")
    };
    set_condition(definition, "Terminating", !done, reason, message, now);
    definition.get(&["status"]) != before.as_ref()
}

/// In one of Kubernetes' own groups the status says who approved the definition.
fn write_approval(definition: &mut Object, now: &str) {
    let group = definition.str(&["spec", "group"]).unwrap_or_default();
    if !is_protected(group) {
        return;
    }
    let (status, reason, message) = match definition.annotation(APPROVAL).unwrap_or_default() {
        "" => (
            false,
            "MissingAnnotation",
            format!(
                "protected groups must have approval annotation {APPROVAL:?}, see \
                 https://github.com/kubernetes/enhancements/pull/1111"
            ),
        ),
        text if text.starts_with("unapproved") => (false, "UnapprovedAnnotation", format!("not approved: {text:?}")),
        text => (true, "ApprovedAnnotation", format!("approved in {text}")),
    };
    set_condition(
        definition,
        "KubernetesAPIApprovalPolicyConformant",
        status,
        reason,
        &message,
        now,
    );
}

/// Brings conditions, accepted names and stored versions up to date. Whether anything changed.
pub(super) fn write_status(definition: &mut Object, accepted: &Result<(), Refusal>, now: &str) -> bool {
    let before = definition.get(&["status"]).cloned();
    write_approval(definition, now);
    match accepted {
        Ok(()) => {
            set_condition(
                definition,
                "NamesAccepted",
                true,
                "NoConflicts",
                "no conflicts found",
                now,
            );
            set_condition(
                definition,
                "Established",
                true,
                "InitialNamesAccepted",
                "the initial names have been accepted",
                now,
            );
            let mut names = definition.get(&["spec", "names"]).cloned().unwrap_or_default();
            if let Value::Object(names) = &mut names {
                let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
                names.entry("singular").or_insert_with(|| kind.to_lowercase().into());
                names.entry("listKind").or_insert_with(|| format!("{kind}List").into());
            }
            definition.set(&["status", "acceptedNames"], names);
        }
        Err((reason, text)) => {
            set_condition(definition, "NamesAccepted", false, reason, text, now);
            if !is_established(definition) {
                set_condition(
                    definition,
                    "Established",
                    false,
                    "NotAccepted",
                    "not all names are accepted",
                    now,
                );
                if definition.get(&["status", "acceptedNames"]).is_none() {
                    definition.set(&["status", "acceptedNames"], json!({"plural": "", "kind": ""}));
                }
            }
        }
    }
    let stored = definition
        .array(&["spec", "versions"])
        .iter()
        .find(|v| v.get("storage") == Some(&true.into()));
    if let Some(name) = stored.and_then(|v| v.get("name")).cloned() {
        let mut versions = definition.array(&["status", "storedVersions"]).to_vec();
        if !versions.contains(&name) {
            versions.push(name);
            definition.set(&["status", "storedVersions"], versions);
        }
    }
    definition.get(&["status"]) != before.as_ref()
}

fn set_condition(definition: &mut Object, kind: &str, status: bool, reason: &str, message: &str, now: &str) {
    let status = if status { "True" } else { "False" };
    let same = |c: &Value, f: &str, v: &str| c.get(f).and_then(Value::as_str) == Some(v);
    let old = condition(definition, kind);
    let since = match old {
        Some(old) if same(old, "status", status) => {
            if same(old, "reason", reason) && same(old, "message", message) {
                return;
            }
            old.get("lastTransitionTime")
                .and_then(Value::as_str)
                .unwrap_or(now)
                .to_owned()
        }
        _ => now.to_owned(),
    };
    let mut all = definition.array(&["status", "conditions"]).to_vec();
    let new =
        json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since});
    match all.iter_mut().find(|c| same(c, "type", kind)) {
        Some(slot) => *slot = new,
        None => all.push(new),
    }
    definition.set(&["status", "conditions"], all);
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_api::resource::Registry;

    fn definition(kind: &str) -> Object {
        let json = json!({
            "metadata": {"name": "things.example.com"},
            "spec": {
                "group": "example.com",
                "names": {"plural": "things", "kind": kind},
                "versions": [{"name": "v1", "served": true, "storage": true}],
            },
        });
        Object::from_value(json).unwrap()
    }

    #[test]
    fn accepted_names_establish_a_definition_and_stay_as_they_are() {
        let mut crd = definition("Thing");
        let accepted = decide(&Registry::built_in().table(), &crd);
        assert!(write_status(&mut crd, &accepted, "2026-01-01T00:00:00Z"));
        assert!(is_established(&crd));
        assert_eq!(crd.get(&["status", "storedVersions"]), Some(&json!(["v1"])));
        assert_eq!(crd.str(&["status", "acceptedNames", "listKind"]), Some("ThingList"));
        assert!(!write_status(&mut crd, &accepted, "2027-01-01T00:00:00Z"));
    }

    #[test]
    fn a_definition_that_goes_says_how_far_it_has_come() {
        let mut crd = definition("Thing");
        assert!(write_terminating(&mut crd, false, "2026-01-01T00:00:00Z"));
        assert!(!write_terminating(&mut crd, false, "2026-01-02T00:00:00Z"));
        let terminating = condition(&crd, "Terminating").unwrap();
        assert_eq!(
            (&terminating["status"], &terminating["reason"]),
            (&json!("True"), &json!("InstanceDeletionInProgress"))
        );
        assert!(write_terminating(&mut crd, true, "2026-01-02T00:00:00Z"));
        assert_eq!(condition(&crd, "Terminating").unwrap()["status"], "False");
    }

    #[test]
    fn a_built_in_resource_cannot_be_redefined() {
        let mut crd = definition("Thing");
        crd.set(&["spec", "group"], "apps");
        crd.set(&["spec", "names", "plural"], "deployments");
        let refusal = decide(&Registry::built_in().table(), &crd);
        assert_eq!(refusal.clone().unwrap_err().0, "PluralConflict");
        write_status(&mut crd, &refusal, "2026-01-01T00:00:00Z");
        assert!(!is_established(&crd));
    }
}
