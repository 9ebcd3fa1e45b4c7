//! Masquerading and ports of the host: one nftables table of our own, in which every attachment has elements of sets.
//!
//! The rules are the same for any number of pods, and are written again with each change: whatever an older version had left,
//! they are these. An element carries its attachment's mark as a comment, so that it is found again when nothing else is known.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::config::{PortMapping, Protocol};
use crate::error::{CniError, Code};
use crate::handoff::Lock;
use crate::names::AttachmentKey;
use crate::program;

/// Family and name of the table.
const TABLE: &str = "inet netcell_cni";
const TABLE_NAME: &str = "netcell_cni";

/// What the table always holds. `near`: a pod and the prefix of its network. `away`: a pod whose packets are masqueraded where
/// they leave that prefix. `any`, `exact`: ports of every address of the host, and of one.
///
/// A connection from 127.0.0.1 is left alone: it could only leave the host where `route_localnet` opens loopback to pods.
const RULES: &str = "
add set T near4 { type ipv4_addr . ipv4_addr; flags interval; }
add set T near6 { type ipv6_addr . ipv6_addr; flags interval; }
add set T away4 { type ipv4_addr; }
add set T away6 { type ipv6_addr; }
add map T any4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
add map T any6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
add map T exact4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
add map T exact6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
add chain T ports
add chain T prerouting { type nat hook prerouting priority -100; }
add chain T output { type nat hook output priority -100; }
add chain T postrouting { type nat hook postrouting priority 100; }
flush chain T ports
flush chain T prerouting
flush chain T output
flush chain T postrouting
add rule T ports dnat ip to ip daddr . meta l4proto . th dport map @exact4
add rule T ports dnat ip6 to ip6 daddr . meta l4proto . th dport map @exact6
add rule T ports meta nfproto ipv4 dnat ip to meta l4proto . th dport map @any4
add rule T ports meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @any6
add rule T prerouting fib daddr type local jump ports
add rule T output ip daddr != 127.0.0.0/8 fib daddr type local jump ports
add rule T output ip6 daddr != ::1 fib daddr type local jump ports
add rule T postrouting ct status dnat ip daddr . ip saddr @near4 masquerade
add rule T postrouting ct status dnat ip6 daddr . ip6 saddr @near6 masquerade
add rule T postrouting ip saddr . ip daddr @near4 return
add rule T postrouting ip6 saddr . ip6 daddr @near6 return
add rule T postrouting ip saddr @away4 ip daddr != 224.0.0.0/4 masquerade
add rule T postrouting ip6 saddr @away6 ip6 daddr != ff00::/8 masquerade
";

/// What one attachment needs.
pub(crate) struct Wish<'a> {
    pub(crate) key: &'a AttachmentKey,
    /// Addresses of the pod with their prefixes.
    pub(crate) addresses: &'a [IpNet],
    pub(crate) masquerade: Masquerade,
    pub(crate) ports: &'a [PortMapping],
}

/// Whether what leaves the network takes the host's address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Masquerade {
    Yes,
    No,
}

impl Wish<'_> {
    /// The elements: a set's or map's name, and what is in it. None where nothing is wished.
    fn elements(&self) -> Result<Vec<(String, String)>, CniError> {
        let mark = format!("comment \"{}\"", self.key.comment());
        let mut elements = Vec::new();
        let pods: Vec<_> = self.addresses.iter().map(|a| (family(a.addr()), a)).collect();
        let wanted = self.masquerade == Masquerade::Yes || !self.ports.is_empty();
        for (family, pod) in pods.iter().filter(|_| wanted) {
            elements.push((
                format!("near{family}"),
                format!("{} . {} {mark}", pod.addr(), pod.trunc()),
            ));
            if self.masquerade == Masquerade::Yes {
                elements.push((format!("away{family}"), format!("{} {mark}", pod.addr())));
            }
        }
        for port in self.ports {
            let protocol = match port.protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
                Protocol::Sctp => "sctp",
            };
            port_is_possible(port)?;
            let mut mapped = false;
            for wanted in [4, 6] {
                let first = pods.iter().find(|(family, _)| *family == wanted).map(|(_, pod)| pod);
                let Some(pod) =
                    first.filter(|_| port.host_ip.is_none_or(|ip| family(ip) == wanted))
                else {
                    continue;
                };
                let (map, host) = match port.host_ip {
                    None => (format!("any{wanted}"), String::new()),
                    Some(ip) => (format!("exact{wanted}"), format!("{ip} . ")),
                };
                let (from, to) = (port.host_port, port.container_port);
                let element = format!("{host}{protocol} . {from} {mark} : {} . {to}", pod.addr());
                elements.push((map, element));
                mapped = true;
            }
            if !mapped {
                let msg = format!("the pod has no address of the family of {port:?}");
                return Err(CniError::new(Code::InvalidConfig, msg));
            }
        }
        Ok(elements)
    }

    /// Makes it so. A port that another pod has is refused by the kernel.
    pub(crate) fn apply(&self, lock: &Lock) -> Result<(), CniError> {
        let elements = self.elements()?;
        if elements.is_empty() {
            return Ok(());
        }
        let mut script =
            format!("add table {TABLE}{}", RULES.replace(" T ", &format!(" {TABLE} ")));
        for (set, element) in &elements {
            // To create fails where it is there; two pods of one address would be another's fault, and are told as well.
            let _ = writeln!(script, "create element {TABLE} {set} {{ {element} }}");
        }
        nft(&["-f", "-"], script.as_bytes(), lock).map(|_| ()).map_err(|error| {
            if error.details.contains("File exists") {
                let ports: Vec<_> = self.ports.iter().map(|p| p.host_port.to_string()).collect();
                let msg = format!(
                    "a port of the host is taken by another pod: one of {}",
                    ports.join(", ")
                );
                return CniError { msg, ..error };
            }
            error
        })
    }

    /// Fails where something of it is not there any more.
    pub(crate) fn check(&self, lock: &Lock) -> Result<(), CniError> {
        let wished = self.elements()?.len();
        let found = marked(&self.key.comment(), lock)?.len();
        if found == wished {
            return Ok(());
        }
        let msg = format!("table {TABLE} has {found} of {wished} elements of this attachment");
        Err(CniError::new(Code::Changed, msg))
    }
}

fn port_is_possible(port: &PortMapping) -> Result<(), CniError> {
    let why = if port.host_port == 0 || port.container_port == 0 {
        "a port is 0"
    } else if port.host_ip.is_some_and(|ip| ip.is_loopback()) {
        "ports of loopback addresses are not mapped"
    } else {
        return Ok(());
    };
    let msg = format!("unsupported field \"runtimeConfig.portMappings\": {port:?}");
    Err(CniError::new(Code::UnsupportedField, msg).because(why))
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 4 } else { 6 }
}

/// Removes the elements of one attachment, and the table with its last one. Nothing there is no error.
pub(crate) fn remove(key: &AttachmentKey, lock: &Lock) -> Result<(), CniError> {
    remove_marked(|mark| mark == key.comment(), lock)
}

/// Removes the elements of a network's attachments that are not to stay.
pub(crate) fn remove_stale(
    network: &AttachmentKey,
    valid: &[AttachmentKey],
    lock: &Lock,
) -> Result<(), CniError> {
    let stays: Vec<_> = valid.iter().map(AttachmentKey::comment).collect();
    let of_network = |mark: &str| mark.split(' ').next() == Some(&network.network_comment());
    remove_marked(|mark| of_network(mark) && !stays.iter().any(|s| s == mark), lock)
}

fn remove_marked(goes: impl Fn(&str) -> bool, lock: &Lock) -> Result<(), CniError> {
    if program().is_err() {
        // Who has no nft has made nothing with it.
        return Ok(());
    }
    let elements = listed(lock)?;
    let (go, stay): (Vec<_>, Vec<_>) = elements.into_iter().partition(|e| goes(&e.mark));
    if go.is_empty() {
        return Ok(());
    }
    let table = json!({ "family": "inet", "name": TABLE_NAME });
    let commands: Vec<Value> = match stay.is_empty() {
        true => vec![json!({ "delete": { "table": table } })],
        false => go.iter().map(Element::deletion).collect(),
    };
    let script = json!({ "nftables": commands }).to_string();
    nft(&["-j", "-f", "-"], script.as_bytes(), lock).map(|_| ())
}

fn marked(mark: &str, lock: &Lock) -> Result<Vec<Element>, CniError> {
    Ok(listed(lock)?.into_iter().filter(|element| element.mark == mark).collect())
}

/// An element of one of our sets, as nft's JSON has it.
struct Element {
    set: String,
    mark: String,
    json: Value,
}

impl Element {
    fn deletion(&self) -> Value {
        let element =
            json!({ "family": "inet", "table": TABLE_NAME, "name": self.set, "elem": [self.json] });
        json!({ "delete": { "element": element } })
    }
}

/// All elements of the table, or none where there is no table.
fn listed(lock: &Lock) -> Result<Vec<Element>, CniError> {
    let tables = nft(&["-j", "list", "tables", "inet"], b"", lock)?;
    let objects = |answer: &Value| answer["nftables"].as_array().cloned().unwrap_or_default();
    if !objects(&tables).iter().any(|o| o["table"]["name"] == TABLE_NAME) {
        return Ok(Vec::new());
    }
    let table = nft(&["-j", "list", "table", "inet", TABLE_NAME], b"", lock)?;
    let mut found = Vec::new();
    for object in objects(&table) {
        let set = if object["map"].is_object() { &object["map"] } else { &object["set"] };
        for json in set["elem"].as_array().into_iter().flatten() {
            // An element of a map is a pair of key and value; the key has the comment.
            let key = json.get(0).unwrap_or(json);
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let mark = text(&key["elem"]["comment"]);
            found.push(Element { set: text(&set["name"]), mark, json: json.clone() });
        }
    }
    Ok(found)
}

/// The program, or error 50 that names it.
pub(crate) fn program() -> Result<PathBuf, CniError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from);
    program::find("nft", std::env::split_paths(&path).chain(usual)).ok_or_else(|| {
        CniError::new(Code::NotAvailable, "the program nft is missing")
            .because("install nftables: ipMasq and portMappings need it")
    })
}

/// Runs nft. Its JSON, or null where it says nothing.
fn nft(arguments: &[&str], input: &[u8], _lock: &Lock) -> Result<Value, CniError> {
    let failed = |why: String| {
        CniError::new(Code::Network, format!("nft {} failed", arguments.join(" "))).because(why)
    };
    let output = program::run(Command::new(program()?).args(arguments), input)
        .map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.stderr));
    }
    match output.stdout.trim_ascii() {
        b"" => Ok(Value::Null),
        text => serde_json::from_slice(text).map_err(|e| failed(e.to_string())),
    }
}
