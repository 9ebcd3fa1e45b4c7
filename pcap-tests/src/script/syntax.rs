//! What a script says, as data: its settings and its events. Nothing here knows how they are run.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// A script as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// What it shows, and by which rule: the comment at its head.
    pub about: String,
    /// The options at its head.
    pub settings: Settings,
    /// What happens, in order.
    pub events: Vec<Event>,
}

/// Which family the sockets and the packets are of (`--ip_version`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpVersion {
    /// AF_INET over IPv4.
    #[default]
    V4,
    /// AF_INET6 over IPv6.
    V6,
    /// AF_INET6 over IPv4.
    Mapped,
}

impl IpVersion {
    /// Whether packets are IPv6.
    pub fn is_v6_on_the_wire(self) -> bool {
        self == IpVersion::V6
    }
}

/// The options at the head of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `--ip_version`
    pub version: IpVersion,
    /// `--tolerance_usecs`: how far times may be off.
    pub tolerance: Duration,
    /// `--mtu` of the interface, in bytes.
    pub mtu: u32,
    /// `--local_ip`: the address of the kernel under test.
    pub local: IpAddr,
    /// `--remote_ip`: the address of everybody else.
    pub remote: IpAddr,
    /// `--bind_port`: where `bind(…, ..., ...)` binds.
    pub bind_port: u16,
    /// `--connect_port`: where `connect(…, ..., ...)` connects to.
    pub connect_port: u16,
    /// `--tcp_ts_tick_usecs`: a tick of the kernel's timestamps; none: their values are not checked.
    pub tick: Option<Duration>,
}

/// When an event happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When {
    /// From where it is counted.
    pub base: Base,
    /// At the earliest.
    pub from: Duration,
    /// At the latest (`0.1~0.2`).
    pub until: Option<Duration>,
    /// When a call that blocks returns (`0.1...0.2`).
    pub end: Option<Duration>,
}

/// From where a time is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// The beginning of the script.
    Start,
    /// The event before (`+`).
    Before,
    /// Nothing: any time is right (`*`).
    Any,
}

/// One line of a script.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its line, from 1.
    pub line: usize,
    /// When.
    pub when: When,
    /// What.
    pub action: Action,
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A system call of the program under test.
    Call(Call),
    /// A packet that arrives (`<`).
    Inbound(Packet),
    /// A packet that the kernel sends (`>`).
    Outbound(Packet),
    /// Lines for a shell.
    Shell(String),
    /// Python, to be run with what the kernel tells of the connection.
    Code(String),
}

/// A system call with what it is to return.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub arguments: Vec<Expr>,
    /// What it returns; none: anything (`= ...` or nothing at all).
    pub result: Option<Expr>,
    /// The name of its error.
    pub errno: Option<String>,
}

/// An argument.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// `...`
    Ellipsis,
    /// A number.
    Number(i64),
    /// A constant of Linux's headers, or several joined by `|`.
    Names(Vec<String>),
    /// `"text"`
    Text(Vec<u8>),
    /// `[a, b]`
    List(Vec<Expr>),
    /// `{name = value, …}`; elements without a name have an empty one.
    Struct(Vec<(String, Expr)>),
    /// `htons(8080)`, `inet_addr("192.0.2.1")`, `msg_iov(1)=…` has the name with its value in a struct.
    Function(String, Vec<Expr>),
}

/// The ECN field of an IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EcnMark {
    /// `[noecn]`
    None,
    /// `[ECT1]`
    Ect1,
    /// `[ECT0]`
    Ect0,
    /// `[CE]`
    Ce,
    /// `[ECT01]`: either.
    Ect,
}

impl EcnMark {
    /// The bits that a packet with this mark has.
    pub fn bits(self) -> u8 {
        match self {
            EcnMark::None => 0,
            EcnMark::Ect1 => 1,
            EcnMark::Ect0 | EcnMark::Ect => 2,
            EcnMark::Ce => 3,
        }
    }

    /// Whether a packet with these bits has this mark.
    pub fn allows(self, bits: u8) -> bool {
        match self {
            EcnMark::Ect => matches!(bits, 1 | 2),
            mark => mark.bits() == bits,
        }
    }

    /// The mark of these bits.
    pub fn of(bits: u8) -> EcnMark {
        match bits & 3 {
            0 => EcnMark::None,
            1 => EcnMark::Ect1,
            2 => EcnMark::Ect0,
            _ => EcnMark::Ce,
        }
    }
}

/// A packet.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    /// The ECN mark; none: not looked at, and not marked.
    pub mark: Option<EcnMark>,
    /// The time to live; none: not looked at, and 255.
    pub ttl: Option<u8>,
    /// What IP carries.
    pub body: Body,
}

/// What IP carries.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// TCP
    Tcp(Tcp),
    /// UDP
    Udp(Udp),
    /// ICMP, or ICMPv6 where packets are IPv6.
    Icmp(Icmp),
}

/// A TCP segment with the script's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Source and destination, where they are told.
    pub ports: Option<(u16, u16)>,
    /// The bits of [`crate::packet`].
    pub flags: u16,
    /// Sequence number.
    pub seq: u32,
    /// Bytes of payload.
    pub len: u32,
    /// Acknowledgment number.
    pub ack: Option<u32>,
    /// Window as on the wire; none: not looked at.
    pub window: Option<u16>,
    /// Urgent pointer.
    pub urgent: Option<u16>,
    /// Options; none: whatever there is (`<...>`).
    pub options: Option<Vec<TcpOption>>,
}

/// An option of TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpOption {
    /// `eol`
    End,
    /// `nop`
    Nop,
    /// `mss 1460`
    Mss(u16),
    /// `wscale 7`
    WindowScale(u8),
    /// `sackOK`
    SackPermitted,
    /// `sack 1:1001 2001:3001`
    Sack(Vec<(u32, u32)>),
    /// `TS val 1 ecr 0`
    Timestamps {
        /// Value.
        val: u32,
        /// Echo.
        ecr: u32,
    },
    /// `FO`, `FO 0123456789abcdef`, `FO NAME`
    FastOpen(Cookie),
    /// `FOEXP …`: with the experimental kind of RFC 4727.
    FastOpenExperimental(Cookie),
    /// Any other: kind and value.
    Other(u8, Vec<u8>),
}

/// A cookie of fast open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cookie {
    /// These bytes; none asks for a cookie.
    Bytes(Vec<u8>),
    /// Whatever came first under this name.
    Named(String),
}

/// A UDP datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Source and destination, where they are told.
    pub ports: Option<(u16, u16)>,
    /// Bytes of payload.
    pub len: u32,
}

/// An ICMP error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Its words in the script: `unreachable frag_needed`.
    pub name: (&'static str, &'static str),
    /// Type and code for the family of the script.
    pub kind: (u8, u8),
    /// The MTU that it tells.
    pub mtu: Option<u32>,
    /// The packet that it is about.
    pub about: About,
}

/// What an ICMP error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// A TCP segment: sequence number and bytes of payload.
    Tcp(u32, u32),
    /// A UDP datagram: bytes of payload.
    Udp(u32),
}

/// Letters of the TCP flags, as bits of a header; AE is 256.
pub const FLAGS: [(char, u16); 9] = [
    ('F', 1),
    ('S', 2),
    ('R', 4),
    ('P', 8),
    ('.', 16),
    ('U', 32),
    ('E', 64),
    ('W', 128),
    ('A', 256),
];

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cookie::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Cookie::Named(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for TcpOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TcpOption::End => f.write_str("eol"),
            TcpOption::Nop => f.write_str("nop"),
            TcpOption::Mss(mss) => write!(f, "mss {mss}"),
            TcpOption::WindowScale(shift) => write!(f, "wscale {shift}"),
            TcpOption::SackPermitted => f.write_str("sackOK"),
            TcpOption::Sack(blocks) => {
                f.write_str("sack")?;
                blocks.iter().try_for_each(|(from, to)| write!(f, " {from}:{to}"))
            }
            TcpOption::Timestamps { val, ecr } => write!(f, "TS val {val} ecr {ecr}"),
            TcpOption::FastOpen(cookie) => write!(f, "{}", format!("FO {cookie}").trim_end()),
            TcpOption::FastOpenExperimental(cookie) => {
                write!(f, "{}", format!("FOEXP {cookie}").trim_end())
            }
            TcpOption::Other(kind, bytes) => {
                write!(f, "kind {kind} of {} bytes", bytes.len().saturating_add(2))
            }
        }
    }
}

impl fmt::Display for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((from, to)) = self.ports {
            write!(f, "{from} > {to} ")?;
        }
        let letters = FLAGS.iter().filter(|(letter, bit)| *letter != '.' && self.flags & bit != 0);
        let mut flags: String = letters.map(|(letter, _)| *letter).collect();
        if self.flags & 16 != 0 {
            flags.push('.');
        }
        let flags = if flags.is_empty() { "-" } else { &flags };
        write!(f, "{flags} {}:{}({})", self.seq, self.seq.wrapping_add(self.len), self.len)?;
        if let Some(ack) = self.ack {
            write!(f, " ack {ack}")?;
        }
        if let Some(window) = self.window {
            write!(f, " win {window}")?;
        }
        if let Some(urgent) = self.urgent {
            write!(f, " urg {urgent}")?;
        }
        match self.options.as_deref() {
            None => f.write_str(" <...>"),
            Some([]) => Ok(()),
            Some(options) => {
                let options: Vec<String> = options.iter().map(TcpOption::to_string).collect();
                write!(f, " <{}>", options.join(","))
            }
        }
    }
}

impl fmt::Display for Udp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((from, to)) = self.ports {
            write!(f, "{from} > {to} ")?;
        }
        write!(f, "udp ({})", self.len)
    }
}

impl fmt::Display for Icmp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "icmp {}", format!("{} {}", self.name.0, self.name.1).trim_end())?;
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        match self.about {
            About::Tcp(seq, len) => write!(f, " [{seq}:{}({len})]", seq.wrapping_add(len)),
            About::Udp(len) => write!(f, " [udp ({len})]"),
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = self.mark.map(|mark| match mark {
            EcnMark::None => "noecn",
            EcnMark::Ect1 => "ECT1",
            EcnMark::Ect0 => "ECT0",
            EcnMark::Ce => "CE",
            EcnMark::Ect => "ECT01",
        });
        let ttl = self.ttl.map(|ttl| format!("ttl {ttl}"));
        let notes: Vec<&str> = mark.into_iter().chain(ttl.as_deref()).collect();
        if !notes.is_empty() {
            write!(f, "[{}] ", notes.join(","))?;
        }
        match &self.body {
            Body::Tcp(tcp) => write!(f, "{tcp}"),
            Body::Udp(udp) => write!(f, "{udp}"),
            Body::Icmp(icmp) => write!(f, "{icmp}"),
        }
    }
}
