//! The query parameters that operations have in common, described for readers of the documents.

/// name, type, description.
pub(super) type Parameter = (&'static str, &'static str, &'static str);

pub(super) const PRETTY: Parameter = ("pretty", "string", "If 'true', then the output is pretty printed.");
pub(super) const DRY_RUN: Parameter = (
    "dryRun",
    "string",
    "When present, indicates that modifications should not be persisted. Valid value: All.",
);
pub(super) const FIELD_MANAGER: Parameter = (
    "fieldManager",
    "string",
    "The name of the actor that makes the change, at most 128 printable characters. Required for apply.",
);
pub(super) const FIELD_VALIDATION: Parameter = (
    "fieldValidation",
    "string",
    "What is done about unknown and duplicate fields in the request: Ignore, Warn (the default) or Strict.",
);
pub(super) const FORCE: Parameter = (
    "force",
    "boolean",
    "Apply only: takes the fields over that others manage. Not allowed with other patches.",
);
pub(super) const DELETE: [Parameter; 4] = [
    (
        "gracePeriodSeconds",
        "integer",
        "Seconds before the object is deleted; 0 means at once.",
    ),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "Deletes an object that cannot be read any more, without finalizers or preconditions.",
    ),
    ("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    (
        "propagationPolicy",
        "string",
        "What becomes of dependents: Orphan, Background or Foreground.",
    ),
];
pub(super) const LIST: [Parameter; 10] = [
    (
        "allowWatchBookmarks",
        "boolean",
        "Asks for events of type BOOKMARK in a watch.",
    ),
    (
        "continue",
        "string",
        "The token of the list before this one, for the next page.",
    ),
    (
        "fieldSelector",
        "string",
        "Restricts the objects by their fields. Defaults to everything.",
    ),
    (
        "labelSelector",
        "string",
        "Restricts the objects by their labels. Defaults to everything.",
    ),
    (
        "limit",
        "integer",
        "The most objects to return; there is a continue token when there are more.",
    ),
    (
        "resourceVersion",
        "string",
        "Which resource versions the request may be served from.",
    ),
    (
        "resourceVersionMatch",
        "string",
        "How resourceVersion is applied to lists.",
    ),
    (
        "sendInitialEvents",
        "boolean",
        "A watch starts with the objects that there are, then a bookmark.",
    ),
    (
        "timeoutSeconds",
        "integer",
        "Ends the call after this time, whatever happens.",
    ),
    (
        "watch",
        "boolean",
        "Streams changes as events of type ADDED, MODIFIED and DELETED. Needs resourceVersion.",
    ),
];
