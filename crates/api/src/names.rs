//! Which names, labels and other short strings are well formed, in upstream's words.
//!
//! Every check returns the reasons why the value is refused, none when it is fine; callers put them behind a path.
//! What a kind requires of a field is that kind's validation, not here.

pub mod address;
mod mail;
mod metadata;

pub use mail::is_mail_address;
pub use metadata::{MAX_ANNOTATIONS_BYTES, annotations, annotations_at, label_name, labels, labels_at, object_name};

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const SUBDOMAIN_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
                              '.', and must start and end with an alphanumeric character";
const KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const KEY_TEXT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                        alphanumeric character";
const KEY_EXAMPLES: &[&str] = &["MyName", "my.name", "123-abc"];

fn too_long(most: usize) -> String {
    format!("must be no more than {most} characters")
}

// Label keys and values are counted in bytes by upstream's newer rules, and say so.
fn too_many_bytes(most: usize) -> String {
    format!("must be no more than {most} bytes")
}

/// `text (e.g. 'a',  or 'b', regex used for validation is 'regex')`, with upstream's two spaces.
fn mismatch(text: &str, regex: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{text} (regex used for validation is '{regex}')");
    }
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!(
        "{text} (e.g. {}regex used for validation is '{regex}')",
        examples.join(" or ")
    )
}

fn is_lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// Non-empty, `inside` everywhere, `edge` at both ends.
fn is_word(value: &str, edge: impl Fn(u8) -> bool, inside: impl Fn(u8) -> bool) -> bool {
    let bytes = value.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => edge(*first) && edge(*last) && bytes.iter().all(|b| inside(*b)),
        _ => false,
    }
}

fn is_label(value: &str) -> bool {
    is_word(value, is_lower_alnum, |b| is_lower_alnum(b) || b == b'-')
}

fn is_subdomain(value: &str) -> bool {
    value.split('.').all(is_label)
}

fn is_key_name(value: &str) -> bool {
    is_word(
        value,
        |b| b.is_ascii_alphanumeric(),
        |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'),
    )
}

/// A label of RFC 1123: `my-name`, `123-abc`.
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 63 {
        faults.push(too_long(63));
    }
    if !is_label(value) {
        if is_subdomain(value) {
            faults.push("must not contain dots".into());
        } else {
            let text = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                        start and end with an alphanumeric character";
            faults.push(mismatch(text, LABEL, &["my-name", "123-abc"]));
        }
    }
    faults
}

/// A subdomain of RFC 1123: `example.com`.
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 253 {
        faults.push(too_long(253));
    }
    if !is_subdomain(value) {
        faults.push(mismatch(SUBDOMAIN_TEXT, SUBDOMAIN, &["example.com"]));
    }
    faults
}

/// A subdomain whose labels may have underscores, as a search path's have: `_sip._tcp.example.com`.
pub fn subdomain_with_underscores(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 253 {
        faults.push(too_long(253));
    }
    let is_label = |label: &str| {
        let label = label.strip_prefix('_').unwrap_or(label);
        is_word(label, is_lower_alnum, |b| is_lower_alnum(b) || matches!(b, b'-' | b'_'))
    };
    if !value.split('.').all(is_label) {
        let text = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', \
                    and must start and end with an alphanumeric character";
        let label = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
        faults.push(mismatch(text, &format!(r"{label}(\.{label})*"), &["example.com"]));
    }
    faults
}

/// `*.example.com`.
pub fn wildcard_subdomain(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 253 {
        faults.push(too_long(253));
    }
    if !value.strip_prefix("*.").is_some_and(is_subdomain) {
        let text = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must \
                    consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        faults.push(mismatch(text, &format!(r"\*\.{SUBDOMAIN}"), &["*.example.com"]));
    }
    faults
}

/// A label of RFC 1035, which starts with a letter: names of services.
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 63 {
        faults.push(too_long(63));
    }
    if !is_label(value) || !value.starts_with(|c: char| c.is_ascii_lowercase()) {
        let text = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
                    character, and end with an alphanumeric character";
        faults.push(mismatch(text, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"]));
    }
    faults
}

/// A qualified name, which is what a label's key is: `app`, `example.com/app`.
pub fn qualified_name(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let (prefix, name) = match value.split_once('/') {
        None => (None, value),
        Some((prefix, name)) if !name.contains('/') => (Some(prefix), name),
        Some(_) => {
            return vec![format!(
                "a valid label key {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                mismatch(KEY_TEXT, KEY, KEY_EXAMPLES)
            )];
        }
    };
    match prefix {
        None => {}
        Some("") => faults.push("prefix part must be non-empty".into()),
        Some(prefix) => {
            if prefix.len() > 253 {
                faults.push(format!("prefix part {}", too_many_bytes(253)));
            }
            if !is_subdomain(prefix) {
                let text = mismatch(SUBDOMAIN_TEXT, SUBDOMAIN, &["example.com"]);
                faults.push(format!("prefix part {text}"));
            }
        }
    }
    if name.is_empty() {
        faults.push("name part must be non-empty".into());
    } else if name.len() > 63 {
        faults.push(format!("name part {}", too_many_bytes(63)));
    }
    if !is_key_name(name) {
        faults.push(format!("name part {}", mismatch(KEY_TEXT, KEY, KEY_EXAMPLES)));
    }
    faults
}

/// A qualified name that has a prefix.
pub fn domain_prefixed_key(value: &str) -> Vec<String> {
    let faults = qualified_name(value);
    if faults.is_empty() && !value.contains('/') {
        return vec!["must be a domain-prefixed key (such as \"acme.io/foo\")".into()];
    }
    faults
}

/// The value of a label; empty is fine.
pub fn label_value(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 63 {
        faults.push(too_many_bytes(63));
    }
    if !value.is_empty() && !is_key_name(value) {
        let text = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
                    must start and end with an alphanumeric character";
        faults.push(mismatch(
            text,
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    faults
}

/// What can stand in the path of a URL; empty is not looked at here.
pub fn path_segment(value: &str) -> Vec<String> {
    match value {
        "." => vec!["may not be '.'".into()],
        ".." => vec!["may not be '..'".into()],
        _ => path_segment_prefix(value),
    }
}

fn path_segment_prefix(value: &str) -> Vec<String> {
    ["/", "%"]
        .into_iter()
        .filter(|bad| value.contains(bad))
        .map(|bad| format!("may not contain '{bad}'"))
        .collect()
}

/// The name of a port (IANA_SVC_NAME).
pub fn port_name(value: &str) -> Vec<String> {
    let mut faults: Vec<String> = Vec::new();
    if value.len() > 15 {
        faults.push(too_long(15));
    }
    if value.is_empty() || !value.bytes().all(|b| is_lower_alnum(b) || b == b'-') {
        faults.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !value.bytes().any(|b| b.is_ascii_lowercase()) {
        faults.push("must contain at least one letter (a-z)".into());
    }
    if value.contains("--") {
        faults.push("must not contain consecutive hyphens".into());
    }
    if value.starts_with('-') || value.ends_with('-') {
        faults.push("must not begin or end with a hyphen".into());
    }
    faults
}

pub fn port_number(value: i64) -> Vec<String> {
    in_range(value, 1, 65535)
}

pub fn in_range(value: i64, low: i64, high: i64) -> Vec<String> {
    if (low..=high).contains(&value) {
        return Vec::new();
    }
    vec![format!("must be between {low} and {high}, inclusive")]
}

/// A numeric user or group.
pub fn user_id(value: i64) -> Vec<String> {
    in_range(value, 0, i64::from(u32::MAX))
}

/// `25%`.
pub fn percent(value: &str) -> Vec<String> {
    let digits = value.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Vec::new();
    }
    let text = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![mismatch(text, "[0-9]+%", &["1%", "93%"])]
}

pub fn c_identifier(value: &str) -> Vec<String> {
    let is_fine = value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if is_fine {
        return Vec::new();
    }
    let text = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric \
                characters or '_'";
    vec![mismatch(
        text,
        "[A-Za-z_][A-Za-z0-9_]*",
        &["my_name", "MY_NAME", "MyName"],
    )]
}

/// The name of an environment variable: any printable ASCII but `=`.
pub fn env_var_name(value: &str) -> Vec<String> {
    let mut faults: Vec<String> = Vec::new();
    if value.is_empty() {
        faults.push("environment variable name must be non-empty".into());
    }
    if !value.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        let text = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        faults.push(text.into());
    }
    faults
}

/// The name of an environment variable that a shell can read: what `envFrom` takes without complaint.
pub fn strict_env_var_name(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let is_fine =
        !value.is_empty() && !value.starts_with(|c: char| c.is_ascii_digit()) && value.bytes().all(is_config_key_byte);
    if !is_fine {
        let text = "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', \
                    and must not start with a digit";
        let examples = ["my.env-name", "MY_ENV.NAME", "MyEnvName1"];
        faults.push(mismatch(text, "[-._a-zA-Z][-._a-zA-Z0-9]*", &examples));
    }
    faults.extend(dot_dot(value));
    faults
}

fn is_config_key_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')
}

/// A key of a ConfigMap or Secret.
pub fn config_map_key(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 253 {
        faults.push(too_long(253));
    }
    if value.is_empty() || !value.bytes().all(is_config_key_byte) {
        let text = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        faults.push(mismatch(text, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    faults.extend(dot_dot(value));
    faults
}

fn dot_dot(value: &str) -> Option<String> {
    match value {
        "." | ".." => Some(format!("must not be '{value}'")),
        _ if value.starts_with("..") => Some("must not start with '..'".into()),
        _ => None,
    }
}

pub fn http_header_name(value: &str) -> Vec<String> {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    let text = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![mismatch(text, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// The `reason` of a condition.
pub fn condition_reason(value: &str) -> Vec<String> {
    let is_fine = value.starts_with(|c: char| c.is_ascii_alphabetic())
        && value.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b',' | b':'));
    if is_fine {
        return Vec::new();
    }
    let text = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric \
                characters or '_,:', and must end with an alphanumeric character or '_'";
    let examples = ["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"];
    vec![mismatch(text, "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", &examples)]
}

/// `acme.io/foo` with any path behind the first slash: signer names, finalizers of a namespace.
pub fn domain_prefixed_path(value: &str) -> Vec<String> {
    let Some((host, path)) = value.split_once('/').filter(|(h, p)| !h.is_empty() && !p.is_empty()) else {
        return vec!["must be a domain-prefixed path (such as \"acme.io/foo\")".into()];
    };
    let mut faults = dns1123_subdomain(host);
    let is_path_byte = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    if !path.bytes().all(is_path_byte) {
        faults.push(mismatch("Invalid path", r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+", &[]));
    }
    faults
}

/// A subdomain of at least three labels (webhook names).
pub fn fully_qualified_name(value: &str) -> Vec<String> {
    let faults = dns1123_subdomain(value);
    if faults.is_empty() && value.split('.').count() < 3 {
        return vec!["should be a domain with at least three segments separated by dots".into()];
    }
    faults
}

/// A domain's whole name, with or without the dot of the root.
pub fn fully_qualified_domain(value: &str) -> Vec<String> {
    let value = value.strip_suffix('.').unwrap_or(value);
    let faults = dns1123_subdomain(value);
    if !faults.is_empty() {
        return faults;
    }
    if !value.contains('.') {
        return vec!["should be a domain with at least two segments separated by dots".into()];
    }
    value.split('.').flat_map(dns1123_label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(faults: Vec<String>) -> String {
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults.into_iter().next().unwrap()
    }

    #[test]
    fn a_subdomain_is_refused_in_upstreams_words() {
        assert!(dns1123_subdomain("a.b-c.1").is_empty());
        assert_eq!(
            only(dns1123_subdomain("My_App")),
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        );
        assert_eq!(
            only(dns1123_subdomain(&"a".repeat(254))),
            "must be no more than 253 characters"
        );
        for bad in ["", ".", "a.", "-a", "a..b", "a-.b", "ä"] {
            assert_eq!(dns1123_subdomain(bad).len(), 1, "{bad}");
        }
    }

    #[test]
    fn labels_refuse_dots_by_name_and_other_things_by_pattern() {
        assert!(dns1123_label("123-abc").is_empty());
        assert_eq!(only(dns1123_label("a.b")), "must not contain dots");
        assert_eq!(
            only(dns1123_label("a_b")),
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
             end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
        );
        assert!(dns1035_label("abc-123").is_empty());
        assert_eq!(dns1035_label("1abc").len(), 1);
        assert_eq!(
            dns1035_label(&"a".repeat(64)),
            vec!["must be no more than 63 characters"]
        );
    }

    #[test]
    fn a_label_key_is_an_optional_domain_and_a_name() {
        for good in ["app", "example.com/app", "A_b.c-1", "1"] {
            assert!(qualified_name(good).is_empty(), "{good}");
        }
        assert_eq!(qualified_name("/a"), vec!["prefix part must be non-empty"]);
        assert_eq!(qualified_name("a/").len(), 2);
        assert_eq!(
            only(qualified_name("a/b/c")),
            "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
             alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
             '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. \
             'example.com/MyName')"
        );
        assert_eq!(
            only(qualified_name(&"a".repeat(64))),
            "name part must be no more than 63 bytes"
        );
        assert!(label_value("").is_empty());
        assert_eq!(label_value("a b").len(), 1);
    }

    #[test]
    fn ports_percents_variables_and_keys() {
        assert!(port_name("http-2").is_empty());
        assert_eq!(port_name("80"), vec!["must contain at least one letter (a-z)"]);
        assert_eq!(
            port_name("a--b-"),
            vec![
                "must not contain consecutive hyphens",
                "must not begin or end with a hyphen"
            ]
        );
        assert_eq!(port_number(0), vec!["must be between 1 and 65535, inclusive"]);
        assert!(percent("25%").is_empty());
        assert_eq!(percent("%").len(), 1);
        assert!(env_var_name("1 a%").is_empty());
        assert_eq!(env_var_name("a=b").len(), 1);
        assert_eq!(strict_env_var_name("1a").len(), 1);
        assert!(config_map_key("a.b_C-1").is_empty());
        assert_eq!(config_map_key(".."), vec!["must not be '..'"]);
        assert_eq!(config_map_key("..a"), vec!["must not start with '..'"]);
        assert!(c_identifier("_a1").is_empty());
        assert_eq!(c_identifier("1a").len(), 1);
        assert!(condition_reason("A,B:c_").is_empty());
        assert_eq!(condition_reason("").len(), 1);
        assert!(wildcard_subdomain("*.a.b").is_empty());
        assert_eq!(wildcard_subdomain("*.*.b").len(), 1);
    }
}
