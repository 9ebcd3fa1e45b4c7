//! The result of ADD: one form in memory, that of the newest version, and its conversion from and to every version.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::net::IpAddr;

use crate::config;
use crate::error::{CniError, Code};
use crate::version::Version;

/// What a plugin made (specification, section "ADD Success").
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CniResult {
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) ips: Vec<IpConfig>,
    pub(crate) routes: Vec<Route>,
    pub(crate) dns: Dns,
}

/// A link.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Interface {
    pub(crate) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) mac: String,
    /// In bytes; from 1.1.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mtu: Option<u32>,
    /// Path of its namespace; empty for a link of the host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) sandbox: String,
    /// From 1.1.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) socket_path: Option<String>,
    /// From 1.1.0.
    #[serde(rename = "pciID", skip_serializing_if = "Option::is_none")]
    pub(crate) pci_id: Option<String>,
}

/// An address.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct IpConfig {
    /// With the length of its prefix.
    pub(crate) address: IpNet,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gateway: Option<IpAddr>,
    /// Index into the interfaces; some plugins leave it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) interface: Option<usize>,
}

/// A route in the container.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Route {
    pub(crate) dst: IpNet,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gw: Option<IpAddr>,
    /// In bytes; this and what follows from 1.1.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advmss: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) table: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<u8>,
}

/// Resolvers.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Dns {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) nameservers: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) domain: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) search: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) options: Vec<String>,
}

impl Dns {
    /// Whether it says nothing.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl CniResult {
    /// Decodes a result of any version; what an older one says besides follows from the rest.
    pub(crate) fn from_json(value: &Value) -> Result<Self, CniError> {
        let result: Self = config::decode(value, "result of the plugin before")?;
        let beyond = |ip: &&IpConfig| ip.interface.is_some_and(|i| i >= result.interfaces.len());
        if let Some(ip) = result.ips.iter().find(beyond) {
            let msg = format!("the address {} is on an interface that is not listed", ip.address);
            return Err(CniError::new(Code::InvalidConfig, msg));
        }
        Ok(result)
    }

    /// Lists its interfaces; all addresses are on the last one, the container's.
    pub(crate) fn set_interfaces(&mut self, interfaces: Vec<Interface>) {
        let container = interfaces.len().checked_sub(1);
        self.interfaces = interfaces;
        for ip in &mut self.ips {
            ip.interface = container;
        }
    }

    /// The JSON of a version, which may have no words for all of it.
    pub(crate) fn to_json(&self, version: Version) -> Value {
        let mut result = self.clone();
        if version < Version::V110 {
            for interface in &mut result.interfaces {
                (interface.mtu, interface.socket_path, interface.pci_id) = (None, None, None);
            }
            for route in &mut result.routes {
                *route = Route::new(route.dst, route.gw);
            }
        }
        let mut json = json!({ "cniVersion": version.name() });
        let mut put = |key: &str, value: Value| json[key] = value;
        if !result.interfaces.is_empty() {
            put("interfaces", json!(result.interfaces));
        }
        if !result.ips.is_empty() {
            put("ips", result.ips.iter().map(|ip| ip.to_json(version)).collect());
        }
        if !result.routes.is_empty() {
            put("routes", json!(result.routes));
        }
        if !result.dns.is_empty() {
            put("dns", json!(result.dns));
        }
        json
    }

    /// The addresses of an interface in a container: those that name it by index, and those that name none.
    pub(crate) fn addresses_of(&self, ifname: &str) -> impl Iterator<Item = &IpConfig> {
        self.ips.iter().filter(move |ip| {
            let interface = ip.interface.and_then(|index| self.interfaces.get(index));
            interface.is_none_or(|i| i.name == ifname && !i.sandbox.is_empty())
        })
    }
}

impl IpConfig {
    fn to_json(&self, version: Version) -> Value {
        let mut json = json!(self);
        if version < Version::V100 {
            json["version"] = if self.address.addr().is_ipv4() { "4" } else { "6" }.into();
        }
        json
    }
}

impl Route {
    /// A route without attributes.
    pub(crate) fn new(dst: IpNet, gw: Option<IpAddr>) -> Self {
        Self { dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }
}

/// A result passed on as it came; where it came in another version than it must leave in, in that.
pub(crate) fn pass_on(raw: &Value, parsed: &CniResult, version: Version) -> Value {
    let came = raw.get("cniVersion").and_then(Value::as_str).unwrap_or(version.name());
    if came != version.name() {
        return parsed.to_json(version);
    }
    let mut value = raw.clone();
    value["cniVersion"] = version.name().into();
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> CniResult {
        CniResult::from_json(&json!({"cniVersion": "1.1.0",
            "interfaces": [{"name": "br", "mac": "02:00:00:00:00:01"},
                           {"name": "eth0", "mac": "02:00:00:00:00:02", "mtu": 1400, "sandbox": "/n", "pciID": "1"}],
            "ips": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 1}, {"address": "fd00::2/64", "interface": 1}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1", "mtu": 1300, "priority": 5, "table": 100, "scope": 253}],
            "dns": {"nameservers": ["10.1.0.1"], "search": ["a"], "options": null}}))
        .expect("a result")
    }

    #[test]
    fn every_version_has_its_words_and_comes_back() {
        for version in Version::ALL {
            let json = full().to_json(version);
            assert_eq!(json["cniVersion"], version.name());
            let old = version < Version::V100;
            assert_eq!(json["ips"][0].get("version"), old.then(|| json!("4")).as_ref());
            assert_eq!(json["ips"][1].get("version"), old.then(|| json!("6")).as_ref());
            let newest = version == Version::V110;
            assert_eq!(json["interfaces"][1].get("mtu").is_some(), newest, "{json}");
            assert_eq!(json["routes"][0].get("table").is_some(), newest, "{json}");
            let back = CniResult::from_json(&json).expect("what we wrote");
            assert_eq!(back == full(), newest);
            assert_eq!((back.ips, back.dns), (full().ips, full().dns));
        }
    }

    #[test]
    fn addresses_without_an_interface_belong_to_the_container() {
        let mut result = full();
        assert_eq!(result.addresses_of("eth0").count(), 2);
        assert_eq!(result.addresses_of("eth1").count(), 0);
        result.ips[0].interface = None;
        assert_eq!(result.addresses_of("eth1").count(), 1);
    }

    #[test]
    fn a_result_that_contradicts_itself_is_refused() {
        for bad in [
            json!({"ips": [{"address": "10.1.0.2/24", "interface": 0}]}),
            json!({"ips": [{"address": "10.1.0.2/33"}]}),
            json!({"ips": [{"address": "10.1.0.2"}]}),
            json!({"ips": {}}),
            json!({"interfaces": "eth0"}),
            json!({"routes": [{"gw": "10.1.0.1"}]}),
            json!(7),
        ] {
            assert!(CniResult::from_json(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_came_in_the_same_version_goes_on_unchanged() {
        let raw =
            json!({"cniVersion": "1.0.0", "interfaces": [], "ips": null, "theirs": {"x": [1]}});
        let parsed = CniResult::from_json(&raw).expect("a result");
        assert_eq!(pass_on(&raw, &parsed, Version::V100), raw);
        assert_eq!(pass_on(&raw, &parsed, Version::V040), json!({"cniVersion": "0.4.0"}));
    }
}
