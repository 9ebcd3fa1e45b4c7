//! One call of the plugin: the verb and the parameters of the environment, checked, with the configuration.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::config::{Input, RuntimeConfig, Settings};
use crate::error::{CniError, Code};
use crate::names::{self, AttachmentKey};
use crate::version::Version;

/// What the caller wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verb {
    Add,
    Check,
    Del,
    Gc,
    Status,
    Version,
}

impl Verb {
    const ALL: [Self; 6] =
        [Self::Add, Self::Check, Self::Del, Self::Gc, Self::Status, Self::Version];

    /// As CNI_COMMAND has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Check => "CHECK",
            Self::Del => "DEL",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    /// The first version of the specification that has it.
    fn since(self) -> Version {
        match self {
            Self::Add | Self::Del | Self::Version => Version::V030,
            Self::Check => Version::V040,
            Self::Gc | Self::Status => Version::V110,
        }
    }
}

/// The variables of the environment, as they came.
pub(crate) struct Environment {
    command: OsString,
    container_id: OsString,
    netns: OsString,
    ifname: OsString,
    args: OsString,
    path: OsString,
}

impl Environment {
    /// That of this process. What is absent is empty.
    pub(crate) fn of_process() -> Self {
        let var = |name| std::env::var_os(name).unwrap_or_default();
        Self {
            command: var("CNI_COMMAND"),
            container_id: var("CNI_CONTAINERID"),
            netns: var("CNI_NETNS"),
            ifname: var("CNI_IFNAME"),
            args: var("CNI_ARGS"),
            path: var("CNI_PATH"),
        }
    }

    /// The verb.
    pub(crate) fn verb(&self) -> Result<Verb, CniError> {
        let verb = Verb::ALL.into_iter().find(|v| self.command == v.name());
        verb.ok_or_else(|| {
            let known = Verb::ALL.map(Verb::name).join(", ");
            let told = self.command.to_string_lossy();
            let why = format!("it is {told:?}; known are {known}");
            CniError::new(Code::InvalidEnvironment, "invalid CNI_COMMAND").because(why)
        })
    }
}

/// A call with everything that its verb needs.
pub(crate) struct Call {
    pub(crate) verb: Verb,
    /// Empty for GC and STATUS.
    pub(crate) container_id: String,
    /// Name of the interface in the container. Empty for GC and STATUS.
    pub(crate) ifname: String,
    /// Path of the container's network namespace. None where DEL comes without, and for GC and STATUS.
    pub(crate) netns: Option<String>,
    /// Keys and values of CNI_ARGS.
    pub(crate) args: Vec<(String, String)>,
    /// Where delegated plugins are looked for.
    pub(crate) path: Vec<PathBuf>,
    pub(crate) input: Input,
    pub(crate) settings: Settings,
    pub(crate) runtime: RuntimeConfig,
}

impl Call {
    /// Checks the parameters that the verb needs.
    pub(crate) fn new(verb: Verb, env: &Environment, input: Input) -> Result<Self, CniError> {
        if input.version < verb.since() {
            let msg = format!("{} needs cniVersion {}", verb.name(), verb.since().name());
            let why = format!("the configuration has {}", input.version.name());
            return Err(CniError::new(Code::IncompatibleVersion, msg).because(why));
        }
        let of_container = matches!(verb, Verb::Add | Verb::Check | Verb::Del);
        let must_have_netns = matches!(verb, Verb::Add | Verb::Check);
        let (mut container_id, mut ifname, mut netns) = (String::new(), String::new(), None);
        if of_container {
            container_id = text("CNI_CONTAINERID", &env.container_id)?;
            require("CNI_CONTAINERID", names::is_container_id(&container_id), &container_id)?;
            ifname = text("CNI_IFNAME", &env.ifname)?;
            require("CNI_IFNAME", names::is_ifname(&ifname), &ifname)?;
            let path = text("CNI_NETNS", &env.netns)?;
            require("CNI_NETNS", !(must_have_netns && path.is_empty()), &path)?;
            netns = Some(path).filter(|path| !path.is_empty());
        }
        // What was added must go, whatever became of the configuration since.
        let strict = matches!(verb, Verb::Add | Verb::Check | Verb::Status);
        let args = match arguments(&env.args) {
            Err(error) if strict => return Err(error),
            args => args.unwrap_or_default(),
        };
        let (settings, runtime) =
            if strict { (input.settings()?, input.runtime()?) } else { input.lenient() };
        let path = std::env::split_paths(&env.path).filter(|p| p.is_absolute()).collect();
        Ok(Self { verb, container_id, ifname, netns, args, path, input, settings, runtime })
    }

    /// What this attachment is called on the host.
    pub(crate) fn key(&self) -> AttachmentKey {
        AttachmentKey::new(&self.input.name, &self.container_id, &self.ifname)
    }

    /// The value of a key of CNI_ARGS.
    pub(crate) fn argument(&self, key: &str) -> Option<&str> {
        self.args.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }
}

fn text(name: &str, value: &OsString) -> Result<String, CniError> {
    let text = value.clone().into_string();
    text.map_err(|bytes| invalid(name, &bytes.to_string_lossy()))
}

fn require(name: &str, holds: bool, value: &str) -> Result<(), CniError> {
    if holds { Ok(()) } else { Err(invalid(name, value)) }
}

fn invalid(name: &str, value: &str) -> CniError {
    let why = if value.is_empty() { "it is missing".into() } else { format!("it is {value:?}") };
    CniError::new(Code::InvalidEnvironment, format!("invalid {name}")).because(why)
}

/// Specification, section "Parameters": "Alphanumeric key-value pairs separated by semicolons".
fn arguments(args: &OsString) -> Result<Vec<(String, String)>, CniError> {
    let args = text("CNI_ARGS", args)?;
    let pairs = args.split(';').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())))
        .collect::<Option<_>>()
        .ok_or_else(|| invalid("CNI_ARGS", &args))
}
