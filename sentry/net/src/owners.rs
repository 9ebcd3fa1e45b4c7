//! Whose a captured frame is: the socket of its flow, and the process that made it.

use core::net::{IpAddr, SocketAddr};
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use netstack::ip::{PROTO_TCP, PROTO_UDP};
use netstack::link::{Direction, NicKind};
use netstack::time::{Duration, Instant};
use netstack::wire::ethernet::{self, Ethernet, TYPE_IPV4, TYPE_IPV6};
use netstack::wire::ipv4::Ipv4;
use netstack::wire::ipv6::{self, Ipv6};
use netstack_host::capture::{Frame, Label};
use sentry_kernel::kernel::Kernel;

use crate::identity::ProcessId;
use crate::netns::NetNamespace;

/// Flows whose owner is remembered, so that the last frames of a connection have a name though its process is gone.
const FLOWS: usize = 16_384;
/// The list of sockets is made anew for a flow that is not in it, no more often than this: a flood of strange packets costs no more.
const LIST_EVERY: Duration = Duration::from_millis(5);

/// What a frame has in common with its socket, from our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Flow {
    protocol: u8,
    local: SocketAddr,
    remote: SocketAddr,
}

/// The owners of a namespace's sockets.
pub struct Owners {
    net: Weak<NetNamespace>,
    kernel: Weak<Kernel>,
    flows: HashMap<Flow, String>,
    /// By protocol, local port and peer, where it has one.
    sockets: HashMap<(u8, u16, Option<SocketAddr>), ProcessId>,
    listed_at: Option<Instant>,
}

impl Owners {
    /// None is known yet.
    pub fn new(net: &Arc<NetNamespace>, kernel: &Arc<Kernel>) -> Self {
        Self {
            net: Arc::downgrade(net),
            kernel: Arc::downgrade(kernel),
            flows: HashMap::new(),
            sockets: HashMap::new(),
            listed_at: None,
        }
    }

    /// Who has the socket of a flow: itself, or the one that listens.
    fn find(&self, flow: &Flow) -> Option<ProcessId> {
        let key = |peer| (flow.protocol, flow.local.port(), peer);
        let found = self.sockets.get(&key(Some(flow.remote)));
        found.or_else(|| self.sockets.get(&key(None))).copied()
    }

    /// Lists the sockets anew, unless that was done a moment ago.
    fn list(&mut self) {
        let Some(net) = self.net.upgrade() else { return };
        let now = net.now();
        if self.listed_at.is_some_and(|at| now.since(at) < LIST_EVERY) {
            return;
        }
        self.listed_at = Some(now);
        self.sockets.clear();
        for socket in net.sockets().all() {
            let process = socket.inode.process();
            let (local, peer) = (socket.endpoint.local_addr(), socket.endpoint.peer_addr());
            if let (Ok(protocol), Some(process)) = (u8::try_from(socket.protocol), process) {
                let peer = peer.map(|peer| SocketAddr::new(peer.ip().to_canonical(), peer.port()));
                self.sockets.insert((protocol, local.port(), peer), process);
            }
        }
    }

    /// A process as captures name it.
    fn name(&self, process: ProcessId) -> String {
        let ProcessId { container, pid } = process;
        let containers = self.kernel.upgrade().map(|kernel| kernel.containers());
        let own = containers.into_iter().flatten().find(|known| known.number() == container);
        let leader = own.and_then(|own| own.pids().group(pid)?.leader());
        let mut name = format!("pid {pid}");
        if let Some(leader) = leader {
            name += &format!(" ({})", String::from_utf8_lossy(&leader.comm()));
        }
        if container > 0 {
            name += &format!(" of container {container}");
        }
        name
    }
}

impl Label for Owners {
    fn witness() -> u32 {
        ProcessId::current().and_then(ProcessId::to_word).unwrap_or(0)
    }

    fn label(&mut self, frame: &Frame) -> Option<String> {
        let flow = flow_of(frame)?;
        // A connection's first frame is its listener's; later it has an owner of its own.
        let direct = (flow.protocol, flow.local.port(), Some(flow.remote));
        if let Some(name) = self.flows.get(&flow)
            && self.sockets.contains_key(&direct)
        {
            return Some(name.clone());
        }
        if !self.sockets.contains_key(&direct) {
            self.list();
        }
        // A socket that is gone already: who sent by it was seen doing so.
        let sent = frame.direction == Direction::Sent;
        let witness = ProcessId::from_word(frame.witness).filter(|_| sent);
        let Some(process) = self.find(&flow).or(witness) else {
            return self.flows.get(&flow).cloned();
        };
        let name = self.name(process);
        if self.flows.len() == FLOWS {
            self.flows.clear();
        }
        self.flows.insert(flow, name.clone());
        Some(name)
    }
}

/// The flow of a frame of TCP or UDP. Fragments after the first have no ports, and no flow.
fn flow_of(frame: &Frame) -> Option<Flow> {
    let bytes = &frame.bytes[..];
    let packet = match frame.kind {
        NicKind::Loopback => bytes,
        NicKind::Ethernet => {
            let (header, packet) = bytes.split_first_chunk::<{ ethernet::HEADER_LEN }>()?;
            let known = [TYPE_IPV4, TYPE_IPV6];
            known.contains(&Ethernet::parse(header).ethertype).then_some(packet)?
        }
    };
    let (protocol, src, dst, segment): (u8, IpAddr, IpAddr, _) = match packet.first()? >> 4 {
        4 => {
            let header = Ipv4::parse(packet, packet.len()).ok()?;
            let first = header.fragment_offset == 0;
            let segment = packet.get(usize::from(header.header_len)..).filter(|_| first)?;
            (header.protocol, header.src.into(), header.dst.into(), segment)
        }
        _ => {
            let (fixed, segment) = packet.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
            let header = Ipv6::parse(fixed)?;
            (header.next_header, header.src.into(), header.dst.into(), segment)
        }
    };
    if ![PROTO_TCP, PROTO_UDP].contains(&protocol) {
        return None;
    }
    let [a, b, c, d] = *segment.first_chunk::<4>()?;
    let src = SocketAddr::new(src, u16::from_be_bytes([a, b]));
    let dst = SocketAddr::new(dst, u16::from_be_bytes([c, d]));
    Some(match frame.direction {
        Direction::Sent => Flow { protocol, local: src, remote: dst },
        Direction::Received => Flow { protocol, local: dst, remote: src },
    })
}
