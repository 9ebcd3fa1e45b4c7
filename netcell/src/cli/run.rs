//! `netcell run`: a program in a fresh sandbox, or a container, with this terminal.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::Globals;
use crate::container::Runtime;
use crate::container::create::{self, Create};
use crate::container::lifecycle::Force;
use crate::container::sandbox::Session;
use crate::sandbox;

const EXAMPLES: &str = "\
Examples:
  netcell run -- bash                                 a shell; writes stay in memory and vanish
  netcell run --rootfs / -- make -j2                  with all of the host's files to read
  netcell run --volume $PWD/out:/out -- ./build.sh    what lands in /out is kept
  netcell run --strace -- ls /                        every system call, decoded, on standard error
  netcell run --net packet:web -- nginx               on the network namespace web, in place of the host's stack
  netcell run --bundle web web                        a container, from a folder with config.json and its rootfs
  netcell run --net tap:nc0 --ip 10.9.0.2/24 --gateway 10.9.0.1 --capture t.pcapng -- curl http://10.9.0.1/

Exit status: the program's own; 128+N where signal N ended it; 127 not found; 126 not executable; 125 a failure of netcell.";

/// Run a program in a fresh sandbox, or a container from its bundle.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// Network: none (loopback only); tap[:NAME], a TAP device made (or opened) on the host; packet[:NETNS], the interfaces,
    /// addresses and routes of a network namespace, by its name (ip netns) or path; without one that in which netcell is run
    #[arg(long, value_name = "none|tap[:NAME]|packet[:NETNS]", default_value = "none")]
    pub net: Net,
    /// With --net packet: go on where rules of nftables, iptables or tc in the namespace will have no effect
    #[arg(long)]
    pub ignore_host_rules: bool,
    /// Address of the sandbox, IPv4 or IPv6; may be given twice. The host's side of the device gets the gateway's address
    #[arg(long, value_name = "CIDR")]
    pub ip: Vec<Cidr>,
    /// Default gateway, which is the host's address on a TAP device; may be given twice (IPv4 and IPv6)
    #[arg(long, value_name = "IP")]
    pub gateway: Vec<IpAddr>,
    /// Name server for /etc/resolv.conf; may be repeated
    #[arg(long, value_name = "IP")]
    pub dns: Vec<IpAddr>,
    /// Directory that is the root, read-only with an in-memory layer above; default: the host's system directories
    #[arg(long, value_name = "DIR")]
    pub rootfs: Option<PathBuf>,
    /// Show the host's SRC at DST, writable unless :ro; may be repeated
    #[arg(long, value_name = "SRC:DST[:ro]")]
    pub volume: Vec<Volume>,
    /// Working directory inside
    #[arg(long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// Set an environment variable, or pass the host's value with just its name; may be repeated
    #[arg(long, value_name = "K=V")]
    pub env: Vec<EnvVar>,
    /// User and group of the program
    #[arg(long, value_name = "UID[:GID]", default_value = "0:0")]
    pub user: User,
    /// Host name inside
    #[arg(long, value_name = "NAME", default_value = "netcell")]
    pub hostname: String,
    /// Name of the sandbox for netcell list and capture; default: twelve hexadecimal digits
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Write every frame to this pcapng file, with direction and process
    #[arg(long, value_name = "FILE.pcapng")]
    pub capture: Option<PathBuf>,
    /// Faults injected on the link, such as loss=5%,reorder=5%,duplicate=1%,seed=7
    #[arg(long, value_name = "KEY=VALUE,…")]
    pub fault: Option<FaultSpec>,
    /// Print decoded system calls, to standard error or to a file
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub strace: Option<Option<PathBuf>>,
    /// How programs are run: auto takes the first of systrap and ptrace that works on this host
    #[arg(
        long,
        value_name = "auto|systrap|ptrace",
        default_value_t,
        value_enum,
        hide_possible_values = true
    )]
    pub platform: PlatformChoice,
    /// What netcell says of itself on standard error
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    pub log_level: LogLevel,
    /// A container instead: make it from this bundle, start it, wait for its end and remove it
    #[arg(long, short, value_name = "DIR", requires = "container")]
    bundle: Option<PathBuf>,
    /// Leave the container running, and its removal to netcell delete
    #[arg(long, short, requires = "bundle")]
    detach: bool,
    /// Where to write the number of the container's process
    #[arg(long, value_name = "FILE", requires = "bundle")]
    pid_file: Option<PathBuf>,
    /// Socket that gets the master of the container's terminal
    #[arg(long, value_name = "SOCKET", requires = "bundle")]
    console_socket: Option<PathBuf>,
    /// The container's name
    #[arg(value_name = "ID", requires = "bundle")]
    container: Option<String>,
    /// Program and its arguments
    #[arg(
        last = true,
        required_unless_present = "container",
        conflicts_with = "container",
        value_name = "PROGRAM"
    )]
    pub command: Vec<OsString>,
}

/// A container to run.
pub struct RunContainer {
    create: Create,
    detach: bool,
}

impl RunArgs {
    /// The container that is asked for, where it is one.
    pub fn container(&self) -> Option<RunContainer> {
        let (id, bundle) = (self.container.clone()?, self.bundle.clone()?);
        let session = match self.detach || self.console_socket.is_some() {
            true => Session::Own,
            false => Session::Makers,
        };
        let pid_file = self.pid_file.clone();
        let console_socket = self.console_socket.clone();
        let create = Create { id, bundle, pid_file, console_socket, session };
        Some(RunContainer { create, detach: self.detach })
    }
}

/// Runs a container, and gives its exit status where it is waited for.
pub fn container(runtime: Runtime, asked: &RunContainer) -> Result<u8> {
    if asked.detach {
        create::create(&runtime, &asked.create)?;
        let started = runtime.start(&asked.create.id);
        return undo_unless(&runtime, &asked.create.id, started).map(|()| 0);
    }
    runtime.run(&asked.create)
}

fn undo_unless(runtime: &Runtime, id: &str, started: Result<()>) -> Result<()> {
    if started.is_err() {
        runtime.delete(id, Force::Given)?;
    }
    started
}

/// `--log-level`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum LogLevel {
    /// Only what ends the sandbox.
    Error,
    /// And what the user should know.
    Warn,
    /// And what was configured.
    Info,
    /// And what a developer asks for.
    Debug,
}

/// `--platform`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PlatformChoice {
    /// The first that works here.
    #[default]
    Auto,
    /// A seccomp filter and memory that both sides see.
    Systrap,
    /// PTRACE_SYSEMU.
    Ptrace,
}

/// `--net`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Net {
    /// Loopback only.
    None,
    /// A TAP device of this name, or one that the host names.
    Tap(Option<String>),
    /// The network namespace behind this path, or that of this process.
    Packet(Option<PathBuf>),
}

/// Where ip(8) keeps namespaces by their names.
const NETNS: &str = "/run/netns";

impl FromStr for Net {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s.split_once(':') {
            None if s == "none" => Ok(Self::None),
            None if s == "tap" => Ok(Self::Tap(None)),
            Some(("tap", name))
                if !name.is_empty() && name.len() < 16 && !name.contains(['/', ' ']) =>
            {
                Ok(Self::Tap(Some(name.to_owned())))
            }
            Some(("tap", name)) => Err(format!(
                "'{name}' is no name for a device: 1 to 15 characters without / and spaces"
            )),
            None if s == "packet" => Ok(Self::Packet(None)),
            Some(("packet", path)) if path.starts_with('/') => Ok(Self::Packet(Some(path.into()))),
            Some(("packet", name)) if !name.is_empty() && !name.contains('/') && name != ".." => {
                Ok(Self::Packet(Some(PathBuf::from(NETNS).join(name))))
            }
            Some(("packet", name)) => Err(format!(
                "'{name}' is neither the name of a network namespace nor a path from /"
            )),
            _ => Err("expected none, tap, tap:NAME, packet or packet:NETNS".to_owned()),
        }
    }
}

/// An address with its prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The address.
    pub address: IpAddr,
    /// Bits of the network part.
    pub prefix: u8,
}

impl FromStr for Cidr {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let (address, prefix) =
            s.split_once('/').ok_or("expected ADDRESS/PREFIX, such as 10.9.0.2/24")?;
        let address: IpAddr =
            address.parse().map_err(|_| format!("'{address}' is no IP address"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        match prefix.parse() {
            Ok(prefix) if prefix <= most => Ok(Self { address, prefix }),
            _ => Err(format!("the prefix length must be 0 to {most}")),
        }
    }
}

/// `--volume`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Path on the host.
    pub source: PathBuf,
    /// Absolute path inside.
    pub target: PathBuf,
    /// No writing.
    pub read_only: bool,
}

impl FromStr for Volume {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let parts: Vec<&str> = s.split(':').collect();
        let (source, target, read_only) = match parts[..] {
            [source, target] => (source, target, false),
            [source, target, "rw"] => (source, target, false),
            [source, target, "ro"] => (source, target, true),
            _ => return Err("expected SRC:DST or SRC:DST:ro".to_owned()),
        };
        if source.is_empty() || !target.starts_with('/') {
            return Err("SRC must not be empty, DST must be an absolute path".to_owned());
        }
        Ok(Self { source: source.into(), target: target.into(), read_only })
    }
}

/// `--env`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvVar {
    /// Name.
    pub name: String,
    /// Value; `None` passes the host's.
    pub value: Option<String>,
}

impl FromStr for EnvVar {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let (name, value) = match s.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (s, None),
        };
        if name.is_empty() {
            Err("the name is empty".to_owned())
        } else {
            Ok(Self { name: name.to_owned(), value })
        }
    }
}

/// `--user`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id; that of the user where none is given.
    pub gid: u32,
}

impl FromStr for User {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let (uid, gid) = s.split_once(':').unwrap_or((s, s));
        let number = |n: &str| match n.parse::<u32>() {
            Ok(n) if n != u32::MAX => Ok(n),
            _ => Err(format!("'{n}' is no numeric id")),
        };
        Ok(Self { uid: number(uid)?, gid: number(gid)? })
    }
}

/// `--fault`: probabilities in 1/1,000,000, a seed and a delay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultSpec {
    /// Lost frames per million.
    pub loss_ppm: u32,
    /// Reordered frames per million.
    pub reorder_ppm: u32,
    /// Duplicated frames per million.
    pub duplicate_ppm: u32,
    /// Frames with a flipped bit per million.
    pub corrupt_ppm: u32,
    /// Seed of the random source.
    pub seed: u64,
}

impl FromStr for FaultSpec {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let mut spec = Self::default();
        for pair in s.split(',') {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| format!("'{pair}': expected KEY=VALUE"))?;
            match key {
                "loss" => spec.loss_ppm = share(value)?,
                "reorder" => spec.reorder_ppm = share(value)?,
                "duplicate" => spec.duplicate_ppm = share(value)?,
                "corrupt" => spec.corrupt_ppm = share(value)?,
                "seed" => spec.seed = value.parse().map_err(|_| format!("'{value}' is no seed"))?,
                _ => {
                    return Err(format!(
                        "'{key}': expected loss, reorder, duplicate, corrupt or seed"
                    ));
                }
            }
        }
        Ok(spec)
    }
}

/// A share such as `5%` or `0.05` in 1/1,000,000.
fn share(text: &str) -> Result<u32, String> {
    let (number, scale) = text.strip_suffix('%').map_or((text, 1e6), |n| (n, 1e4));
    match number.parse::<f64>() {
        Ok(n) if (0.0..=1e6).contains(&(n * scale)) => Ok((n * scale).round() as u32),
        _ => Err(format!("'{text}' is no share: expected 0% to 100%")),
    }
}

/// Runs the program and gives the exit status.
pub fn run(globals: &Globals, args: RunArgs) -> Result<u8> {
    sandbox::run(&globals.root(), args)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_parse_or_say_why() {
        assert_eq!("tap:nc0".parse(), Ok(Net::Tap(Some("nc0".into()))));
        assert_eq!("packet:web".parse(), Ok(Net::Packet(Some("/run/netns/web".into()))));
        let path = "/proc/7/ns/net";
        assert_eq!(format!("packet:{path}").parse(), Ok(Net::Packet(Some(path.into()))));
        assert!("packet:../x".parse::<Net>().is_err() && "packet:".parse::<Net>().is_err());
        assert!("tap:a-name-that-is-too-long".parse::<Net>().is_err());
        assert!("10.0.0.1/33".parse::<Cidr>().is_err());
        assert_eq!("fd00::2/64".parse::<Cidr>().map(|c| c.prefix), Ok(64));
        assert!("a:b".parse::<Volume>().is_err());
        assert_eq!("7".parse(), Ok(User { uid: 7, gid: 7 }));
        assert!("x:1".parse::<User>().is_err());
        assert_eq!(
            "loss=5%,seed=9".parse::<FaultSpec>().map(|f| (f.loss_ppm, f.seed)),
            Ok((50_000, 9))
        );
        assert!("loss=200%".parse::<FaultSpec>().is_err());
    }
}
