//! Packet sockets: they see the frames that pass an interface, both ways, and send frames (packet(7)).

mod ring;

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::{Readiness, RecvError, RecvFlags, SendError, SocketError, Wake};
use crate::buffer::{Chain, ChecksumOffload, PacketBuffer, Sink, Source};
use crate::filter::{Program, View};
use crate::ip::{IpError, LinkInfo};
use crate::link::{MacAddr, NicId, NicKind};
use crate::time::Instant;
use crate::transport::packet::{FrameEndpoint, PacketType, Place, Seen};
use crate::transport::{Host, OnTimer, Timer};
use crate::wire::ethernet::{self, Ethernet};

pub use ring::{FrameRing, Losing, Stored};

/// The default size of a receive buffer (`rmem_default`).
const DEFAULT_BUFFER: usize = 212_992;
/// What a queued frame costs of the receive buffer besides its bytes.
const OVERHEAD: usize = 768;
/// Bytes of an 802.1Q tag, which may exceed the interface's MTU.
const VLAN_TAG: usize = 4;
const TYPE_VLAN: u16 = 0x8100;

/// Whether the socket sees link headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// With the link header (SOCK_RAW).
    Raw,
    /// Without it; a send has it made (SOCK_DGRAM).
    Cooked,
}

/// Whether the checksum of a captured frame is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChecksumState {
    /// Nobody has looked.
    Unknown,
    /// It holds.
    Valid,
    /// A device fills it in later.
    Missing,
}

/// A frame in the queue, or on its way into a ring.
#[derive(Clone)]
pub struct Captured {
    packet: PacketBuffer,
    /// Bytes of it that the filter keeps.
    pub kept: usize,
    /// Bytes that it has.
    pub full_len: usize,
    /// Where its network header begins.
    pub network_at: usize,
    /// On which interface it passed.
    pub nic: NicId,
    /// What that carries.
    pub kind: NicKind,
    /// How it is addressed.
    pub packet_type: PacketType,
    /// The protocol behind the link header.
    pub protocol: u16,
    /// Who sent it.
    pub source: MacAddr,
    /// When it passed.
    pub at: Instant,
    /// The state of its transport checksum.
    pub checksum: ChecksumState,
    /// Whether it is many segments under one header.
    pub is_large: bool,
}

impl Captured {
    /// The bytes that are kept, piece by piece. A checksum that a device was to fill in is filled in, but for large frames.
    pub fn chain(&mut self) -> Chain {
        if self.checksum != ChecksumState::Missing {
            self.packet.complete_checksum();
        }
        let mut chain = self.packet.clone().into_chain();
        chain.truncate(self.kept);
        chain
    }

    fn cost(&self) -> usize {
        self.packet.payload().held() + OVERHEAD
    }
}

/// What a receive tells besides the bytes.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedFrame {
    /// Bytes written to the sink.
    pub len: usize,
    /// Bytes that were kept of the frame; more than `len` when the sink was too small.
    pub kept: usize,
    /// Bytes of the frame on the link.
    pub full_len: usize,
    /// Where its network header begins.
    pub network_at: usize,
    /// On which interface it passed.
    pub nic: NicId,
    /// What that carries.
    pub kind: NicKind,
    /// How it was addressed.
    pub packet_type: PacketType,
    /// The protocol behind the link header.
    pub protocol: u16,
    /// Who sent it.
    pub source: MacAddr,
    /// When it passed.
    pub at: Instant,
    /// The state of its transport checksum.
    pub checksum: ChecksumState,
    /// Whether it is many segments under one header.
    pub is_large: bool,
}

/// Where a frame is to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// The interface.
    pub nic: Option<NicId>,
    /// The EtherType that a cooked frame gets.
    pub protocol: u16,
    /// The link-layer destination of a cooked frame.
    pub mac: MacAddr,
}

/// What a packet socket counted since the last question (PACKET_STATISTICS).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PacketCounts {
    /// Frames that passed its filter.
    pub packets: u32,
    /// Those of them that were lost.
    pub drops: u32,
    /// How often its ring was full with a whole block.
    pub freezes: u32,
}

struct State {
    protocol: u16,
    nic: Option<NicId>,
    place: Option<Place>,
    queue: VecDeque<Captured>,
    queued: usize,
    receive_buffer: usize,
    filter: Option<Program>,
    ignores_outgoing: bool,
    counts: PacketCounts,
    error: Option<SocketError>,
    ring: Option<Arc<dyn FrameRing>>,
    closed: bool,
}

/// A packet socket.
pub struct PacketSocket {
    host: Arc<dyn Host>,
    form: Form,
    state: Mutex<State>,
    waker: Mutex<Option<Arc<dyn Wake>>>,
    timer: Timer,
    me: Weak<PacketSocket>,
}

impl PacketSocket {
    /// A socket for a protocol on every interface; it sees nothing for protocol 0 until it is bound.
    pub fn new(host: Arc<dyn Host>, form: Form, protocol: u16) -> Arc<PacketSocket> {
        let state = State {
            protocol,
            nic: None,
            place: None,
            queue: VecDeque::new(),
            queued: 0,
            receive_buffer: DEFAULT_BUFFER,
            filter: None,
            ignores_outgoing: false,
            counts: PacketCounts::default(),
            error: None,
            ring: None,
            closed: false,
        };
        let socket = Arc::new_cyclic(|me: &Weak<PacketSocket>| {
            let (state, waker, timer) = (Mutex::new(state), Mutex::new(None), Timer::default());
            PacketSocket { host, form, state, waker, timer, me: me.clone() }
        });
        socket.register(&mut socket.state.lock());
        socket
    }

    /// Whether it sees link headers.
    pub fn form(&self) -> Form {
        self.form
    }

    fn register(&self, state: &mut State) {
        let packets = &self.host.shared().packets;
        if let Some(place) = state.place.take() {
            packets.remove(place);
        }
        let me = self.me.upgrade().filter(|_| state.protocol != 0 && !state.closed);
        state.place = me.map(|me| packets.insert(me, state.nic, state.protocol));
    }

    /// Binds to an interface (None for all) and a protocol (0 for the one it has). Errors: NoDevice.
    pub fn bind(&self, nic: Option<NicId>, protocol: u16) -> Result<(), SocketError> {
        let link = nic.map(|nic| self.host.link(nic).ok_or(SocketError::NoDevice)).transpose()?;
        let mut state = self.state.lock();
        state.nic = nic;
        if protocol != 0 {
            state.protocol = protocol;
        }
        self.register(&mut state);
        if link.is_some_and(|link| !link.up) {
            state.error = Some(SocketError::NetworkDown);
        }
        let readiness = state.readiness();
        drop(state);
        self.wake(readiness);
        Ok(())
    }

    /// The interface and the protocol that it is bound to.
    pub fn bound_to(&self) -> (Option<NicId>, u16) {
        let state = self.state.lock();
        (state.nic, state.protocol)
    }

    /// What is known of an interface.
    pub fn link(&self, nic: NicId) -> Option<LinkInfo> {
        self.host.link(nic)
    }

    /// Sends one frame, to where it is bound or to a target. Errors: NoDevice (ENXIO), NetworkDown, MessageTooLong, Invalid.
    pub fn send(
        &self,
        now: Instant,
        source: &mut dyn Source,
        to: Option<Target>,
    ) -> Result<usize, SendError> {
        let state = self.state.lock();
        let (nic, protocol) = to.map_or((state.nic, state.protocol), |to| (to.nic, to.protocol));
        let place = state.place;
        drop(state);
        let no_device = SendError::Network(SocketError::NoDevice);
        let nic = nic.ok_or(no_device)?;
        let link = self.host.link(nic).ok_or(no_device)?;
        if !link.up {
            return Err(SendError::Network(SocketError::NetworkDown));
        }
        let len = source.remaining();
        let header = if self.form == Form::Raw { ethernet::HEADER_LEN } else { 0 };
        let most = link.mtu as usize + header;
        if len > most + VLAN_TAG {
            return Err(SendError::MessageTooLong);
        }
        let payload = Chain::from_source(&self.host.shared().slabs, source, len)?;
        let mut frame = PacketBuffer::new(payload);
        match self.form {
            Form::Raw => {
                let head = frame.peek::<{ ethernet::HEADER_LEN }>().ok_or(SendError::Invalid)?;
                if len > most && Ethernet::parse(&head).ethertype != TYPE_VLAN {
                    return Err(SendError::MessageTooLong);
                }
            }
            Form::Cooked if len > most => return Err(SendError::MessageTooLong),
            Form::Cooked => {
                let dst = to.map_or(MacAddr::ZERO, |to| to.mac);
                Ethernet { dst, src: link.mac, ethertype: protocol }.emit(frame.prepend());
            }
        }
        match self.host.send_frame(now, nic, frame, place) {
            Ok(()) => Ok(len),
            Err(IpError::MessageTooLong { .. }) => Err(SendError::MessageTooLong),
            Err(error) => Err(SendError::Network(error.into())),
        }
    }

    /// Receives one frame into a sink; what does not fit is lost, unless it is only looked at.
    pub fn recv(&self, sink: &mut dyn Sink, flags: RecvFlags) -> Result<ReceivedFrame, RecvError> {
        let mut state = self.state.lock();
        if let Some(error) = state.error.take() {
            return Err(RecvError::Network(error));
        }
        let frame = match flags.contains(RecvFlags::PEEK) {
            true => state.queue.front().cloned(),
            false => state.pop(),
        };
        drop(state);
        let mut frame = frame.ok_or(RecvError::WouldBlock)?;
        let len = frame.chain().write_to(sink)?;
        let Captured { kept, full_len, network_at, nic, kind, packet_type, .. } = frame;
        let Captured { protocol, source, at, checksum, is_large, .. } = frame;
        Ok(ReceivedFrame {
            len,
            kept,
            full_len,
            network_at,
            nic,
            kind,
            packet_type,
            protocol,
            source,
            at,
            checksum,
            is_large,
        })
    }

    /// Sets the filter that frames must pass, or takes it away. Frames that wait stay.
    pub fn set_filter(&self, filter: Option<Program>) {
        self.state.lock().filter = filter;
    }

    /// The filter.
    pub fn filter(&self) -> Option<Program> {
        self.state.lock().filter.clone()
    }

    /// Whether frames on their way out are left out (PACKET_IGNORE_OUTGOING).
    pub fn set_ignores_outgoing(&self, on: bool) {
        self.state.lock().ignores_outgoing = on;
    }

    /// The size of the receive buffer in bytes, as the kernel counts it.
    pub fn set_receive_buffer(&self, bytes: usize) {
        self.state.lock().receive_buffer = bytes;
    }

    /// Gives frames to a ring from now on, or to the queue again.
    pub fn set_ring(&self, ring: Option<Arc<dyn FrameRing>>) {
        let mut state = self.state.lock();
        state.ring = ring;
        state.queue.clear();
        state.queued = 0;
    }

    /// What it counted since the last question.
    pub fn take_counts(&self) -> PacketCounts {
        let mut state = self.state.lock();
        let mut counts = core::mem::take(&mut state.counts);
        counts.freezes = state.ring.as_ref().map_or(0, |ring| ring.take_freezes());
        counts
    }

    /// Takes the pending error (SO_ERROR).
    pub fn take_error(&self) -> Option<SocketError> {
        self.state.lock().error.take()
    }

    /// Bytes that wait to be read, as they are counted against the receive buffer.
    pub fn queued(&self) -> usize {
        self.state.lock().queued
    }

    /// Bytes of the next frame in the queue (FIONREAD); 0 when there is none.
    pub fn next_len(&self) -> usize {
        self.state.lock().queue.front().map_or(0, |frame| frame.kept)
    }

    /// What the socket is ready for.
    pub fn readiness(&self) -> Readiness {
        self.state.lock().readiness()
    }

    /// Sets who is told about readiness.
    pub fn set_waker(&self, waker: Arc<dyn Wake>) {
        *self.waker.lock() = Some(waker);
    }

    /// Ends the socket: nothing arrives any more.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        self.register(&mut state);
        state.queue.clear();
        state.ring = None;
        drop(state);
        *self.waker.lock() = None;
    }

    fn wake(&self, readiness: Readiness) {
        let waker = self.waker.lock().clone();
        if let Some(waker) = waker {
            waker.wake(readiness);
        }
    }

    /// How many bytes of a frame the filter keeps; None drops it.
    fn judge(&self, filter: &Program, seen: &Seen<'_>, frame: &PacketBuffer) -> Option<usize> {
        let mut header = [0; ethernet::HEADER_LEN];
        let before: &[u8] = match self.form {
            Form::Raw => &[],
            Form::Cooked => {
                seen.frame.copy_at(0, &mut header);
                &header
            }
        };
        let network_at = ethernet::HEADER_LEN as i64 - before.len() as i64;
        let view = View {
            packet: frame,
            before,
            network_at,
            link_at: Some(-(before.len() as i64)),
            protocol: seen.protocol,
            packet_type: seen.packet_type as u8,
            ifindex: seen.nic.0,
            hardware_type: seen.kind.hardware_type(),
            mark: 0,
            random: &|| self.host.shared().random() as u32,
        };
        let kept = filter.run(&view) as usize;
        (kept > 0).then(|| kept.min(frame.len()))
    }

    /// A frame as this socket keeps it.
    fn capture(&self, seen: &Seen<'_>, packet: PacketBuffer, kept: usize) -> Captured {
        let mut source = [0; 6];
        seen.frame.copy_at(6, &mut source);
        let is_large = packet.offload.gso.is_some();
        let missing = packet.offload.checksum != ChecksumOffload::None;
        let checksum = match (missing, is_large) {
            (true, true) => ChecksumState::Missing,
            (true, false) => ChecksumState::Valid,
            (false, _) if packet.offload.rx_verified => ChecksumState::Valid,
            (false, _) => ChecksumState::Unknown,
        };
        Captured {
            kept,
            full_len: packet.len(),
            network_at: if self.form == Form::Raw { ethernet::HEADER_LEN } else { 0 },
            nic: seen.nic,
            kind: seen.kind,
            packet_type: seen.packet_type,
            protocol: seen.protocol,
            source: MacAddr(source),
            at: seen.now,
            checksum,
            is_large,
            packet,
        }
    }
}

impl FrameEndpoint for PacketSocket {
    fn frame(&self, seen: &Seen<'_>) {
        let mut state = self.state.lock();
        let outgoing = seen.packet_type == PacketType::Outgoing;
        if state.closed || (outgoing && state.ignores_outgoing) {
            return;
        }
        let mut packet = seen.frame.clone();
        if self.form == Form::Cooked {
            packet.advance(ethernet::HEADER_LEN);
        }
        let kept = match &state.filter {
            Some(filter) => self.judge(filter, seen, &packet),
            None => Some(packet.len()),
        };
        let Some(kept) = kept else { return };
        let captured = self.capture(seen, packet, kept);
        let news = state.take(captured);
        let deadline = state.ring.as_ref().and_then(|ring| ring.deadline());
        let readiness = state.readiness();
        drop(state);
        if let Some(deadline) = deadline {
            self.host.shared().timers.arm_earlier(self, deadline);
        }
        if news {
            self.wake(readiness);
        }
    }
}

impl OnTimer for PacketSocket {
    fn timer(&self) -> &Timer {
        &self.timer
    }

    fn handle(&self) -> Weak<dyn OnTimer> {
        self.me.clone()
    }

    fn on_timer(&self, now: Instant) {
        let state = self.state.lock();
        let Some(ring) = state.ring.clone() else { return };
        let news = ring.expire(now);
        let readiness = state.readiness();
        drop(state);
        if let Some(deadline) = ring.deadline() {
            self.host.shared().timers.arm_earlier(self, deadline);
        }
        if news {
            self.wake(readiness);
        }
    }
}

impl State {
    /// Takes a frame into the ring or the queue; answers whether there is something new to read.
    fn take(&mut self, mut frame: Captured) -> bool {
        self.counts.packets = self.counts.packets.saturating_add(1);
        let stored = match &self.ring {
            Some(ring) => {
                let losing = if self.counts.drops > 0 { Losing::Yes } else { Losing::No };
                ring.push(&mut frame, losing)
            }
            None if self.queued >= self.receive_buffer => Stored::Full,
            None => {
                self.queued = self.queued.saturating_add(frame.cost());
                self.queue.push_back(frame);
                Stored::Readable
            }
        };
        if stored == Stored::Full {
            self.counts.drops = self.counts.drops.saturating_add(1);
        }
        // A full ring is a reason to read, too: its last block may just have been closed.
        stored == Stored::Readable || (stored == Stored::Full && self.ring.is_some())
    }

    fn pop(&mut self) -> Option<Captured> {
        let frame = self.queue.pop_front()?;
        self.queued = self.queued.saturating_sub(frame.cost());
        Some(frame)
    }

    fn readiness(&self) -> Readiness {
        let readable = match &self.ring {
            Some(ring) => ring.is_readable(),
            None => !self.queue.is_empty(),
        };
        let mut ready = Readiness::OUT;
        ready.set(Readiness::IN, readable);
        ready.set(Readiness::ERR, self.error.is_some());
        ready
    }
}
