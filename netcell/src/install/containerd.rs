//! containerd's config.toml: a runtime entry between two marks at the end.

use anyhow::{Context, Result, bail};

const BEGIN: &str = "# netcell install: begin\n";
const END: &str = "# netcell install: end\n";

/// The text with our entry. containerd reads the annotations `dev.netcell.*` through to the runtime.
pub(super) fn add(text: &str) -> Result<String> {
    let bare = remove(text)?;
    let before = parse(&bare)?;
    let plugin = match before.get("version").and_then(toml::Value::as_integer) {
        Some(2) => "io.containerd.grpc.v1.cri",
        Some(3) => "io.containerd.cri.v1.runtime",
        None if bare.trim().is_empty() => "io.containerd.grpc.v1.cri",
        version => {
            let told = version.map_or("no version, which is 1".into(), |v| format!("version {v}"));
            bail!("it has {told}: known are 2 and 3 (containerd config migrate)");
        }
    };
    if runtime(&before, plugin).is_some() {
        bail!("it has a runtime \"netcell\" that netcell install did not write");
    }
    let mut whole = bare.clone();
    if bare.trim().is_empty() {
        // The version stands between the marks, so that it goes with them.
        whole = format!("{bare}{BEGIN}version = 2\n{}{END}", entry(plugin));
    } else {
        if !whole.ends_with('\n') {
            whole.push('\n');
        }
        whole.push_str(&format!("{BEGIN}{}{END}", entry(plugin)));
    }
    // A table that was written inline cannot be extended.
    let after = parse(&whole).context("the entry cannot be added at its end")?;
    match runtime(&after, plugin) {
        Some(_) => Ok(whole),
        None => bail!("the entry would not be read"),
    }
}

fn entry(plugin: &str) -> String {
    format!(
        "[plugins.\"{plugin}\".containerd.runtimes.netcell]
  runtime_type = \"io.containerd.netcell.v1\"
  pod_annotations = [\"dev.netcell.*\"]
  container_annotations = [\"dev.netcell.*\"]
"
    )
}

/// The text without our entry.
pub(super) fn remove(text: &str) -> Result<String> {
    let Some(begin) = text.find(BEGIN) else { return Ok(text.to_owned()) };
    let Some(length) = text[begin..].find(END) else {
        bail!("the mark {:?} has no end", BEGIN.trim());
    };
    Ok(format!("{}{}", &text[..begin], &text[begin + length + END.len()..]))
}

fn parse(text: &str) -> Result<toml::Table> {
    text.parse().context("it is no TOML")
}

fn runtime<'a>(config: &'a toml::Table, plugin: &str) -> Option<&'a toml::Value> {
    config.get("plugins")?.get(plugin)?.get("containerd")?.get("runtimes")?.get("netcell")
}
