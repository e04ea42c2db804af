//! Continue tokens: which revision a list is of, and where its next page begins.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coracle_api::status::Status;
use serde::{Deserialize, Serialize};

/// A decoded token.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContinueToken {
    #[serde(rename = "v")]
    version: String,
    /// The revision of the whole list; 0 continues with whatever is there now.
    #[serde(rename = "rv", default)]
    pub revision: i64,
    /// The last key of the page before, without the resource's prefix.
    #[serde(rename = "start")]
    pub after: String,
}

const VERSION: &str = "meta.k8s.io/v1";

impl ContinueToken {
    pub fn encode(revision: i64, after: &str) -> String {
        let token = Self {
            version: VERSION.into(),
            revision,
            after: after.into(),
        };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
    }

    pub fn decode(text: &str) -> Result<Self, Status> {
        let invalid = || Status::bad_request("continue key is not valid: start a new list without it");
        let bytes = URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|_| invalid())?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
        if token.version != VERSION || token.after.is_empty() || token.after.contains("..") {
            return Err(invalid());
        }
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_as_it_was_written_and_nonsense_is_refused() {
        let token = ContinueToken::decode(&ContinueToken::encode(7, "default/a")).unwrap();
        assert_eq!((token.revision, token.after.as_str()), (7, "default/a"));
        for bad in ["x", "e30", &ContinueToken::encode(7, "")] {
            assert_eq!(ContinueToken::decode(bad).unwrap_err().code, 400);
        }
    }
}
