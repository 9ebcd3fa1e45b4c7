//! VERSION: which versions of the specification are spoken.

use serde_json::{Value, json};

use crate::error::{CniError, Code};
use crate::version::Version;

/// The answer, in the version of the input where that is spoken. An empty input is none.
pub(crate) fn version(input: &[u8]) -> Result<Value, CniError> {
    let told = if input.iter().all(u8::is_ascii_whitespace) {
        Value::Null
    } else {
        serde_json::from_slice(input).map_err(|e| {
            CniError::new(Code::Decode, "the input of VERSION is no JSON").because(e)
        })?
    };
    let version = told.get("cniVersion").and_then(Value::as_str).and_then(Version::of_name);
    Ok(json!({
        "cniVersion": version.unwrap_or(Version::NEWEST).name(),
        "supportedVersions": Version::ALL.map(Version::name),
    }))
}
