//! Docker's daemon.json: a runtime entry put in where it belongs; all else stays as its writer wrote it.

use anyhow::{Context, Result, bail};
use serde_json::Value;

const ENTRY: &str = "\"netcell\": { \"path\": \"/usr/local/bin/netcell\" }";
/// Put in front of the other runtimes.
const AMONG: &str = "\n    \"netcell\": { \"path\": \"/usr/local/bin/netcell\" },";
/// Put in where no other runtime is.
const ALONE: &str = " \"netcell\": { \"path\": \"/usr/local/bin/netcell\" } ";
/// Put in front of the other fields.
const FIELD: &str = "\n  \"runtimes\": { \"netcell\": { \"path\": \"/usr/local/bin/netcell\" } },";
/// The whole file.
const WHOLE: &str =
    "{\n  \"runtimes\": { \"netcell\": { \"path\": \"/usr/local/bin/netcell\" } }\n}\n";
/// Put in where no other field is.
const ONLY_FIELD: &str =
    "\n  \"runtimes\": { \"netcell\": { \"path\": \"/usr/local/bin/netcell\" } }\n";

/// The text with our entry.
pub(super) fn add(text: &str) -> Result<String> {
    if text.trim().is_empty() {
        return Ok(WHOLE.to_owned());
    }
    let config = parse(text)?;
    match config.get("runtimes").map(|r| r.get("netcell")) {
        Some(Some(_)) if text.contains(ENTRY) => return Ok(text.to_owned()),
        Some(Some(_)) => bail!("it has a runtime \"netcell\" that netcell install did not write"),
        _ => {}
    }
    let is_empty = |value: &Value| value.as_object().is_some_and(serde_json::Map::is_empty);
    let (at, put) = match config.get("runtimes") {
        Some(runtimes) if !runtimes.is_object() => bail!("\"runtimes\" is no object"),
        Some(runtimes) => (inside_runtimes(text), if is_empty(runtimes) { ALONE } else { AMONG }),
        None => {
            (text.find('{').map(|at| at + 1), if is_empty(&config) { ONLY_FIELD } else { FIELD })
        }
    };
    let at = at.context("the place for the entry is not to be found")?;
    let whole = format!("{}{put}{}", &text[..at], &text[at..]);
    match parse(&whole)?["runtimes"]["netcell"].is_object() {
        true => Ok(whole),
        false => bail!("the entry would not be read"),
    }
}

/// The text without our entry.
pub(super) fn remove(text: &str) -> Result<String> {
    if text == WHOLE {
        return Ok(String::new());
    }
    if text.trim().is_empty()
        || parse(text)?.get("runtimes").and_then(|r| r.get("netcell")).is_none()
    {
        return Ok(text.to_owned());
    }
    for put in [FIELD, ONLY_FIELD, AMONG, ALONE] {
        if let Some(at) = text.find(put) {
            let bare = format!("{}{}", &text[..at], &text[at + put.len()..]);
            if parse(&bare).is_ok_and(|config| config["runtimes"].get("netcell").is_none()) {
                return Ok(bare);
            }
        }
    }
    bail!("its runtime \"netcell\" was changed by hand: remove it by hand")
}

fn parse(text: &str) -> Result<Value> {
    let config: Value = serde_json::from_str(text).context("it is no JSON")?;
    if config.is_object() { Ok(config) } else { bail!("it is no JSON object") }
}

/// The place behind the brace that opens the value of the outermost field `runtimes`, in a text that is an object.
fn inside_runtimes(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut at, mut name) = (0_usize, 0, None);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let end = end_of_string(bytes, at)?;
                name = (depth == 1).then(|| &text[at..=end]);
                at = end;
            }
            b'{' if depth == 1 && name == Some("\"runtimes\"") => return Some(at + 1),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b',' => name = None,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The index of the quote that ends the string that begins at a quote.
fn end_of_string(bytes: &[u8], begin: usize) -> Option<usize> {
    let mut at = begin + 1;
    loop {
        match bytes.get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(at),
            _ => at += 1,
        }
    }
}
