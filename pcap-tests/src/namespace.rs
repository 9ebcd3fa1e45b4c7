//! A network namespace of the host with a TAP device in it: Linux as a kernel under test. It needs root, iproute2 and the tun module.

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use netstack::buffer::PacketBuffer;
use netstack::ip::IpCidr;
use netstack::link::{Link, MacAddr};
use netstack::time::Instant;
use netstack::wire::ethernet::HEADER_LEN;
use netstack_host::device::{Device, FrameRoom, Offloading};
use netstack_host::tap::{Tap, TapConfig};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

use crate::device;
use crate::script::wire::{self, Header};

/// How long a fresh device may take until it answers.
const WARM_UP: Duration = Duration::from_secs(20);
/// How long an answer of a device that is there may take.
const ANSWER: Duration = Duration::from_millis(20);

/// Why a kernel under test cannot go on, other than that it did otherwise than expected.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Something that this kernel cannot be asked for.
    #[error("{0}")]
    Refused(String),
    /// The machinery failed.
    #[error("{what}: {source}")]
    Host {
        /// What was done.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// What made the host fail, for [`Result::map_err`].
pub fn host(what: &'static str) -> impl FnOnce(io::Error) -> KernelError {
    move |source| KernelError::Host { what, source }
}

/// The host's monotonic clock.
pub fn clock() -> Duration {
    // The monotonic clock is always there.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}

/// The link-layer address of everybody but Linux, as iproute2 wants it.
pub fn theirs() -> MacAddr {
    MacAddr(device::THEIRS)
}

/// Runs iproute2 with these words.
pub fn ip(words: &str) -> Result<(), KernelError> {
    let output = Command::new("ip").args(words.split(' ')).output().map_err(host("ip"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let told = String::from_utf8_lossy(&output.stderr);
            Err(KernelError::Refused(format!("ip {words}: {}", told.trim())))
        }
    }
}

/// Sets a value below /proc/sys.
pub fn sysctl(path: &str, value: &str) -> Result<(), KernelError> {
    let written = std::fs::write(format!("/proc/sys/{path}"), value);
    written
        .map_err(|error| KernelError::Refused(format!("{path} does not take {value:?}: {error}")))
}

/// What there was to wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// A frame of Linux.
    pub frame: bool,
    /// The other descriptor.
    pub other: bool,
}

/// A namespace with its device.
pub struct Namespace {
    tap: Arc<Tap>,
    room: FrameRoom,
    mac: [u8; 6],
}

impl Namespace {
    /// Moves this thread into a new network namespace, for good, with a device of this name. Errors: missing rights, tools or the tun module.
    pub fn enter(device: &str, addresses: &[IpCidr], mtu: u32) -> Result<Self, KernelError> {
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
        let config = TapConfig {
            name: device.to_owned(),
            host_addresses: addresses.to_vec(),
            mtu,
            offloading: Offloading::None,
        };
        let tap = Tap::open(&config).map_err(|error| KernelError::Refused(error.to_string()))?;
        let mac = std::fs::read_to_string(format!("/sys/class/net/{device}/address"));
        let mac = mac.or_else(|_| mac_by_ip(device)).map_err(host("the device's address"))?;
        Ok(Self { tap, room: FrameRoom::default(), mac: mac_of(&mac) })
    }

    /// Asks `to` for an echo until Linux answers: a fresh device loses its first packets.
    pub fn warm_up(&mut self, from: IpAddr, to: IpAddr) -> Result<(), KernelError> {
        let header = Header { from, to, tos: 0, ttl: 64 };
        let (asks, answers) = if from.is_ipv4() { (8, 0) } else { (128, 129) };
        let start = clock();
        while clock() < start + WARM_UP {
            self.arrive(&wire::icmp(header, (asks, 0), 1, b"here"))?;
            let limit = clock() + ANSWER;
            while self.wait(limit.saturating_sub(clock()), None)?.frame {
                let Some(packet) = self.sent()? else { continue };
                if packet.get(if from.is_ipv4() { 20 } else { 40 }) == Some(&answers) {
                    return Ok(());
                }
            }
        }
        Err(KernelError::Refused("Linux does not answer on its new device".into()))
    }

    /// The next packet that Linux sent, from its IP header on. None: there is none now, or a frame without IP.
    pub fn sent(&mut self) -> Result<Option<Vec<u8>>, KernelError> {
        Ok(self.frame()?.and_then(|mut frame| is_ip(&frame).then(|| frame.split_off(HEADER_LEN))))
    }

    /// The next frame that Linux sent.
    pub fn frame(&mut self) -> Result<Option<Vec<u8>>, KernelError> {
        let frame = self.tap.receive(&mut self.room).map_err(host("the device"))?;
        Ok(frame.map(|frame| frame.to_vec()))
    }

    /// A packet arrives, from its IP header on.
    pub fn arrive(&mut self, packet: &[u8]) -> Result<(), KernelError> {
        let is_v4 = packet.first().is_none_or(|byte| byte >> 4 == 4);
        let ether_type = if is_v4 { [8, 0] } else { [0x86, 0xdd] };
        let frame = [&self.mac[..], &device::THEIRS, &ether_type, packet].concat();
        let sent = self.tap.transmit(Instant::ZERO, &PacketBuffer::from_vec(frame));
        sent.map_err(|error| KernelError::Refused(format!("the device takes no packet: {error}")))
    }

    /// Waits until Linux has sent something or another descriptor can be read, for this long at most.
    pub fn wait(
        &self,
        limit: Duration,
        other: Option<BorrowedFd<'_>>,
    ) -> Result<Ready, KernelError> {
        let tap = self.tap.as_fd();
        let mut ready = [PollFd::new(tap, PollFlags::POLLIN), PollFd::new(tap, PollFlags::empty())];
        if let Some(other) = other {
            ready[1] = PollFd::new(other, PollFlags::POLLIN);
        }
        let count = ppoll(&mut ready, Some(TimeSpec::from_duration(limit)), None);
        count.map_err(|errno| host("to wait")(errno.into()))?;
        let [frame, second] = ready.map(|fd| fd.any().unwrap_or(false));
        Ok(Ready { frame, other: second && other.is_some() })
    }
}

/// Whether an Ethernet frame carries IP.
pub fn is_ip(frame: &[u8]) -> bool {
    matches!(frame.get(12..14), Some([8, 0] | [0x86, 0xdd]))
}

/// Where /sys is of another namespace: as `ip` tells it.
fn mac_by_ip(device: &str) -> io::Result<String> {
    let output = Command::new("ip").args(["-o", "link", "show", device]).output()?;
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
