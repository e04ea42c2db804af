//! Continue tokens: which revision a list is of, and where its next page begins.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::{DecodeError, Engine};
use coracle_api::status::Status;
use serde::{Deserialize, Serialize};

/// A decoded token.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContinueToken {
    #[serde(rename = "v", default)]
    version: String,
    /// The revision of the whole list; a negative one continues with whatever is there now.
    #[serde(rename = "rv", default)]
    pub revision: i64,
    /// The last key of the page before, without the resource's prefix.
    #[serde(rename = "start", default)]
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
        Self::read(text)
            .map_err(|why| Status::bad_request(format!("invalid continue token: continue key is not valid: {why}")))
    }

    fn read(text: &str) -> Result<Self, String> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| {
            let at = match error {
                DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
                DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => text.len(),
            };
            format!("illegal base64 data at input byte {at}")
        })?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
        let Self {
            version,
            revision,
            after,
        } = &token;
        if version != VERSION {
            return Err(format!("server does not recognize this encoded version {version:?}"));
        }
        if *revision == 0 {
            return Err(format!("incorrect encoded start resourceVersion (version {VERSION})"));
        }
        if after.is_empty() {
            return Err(format!("encoded start key empty (version {VERSION})"));
        }
        // No key leads out of its resource.
        let is_clean = after
            .trim_start_matches('/')
            .split('/')
            .all(|part| !matches!(part, "." | ".."));
        if !is_clean {
            return Err(after.clone());
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
        for (bad, why) in [
            ("x", "illegal base64 data at input byte 1"),
            ("%", "illegal base64 data at input byte 0"),
            ("e30", "server does not recognize this encoded version \"\""),
            (
                &ContinueToken::encode(7, ""),
                "encoded start key empty (version meta.k8s.io/v1)",
            ),
            (
                &ContinueToken::encode(0, "a"),
                "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            ),
            (&ContinueToken::encode(7, "../secrets/a"), "../secrets/a"),
        ] {
            let refused = ContinueToken::decode(bad).unwrap_err();
            let message = format!("invalid continue token: continue key is not valid: {why}");
            assert_eq!((refused.code, refused.message), (400, message));
        }
    }
}
