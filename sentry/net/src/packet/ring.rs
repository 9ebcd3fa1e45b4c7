//! Rings of frames in memory that the program maps (PACKET_RX_RING; Linux Documentation/networking/packet_mmap.rst), in the layouts
//! TPACKET_V1 to V3. The program owns a frame or block from the moment its status says so until it writes the status back; whatever
//! else it writes there is never read.

use std::sync::{Arc, Weak};
use std::time::Duration;

use netstack::buffer::Chain;
use netstack::socket::packet::{Captured, ChecksumState, FrameRing, Losing, Stored};
use netstack::time::Instant;
use parking_lot::Mutex;
use platform::MemoryFile;
use sentry_abi::if_packet::*;
use sentry_abi::{Errno, PAGE_SIZE};
use sentry_kernel::Result;
use sentry_kernel::mm::{Mappable, SharedMemory, Touch};
use zerocopy::IntoBytes;

use super::socket::address_of;
use crate::netns::NetNamespace;

/// TPACKET_ALIGNMENT
const ALIGNMENT: usize = 16;
/// Bytes of struct sockaddr_ll, which follows a frame's header.
const ADDRESS: usize = size_of::<SockAddrLl>();
/// What Linux takes where a program asks for no time-out of blocks.
const DEFAULT_TIMEOUT_MS: u32 = 8;
/// The most bytes of a ring.
const RING_MAX: u64 = 256 << 20;

/// The layout of frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Version {
    /// TPACKET_V1
    #[default]
    V1,
    /// TPACKET_V2
    V2,
    /// TPACKET_V3
    V3,
}

impl Version {
    /// From PACKET_VERSION. Errors: EINVAL.
    pub fn of(number: i32) -> Result<Version> {
        match number {
            TPACKET_V1 => Ok(Version::V1),
            TPACKET_V2 => Ok(Version::V2),
            TPACKET_V3 => Ok(Version::V3),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    /// Bytes of a frame's header without the address.
    pub fn header_len(self) -> usize {
        match self {
            Version::V1 => size_of::<TpacketHdr>(),
            Version::V2 => size_of::<Tpacket2Hdr>(),
            Version::V3 => size_of::<Tpacket3Hdr>(),
        }
    }
}

/// What a ring is made of: struct tpacket_req3 with what was set before.
#[derive(Clone, Copy)]
pub struct Plan {
    /// The layout.
    pub version: Version,
    /// PACKET_RESERVE
    pub reserve: usize,
    /// The request.
    pub request: TpacketReq3,
}

/// Offsets within a block or a frame.
const fn after_header(version_len: usize) -> usize {
    version_len.next_multiple_of(ALIGNMENT) + ADDRESS
}

impl Plan {
    /// Bytes before the first frame of a block.
    fn block_front(&self) -> usize {
        match self.version {
            Version::V3 => {
                size_of::<TpacketBlockDesc>()
                    + (self.request.sizeof_priv as usize).next_multiple_of(8)
            }
            _ => 0,
        }
    }

    /// Whether the kernel would make such a ring (packet_set_ring).
    fn is_sound(&self) -> bool {
        let TpacketReq3 { block_size, block_nr, frame_size, frame_nr, sizeof_priv, .. } =
            self.request;
        let (block, frame) = (block_size as usize, frame_size as usize);
        let least = after_header(self.version.header_len()).saturating_add(self.reserve);
        let whole = u64::from(block_size) * u64::from(block_nr);
        block > 0
            && i32::try_from(block_size).is_ok()
            && u64::from(block_size).is_multiple_of(PAGE_SIZE)
            && whole <= RING_MAX
            && (sizeof_priv as usize) < block
            && self.block_front().saturating_add(least) <= block
            && frame >= least
            && frame.is_multiple_of(ALIGNMENT)
            && frame <= block
            && (block / frame) as u64 * u64::from(block_nr) == u64::from(frame_nr)
    }

    /// Where the link and the network header of a frame begin, from the frame's start.
    fn offsets(&self, link_len: usize) -> (usize, usize) {
        let header = after_header(self.version.header_len());
        let net = match link_len {
            0 => header.next_multiple_of(ALIGNMENT) + 16,
            _ => (header + link_len.max(16)).next_multiple_of(ALIGNMENT),
        };
        let net = net.saturating_add(self.reserve);
        (net - link_len, net)
    }
}

/// Where the ring is written next.
#[derive(Default)]
struct Place {
    /// The next frame (V1, V2), or the block that is open.
    at: u32,
    /// Frames in the open block.
    frames: u32,
    /// Bytes in use of the open block.
    used: usize,
    /// Where the last frame of the open block begins.
    last: usize,
    /// Number of the open block.
    number: u64,
    /// When the open block must be given to the program.
    deadline: Option<Instant>,
    /// Times of its first and last frame.
    times: [[u32; 2]; 2],
    /// Whether the block after the open one was not free.
    frozen: bool,
    freezes: u32,
}

/// A ring.
pub struct Ring {
    net: Weak<NetNamespace>,
    plan: Plan,
    memory: Arc<MemoryFile>,
    pages: Arc<SharedMemory>,
    /// Offsets in the memory file of each run of `run_len` bytes.
    runs: Vec<(u64, u64, u64)>,
    place: Mutex<Place>,
}

impl Ring {
    /// Makes a ring of zeroed memory. Errors: EINVAL, ENOMEM.
    pub fn new(net: &Arc<NetNamespace>, memory: &Arc<MemoryFile>, plan: Plan) -> Result<Arc<Ring>> {
        if !plan.is_sound() {
            return Err(Errno::EINVAL.into());
        }
        let size = u64::from(plan.request.block_size) * u64::from(plan.request.block_nr);
        let pages = SharedMemory::new(memory.clone(), size);
        let mut runs = Vec::new();
        let mut at = 0;
        while at < size {
            let run = pages.pages(at, size - at, Touch::Write)?;
            runs.push((at, run.offset, run.len));
            at += run.len;
        }
        let ring = Ring {
            net: Arc::downgrade(net),
            plan,
            memory: memory.clone(),
            pages,
            runs,
            place: Mutex::default(),
        };
        if plan.version == Version::V3 {
            ring.open_block(&mut ring.place.lock());
        }
        Ok(Arc::new(ring))
    }

    /// What mmap(2) maps.
    pub fn mappable(&self) -> Arc<dyn Mappable> {
        self.pages.clone()
    }

    /// The place in the memory file of an offset of the ring, and the bytes that follow it there.
    fn find(&self, offset: u64) -> Option<(u64, u64)> {
        let at = self.runs.partition_point(|(start, ..)| *start <= offset).checked_sub(1)?;
        let (start, place, len) = *self.runs.get(at)?;
        let inside = offset - start;
        (inside < len).then(|| (place + inside, len - inside))
    }

    fn write(&self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some((place, room)) = self.find(offset) else { return };
            let n = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(n);
            // The pages are ours as long as the ring lives.
            let _ = self.memory.write_at(place, now);
            (offset, bytes) = (offset + n as u64, later);
        }
    }

    fn status(&self, offset: u64) -> u32 {
        let place = self.find(offset).map(|(place, _)| place);
        place.and_then(|place| self.memory.load_u32(place).ok()).unwrap_or(TP_STATUS_USER)
    }

    fn set_status(&self, offset: u64, status: u32) {
        if let Some((place, _)) = self.find(offset) {
            let _ = self.memory.store_u32(place, status);
        }
    }

    fn write_chain(&self, mut offset: u64, chain: &Chain) {
        for bytes in chain.iter() {
            self.write(offset, bytes);
            offset += bytes.len() as u64;
        }
    }

    fn block_at(&self, number: u32) -> u64 {
        u64::from(number) * u64::from(self.plan.request.block_size)
    }

    /// Where a frame of V1 or V2 begins.
    fn frame_at(&self, number: u32) -> u64 {
        let request = &self.plan.request;
        let per_block = (request.block_size / request.frame_size).max(1);
        self.block_at(number / per_block)
            + u64::from(number % per_block) * u64::from(request.frame_size)
    }

    /// The wall-clock time of a frame: seconds and nanoseconds.
    fn time(&self, at: Instant) -> [u32; 2] {
        let ns = self.net.upgrade().map_or(0, |net| net.wall_ns(at));
        let (sec, nsec) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
        [sec as u32, nsec as u32]
    }

    fn push_frame(&self, place: &mut Place, frame: &mut Captured, status: u32) -> Stored {
        let at = self.frame_at(place.at);
        if self.status(at) != TP_STATUS_KERNEL {
            return Stored::Full;
        }
        let (mac, net) = self.plan.offsets(frame.network_at);
        let mut chain = frame.chain();
        chain.truncate((self.plan.request.frame_size as usize).saturating_sub(mac));
        let [sec, nsec] = self.time(frame.at);
        let (len, snaplen) = (frame.full_len as u32, chain.len() as u32);
        let (mac_at, net_at) = (mac as u16, net as u16);
        self.write_chain(at + mac as u64, &chain);
        let header_len = self.plan.version.header_len();
        self.write(at + header_len as u64, address_of(frame).as_bytes());
        if self.plan.version == Version::V1 {
            let header = TpacketHdr {
                status: 0,
                len,
                snaplen,
                mac: mac_at,
                net: net_at,
                sec,
                usec: nsec / 1000,
                pad: 0,
            };
            self.write(at, header.as_bytes());
        } else {
            let (mac, net) = (mac_at, net_at);
            let header =
                Tpacket2Hdr { len, snaplen, mac, net, sec, nsec, ..Tpacket2Hdr::default() };
            self.write(at, header.as_bytes());
        }
        // The status comes last: with it the frame is the program's.
        self.set_status(at, status);
        place.at = (place.at + 1) % self.plan.request.frame_nr.max(1);
        Stored::Readable
    }

    /// Opens the block at the place, when the program has left it.
    fn open_block(&self, place: &mut Place) -> bool {
        let at = self.block_at(place.at);
        let free = self.status(at + BLOCK_STATUS_AT) == TP_STATUS_KERNEL;
        if !free {
            if !place.frozen {
                place.freezes = place.freezes.saturating_add(1);
            }
            place.frozen = true;
            return false;
        }
        place.frozen = false;
        place.number += 1;
        (place.frames, place.deadline) = (0, None);
        place.used = self.plan.block_front();
        true
    }

    /// Gives the open block to the program and turns to the next.
    fn close_block(&self, place: &mut Place, status: u32) {
        let at = self.block_at(place.at);
        self.write(at + place.last as u64, &0u32.to_ne_bytes());
        let front = self.plan.block_front() as u32;
        let descriptor = TpacketBlockDesc {
            version: TPACKET_V3 as u32,
            offset_to_priv: size_of::<TpacketBlockDesc>() as u32,
            status: TP_STATUS_KERNEL,
            num_pkts: place.frames,
            offset_to_first_pkt: front,
            blk_len: place.used as u32,
            seq_num: place.number,
            ts_first_pkt: place.times[0],
            ts_last_pkt: place.times[1],
        };
        self.write(at, descriptor.as_bytes());
        self.set_status(at + BLOCK_STATUS_AT, TP_STATUS_USER | status);
        place.at = (place.at + 1) % self.plan.request.block_nr.max(1);
        place.deadline = None;
        self.open_block(place);
    }

    fn push_to_block(&self, place: &mut Place, frame: &mut Captured, status: u32) -> Stored {
        if place.frozen && !self.open_block(place) {
            return Stored::Full;
        }
        let (mac, net) = self.plan.offsets(frame.network_at);
        let block = self.plan.request.block_size as usize;
        let mut chain = frame.chain();
        chain.truncate(block.saturating_sub(self.plan.block_front() + mac));
        let total = (mac + chain.len()).next_multiple_of(8);
        let mut stored = Stored::Waiting;
        if place.used + total > block && place.frames > 0 {
            self.close_block(place, 0);
            stored = Stored::Readable;
            if place.frozen {
                return Stored::Full;
            }
        }
        let at = self.block_at(place.at) + place.used as u64;
        let time = self.time(frame.at);
        let header = Tpacket3Hdr {
            next_offset: total as u32,
            sec: time[0],
            nsec: time[1],
            snaplen: chain.len() as u32,
            len: frame.full_len as u32,
            status,
            mac: mac as u16,
            net: net as u16,
            ..Tpacket3Hdr::default()
        };
        self.write(at, header.as_bytes());
        self.write(at + size_of::<Tpacket3Hdr>() as u64, address_of(frame).as_bytes());
        self.write_chain(at + mac as u64, &chain);
        if place.frames == 0 {
            place.times[0] = time;
            let ms = match self.plan.request.retire_blk_tov {
                0 => DEFAULT_TIMEOUT_MS,
                ms => ms,
            };
            place.deadline = Some(frame.at + Duration::from_millis(u64::from(ms)));
        }
        place.times[1] = time;
        place.frames += 1;
        place.last = place.used;
        place.used = (place.used + total).min(block);
        stored
    }
}

impl FrameRing for Ring {
    fn push(&self, frame: &mut Captured, losing: Losing) -> Stored {
        let mut status = TP_STATUS_USER | TP_STATUS_TS_SOFTWARE | status_of(frame);
        if losing == Losing::Yes {
            status |= TP_STATUS_LOSING;
        }
        let mut place = self.place.lock();
        match self.plan.version {
            Version::V3 => self.push_to_block(&mut place, frame, status),
            _ => self.push_frame(&mut place, frame, status),
        }
    }

    fn is_readable(&self) -> bool {
        let at = self.place.lock().at;
        let before = |count: u32| at.checked_sub(1).unwrap_or(count.saturating_sub(1));
        let status_at = match self.plan.version {
            Version::V3 => self.block_at(before(self.plan.request.block_nr)) + BLOCK_STATUS_AT,
            _ => self.frame_at(before(self.plan.request.frame_nr)),
        };
        self.status(status_at) != TP_STATUS_KERNEL
    }

    fn deadline(&self) -> Option<Instant> {
        self.place.lock().deadline
    }

    fn expire(&self, now: Instant) -> bool {
        let mut place = self.place.lock();
        let due = place.deadline.is_some_and(|deadline| deadline <= now);
        if due {
            self.close_block(&mut place, TP_STATUS_BLK_TMO);
        }
        due
    }

    fn take_freezes(&self) -> u32 {
        core::mem::take(&mut self.place.lock().freezes)
    }
}

/// TP_STATUS_* of a frame's offloads.
pub fn status_of(frame: &Captured) -> u32 {
    status_bits(frame.checksum, frame.is_large)
}

/// The same of its parts.
pub fn status_bits(checksum: ChecksumState, is_large: bool) -> u32 {
    let checksum = match checksum {
        ChecksumState::Unknown => 0,
        ChecksumState::Valid => TP_STATUS_CSUM_VALID,
        ChecksumState::Missing => TP_STATUS_CSUMNOTREADY,
    };
    if is_large { checksum | TP_STATUS_GSO_TCP } else { checksum }
}
