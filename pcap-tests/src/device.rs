//! Our stack behind one Ethernet device, whose frames are kept until somebody looks: what scripts and replays run over.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use netstack::buffer::{FramePool, PacketBuffer};
use netstack::ip::{Family, IpCidr, Route};
use netstack::link::{Capabilities, ChecksumSupport, Link, LinkError, MacAddr, NicId, NicKind};
use netstack::stack::{AddressError, Config, NicConfig, Stack};
use netstack::time::Instant;
use parking_lot::Mutex;

use crate::packet::Sums;

/// Link-layer address of the stack under test.
pub const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Link-layer address of everybody else.
pub const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// The stack's clock at the beginning: some of its timers look back.
const START: Duration = Duration::from_secs(1000);

/// The stack's time, this long after the beginning.
pub fn at(time: Duration) -> Instant {
    Instant::ZERO + START + time
}

/// How long after the beginning a time of the stack's is.
pub fn since_start(at: Instant) -> Duration {
    at.since(Instant::ZERO + START)
}

/// The family of an address.
pub fn family(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

/// Keeps the frames that the stack sends, with their times.
struct Outbox {
    frames: Mutex<Frames>,
    /// How many there are: who asks for the next one mostly finds none, and needs no lock for that.
    waiting: AtomicUsize,
    sums: Sums,
}

#[derive(Default)]
struct Frames {
    sent: VecDeque<(Instant, Vec<u8>)>,
    /// Memory of frames that were taken.
    spare: Vec<Vec<u8>>,
}

impl Link for Outbox {
    fn transmit(&self, now: Instant, frame: &PacketBuffer) -> Result<(), LinkError> {
        let mut frames = self.frames.lock();
        let mut bytes = frames.spare.pop().unwrap_or_default();
        bytes.clear();
        frame.iter_slices().for_each(|slice| bytes.extend_from_slice(slice));
        frames.sent.push_back((now, bytes));
        self.waiting.store(frames.sent.len(), Ordering::Release);
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        // A device that fills sums in gets frames without; nobody looks at them here.
        let checksum = match self.sums {
            Sums::Checked => ChecksumSupport::Software,
            Sums::Ignored => ChecksumSupport::Device,
        };
        Capabilities { checksum, ..Capabilities::default() }
    }
}

/// A stack with its device.
pub struct Device {
    /// The stack.
    pub stack: Arc<Stack>,
    /// Its interface.
    pub nic: NicId,
    outbox: Arc<Outbox>,
    memory: Arc<FramePool>,
}

impl Device {
    /// A fresh stack. Where checksums are ignored, they are in neither direction what they should be.
    pub fn new(config: Config, mtu: u32, sums: Sums) -> Self {
        let outbox =
            Arc::new(Outbox { frames: Mutex::default(), waiting: AtomicUsize::new(0), sums });
        let stack = Stack::new(config);
        let config = NicConfig {
            name: "eth0".into(),
            kind: NicKind::Ethernet,
            mac: MacAddr(OURS),
            mtu,
            link: outbox.clone(),
        };
        let nic = stack.add_nic(config).expect("the first interface of a stack");
        Self { stack, nic, outbox, memory: FramePool::new() }
    }

    /// Gives the stack an address, and a way to everybody of its family. Errors: it is no host's.
    pub fn attach(&self, address: IpCidr) -> Result<(), AddressError> {
        self.stack.add_address(self.nic, address)?;
        let everywhere = match address.address() {
            IpAddr::V4(_) => IpCidr::new(IpAddr::from([0; 4]), 0),
            IpAddr::V6(_) => IpCidr::new(IpAddr::from([0; 16]), 0),
        };
        // The second address of a family finds the route there.
        let _ = self.stack.add_route(Route::new(everywhere, None, self.nic));
        Ok(())
    }

    /// Memory with room for a frame of so many bytes.
    pub fn memory(&self, len: usize) -> Vec<u8> {
        self.memory.take(len)
    }

    /// A frame arrives.
    pub fn arrive(&self, now: Instant, frame: Vec<u8>) {
        let mut packet = PacketBuffer::from_frame(frame, &self.memory);
        packet.offload.rx_verified = self.outbox.sums == Sums::Ignored;
        self.stack.handle_frame(now, self.nic, packet);
    }

    /// Puts the next frame that the stack sent in place of what stands in `frame`, and tells when it was sent.
    pub fn sent(&self, frame: &mut Vec<u8>) -> Option<Instant> {
        if !self.has_sent() {
            return None;
        }
        let mut frames = self.outbox.frames.lock();
        let (at, next) = frames.sent.pop_front()?;
        self.outbox.waiting.store(frames.sent.len(), Ordering::Release);
        frames.spare.push(std::mem::replace(frame, next));
        Some(at)
    }

    /// Whether the stack has sent something that nobody took yet.
    pub fn has_sent(&self) -> bool {
        self.outbox.waiting.load(Ordering::Acquire) > 0
    }
}
