//! What the CNI plugin has handed over about the interfaces of a container's network namespace (`docs/cni.md` has the format): found by
//! the namespace, checked, and turned into what a sandbox is made of. It must not know the plugin.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::stat::{fstat, stat};
use sentry::{AttachedRoute, Attachment, Carrier, GatewayPlace, Limit, Limits, MacAddr};
use serde::Deserialize;

use crate::oci::spec;

/// The folder of hand-off files.
const FOLDER: &str = "/run/netcell/cni";
/// The environment's name for another one, for plugins with `handoffDir`.
const FOLDER_VARIABLE: &str = "NETCELL_HANDOFF_DIR";
/// The greatest version of the format that is understood.
const FORMAT: u32 = 1;
/// A file is no longer than this in bytes.
const FILE_MAX: u64 = 1 << 20;
/// The longest name of an interface in bytes (IFNAMSIZ, without its end).
const NAME_MAX: usize = 15;

/// All that was handed over about one namespace.
#[derive(Default, Debug)]
pub struct Handed {
    /// Its interfaces, by name.
    pub attachments: Vec<Attachment>,
    /// The text of /etc/resolv.conf, where resolvers are told.
    pub resolv_conf: Option<String>,
    /// What has no effect.
    pub without_effect: Vec<String>,
}

/// A network namespace, by what its files have in common: device and inode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity(u64, u64);

impl Identity {
    /// That of the namespace whose file this is; None where there is none.
    pub fn of_path(path: &str) -> Option<Identity> {
        stat(path).ok().map(|file| Identity(file.st_dev, file.st_ino))
    }

    /// That of the calling thread.
    pub fn own() -> Result<Identity> {
        let own = Identity::of_path("/proc/thread-self/ns/net");
        own.context("cannot look at the network namespace of this process")
    }
}

/// The namespace of the runtime's caller: the node's, before the sandbox's process joins the container's.
#[derive(Debug)]
pub struct Node(File);

impl Node {
    /// That of the calling thread.
    pub fn own() -> Result<Node> {
        let file = File::open("/proc/thread-self/ns/net");
        Ok(Node(file.context("cannot open the network namespace of this process")?))
    }

    /// Whether the calling thread is in it.
    pub fn is_own(&self) -> Result<bool> {
        let node = fstat(&self.0).context("cannot look at the network namespace of the node")?;
        Ok(Identity::own()? == Identity(node.st_dev, node.st_ino))
    }
}

/// The folder that the plugin writes to.
fn folder() -> PathBuf {
    std::env::var_os(FOLDER_VARIABLE)
        .filter(|path| !path.is_empty())
        .map_or(FOLDER.into(), PathBuf::from)
}

/// What was handed over about the calling thread's namespace. Nothing where no file is about it. Errors name the file.
pub fn find(node: &Node) -> Result<Handed> {
    in_folder(&folder(), Identity::own()?, node)
}

fn in_folder(folder: &Path, own: Identity, node: &Node) -> Result<Handed> {
    let mut files = Vec::new();
    for container in list(folder)? {
        // The lock lies beside the folders.
        if container.is_dir() {
            files.extend(
                list(&container)?
                    .into_iter()
                    .filter(|path| path.extension().is_some_and(|e| e == "json")),
            );
        }
    }
    files.sort();
    let mut handed = Handed::default();
    for path in files {
        let told = || path.display().to_string();
        let Some(text) = read(&path).with_context(told)? else { continue };
        if !is_about(&text, own) {
            continue;
        }
        let file = parse(&text).with_context(told)?;
        handed.take(file, told(), own, node).with_context(told)?;
    }
    Ok(handed)
}

/// What lies in a folder; nothing in one that is not there.
fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let told = || folder.display().to_string();
    let entries = match fs::read_dir(folder) {
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        entries => entries.with_context(told)?,
    };
    entries.map(|entry| Ok(entry.with_context(told)?.path())).collect()
}

fn is_absent(error: &io::Error) -> bool {
    let kind = error.kind();
    matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// A file's bytes; None where it was removed meanwhile.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if is_absent(&error) => return Ok(None),
        file => file?,
    };
    spec::read_bounded(file, FILE_MAX).map(Some)
}

/// Whether a file is about a namespace. One that does not even say so is somebody else's trouble: no other container starts less for it.
fn is_about(text: &[u8], own: Identity) -> bool {
    #[derive(Deserialize)]
    struct Head {
        netns: String,
    }
    let head = serde_json::from_slice::<Head>(text);
    head.is_ok_and(|head| Identity::of_path(&head.netns) == Some(own))
}

/// Reads a file's fields. Errors: a version of the format that is not known, what is missing or of another type.
fn parse(text: &[u8]) -> Result<Handoff> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    // First: another version may have other types.
    let Version { version } = serde_json::from_slice(text)?;
    ensure!(
        version <= FORMAT,
        "version {version} of the format is newer than this runtime, which knows {FORMAT}"
    );
    Ok(serde_json::from_slice(text)?)
}

#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
struct Handoff {
    ifname: String,
    mode: Mode,
    tap: Option<Tap>,
    mac: String,
    mtu: u32,
    addresses: Vec<Address>,
    routes: Vec<Route>,
    #[serde(default)]
    dns: Dns,
    bandwidth: Option<Bandwidth>,
    policy: Option<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Packet,
    Tap,
}

#[derive(Deserialize, Debug)]
struct Tap {
    name: String,
    netns: Option<String>,
}

#[derive(Deserialize, Debug)]
struct Address {
    address: String,
}

#[derive(Deserialize, Debug)]
struct Route {
    dst: String,
    gw: Option<IpAddr>,
    src: Option<IpAddr>,
    #[serde(default)]
    onlink: bool,
    table: u32,
    priority: Option<u32>,
    scope: u8,
    mtu: Option<u32>,
    advmss: Option<u32>,
}

/// In bits a second and bits; 0 is no limit.
#[derive(Deserialize, Default, Clone, Copy, Debug)]
#[serde(rename_all = "camelCase", default)]
struct Bandwidth {
    ingress_rate: u64,
    ingress_burst: u64,
    egress_rate: u64,
    egress_burst: u64,
}

impl Bandwidth {
    fn limits(self) -> Limits {
        let limit = |rate_bps, burst_bits| (rate_bps > 0).then_some(Limit { rate_bps, burst_bits });
        Limits {
            ingress: limit(self.ingress_rate, self.ingress_burst),
            egress: limit(self.egress_rate, self.egress_burst),
        }
    }
}

#[derive(Deserialize, Default, PartialEq, Eq, Debug)]
#[serde(default)]
struct Dns {
    nameservers: Vec<String>,
    domain: String,
    search: Vec<String>,
    options: Vec<String>,
}

impl Handed {
    fn take(&mut self, file: Handoff, source: String, own: Identity, node: &Node) -> Result<()> {
        if let Some(policy) = &file.policy {
            self.without_effect.push(format!("{source}: the policy {policy} is not known here"));
        }
        if self.resolv_conf.is_none() {
            self.resolv_conf = file.dns.text().context("dns")?;
        }
        self.attachments.push(file.attachment(source, own, node)?);
        Ok(())
    }
}

impl Handoff {
    fn attachment(self, source: String, own: Identity, node: &Node) -> Result<Attachment> {
        check_name(&self.ifname).context("ifname")?;
        ensure!((68..=65_535).contains(&self.mtu), "mtu: {} is none", self.mtu);
        let carrier = match (self.mode, self.tap) {
            (Mode::Packet, None) => Carrier::Itself,
            (Mode::Tap, Some(tap)) => carrier(tap, own, node).context("tap")?,
            (Mode::Packet, Some(_)) => bail!("tap is given, and mode is packet"),
            (Mode::Tap, None) => bail!("tap is missing, and mode is tap"),
        };
        let addresses = self.addresses.iter().map(|it| prefix(&it.address));
        let routes = self.routes.iter().map(route);
        Ok(Attachment {
            source,
            name: self.ifname,
            mac: mac(&self.mac)?,
            mtu: self.mtu,
            addresses: addresses.collect::<Result<_>>().context("addresses")?,
            routes: routes.collect::<Result<_>>().context("routes")?,
            limits: self.bandwidth.unwrap_or_default().limits(),
            carrier,
        })
    }
}

fn check_name(name: &str) -> Result<()> {
    let bad = |byte: u8| byte == b'/' || byte == b':' || byte == 0 || byte.is_ascii_whitespace();
    let good = !name.is_empty() && name.len() <= NAME_MAX && !name.bytes().any(bad);
    ensure!(good, "{name:?} is no name of an interface");
    Ok(())
}

/// The device is in the container's namespace or in the node's, and nowhere else.
fn carrier(tap: Tap, own: Identity, node: &Node) -> Result<Carrier> {
    check_name(&tap.name).context("name")?;
    match tap.netns {
        None => Ok(Carrier::Elsewhere(tap.name, OwnedFd::from(node.0.try_clone()?))),
        Some(netns) => {
            ensure!(Identity::of_path(&netns) == Some(own), "netns: {netns} is another namespace");
            Ok(Carrier::Beside(tap.name))
        }
    }
}

/// An address with the length of its prefix.
fn prefix(text: &str) -> Result<(IpAddr, u8)> {
    let parsed = text.split_once('/').and_then(|(address, len)| {
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        Some((address, len.parse().ok().filter(|len| *len <= most)?))
    });
    parsed.with_context(|| format!("{text:?} is no address with a prefix length"))
}

fn route(told: &Route) -> Result<AttachedRoute> {
    let place = if told.onlink { GatewayPlace::Link } else { GatewayPlace::Subnet };
    Ok(AttachedRoute {
        dst: prefix(&told.dst)?,
        gateway: told.gw,
        gateway_place: place,
        source: told.src,
        table: told.table,
        scope: told.scope,
        metric: told.priority,
        mtu: told.mtu,
        advmss: told.advmss,
    })
}

fn mac(text: &str) -> Result<MacAddr> {
    // A sign would pass for a number.
    let is_byte = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    let byte = |part: &str| u8::from_str_radix(Some(part).filter(is_byte)?, 16).ok();
    let parts: Option<Vec<u8>> = text.split(':').map(byte).collect();
    let bytes = parts.and_then(|parts| <[u8; 6]>::try_from(parts).ok());
    bytes.map(MacAddr).with_context(|| format!("mac: {text:?} is no link-layer address"))
}

impl Dns {
    /// As resolv.conf(5) has it; None where nothing is told. Errors: a server that is no address, words that would be lines of their own.
    fn text(&self) -> Result<Option<String>> {
        if *self == Dns::default() {
            return Ok(None);
        }
        let mut text = String::new();
        for server in &self.nameservers {
            let _: IpAddr =
                server.parse().with_context(|| format!("nameservers: {server:?} is no address"))?;
            text += &format!("nameserver {server}\n");
        }
        let words = |name: &str, words: &[String]| -> Result<String> {
            let bad = |word: &&String| {
                word.is_empty() || word.chars().any(|c| c.is_whitespace() || c.is_control())
            };
            if let Some(word) = words.iter().find(bad) {
                bail!("{name}: {word:?} is no word");
            }
            Ok(if words.is_empty() {
                String::new()
            } else {
                format!("{name} {}\n", words.join(" "))
            })
        };
        let domain: Vec<String> =
            Some(self.domain.clone()).filter(|domain| !domain.is_empty()).into_iter().collect();
        // Of "domain" and "search" the last one counts.
        text += &words("domain", &domain)?;
        text += &words("search", &self.search)?;
        text += &words("options", &self.options)?;
        Ok(Some(text))
    }
}

#[cfg(test)]
mod tests;
