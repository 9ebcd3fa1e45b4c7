//! What a sandbox is made of, as plain values. Everything of the host comes as an open descriptor.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

pub use netstack_host::netns::take::Rules;
use platform::Platform;
use sentry_fs::host::View;
use sentry_kernel::log::Level;

/// A sandbox.
pub struct SandboxConfig {
    /// Runs program code. Made before the process has threads.
    pub platform: Arc<dyn Platform>,
    /// The root directory.
    pub image: Image,
    /// Directories of the host at places of their own.
    pub volumes: Vec<Volume>,
    /// The network.
    pub network: Network,
    /// Host name.
    pub hostname: String,
    /// Name servers for /etc/resolv.conf; empty leaves the image's file.
    pub name_servers: Vec<IpAddr>,
    /// The first program.
    pub process: Process,
    /// Standard input, output and error.
    pub stdio: Stdio,
    /// Where decoded system calls go.
    pub strace: Option<File>,
    /// Lines up to this level go to standard error.
    pub log_level: Level,
    /// How many processors programs see.
    pub cpus: usize,
}

/// The root: a directory of the host, read-only, with a layer in memory above it.
pub struct Image {
    /// The directory.
    pub directory: OwnedFd,
    /// What of it exists for programs.
    pub view: View,
    /// Directories that must exist, made in memory where the image has none: path and permissions.
    pub directories: Vec<(String, u32)>,
}

/// A directory of the host inside.
pub struct Volume {
    /// The directory.
    pub directory: OwnedFd,
    /// Absolute path inside.
    pub target: PathBuf,
    /// What becomes of writes.
    pub writes: Writes,
    /// What of it exists for programs.
    pub view: View,
}

/// What becomes of writes below a directory of the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writes {
    /// EROFS.
    Refused,
    /// They change the host's files.
    Kept,
    /// They stay in memory and vanish with the sandbox.
    InMemory,
}

/// The network.
pub enum Network {
    /// Loopback only.
    Loopback,
    /// A TAP device of the host.
    Tap(TapNetwork),
    /// The interfaces of a network namespace of the host.
    Namespace(NamespaceNetwork),
}

/// A network namespace of the host, read when the sandbox boots and followed from then on: its Ethernet interfaces are taken by
/// packet sockets and stand inside as there, with their names, numbers, addresses, routes, rules, neighbours and settings. They stay
/// there too, but the host's stack hears nothing on them while the sandbox runs.
#[derive(Default)]
pub struct NamespaceNetwork {
    /// The namespace (/proc/PID/ns/net, /run/netns/NAME); `None` is that of this process.
    pub namespace: Option<OwnedFd>,
    /// What becomes of rules of nftables, iptables and tc in it, which the stack cannot honour.
    pub rules: Rules,
    /// Where to write every frame of the interfaces that are there at the start.
    pub capture: Option<PathBuf>,
    /// Faults on all links.
    pub faults: Option<Faults>,
}

/// A network over a TAP device.
pub struct TapNetwork {
    /// Name of the device; `None` lets the host choose.
    pub device: Option<String>,
    /// Addresses inside, with prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Default gateways; the host's end of the device gets those that lie in a network of `addresses`.
    pub gateways: Vec<IpAddr>,
    /// Where to write every frame.
    pub capture: Option<PathBuf>,
    /// Faults on the link.
    pub faults: Option<Faults>,
}

/// Faults on a link, in both directions: shares of frames per million.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Lost.
    pub loss_ppm: u32,
    /// Overtaken by the next one.
    pub reorder_ppm: u32,
    /// Sent twice.
    pub duplicate_ppm: u32,
    /// With a flipped bit.
    pub corrupt_ppm: u32,
    /// Seed of the choices.
    pub seed: u64,
}

/// The first program.
pub struct Process {
    /// Program (looked up in PATH where it has no slash) and arguments; never empty.
    pub argv: Vec<Vec<u8>>,
    /// Environment, as `NAME=value`.
    pub env: Vec<Vec<u8>>,
    /// Working directory inside.
    pub workdir: PathBuf,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Standard input, output and error of the first program.
pub struct Stdio {
    /// The host's descriptors 0, 1 and 2; `None` where one is closed.
    pub descriptors: [Option<OwnedFd>; 3],
}
