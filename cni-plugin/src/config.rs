//! The configuration on standard input: JSON in which null is as good as absent, and our fields of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::error::{CniError, Code};
use crate::names;
use crate::netlink::Mac;
use crate::result::{CniResult, Dns};
use crate::version::Version;

/// Where hand-off files are where the configuration does not say.
const HANDOFF_DIR: &str = "/run/netcell/cni";
/// The bridge where the configuration names none.
const BRIDGE: &str = "netcell0";
/// The capability by which containerd gives a pod's annotations.
const POD_ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";
/// The annotation by which a pod chooses `packet` or `tap`.
const MODE_ANNOTATION: &str = "dev.netcell.net.mode";
/// The annotation that refers to a policy.
const POLICY_ANNOTATION: &str = "dev.netcell.net.policy";
/// Fields of every configuration, and those that libcni adds.
const COMMON: &[&str] = &[
    "cniVersion",
    "cniVersions",
    "name",
    "type",
    "args",
    "capabilities",
    "runtimeConfig",
    "prevResult",
    "disableCheck",
    "disableGC",
    "loadOnlyInlinedPlugins",
];
/// Fields that only make sense where the plugin makes the interface.
const OF_MAIN: &[&str] =
    &["bridge", "mtu", "isGateway", "isDefaultGateway", "ipMasq", "hairpinMode", "ipam"];
/// Fields that only make sense with a bridge.
const OF_BRIDGE: &[&str] = &["bridge", "isGateway", "isDefaultGateway", "hairpinMode"];
/// Our fields besides.
const OURS: &[&str] = &["mode", "handoffDir", "policy", "dns"];

/// A decoded configuration.
pub(crate) struct Input {
    /// As it came, for delegated plugins.
    pub(crate) raw: Map<String, Value>,
    pub(crate) version: Version,
    /// Name of the network.
    pub(crate) name: String,
}

impl Input {
    /// Decodes it and checks what every verb needs: a version and a name.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, CniError> {
        let undecodable = |why: String| {
            CniError::new(Code::Decode, "the configuration on standard input is no JSON object")
                .because(why)
        };
        let value: Value = serde_json::from_slice(bytes).map_err(|e| undecodable(e.to_string()))?;
        let Value::Object(raw) = value else {
            return Err(undecodable("it is another JSON value".into()));
        };
        let version = match raw.get("cniVersion") {
            None | Some(Value::Null) => Version::of_config("")?,
            Some(Value::String(version)) => Version::of_config(version)?,
            Some(other) => {
                let why = format!("cniVersion is {other}, not a string");
                return Err(CniError::new(Code::Decode, "invalid cniVersion").because(why));
            }
        };
        let name = raw.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !names::is_network_name(&name) {
            let why = format!("name is {}", raw.get("name").unwrap_or(&Value::Null));
            return Err(CniError::new(Code::InvalidConfig, "invalid network name").because(why));
        }
        Ok(Self { raw, version, name })
    }

    /// Our fields, all of them understood and fitting together.
    pub(crate) fn settings(&self) -> Result<Settings, CniError> {
        let known = |key: &str| {
            COMMON.contains(&key)
                || OURS.contains(&key)
                || OF_MAIN.contains(&key)
                || key.starts_with("cni.dev/")
        };
        if let Some((key, value)) = self.raw.iter().find(|(key, v)| !known(key) && !v.is_null()) {
            let msg = format!("unsupported field {key:?}: {value}");
            return Err(CniError::new(Code::UnsupportedField, msg));
        }
        let settings: Settings = decode(&Value::Object(self.raw.clone()), "the configuration")?;
        settings.check(|key| self.raw.get(key).is_some_and(|value| !value.is_null()))?;
        Ok(settings)
    }

    /// What the runtime gives by capabilities.
    pub(crate) fn runtime(&self) -> Result<RuntimeConfig, CniError> {
        let Some(value) = self.raw.get("runtimeConfig").filter(|v| !v.is_null()) else {
            return Ok(RuntimeConfig::default());
        };
        let main = self
            .raw
            .get("mode")
            .and_then(Value::as_str)
            .is_some_and(|m| !matches!(m, "packet" | "tap"));
        let lowered = lower_keys(value, &[POD_ANNOTATIONS]);
        for (key, value) in lowered.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null())
        {
            let known = match key.as_str() {
                "bandwidth" | "dns" | POD_ANNOTATIONS => true,
                // The plugin before us makes the interface and maps ports, IPAM takes addresses from ranges.
                "mac" | "ips" | "portmappings" | "ipranges" => main,
                _ => false,
            };
            if !known {
                let msg = format!("unsupported field \"runtimeConfig.{key}\": {value}");
                let why = "take the capability out of this plugin's entry";
                return Err(CniError::new(Code::UnsupportedField, msg).because(why));
            }
        }
        let runtime: RuntimeConfig = decode(&lowered, "runtimeConfig")?;
        runtime.check()?;
        Ok(runtime)
    }

    /// As much of both as can be understood: for verbs that must do what they can.
    pub(crate) fn lenient(&self) -> (Settings, RuntimeConfig) {
        let ours = |(key, value): (&String, &Value)| {
            let one = Value::Object(Map::from_iter([(key.clone(), value.clone())]));
            decode::<Settings>(&one, "").is_ok().then(|| (key.clone(), value.clone()))
        };
        let understood: Map<_, _> = self.raw.iter().filter_map(ours).collect();
        let settings = decode(&Value::Object(understood), "").unwrap_or_default();
        (settings, self.runtime().unwrap_or_default())
    }

    /// The result of the plugin before, or of ADD. None where there is none.
    pub(crate) fn prev_result(&self) -> Result<Option<CniResult>, CniError> {
        let Some(value) = self.raw.get("prevResult").filter(|v| !v.is_null()) else {
            return Ok(None);
        };
        CniResult::from_json(value).map(Some)
    }
}

/// Decodes a value without its nulls.
pub(crate) fn decode<T: for<'a> Deserialize<'a>>(value: &Value, what: &str) -> Result<T, CniError> {
    T::deserialize(without_nulls(value))
        .map_err(|e| CniError::new(Code::InvalidConfig, format!("invalid {what}")).because(e))
}

/// Callers write null for what they leave out.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, v)| !v.is_null());
            Value::Object(kept.map(|(k, v)| (k.clone(), without_nulls(v))).collect())
        }
        Value::Array(list) => {
            Value::Array(list.iter().filter(|v| !v.is_null()).map(without_nulls).collect())
        }
        other => other.clone(),
    }
}

/// Callers write the names of their own structures' fields: `HostPort`, `Servers`. What is below `verbatim` stays.
fn lower_keys(value: &Value, verbatim: &[&str]) -> Value {
    match value {
        Value::Object(map) => {
            let lower = |(key, value): (&String, &Value)| {
                let key = key.to_ascii_lowercase();
                let value = match verbatim.contains(&key.as_str()) {
                    true => value.clone(),
                    false => lower_keys(value, verbatim),
                };
                (key, value)
            };
            Value::Object(map.iter().map(lower).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(|v| lower_keys(v, verbatim)).collect()),
        other => other.clone(),
    }
}

/// How the pod comes to its network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// Chained: frames of the interface that an earlier plugin made, by AF_PACKET.
    #[default]
    Packet,
    /// Chained: a TAP device beside that interface, and its frames redirected both ways.
    Tap,
    /// Main: a pair of links, the host's end in a bridge.
    Bridge,
    /// Main: a pair of links with routes, and no bridge.
    Ptp,
    /// Main: a TAP device in a bridge of the host.
    TapBridge,
}

impl Mode {
    /// Whether this plugin makes the interface.
    pub(crate) fn is_main(self) -> bool {
        matches!(self, Self::Bridge | Self::Ptp | Self::TapBridge)
    }
}

/// Our fields of the configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    handoff_dir: Option<PathBuf>,
    policy: Option<String>,
    bridge: Option<String>,
    /// MTU of the interface in bytes.
    pub(crate) mtu: Option<u32>,
    /// Give the bridge the gateway's address, and let the node pass packets on.
    is_gateway: bool,
    /// Give the pod a default route through the bridge.
    pub(crate) is_default_gateway: bool,
    /// Masquerade what leaves the network.
    pub(crate) ip_masq: bool,
    /// Let a pod reach itself through the bridge.
    pub(crate) hairpin_mode: bool,
    pub(crate) ipam: Option<Ipam>,
    pub(crate) dns: Dns,
}

/// Who gives addresses; the rest of the field is for it alone.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Ipam {
    /// Name of the executable.
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

impl Settings {
    /// Where hand-off files are.
    pub(crate) fn handoff_dir(&self) -> PathBuf {
        self.handoff_dir.clone().unwrap_or_else(|| HANDOFF_DIR.into())
    }

    /// Name of the bridge.
    pub(crate) fn bridge(&self) -> &str {
        self.bridge.as_deref().unwrap_or(BRIDGE)
    }

    /// Whether the bridge has the gateway's address.
    pub(crate) fn is_gateway(&self) -> bool {
        self.is_gateway || self.is_default_gateway
    }

    fn check(&self, given: impl Fn(&str) -> bool) -> Result<(), CniError> {
        let invalid = |msg: String| Err(CniError::new(Code::InvalidConfig, msg));
        let misplaced = match self.mode {
            Mode::Packet | Mode::Tap => OF_MAIN,
            Mode::Ptp => OF_BRIDGE,
            Mode::Bridge | Mode::TapBridge => &[],
        };
        if let Some(key) = misplaced.iter().find(|key| given(key)) {
            return invalid(format!("{key:?} has no meaning in mode {:?}", self.mode));
        }
        if self.handoff_dir.as_ref().is_some_and(|dir| !dir.is_absolute()) {
            return invalid("\"handoffDir\" is no absolute path".into());
        }
        if let Some(policy) = self.policy.as_ref().filter(|policy| !is_policy(policy)) {
            return invalid(format!("\"policy\" is no reference: {policy:?}"));
        }
        if !names::is_ifname(self.bridge()) {
            return invalid(format!("\"bridge\" is no name of a link: {:?}", self.bridge()));
        }
        if self.mode.is_main() && self.ipam.is_none() {
            return invalid(format!("mode {:?} needs \"ipam\"", self.mode));
        }
        let bad_type = |ipam: &Ipam| ipam.kind.is_empty() || ipam.kind.contains(['/', '\0']);
        if self.ipam.as_ref().is_some_and(bad_type) {
            return invalid("\"ipam.type\" is no name of a plugin".into());
        }
        Ok(())
    }
}

/// A reference to a policy: opaque for us, and short.
fn is_policy(policy: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':');
    !policy.is_empty() && policy.len() <= 253 && policy.chars().all(fine)
}

/// What the runtime gives by capabilities. Keys are in lower case.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RuntimeConfig {
    /// Hardware address that the interface shall have.
    mac: Option<String>,
    /// Addresses that the pod shall have; IPAM gives them.
    pub(crate) ips: Vec<IpNet>,
    #[serde(rename = "portmappings")]
    pub(crate) port_mappings: Vec<PortMapping>,
    pub(crate) bandwidth: Option<Bandwidth>,
    pub(crate) dns: Option<RuntimeDns>,
    #[serde(rename = "io.kubernetes.cri.pod-annotations")]
    annotations: BTreeMap<String, String>,
}

impl RuntimeConfig {
    fn check(&self) -> Result<(), CniError> {
        if let Some(why) = self.mac.as_ref().and_then(|mac| mac.parse::<Mac>().err()) {
            let msg = "invalid \"runtimeConfig.mac\"";
            return Err(CniError::new(Code::InvalidConfig, msg).because(why));
        }
        match self.annotations.get(MODE_ANNOTATION).map(String::as_str) {
            None | Some("packet" | "tap") => {}
            Some(other) => {
                let msg = format!("annotation {MODE_ANNOTATION} is {other:?}, not packet or tap");
                return Err(CniError::new(Code::InvalidConfig, msg));
            }
        }
        match self.annotations.get(POLICY_ANNOTATION) {
            Some(policy) if !is_policy(policy) => {
                let msg = format!("annotation {POLICY_ANNOTATION} is no reference: {policy:?}");
                Err(CniError::new(Code::InvalidConfig, msg))
            }
            _ => Ok(()),
        }
    }

    /// The hardware address that is wanted.
    pub(crate) fn mac(&self) -> Option<Mac> {
        self.mac.as_ref().and_then(|mac| mac.parse().ok())
    }

    /// Whether the pod's frames go over a TAP device beside its interface: the pod's annotation before the configuration.
    pub(crate) fn wants_tap(&self, settings: &Settings) -> bool {
        match self.annotations.get(MODE_ANNOTATION) {
            Some(mode) => mode == "tap",
            None => settings.mode == Mode::Tap,
        }
    }

    /// Whether the pod's annotation wants AF_PACKET.
    pub(crate) fn insists_on_packet(&self) -> bool {
        self.annotations.get(MODE_ANNOTATION).is_some_and(|mode| mode == "packet")
    }

    /// The policy that is referred to: the pod's annotation before the configuration.
    pub(crate) fn policy(&self, settings: &Settings) -> Option<String> {
        self.annotations.get(POLICY_ANNOTATION).or(settings.policy.as_ref()).cloned()
    }
}

/// A port of the host that leads to the pod.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(crate) struct PortMapping {
    #[serde(rename = "hostport")]
    pub(crate) host_port: u16,
    #[serde(rename = "containerport")]
    pub(crate) container_port: u16,
    #[serde(default)]
    pub(crate) protocol: Protocol,
    /// None for every address of the host.
    #[serde(rename = "hostip", default, deserialize_with = "address_or_empty")]
    pub(crate) host_ip: Option<IpAddr>,
}

/// A protocol with ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
pub(crate) enum Protocol {
    #[default]
    #[serde(rename = "tcp", alias = "TCP")]
    Tcp,
    #[serde(rename = "udp", alias = "UDP")]
    Udp,
    #[serde(rename = "sctp", alias = "SCTP")]
    Sctp,
}

fn address_or_empty<'de, D: Deserializer<'de>>(from: D) -> Result<Option<IpAddr>, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() {
        return Ok(None);
    }
    let address: IpAddr = text.parse().map_err(serde::de::Error::custom)?;
    Ok(Some(address).filter(|a| !a.is_unspecified()))
}

/// Limits of the pod's traffic: rates in bits a second, bursts in bits; 0 is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Bandwidth {
    #[serde(rename(serialize = "ingressRate", deserialize = "ingressrate"), default)]
    pub(crate) ingress_rate: u64,
    #[serde(rename(serialize = "ingressBurst", deserialize = "ingressburst"), default)]
    pub(crate) ingress_burst: u64,
    #[serde(rename(serialize = "egressRate", deserialize = "egressrate"), default)]
    pub(crate) egress_rate: u64,
    #[serde(rename(serialize = "egressBurst", deserialize = "egressburst"), default)]
    pub(crate) egress_burst: u64,
}

/// The DNS that the runtime gives to the pod.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RuntimeDns {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl RuntimeDns {
    /// As results have it.
    pub(crate) fn as_result(&self) -> Dns {
        Dns {
            nameservers: self.servers.clone(),
            domain: String::new(),
            search: self.searches.clone(),
            options: self.options.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
