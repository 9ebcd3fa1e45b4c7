//! Replay: the stack plays one side of a recorded conversation, in virtual time. What the other side sent is fed in when it was recorded;
//! what the program on our side did (connect, write, close, reset) is read from the record. Then both are compared.

mod live;
mod wire;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use netstack::buffer::PacketBuffer;
use netstack::ip::{IpCidr, Route};
use netstack::link::{Link, LinkError, MacAddr, NicId, NicKind};
use netstack::rng::seed_from;
use netstack::socket::tcp::TcpSocket;
use netstack::stack::{Config, NicConfig, Stack};
use netstack::time::Instant;
use parking_lot::Mutex;

use crate::capture::{Frame, LinkType, ReadError, Reader};
use crate::flows::{Opening, Protocol, Summary};
use crate::packet::{ACK, Body, Endpoint, Packet, SYN, Tcp, TcpOptions};
use live::Live;

/// Whom the stack plays: a host, or one port of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its address.
    pub host: IpAddr,
    /// Its port; none: every port.
    pub port: Option<u16>,
}

impl Role {
    fn plays(&self, (host, port): Endpoint) -> bool {
        self.host == host && self.port.is_none_or(|only| only == port)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => std::net::SocketAddr::new(self.host, port).fmt(f),
            None => self.host.fmt(f),
        }
    }
}

impl FromStr for Role {
    type Err = String;

    /// `10.0.0.1`, `10.0.0.1:80`, `fd00::1` or `[fd00::1]:80`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<std::net::SocketAddr>() {
            return Ok(Self { host: address.ip(), port: Some(address.port()) });
        }
        let host =
            text.parse().map_err(|_| format!("{text:?} is no address, or address and port"))?;
        Ok(Self { host, port: None })
    }
}

/// What a replay gave.
pub struct Outcome {
    /// The flows that were replayed, as recorded.
    pub recorded: Summary,
    /// The same as the stack played them.
    pub replayed: Summary,
    /// Flows of ours that could not be replayed: number in the capture, why.
    pub left_out: Vec<(u64, &'static str)>,
    /// What the comparison does not show.
    pub notes: Vec<String>,
}

/// Takes each frame of the replay: time, whether the stack sent it, bytes.
pub type Sink<'a> = &'a mut dyn FnMut(Duration, bool, &[u8]) -> std::io::Result<()>;

/// Plays the roles in a capture. `open` gives a reader at its start; it is asked twice.
pub fn replay(
    open: &dyn Fn() -> Result<Reader, ReadError>,
    roles: &[Role],
    sink: Sink<'_>,
) -> Result<Outcome, ReadError> {
    let plan = Plan::of(&mut open()?, roles);
    let mut player = Player::new(&plan, roles, sink);
    let mut reader = open()?;
    let end = loop {
        match reader.next() {
            Ok(Some(frame)) => player.frame(&frame)?,
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    let mut outcome = player.finish(plan.left_out.clone())?;
    outcome.notes.extend(end.map(|error| error.to_string()));
    Ok(outcome)
}

/// What has to be known before the first frame.
#[derive(Default)]
struct Plan {
    /// Endpoints of ours that accepted a connection, and when the first began.
    listens: BTreeMap<Endpoint, Duration>,
    /// What the side that we play offered.
    options: Option<TcpOptions>,
    /// The shift of its windows.
    window_scale: Option<u8>,
    /// The largest segment that it offered to take, by family.
    mss: BTreeMap<bool, u16>,
    left_out: Vec<(u64, &'static str)>,
    /// Calls that our side never answered, and not later, either: the stack would.
    silent: BTreeSet<Ends>,
}

impl Plan {
    fn of(reader: &mut Reader, roles: &[Role]) -> Self {
        let (mut plan, mut summary) = (Self::default(), Summary::new(usize::MAX));
        let mut answered = BTreeSet::new();
        // What cannot be read is told by the second pass.
        let _ = summary.read(reader);
        for flow in summary.flows() {
            let Some(side) = (0..2).find(|side| roles.iter().any(|r| r.plays(flow.ends[*side])))
            else {
                continue;
            };
            let ends = (flow.ends[side], flow.ends[1 - side]);
            let unanswered = flow.opening() == Opening::Unanswered && side == 1;
            if unanswered { &mut plan.silent } else { &mut answered }.insert(ends);
            let why = match (flow.protocol, flow.opening()) {
                (Protocol::Udp | Protocol::Echo, _) => Some("only TCP is replayed"),
                (_, Opening::Midstream | Opening::None) => {
                    Some("its beginning is not in the capture")
                }
                (_, Opening::Unanswered) if side == 1 => {
                    Some("its SYN was not answered in the record")
                }
                _ if roles.iter().any(|r| r.plays(flow.ends[1 - side])) => {
                    Some("both sides are played")
                }
                _ => None,
            };
            if let Some(why) = why {
                plan.left_out.push((flow.number, why));
                continue;
            }
            let half = &flow.halves[side];
            if side == 1 && half.syns > 0 {
                plan.listens.entry(flow.ends[1]).or_insert(flow.start);
            }
            let other = flow.halves[1 - side].syn_options;
            // An answer offers only what was offered.
            let telling =
                side == 0 || other.is_some_and(|o| o.timestamps.is_some() && o.sack_permitted);
            if let Some(options) = half.syn_options.filter(|_| telling) {
                plan.options.get_or_insert(options);
            }
            let shift = half.syn_options.and_then(|options| options.window_scale);
            plan.window_scale = plan.window_scale.or(shift);
            if let Some(mss) = half.syn_options.and_then(|options| options.mss) {
                plan.mss.entry(flow.ends[0].0.is_ipv6()).or_insert(mss);
            }
        }
        plan.silent.retain(|ends| !answered.contains(ends));
        plan
    }

    /// The MTU behind the segment sizes that were offered.
    fn mtu(&self) -> u32 {
        let of = |(v6, mss): (&bool, &u16)| u32::from(*mss) + if *v6 { 60 } else { 40 };
        self.mss.iter().map(of).max().unwrap_or(1500).clamp(1280, 65_535)
    }
}

/// Keeps what the stack sent until the player looks.
#[derive(Default)]
struct Outbox(Mutex<Vec<(Instant, Vec<u8>)>>);

impl Link for Outbox {
    fn transmit(&self, now: Instant, frame: &PacketBuffer) -> Result<(), LinkError> {
        self.0.lock().push((now, frame.to_vec_complete()));
        Ok(())
    }
}

/// Our endpoint and the other side's.
type Ends = (Endpoint, Endpoint);

/// The stack, the conversations under way and what came of them.
struct Player<'a> {
    plan: &'a Plan,
    roles: &'a [Role],
    sink: Sink<'a>,
    stack: Arc<Stack>,
    nic: NicId,
    outbox: Arc<Outbox>,
    listeners: HashMap<Endpoint, TcpSocket>,
    neighbours: BTreeSet<IpAddr>,
    live: HashMap<Ends, Live>,
    /// Conversations in which something happened.
    work: Vec<Ends>,
    /// Time of the first frame: the origin of the stack's time.
    origin: Option<Duration>,
    now: Instant,
    sent: u64,
    recorded: Summary,
    replayed: Summary,
    notes: Vec<String>,
}

/// No more time than this passes between two frames.
const MAX_GAP: Duration = Duration::from_secs(3 * 3600);
/// The stack's clock begins here: some of its timers look back.
const START: Duration = Duration::from_secs(1000);

impl<'a> Player<'a> {
    fn new(plan: &'a Plan, roles: &'a [Role], sink: Sink<'a>) -> Self {
        let outbox = Arc::new(Outbox::default());
        let stack = Stack::new(Config::new(seed_from(7)));
        let config = NicConfig {
            name: "eth0".into(),
            kind: NicKind::Ethernet,
            mac: MacAddr(wire::OURS),
            mtu: plan.mtu(),
            link: outbox.clone(),
        };
        let nic = stack.add_nic(config).expect("the first interface of a stack");
        if let Some(options) = plan.options {
            stack.edit_tcp_config(|config| {
                config.timestamps = options.timestamps.is_some();
                config.sack = options.sack_permitted;
                config.window_scaling = options.window_scale.is_some();
            });
        }
        if let Some(shift) = plan.window_scale {
            // The shift is that of the largest buffer (tcp_rmem).
            stack.edit_tcp_config(|config| {
                config.receive_buffer_max = (1 << (16 + u32::from(shift.min(14)))) - 1;
                config.receive_buffer = config.receive_buffer.min(config.receive_buffer_max);
            });
        }
        let mut player = Self {
            plan,
            roles,
            sink,
            stack,
            nic,
            outbox,
            listeners: HashMap::new(),
            neighbours: BTreeSet::new(),
            live: HashMap::new(),
            work: Vec::new(),
            origin: None,
            now: Instant::ZERO + START,
            sent: 0,
            recorded: Summary::recording(),
            replayed: Summary::recording(),
            notes: Vec::new(),
        };
        player.attach();
        player
    }

    /// Gives the stack the addresses that it plays, and a way to everybody.
    fn attach(&mut self) {
        let hosts: BTreeSet<IpAddr> = self.roles.iter().map(|role| role.host).collect();
        for host in hosts {
            // A multicast or unspecified address cannot be one's own.
            if let Err(error) = self.stack.add_address(self.nic, IpCidr::host(host)) {
                self.notes.push(format!("{host} cannot be played: {error}"));
                continue;
            }
            let everywhere = match host {
                IpAddr::V4(_) => IpCidr::new(IpAddr::from([0; 4]), 0),
                IpAddr::V6(_) => IpCidr::new(IpAddr::from([0; 16]), 0),
            };
            // The second address of a family finds the route there.
            let _ = self.stack.add_route(Route::new(everywhere, None, self.nic));
        }
    }

    /// Listens from the first connection on that was accepted in the record; before that, calls were refused.
    fn listen(&mut self, endpoint: Endpoint, time: Duration) {
        let begins = self.plan.listens.get(&endpoint).is_some_and(|from| time >= *from);
        if !begins || self.listeners.contains_key(&endpoint) {
            return;
        }
        let family =
            if endpoint.0.is_ipv4() { netstack::ip::Family::V4 } else { netstack::ip::Family::V6 };
        let socket = self.stack.tcp_socket(family);
        let listening = socket.bind(endpoint.into()).map_err(|e| e.to_string());
        match listening.and_then(|()| socket.listen(1024).map_err(|e| e.to_string())) {
            Ok(()) => drop(self.listeners.insert(endpoint, socket)),
            Err(why) => self.notes.push(format!("cannot listen on {endpoint:?}: {why}")),
        }
    }

    fn frame(&mut self, frame: &Frame<'_>) -> std::io::Result<()> {
        let origin = *self.origin.get_or_insert(frame.time);
        // A clock that lies by centuries would fire every timer of centuries.
        let at = Instant::ZERO + START + frame.time.saturating_sub(origin);
        self.advance(at.min(self.now + MAX_GAP))?;
        let Ok(packet) = Packet::of(frame) else { return Ok(()) };
        let (Body::Tcp(tcp), 0) = (packet.body, packet.tunnels) else {
            return Ok(());
        };
        let plays = |end| self.roles.iter().any(|role| role.plays(end));
        match (plays(tcp.src), plays(tcp.dst)) {
            (true, false) => self.ours(frame, &tcp),
            (false, true) => self.theirs(frame, &tcp),
            _ => return Ok(()),
        }
        self.settle()
    }

    /// Lets time pass: every timer of the stack fires when it is due.
    fn advance(&mut self, to: Instant) -> std::io::Result<()> {
        while let Some(at) = self.stack.next_deadline().filter(|at| *at <= to) {
            self.now = self.now.max(at);
            self.stack.poll(self.now);
            self.settle()?;
        }
        self.now = self.now.max(to);
        Ok(())
    }

    /// A segment that our side sent in the record: what its program did.
    fn ours(&mut self, frame: &Frame<'_>, tcp: &Tcp<'_>) {
        let ends = (tcp.src, tcp.dst);
        if tcp.flags & (SYN | ACK) == SYN
            && self.live.get(&ends).is_none_or(|l| l.is_succeeded(tcp))
        {
            self.know(tcp.dst.0);
            let mut live = Live::calling(tcp);
            if let Err(why) = live.connect(&self.stack, self.now) {
                self.notes.push(format!("frame {}: cannot connect: {why}", frame.number));
            }
            self.live.insert(ends, live);
        }
        if let Some(live) = self.live.get_mut(&ends) {
            self.recorded.add(frame);
            live.recorded(tcp, frame.time);
            self.work.push(ends);
        }
    }

    /// A segment of the other side: it is fed to the stack, as soon as it can have been sent.
    fn theirs(&mut self, frame: &Frame<'_>, tcp: &Tcp<'_>) {
        let ends = (tcp.dst, tcp.src);
        if self.plan.silent.contains(&ends) {
            return;
        }
        if tcp.flags & (SYN | ACK) == SYN
            && self.live.get(&ends).is_none_or(|l| !l.is_caller() && l.is_succeeded_by(tcp))
        {
            self.know(tcp.src.0);
            self.listen(tcp.dst, frame.time);
            self.live.insert(ends, Live::called(tcp));
        }
        let Some(live) = self.live.get_mut(&ends) else { return };
        self.recorded.add(frame);
        live.queue(frame, tcp);
        self.work.push(ends);
    }

    /// A neighbour that answers nothing: everything leaves by its link-layer address.
    fn know(&mut self, peer: IpAddr) {
        if self.neighbours.insert(peer)
            && let Err(error) =
                self.stack.add_neighbour(self.now, self.nic, peer, MacAddr(wire::THEIRS))
        {
            self.notes.push(format!("{peer}: {error}"));
        }
    }

    /// Feeds what waits for a conversation, up to what acknowledges bytes that the stack has not sent.
    fn release(&mut self, ends: Ends) -> std::io::Result<()> {
        while let Some(bytes) = self.live.get_mut(&ends).and_then(Live::next_to_feed) {
            self.show(self.now, false, &bytes)?;
            self.stack.handle_frame(self.now, self.nic, PacketBuffer::from_vec(bytes));
            self.collect()?;
        }
        Ok(())
    }

    /// Lets programs act and feeds what may come now, until nothing happens any more.
    fn settle(&mut self) -> std::io::Result<()> {
        self.collect()?;
        while let Some(ends) = self.work.pop() {
            self.accept(ends.0);
            if let Some(live) = self.live.get_mut(&ends) {
                live.act(self.now);
            }
            self.release(ends)?;
            self.collect()?;
        }
        Ok(())
    }

    /// Gives the connections that a listener made to their programs.
    fn accept(&mut self, listener: Endpoint) {
        let Some(listening) = self.listeners.get(&listener) else { return };
        while let Ok(socket) = listening.accept(self.now) {
            let peer = socket.peer_addr().map(|peer| (peer.ip(), peer.port()));
            let live = peer.and_then(|peer| self.live.get_mut(&(listener, peer)));
            match live {
                Some(live) => live.accepted(socket),
                None => socket.abort(self.now),
            }
        }
    }

    fn collect(&mut self) -> std::io::Result<()> {
        let sent = std::mem::take(&mut *self.outbox.0.lock());
        for (at, bytes) in sent {
            let packet = crate::packet::dissect(LinkType::Ethernet, &bytes, bytes.len());
            let Ok(Packet { body: Body::Tcp(tcp), .. }) = packet else { continue };
            if let Some(live) = self.live.get_mut(&(tcp.src, tcp.dst)) {
                live.sent(&tcp, at);
                self.work.push((tcp.src, tcp.dst));
                self.show(at, true, &bytes)?;
            }
        }
        Ok(())
    }

    fn show(&mut self, at: Instant, is_ours: bool, bytes: &[u8]) -> std::io::Result<()> {
        self.sent += 1;
        let time = at.since(Instant::ZERO + START) + self.origin.unwrap_or_default();
        self.replayed.add(&Frame {
            number: self.sent,
            time,
            interface: 0,
            link: LinkType::Ethernet,
            wire_len: bytes.len() as u32,
            bytes,
        });
        (self.sink)(time, is_ours, bytes)
    }

    fn finish(mut self, left_out: Vec<(u64, &'static str)>) -> std::io::Result<Outcome> {
        self.settle()?;
        let mut stuck: Vec<String> = self
            .live
            .iter()
            .filter_map(|((ours, theirs), live)| live.stuck(*ours, *theirs))
            .collect();
        stuck.sort();
        self.notes.extend(stuck);
        // Endpoints know their stack, and it knows them: one of the two has to let go.
        self.live.values_mut().for_each(|live| live.end(self.now));
        self.listeners.values().for_each(|listener| listener.close(self.now));
        self.stack.shut_down();
        Ok(Outcome {
            recorded: self.recorded,
            replayed: self.replayed,
            left_out,
            notes: self.notes,
        })
    }
}

#[cfg(test)]
mod tests;
