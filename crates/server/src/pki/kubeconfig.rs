//! The text of a kubeconfig for one cluster and one user.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Pair;

/// A kubeconfig whose only context is `name`. JSON strings are YAML strings.
pub fn kubeconfig(name: &str, server: &str, ca: &str, user: &str, pair: &Pair) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let encoded = |text: &str| STANDARD.encode(text);
    let user = quoted(user);
    let context = quoted(name);
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: {context}\n  \
           cluster:\n    \
             server: {server}\n    \
             certificate-authority-data: {ca}\n\
         users:\n\
         - name: {user}\n  \
           user:\n    \
             client-certificate-data: {certificate}\n    \
             client-key-data: {key}\n\
         contexts:\n\
         - name: {context}\n  \
           context:\n    \
             cluster: {context}\n    \
             user: {user}\n\
         current-context: {context}\n",
        server = quoted(server),
        ca = encoded(ca),
        certificate = encoded(&pair.certificate),
        key = encoded(&pair.key),
    )
}
