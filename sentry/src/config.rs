//! What a sandbox is made of, as plain values. Everything of the host comes as an open descriptor.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

pub use netstack::link::MacAddr;
pub use netstack::link::shaper::{Limit, Limits};
pub use netstack_host::netns::take::Rules;
use platform::Platform;
use sentry_abi::resource::{Resource, Rlimit};
use sentry_fs::host::View;
use sentry_kernel::cred::Credentials;
use sentry_kernel::log::Log;
use sentry_kernel::vfs::MountFlags;

use crate::remote::Remote;
use crate::seccomp::Profile;

/// A sandbox without its first program.
pub struct SandboxConfig {
    /// Runs program code. Made before the process has threads.
    pub platform: Arc<dyn Platform>,
    /// What programs see of files.
    pub files: Files,
    /// The network.
    pub network: Network,
    /// Host name.
    pub hostname: String,
    /// NIS domain name, where one is set.
    pub domainname: Option<String>,
    /// Which system calls programs may use; `None` for all.
    pub seccomp: Option<Profile>,
    /// What its programs may use together.
    pub limits: ContainerLimits,
    /// Where decoded system calls go.
    pub strace: Option<File>,
    /// Takes lines for the operator.
    pub log: Arc<dyn Log>,
    /// How many processors programs see.
    pub cpus: usize,
}

/// What all programs of a container may use together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ContainerLimits {
    /// How many tasks there may be; `None` for the kernel's own limit.
    pub tasks_max: Option<u64>,
    /// How much memory programs are told of, in bytes; the host sees to it. `None` where it is not limited.
    pub memory_max: Option<u64>,
}

/// A container beside the first of a sandbox. Its network is theirs.
pub struct MemberConfig<'a> {
    /// Whose pid namespace it is in; none: its own.
    pub pids: Option<&'a Remote>,
    /// Whose System V shared memory it sees; none: its own.
    pub segments: Option<&'a Remote>,
    /// What it is called.
    pub names: Names<&'a Remote>,
    /// Which system calls its programs may use; `None` for all.
    pub seccomp: Option<Profile>,
    /// What its programs may use together.
    pub limits: ContainerLimits,
}

/// Host and NIS domain name of a container.
#[derive(Clone, Debug)]
pub enum Names<T> {
    /// Another's, and every change of it.
    Shared(T),
    /// Its own.
    Own {
        /// Host name.
        hostname: String,
        /// NIS domain name, where one is set.
        domainname: Option<String>,
    },
}

/// What programs see of files.
pub enum Files {
    /// An image with what every program expects: /proc, /sys, /dev, /tmp, names in /etc.
    Session(SessionFiles),
    /// What a container's configuration lists, and nothing else.
    Container(ContainerFiles),
}

/// The files of `netcell run`.
pub struct SessionFiles {
    /// The root directory.
    pub image: Image,
    /// Directories of the host at places of their own.
    pub volumes: Vec<Volume>,
    /// Name servers for /etc/resolv.conf; empty leaves the image's file.
    pub name_servers: Vec<IpAddr>,
}

/// The files of a container.
pub struct ContainerFiles {
    /// The root directory; what programs write to it reaches the host.
    pub root: OwnedFd,
    /// Whether the root itself is read-only.
    pub root_access: Access,
    /// What is mounted, in this order.
    pub mounts: Vec<Mount>,
    /// Device nodes, made after the mounts.
    pub devices: Vec<DeviceNode>,
    /// Whether programs have a terminal: then there is a /dev/console.
    pub console: Console,
    /// Paths whose content is hidden.
    pub masked: Vec<Vec<u8>>,
    /// Paths that are read-only.
    pub read_only: Vec<Vec<u8>>,
}

/// Whether a container's first program has a terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Console {
    /// It has.
    Present,
    /// It has not.
    Absent,
}

/// Whether files can be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// EROFS.
    ReadOnly,
    /// They can.
    ReadWrite,
}

/// Something mounted in a container.
pub struct Mount {
    /// Absolute path inside; it is made where it is missing.
    pub target: Vec<u8>,
    /// What.
    pub what: MountKind,
    /// The mount's own flags.
    pub flags: MountFlags,
}

/// What can be mounted.
pub enum MountKind {
    /// A directory of the host.
    Directory(OwnedFd),
    /// A file of the host, by its directory and its name there.
    File(OwnedFd, String),
    /// A device of the sandbox's kernel, in place of the host's of this number.
    Device(u64),
    /// A filesystem in memory with these options, as `mount -t tmpfs -o` has them.
    Tmpfs(String),
    /// proc
    Proc,
    /// sysfs
    Sysfs,
    /// devpts
    Devpts,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceNode {
    /// Absolute path inside.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: DeviceKind,
    /// Its number.
    pub rdev: u64,
    /// Permission bits.
    pub permissions: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What a device node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceKind {
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A FIFO.
    Fifo,
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
    /// What was handed over about its interfaces.
    pub attachments: Vec<Attachment>,
}

/// What was handed over about one interface of a network namespace. What stands in the namespace goes before it.
#[derive(Debug)]
pub struct Attachment {
    /// Where it was written, for messages.
    pub source: String,
    /// The interface's name.
    pub name: String,
    /// Its link-layer address.
    pub mac: MacAddr,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its addresses, with prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Routes through it, besides those that follow from addresses.
    pub routes: Vec<AttachedRoute>,
    /// How much may pass.
    pub limits: Limits,
    /// Who carries its frames.
    pub carrier: Carrier,
}

/// A route through an interface that was handed over.
#[derive(Clone, Debug)]
pub struct AttachedRoute {
    /// The destination, with its prefix length.
    pub dst: (IpAddr, u8),
    /// The gateway.
    pub gateway: Option<IpAddr>,
    /// Whether the gateway is on the link whatever the addresses say.
    pub gateway_place: GatewayPlace,
    /// The source address of packets that take it.
    pub source: Option<IpAddr>,
    /// Number of its table.
    pub table: u32,
    /// rtnetlink's number of its scope.
    pub scope: u8,
    /// Its metric.
    pub metric: Option<u32>,
    /// The largest packet in bytes, where it tells.
    pub mtu: Option<u32>,
    /// The segment size to offer in bytes, where it tells.
    pub advmss: Option<u32>,
}

/// Where a gateway is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GatewayPlace {
    /// On a subnet of the interface.
    Subnet,
    /// On the link, whatever the addresses say (`onlink`).
    Link,
}

/// Who carries the frames of an interface that was handed over.
#[derive(Debug)]
pub enum Carrier {
    /// The interface itself.
    Itself,
    /// A TAP device beside it in the namespace, to which its frames are redirected.
    Beside(String),
    /// A TAP device of another namespace, by its name there; the interface exists in the sandbox alone.
    Elsewhere(String, OwnedFd),
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

/// A program to start.
pub struct Process {
    /// Program (looked up in PATH where it has no slash) and arguments; never empty.
    pub argv: Vec<Vec<u8>>,
    /// Environment, as `NAME=value`.
    pub env: Vec<Vec<u8>>,
    /// Whether HOME is set where the environment has none.
    pub home: Home,
    /// Working directory inside.
    pub workdir: PathBuf,
    /// Whether the working directory must be there.
    pub missing_workdir: MissingWorkdir,
    /// Identity.
    pub credentials: Credentials,
    /// Mask of new files' permissions.
    pub umask: u32,
    /// Limits that differ from what every program has.
    pub limits: Vec<(Resource, Rlimit)>,
}

/// Where HOME comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Home {
    /// The environment alone.
    AsGiven,
    /// Where that has none, /etc/passwd inside; / for users that it does not know.
    OfUser,
}

/// What becomes of a working directory that is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MissingWorkdir {
    /// The program does not start.
    Refused,
    /// It is made.
    Made,
}

/// Standard input, output and error of a program.
pub struct Stdio {
    /// The host's descriptors 0, 1 and 2; `None` where one is closed.
    pub descriptors: [Option<OwnedFd>; 3],
    /// What becomes of those that are a terminal.
    pub terminals: HostTerminals,
}

/// What becomes of standard streams that are a terminal of the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostTerminals {
    /// The program has a terminal of the sandbox, typed into and shown there.
    Connected,
    /// They are bytes like any other, and no terminal for the program.
    Streams,
}
