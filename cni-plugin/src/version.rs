//! The versions of the specification that are spoken, in order.

use crate::error::{CniError, Code};

/// A version of the specification.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Version {
    /// 0.3.0: chains.
    V030,
    /// 0.3.1: `interface` is an index.
    V031,
    /// 0.4.0: CHECK.
    V040,
    /// 1.0.0: addresses without `version`.
    V100,
    /// 1.1.0: GC, STATUS, MTU of interfaces, attributes of routes.
    V110,
}

impl Version {
    /// All, oldest first.
    pub(crate) const ALL: [Self; 5] = [Self::V030, Self::V031, Self::V040, Self::V100, Self::V110];
    /// What is spoken where nobody says otherwise.
    pub(crate) const NEWEST: Self = Self::V110;

    /// As the specification writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V030 => "0.3.0",
            Self::V031 => "0.3.1",
            Self::V040 => "0.4.0",
            Self::V100 => "1.0.0",
            Self::V110 => "1.1.0",
        }
    }

    /// The version of a name. None where it is not spoken.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.name() == name)
    }

    /// The version of a configuration, or the specification's error 1 with what is supported.
    pub(crate) fn of_config(name: &str) -> Result<Self, CniError> {
        Self::of_name(name).ok_or_else(|| {
            let supported = Self::ALL.map(Self::name).join(", ");
            // A configuration without a version is one of 0.1.0.
            let told = if name.is_empty() { "none (which is 0.1.0)" } else { name };
            CniError::new(Code::IncompatibleVersion, "incompatible CNI version").because(format!(
                "the configuration has cniVersion {told:?}; supported are {supported}"
            ))
        })
    }
}
