//! The command line as containerd writes it: flags of Go, with one dash and the value behind a space or an equals sign.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make sure that a shim serves the container, and say where.
    Start,
    /// Serve.
    Serve,
    /// Clean up behind a shim that is gone.
    Delete,
    /// Print the version.
    Version,
    /// Print what containerd wants to know of a runtime.
    Info,
}

/// The command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    pub action: Action,
    /// containerd's namespace.
    pub namespace: String,
    /// The container, or the pod's sandbox.
    pub id: String,
    /// containerd's own socket (gRPC).
    pub address: String,
    /// The bundle, where it is told; else the current directory is.
    pub bundle: Option<PathBuf>,
    /// Where to serve. Our own flag: containerd does not know it.
    pub socket: Option<PathBuf>,
    pub debug: bool,
}

impl Args {
    /// Those of this process.
    pub fn of_process() -> Result<Self> {
        Self::parse(std::env::args().skip(1))
    }

    fn parse(words: impl Iterator<Item = String>) -> Result<Self> {
        let mut args = Self {
            action: Action::Serve,
            namespace: String::new(),
            id: String::new(),
            address: String::new(),
            bundle: None,
            socket: None,
            debug: false,
        };
        let mut words = words;
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
                args.action = match word.as_str() {
                    "start" => Action::Start,
                    "delete" => Action::Delete,
                    other => bail!("unknown action {other:?}; containerd calls start and delete"),
                };
                continue;
            };
            let (flag, value) = match flag.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (flag, None),
            };
            match flag {
                "debug" => args.debug = true,
                "v" | "version" => args.action = Action::Version,
                "info" => args.action = Action::Info,
                _ => {
                    let value = value.or_else(|| words.next());
                    let value = value.with_context(|| format!("-{flag} needs a value"))?;
                    match flag {
                        "namespace" => args.namespace = value,
                        "id" => args.id = value,
                        "address" => args.address = value,
                        "bundle" => args.bundle = Some(value.into()),
                        "socket" => args.socket = Some(value.into()),
                        // How old containerds are told of events: they have a socket for them, too.
                        "publish-binary" => {}
                        _ => bail!("unknown flag -{flag}"),
                    }
                }
            }
        }
        if matches!(args.action, Action::Start | Action::Serve | Action::Delete) {
            for (name, value) in [("-namespace", &args.namespace), ("-id", &args.id)] {
                if !is_name(value) {
                    bail!("{name} must be letters, digits, '.', '_' and '-', not {value:?}");
                }
            }
        }
        Ok(args)
    }
}

/// Whether containerd could have given this name (its identifiers package): no path and nothing hidden. It becomes part of paths.
pub fn is_name(name: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    bytes.len() <= 76
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Args> {
        Args::parse(words.split(' ').map(str::to_owned))
    }

    #[test]
    fn containerds_words_are_read() {
        let args = parse(
            "-namespace k8s.io -address /run/containerd/containerd.sock -publish-binary /usr/bin/containerd -id ab12 -debug start",
        )
        .expect("arguments");
        assert_eq!((args.action, args.debug), (Action::Start, true));
        assert_eq!((args.namespace.as_str(), args.id.as_str()), ("k8s.io", "ab12"));
        let args = parse("--namespace=a --id=b -bundle /run/b delete").expect("arguments");
        assert_eq!((args.action, args.bundle), (Action::Delete, Some("/run/b".into())));
    }

    #[test]
    fn what_could_leave_its_folder_is_no_name() {
        for id in ["..", "a/b", "", ".a", "a.", "-a", &"a".repeat(77)] {
            assert!(
                !is_name(id) && parse(&format!("-namespace n -id={id} start")).is_err(),
                "{id}"
            );
        }
        for words in ["-namespace n -id", "-namespace n -id a stop", "-nope 1 start", "start"] {
            assert!(parse(words).is_err(), "{words}");
        }
    }
}
