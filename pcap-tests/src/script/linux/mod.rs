//! Linux as the kernel of a script: a network namespace with a TAP device, and a program in it that makes the calls. In real time, and
//! it needs root. What a script says of Linux is seen here first.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use netstack::buffer::PacketBuffer;
use netstack::ip::IpCidr;
use netstack::link::Link;
use netstack::time::Instant;
use netstack_host::tap::{FrameRoom, Offloading, Tap, TapConfig};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use serde_json::{Value, json};

use super::kernel::{
    Handle, Happening, Kernel, KernelError, Nonblocking, Outcome, Returned, SystemCall,
};
use super::syntax::Settings;
use super::wire::{self, Header};

/// The link-layer address of everybody but Linux.
const THEIRS: &str = "02:00:00:00:00:02";
const THEIRS_BYTES: [u8; 6] = [2, 0, 0, 0, 0, 2];
const DEVICE: &str = "script0";
const ETHERNET_HEADER: usize = 14;
/// How long a fresh device may take until it answers.
const WARM_UP: Duration = Duration::from_secs(20);
/// How far times may be off on a machine that does other things, too.
const SLACK: Duration = Duration::from_millis(12);
const PROGRAM: &str = include_str!("program.py");

/// A namespace of Linux with a program in it. The thread that makes it moves into the namespace for good.
pub struct Linux {
    tap: Arc<Tap>,
    room: FrameRoom,
    mac: [u8; 6],
    ether_type: [u8; 2],
    program: Child,
    calls: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// The clock at the beginning of the script.
    start: Duration,
}

/// What the program writes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    value: Option<i64>,
    errno: Option<i32>,
    data: String,
    address: Option<(String, u16)>,
    events: Vec<i16>,
    members: Vec<(String, i64)>,
    at: u64,
}

fn host(what: &'static str) -> impl FnOnce(io::Error) -> KernelError {
    move |source| KernelError::Host { what, source }
}

fn clock() -> Duration {
    // The monotonic clock is always there.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}

fn ip(words: &str) -> Result<(), KernelError> {
    let output = Command::new("ip").args(words.split(' ')).output().map_err(host("ip"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let told = String::from_utf8_lossy(&output.stderr);
            Err(KernelError::Refused(format!("ip {words}: {}", told.trim())))
        }
    }
}

impl Linux {
    /// Moves this thread into a new network namespace with the addresses of a script. Errors: missing rights, tools or the tun module.
    pub fn new(settings: &Settings) -> Result<Linux, KernelError> {
        let namespace = unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
        namespace.map_err(host("a network namespace (this needs root)"))?;
        for file in ["router_solicitations", "dad_transmits", "accept_ra"] {
            // A kernel without IPv6 has none of them.
            let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/default/{file}"), "0");
        }
        // A namespace takes the host's, and may have only what the host allows to all. Reno always is, and CUBIC begins as it does.
        let control = "/proc/sys/net/ipv4/tcp_congestion_control";
        let cubic = std::fs::write(control, "cubic");
        cubic.or_else(|_| std::fs::write(control, "reno")).map_err(host(control))?;
        ip("link set lo up")?;
        let prefix = if settings.local.is_ipv4() { 16 } else { 64 };
        let config = TapConfig {
            name: DEVICE.to_owned(),
            host_addresses: vec![IpCidr::new(settings.local, prefix)],
            mtu: settings.mtu,
            offloading: Offloading::None,
        };
        let tap = Tap::open(&config).map_err(|error| KernelError::Refused(error.to_string()))?;
        let remote = settings.remote;
        ip(&format!("neigh add {remote} lladdr {THEIRS} dev {DEVICE} nud permanent"))?;
        let family = if remote.is_ipv4() { "-4" } else { "-6" };
        ip(&format!("{family} route add default dev {DEVICE}"))?;
        let mac = std::fs::read_to_string(format!("/sys/class/net/{DEVICE}/address"));
        let mac = mac.or_else(|_| mac_by_ip()).map_err(host("the device's address"))?;
        let mut program = Command::new("python3")
            .args(["-I", "-c", PROGRAM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(host("python3"))?;
        let (Some(calls), Some(answers)) = (program.stdin.take(), program.stdout.take()) else {
            return Err(KernelError::Refused("python3 has no standard input and output".into()));
        };
        let ether_type = if remote.is_ipv4() { [8, 0] } else { [0x86, 0xdd] };
        let mut linux = Linux {
            tap,
            room: FrameRoom::default(),
            mac: mac_of(&mac),
            ether_type,
            program,
            calls,
            answers: BufReader::new(answers),
            start: Duration::ZERO,
        };
        // It says that it is there.
        linux.answer()?;
        linux.warm_up(settings)?;
        linux.start = clock();
        Ok(linux)
    }

    /// Asks for an echo until Linux answers: a fresh device loses its first packets.
    fn warm_up(&mut self, settings: &Settings) -> Result<(), KernelError> {
        let header = Header { from: settings.remote, to: settings.local, tos: 0, ttl: 64 };
        let (asks, answers) = if settings.remote.is_ipv4() { (8, 0) } else { (128, 129) };
        let start = clock();
        self.start = start;
        while clock() < start + WARM_UP {
            self.arrive(&wire::icmp(header, (asks, 0), 1, b"here"))?;
            let limit = clock() - start + Duration::from_millis(20);
            while let Happening::Sent(_, packet) = self.run(limit)? {
                let at = if settings.remote.is_ipv4() { 20 } else { 40 };
                if packet.get(at) == Some(&answers) {
                    return Ok(());
                }
            }
        }
        Err(KernelError::Refused("Linux does not answer on its new device".into()))
    }

    fn answer(&mut self) -> Result<Answer, KernelError> {
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(host("the program"))?;
        let answer = serde_json::from_str(&line);
        answer.map_err(|error| {
            KernelError::Refused(format!("the program answered {line:?}: {error}"))
        })
    }

    fn ask(&mut self, call: &Value) -> Result<(), KernelError> {
        writeln!(self.calls, "{call}")
            .and_then(|()| self.calls.flush())
            .map_err(host("the program"))
    }

    fn returned(&mut self) -> Result<Returned, KernelError> {
        let answer = self.answer()?;
        let result = match (answer.errno, answer.value) {
            (Some(errno), _) => Outcome::Errno(errno),
            (None, value) => Outcome::Value(value.unwrap_or_default()),
        };
        let address = answer.address.as_ref().and_then(|(ip, port)| {
            let ip: IpAddr = ip.parse().ok()?;
            Some(SocketAddr::new(ip, *port))
        });
        Ok(Returned {
            at: Duration::from_nanos(answer.at).saturating_sub(self.start),
            result,
            data: unhex(&answer.data),
            address,
            events: answer.events,
        })
    }
}

/// Where /sys is of another namespace: as `ip` tells it.
fn mac_by_ip() -> io::Result<String> {
    let output = Command::new("ip").args(["-o", "link", "show", DEVICE]).output()?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let mac = told.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next());
    mac.map(str::to_owned).ok_or_else(|| io::Error::other(told))
}

fn mac_of(text: &str) -> [u8; 6] {
    let mut mac = [0; 6];
    for (byte, digits) in mac.iter_mut().zip(text.trim().split(':')) {
        *byte = u8::from_str_radix(digits, 16).unwrap_or(0);
    }
    mac
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
    text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// A call as the program reads it.
fn told(call: &SystemCall) -> Value {
    let place = |to: &SocketAddr| json!([to.ip().to_string(), to.port()]);
    match call {
        SystemCall::Socket(family, kind, protocol) => json!(["socket", family, kind, protocol]),
        SystemCall::Bind(of, to) => json!(["bind", of, place(to)]),
        SystemCall::Listen(of, backlog) => json!(["listen", of, backlog]),
        SystemCall::Accept(of, flags) => json!(["accept", of, flags]),
        SystemCall::Connect(of, to) => json!(["connect", of, place(to)]),
        SystemCall::Receive(of, len, flags) => json!(["receive", of, len, flags]),
        SystemCall::Send(of, bytes, flags, to) => {
            json!(["send", of, hex(bytes), flags, to.as_ref().map(place)])
        }
        SystemCall::Shutdown(of, how) => json!(["shutdown", of, how]),
        SystemCall::Close(of) => json!(["close", of]),
        SystemCall::SetOption(of, level, name, value) => {
            json!(["set_option", of, level, name, hex(value)])
        }
        SystemCall::GetOption(of, level, name, room) => json!(["option", of, level, name, room]),
        SystemCall::SetNonblocking(of, on) => json!(["nonblocking", of, *on == Nonblocking::On]),
        SystemCall::GetFlags(of) => json!(["flags", of]),
        SystemCall::Ioctl(of, request) => json!(["ioctl", of, request]),
        SystemCall::Poll(list, timeout) => {
            json!(["poll", list, timeout.map(|timeout| timeout.as_millis() as u64)])
        }
    }
}

impl Kernel for Linux {
    fn now(&mut self) -> Duration {
        clock() - self.start
    }

    fn run(&mut self, limit: Duration) -> Result<Happening, KernelError> {
        loop {
            if let Some(frame) = self.tap.receive(&mut self.room).map_err(host("the device"))? {
                let mut frame = frame.to_vec();
                if matches!(frame.get(12..14), Some([8, 0] | [0x86, 0xdd])) {
                    let at = self.now();
                    return Ok(Happening::Sent(at, frame.split_off(ETHERNET_HEADER)));
                }
                continue;
            }
            let left = limit.saturating_sub(self.now());
            let mut ready = [
                PollFd::new(self.tap.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.answers.get_ref().as_fd(), PollFlags::POLLIN),
            ];
            let count = ppoll(&mut ready, Some(TimeSpec::from_duration(left)), None);
            let count = count.map_err(|errno| host("to wait")(errno.into()))?;
            let answered = ready[1].any().unwrap_or(false);
            let sent = ready[0].any().unwrap_or(false);
            if sent {
                continue;
            }
            if answered {
                return Ok(Happening::Returned(self.returned()?));
            }
            if count == 0 && self.now() >= limit {
                return Ok(Happening::Time);
            }
        }
    }

    fn arrive(&mut self, packet: &[u8]) -> Result<(), KernelError> {
        let frame = [&self.mac[..], &THEIRS_BYTES, &self.ether_type, packet].concat();
        let sent = self.tap.transmit(Instant::ZERO, &PacketBuffer::from_vec(frame));
        sent.map_err(|error| KernelError::Refused(format!("the device takes no packet: {error}")))
    }

    fn call(&mut self, call: SystemCall) -> Result<(), KernelError> {
        self.ask(&told(&call))
    }

    fn sysctl(&mut self, path: &str, value: &str) -> Result<(), KernelError> {
        let written = std::fs::write(format!("/proc/sys/{path}"), value);
        written.map_err(|error| {
            KernelError::Refused(format!("{path} does not take {value:?}: {error}"))
        })
    }

    fn tcp_info(&mut self, socket: Handle) -> Result<Vec<(String, i64)>, KernelError> {
        self.ask(&json!(["tcp_info", socket]))?;
        Ok(self.answer()?.members)
    }

    fn settle(&mut self, at: Duration) {
        let late = self.now().saturating_sub(at);
        self.start += late;
    }

    fn slack(&self) -> Duration {
        SLACK
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(2)
    }
}

impl Drop for Linux {
    fn drop(&mut self) {
        // A program that is gone already needs no end.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
