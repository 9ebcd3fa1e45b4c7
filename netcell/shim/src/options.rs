//! What the operator configured: a TOML file that containerd's runtime options name, or runc's options, which docker sends.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{CodedInputStream, Message};
use containerd_shim_protos::shim::oci::Options as RuncOptions;
use serde::{Deserialize, Serialize};

/// containerd's message for runtimes with a file: `ConfigPath` of its configuration, `--runtime-config-path` of ctr.
const RUNTIME_OPTIONS: [&str; 2] = ["runtimeoptions.v1.Options", "runtimeoptions/v1.Options"];
const RUNC_OPTIONS: &str = "containerd.runc.v1.Options";
/// Its fields with the path of the file, and with its text in place.
const CONFIG_PATH: u32 = 2;
const CONFIG_BODY: u32 = 3;
/// The file that is read where nothing is named.
const DEFAULT_FILE: &str = "/etc/netcell/shim.toml";
/// Kept beside the bundle for `delete`, which is told no options.
const KEPT: &str = "shim-options.json";

/// The options of a shim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Options {
    /// The OCI runtime; default: `netcell`, beside the shim or in PATH.
    runtime: Option<PathBuf>,
    /// Folder for its state; default: /run/containerd/netcell.
    root: Option<PathBuf>,
    /// Whether cgroups are made by systemd.
    pub systemd_cgroup: bool,
    /// Whether the runtime logs what a developer asks for.
    pub debug: bool,
}

impl Options {
    /// Those of a task that is to be created.
    pub fn of(message: Option<&Any>) -> Result<Self> {
        let Some(message) = message.filter(|any| !any.type_url.is_empty()) else {
            return match std::fs::read_to_string(DEFAULT_FILE) {
                Ok(text) => Self::parse(&text).context(DEFAULT_FILE),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
                Err(error) => Err(error).context(DEFAULT_FILE),
            };
        };
        let name = message.type_url.rsplit_once(".com/").map_or(&*message.type_url, |(_, n)| n);
        if name == RUNC_OPTIONS {
            let runc = RuncOptions::parse_from_bytes(&message.value)?;
            let path =
                |text: String| Some(PathBuf::from(text)).filter(|p| !p.as_os_str().is_empty());
            return Ok(Self {
                runtime: path(runc.binary_name),
                root: path(runc.root),
                systemd_cgroup: runc.systemd_cgroup,
                debug: false,
            });
        }
        if !RUNTIME_OPTIONS.contains(&name) {
            bail!("runtime options of the type {name:?} are not known here");
        }
        match config_of(&message.value)? {
            (_, body) if !body.is_empty() => Self::parse(&body).context("the configuration's text"),
            (path, _) if !path.is_empty() => {
                let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
                Self::parse(&text).context(path)
            }
            _ => Ok(Self::default()),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        Ok(toml::from_str(text)?)
    }

    /// The runtime's program.
    pub fn runtime(&self) -> PathBuf {
        let beside = || {
            let path = std::env::current_exe().ok()?.with_file_name("netcell");
            path.exists().then_some(path)
        };
        self.runtime.clone().or_else(beside).unwrap_or_else(|| "netcell".into())
    }

    /// The folder for its state.
    pub fn root(&self) -> PathBuf {
        self.root.clone().unwrap_or_else(|| "/run/containerd/netcell".into())
    }

    /// Keeps them beside a bundle.
    pub fn keep(&self, bundle: &Path) -> Result<()> {
        Ok(std::fs::write(bundle.join(KEPT), serde_json::to_vec(self)?)?)
    }

    /// Those that were kept beside a bundle, or the defaults.
    pub fn kept(bundle: &Path) -> Self {
        let kept = std::fs::read(bundle.join(KEPT)).ok();
        kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }
}

/// Path and text of containerd's message.
fn config_of(bytes: &[u8]) -> Result<(String, String)> {
    let (mut path, mut body) = (String::new(), String::new());
    let mut input = CodedInputStream::from_bytes(bytes);
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        match (tag >> 3, tag & 7) {
            (CONFIG_PATH, 2) => path = input.read_string()?,
            (CONFIG_BODY, 2) => body = String::from_utf8(input.read_bytes()?)?,
            (_, 2) => drop(input.read_bytes()?),
            (_, 0) => drop(input.read_raw_varint64()?),
            (field, kind) => bail!("field {field} of the runtime options has the wire type {kind}"),
        }
    }
    Ok((path, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containerds_message_carries_a_file_or_its_text() {
        let field = |number: u8, text: &str| {
            [&[number << 3 | 2, text.len() as u8], text.as_bytes()].concat()
        };
        let any =
            |value| Any { type_url: "runtimeoptions.v1.Options".into(), value, ..Any::default() };
        let text = "runtime = \"/opt/netcell\"\nsystemd-cgroup = true";
        let message = any([field(1, "dev.netcell.options"), field(3, text)].concat());
        let options = Options::of(Some(&message)).expect("options");
        assert_eq!(options.runtime(), PathBuf::from("/opt/netcell"));
        assert!(options.systemd_cgroup && !options.debug);
        for bad in [any(field(3, "runtmie = 1")), any(field(2, "/nonexistent")), any(vec![0xff])] {
            assert!(Options::of(Some(&bad)).is_err());
        }
        let other = Any { type_url: "some.other.Options".into(), ..Any::default() };
        assert!(Options::of(Some(&other)).is_err());
    }
}
