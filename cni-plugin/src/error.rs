//! Errors as the specification has them: a code, a short message for the user, details.

use std::fmt::Display;

use serde_json::{Value, json};

use crate::version::Version;

/// The codes of the specification (section "Error"), and ours from 100.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Code {
    /// Incompatible CNI version.
    IncompatibleVersion,
    /// Unsupported field in the configuration: "The error message must contain the key and value of the unsupported field."
    UnsupportedField,
    /// Invalid necessary environment variables: "The error message must contain the names of invalid variables."
    InvalidEnvironment,
    /// I/O failure.
    Io,
    /// Failed to decode content.
    Decode,
    /// Invalid network config.
    InvalidConfig,
    /// CNI_NETNS is the namespace in which the plugin runs.
    InvalidNetns,
    /// The plugin is not available: it cannot serve ADD.
    NotAvailable,
    /// CHECK found something other than what ADD made.
    Changed,
    /// The host's kernel refused a change of its network.
    Network,
    /// A code that a delegated plugin gave.
    Delegated(u32),
    /// Anything that should not be.
    Internal,
}

impl Code {
    fn number(self) -> u32 {
        match self {
            Self::IncompatibleVersion => 1,
            Self::UnsupportedField => 2,
            Self::InvalidEnvironment => 4,
            Self::Io => 5,
            Self::Decode => 6,
            Self::InvalidConfig => 7,
            Self::InvalidNetns => 8,
            Self::NotAvailable => 50,
            Self::Changed => 100,
            Self::Network => 101,
            Self::Delegated(code) => code,
            Self::Internal => 999,
        }
    }
}

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct CniError {
    pub(crate) code: Code,
    /// What failed, and on what.
    pub(crate) msg: String,
    /// Why, where more is known.
    pub(crate) details: String,
}

impl CniError {
    /// An error without details.
    pub(crate) fn new(code: Code, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// The same with the cause as its details.
    pub(crate) fn because(mut self, cause: impl Display) -> Self {
        self.details = cause.to_string();
        self
    }

    /// The specification's JSON. A zero code is the kind of error that a caller takes for none, and never leaves.
    pub(crate) fn to_json(&self, version: Version) -> Value {
        let code = match self.code.number() {
            0 => Code::Internal.number(),
            code => code,
        };
        let mut json = json!({ "cniVersion": version.name(), "code": code, "msg": self.msg });
        if !self.details.is_empty() {
            json["details"] = self.details.clone().into();
        }
        json
    }
}

impl Display for CniError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.msg)?;
        if !self.details.is_empty() {
            write!(f, ": {}", self.details)?;
        }
        Ok(())
    }
}
