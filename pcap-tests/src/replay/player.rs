//! The player: feeds the kernel what was recorded of the other side, and lets programs do what was recorded of theirs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::kernel::{Clock, Handle, Kernel, Pause};
use super::live::{Kind, Live};
use super::lives::{Key, LiveId, Lives};
use super::messages::is_group;
use super::plan::{Offer, Plan};
use super::reading::Pace;
use super::wire::Fed;
use super::{Outcome, ReplayError, Settings, Sink};
use crate::capture::Frame;
use crate::compare::Comparison;
use crate::flows::{Known, Protocol, Summary};
use crate::namespace::KernelError;
use crate::packet::{ACK, Body, Endpoint, Ip, Packet, SYN, Sums, Tcp};

/// Our endpoint and the other side's.
pub type Ends = (Endpoint, Endpoint);

/// The kernel, the conversations under way and what came of them.
pub struct Player<'a> {
    pub(super) settings: &'a Settings,
    pub(super) plan: &'a Plan,
    pub(super) kernel: &'a mut dyn Kernel,
    pub(super) sink: Option<Sink<'a>>,
    /// Whether anybody looks at checksums of what is fed.
    sums: Sums,
    listeners: BTreeMap<Endpoint, Handle>,
    /// Sockets for datagrams, and in which order they were opened.
    pub(super) sockets: BTreeMap<Endpoint, Handle>,
    pub(super) opened: VecDeque<Endpoint>,
    /// Echoes that were asked of us: our address, theirs, the identifier.
    pub(super) echoes: BTreeSet<(IpAddr, IpAddr, u16)>,
    neighbours: BTreeSet<IpAddr>,
    pub(super) live: Lives,
    /// Conversations in which something happened.
    pub(super) work: Vec<LiveId>,
    /// When programs want their next turn, whatever comes.
    pub(super) wakes: BTreeSet<(Duration, LiveId)>,
    /// Time of the first frame: the origin of the kernel's time.
    pub(super) origin: Option<Duration>,
    /// Frames that were played.
    pub(super) sent: u64,
    pub(super) recorded: Summary,
    pub(super) replayed: Summary,
    comparison: Comparison<'a>,
    /// What the kernel offers now.
    offer: Option<Offer>,
    /// Whether the capture has ended: what the kernel still sends, nobody recorded.
    pub(super) is_over: bool,
    notes: Vec<String>,
    shortened: [(u64, Duration); 2],
    /// Where programs read to.
    pub(super) room: Vec<u8>,
    /// The last frame that the kernel sent.
    pub(super) frame: Vec<u8>,
}

/// No more time than this passes between two frames.
const MAX_GAP: Duration = Duration::from_secs(3 * 3600);
/// What is at rest shows nothing new after this.
const REST: Duration = Duration::from_secs(1);
/// A timer of the record fires no sooner than one of the kernel that is due so soon: whoever captures is late.
const TICK: Duration = Duration::from_millis(1);
/// How late a timer of Linux beyond a quarter of a second may fire: its wheel turns by 32 ms.
const TIMER: Duration = Duration::from_millis(40);
/// How late a kernel in real time may be with its last frames.
const LATE: Duration = Duration::from_millis(20);
const READ: usize = 64 << 10;
/// Frames between two looks for conversations that are over.
const STRIDE: u64 = 4096;
/// Notes that are told.
const MAX_NOTES: usize = 1000;

impl<'a> Player<'a> {
    /// Makes a kernel ready: gives it its addresses.
    pub fn new(
        settings: &'a Settings,
        plan: &'a Plan,
        kernel: &'a mut dyn Kernel,
        (sink, sums): (Option<Sink<'a>>, Sums),
    ) -> Result<Self, ReplayError> {
        let mut player = Self {
            settings,
            plan,
            kernel,
            sink,
            sums,
            listeners: BTreeMap::new(),
            sockets: BTreeMap::new(),
            opened: VecDeque::new(),
            echoes: BTreeSet::new(),
            neighbours: BTreeSet::new(),
            live: Lives::default(),
            work: Vec::new(),
            wakes: BTreeSet::new(),
            origin: None,
            sent: 0,
            recorded: Summary::passing(settings.terms.detail()),
            replayed: Summary::passing(settings.terms.detail()),
            comparison: Comparison::of(&settings.terms, |end| {
                settings.roles.iter().any(|role| role.plays(end))
            }),
            offer: None,
            is_over: false,
            notes: Vec::new(),
            shortened: [(0, Duration::ZERO); 2],
            room: vec![0; READ],
            frame: Vec::new(),
        };
        let hosts: BTreeSet<IpAddr> = settings.roles.iter().map(|role| role.host).collect();
        for host in hosts {
            if let Err(error) = player.kernel.add_address(host) {
                player.notes.push(format!("{host} cannot be played: {error}"));
            }
        }
        Ok(player)
    }

    /// Listens from the first connection on that was accepted in the record; before that, calls were refused.
    fn listen(&mut self, endpoint: Endpoint, time: Duration) {
        let begins = self.plan.listens.get(&endpoint).is_some_and(|from| time >= *from);
        if !begins || self.listeners.contains_key(&endpoint) {
            return;
        }
        match self.kernel.listen(SocketAddr::from(endpoint)) {
            Ok(listener) => drop(self.listeners.insert(endpoint, listener)),
            Err(why) => {
                self.note(format!("cannot listen on {} port {}: {why}", endpoint.0, endpoint.1))
            }
        }
    }

    /// The next frame of the capture.
    pub fn frame(&mut self, frame: &Frame<'_>) -> Result<(), ReplayError> {
        let origin = *self.origin.get_or_insert(frame.time);
        // A clock that lies by centuries would fire every timer of centuries.
        let at = frame.time.saturating_sub(origin);
        self.advance(at.min(self.kernel.now() + MAX_GAP))?;
        let packet = Packet::with(Sums::Ignored, frame);
        let Ok(read) = &packet else { return Ok(()) };
        let (mut again, mut is_theirs) = (None, false);
        let is_played = match (read.ip, &read.body) {
            // What is sent to oneself never is on a device.
            (Some(ip), _) if read.tunnels > 0 || ip.src == ip.dst => false,
            (Some(ip), Body::Tcp(tcp)) => {
                match (self.plays(tcp.src), self.plays(tcp.dst)) {
                    (true, false) => again = self.ours(frame, ip.id, tcp),
                    (false, true) => {
                        // What they say is fed, and the same in the play.
                        is_theirs = true;
                        self.theirs(frame, &ip, tcp);
                    }
                    _ => {}
                }
                !self.work.is_empty()
            }
            (Some(ip), Body::Udp(udp)) => self.datagram(frame, &ip, udp)?,
            (Some(ip), Body::Icmp(icmp)) => self.message(frame, &ip, icmp)?,
            _ => false,
        };
        if is_played {
            let id = self.work.last().filter(|_| matches!(read.body, Body::Tcp(_)));
            let mut unknown = None;
            let live = id.and_then(|id| self.live.get_mut(*id));
            let flow = live.map_or(&mut unknown, |live| &mut live.flows[0]);
            self.recorded.add_read(frame, &packet, Known { flow, is_same: is_theirs });
        }
        self.settle()?;
        if let Some(id) = again {
            self.catch_up(id)?;
        }
        if self.recorded.frames.is_multiple_of(STRIDE) {
            self.compare_finished();
        }
        Ok(())
    }

    /// What is over in the record is compared and forgotten.
    fn compare_finished(&mut self) {
        for flow in self.recorded.take_finished() {
            let [caller, called] = flow.ends;
            if flow.protocol == Protocol::Echo {
                self.echoes.remove(&(called.0, caller.0, caller.1));
            }
            // Another conversation of the same ports goes on.
            if !self.recorded.has_open(caller, called) {
                self.replayed.end(caller, called);
                self.forget((caller, called));
                self.forget((called, caller));
            }
            self.comparison.take(0, flow);
        }
        for flow in self.replayed.take_finished() {
            self.comparison.take(1, flow);
        }
    }

    /// A conversation is over, or another takes its place.
    fn forget(&mut self, ends: Ends) {
        if let Some(live) = self.live.take(&Key(ends)) {
            live.stuck(self.kernel.now()).into_iter().for_each(|text| self.note(text));
            live.end(self.kernel);
        }
    }

    /// Whether the kernel plays this end.
    pub(super) fn plays(&self, end: Endpoint) -> bool {
        self.settings.roles.iter().any(|role| role.plays(end))
    }

    /// Lets time pass: every timer of the kernel fires when it is due. Real time passes only as long as that may show something.
    fn advance(&mut self, to: Duration) -> Result<(), ReplayError> {
        let begin = self.kernel.now();
        let patience = [REST, self.settings.max_gap.max(REST)];
        if self.kernel.clock() == Clock::Real {
            for (is_busy, wait) in patience.into_iter().enumerate() {
                let until = begin + wait;
                if to <= until {
                    break;
                }
                self.run(until)?;
                if is_busy == 1 || self.live.iter().all(Live::is_at_rest) {
                    let (count, sum) = &mut self.shortened[is_busy];
                    (*count, *sum) = (*count + 1, *sum + (to - until));
                    self.kernel.jump(to);
                    break;
                }
            }
        }
        self.run(to)
    }

    fn run(&mut self, to: Duration) -> Result<(), ReplayError> {
        loop {
            let wake = self.wakes.first().map(|(at, _)| *at).filter(|at| *at <= to);
            match (self.kernel.run(wake.unwrap_or(to))?, wake) {
                (Pause::Limit, None) => return Ok(()),
                (Pause::Limit, Some(_)) => {
                    self.work.extend(self.wakes.pop_first().map(|(_, id)| id))
                }
                (Pause::Sent, _) => {}
            }
            self.settle()?;
        }
    }

    /// A segment that our side sent in the record: what its program did. Gives its conversation where it was sent again.
    fn ours(&mut self, frame: &Frame<'_>, ip_id: u32, tcp: &Tcp<'_>) -> Option<LiveId> {
        let ends = (tcp.src, tcp.dst);
        let mut found = self.live.find(&Key(ends));
        if tcp.flags & (SYN | ACK) == SYN
            && found.and_then(|id| self.live.get(id)).is_none_or(|l| l.is_succeeded(tcp))
        {
            self.know(tcp.dst.0);
            self.forget(ends);
            let mut live = Live::calling(tcp, self.kind(&ends));
            let called =
                self.offer(Offer::of(&tcp.options)).and_then(|()| live.connect(self.kernel));
            if let Err(why) = called {
                self.note(format!("frame {}: cannot connect: {why}", frame.number));
            }
            found = Some(self.live.put(Key(ends), live));
        }
        let id = found?;
        let live = self.live.get_mut(id)?;
        if self.plan.is_captured_twice && live.is_captured_twice(0, ip_id, tcp) {
            return None;
        }
        let before = live.recorded_again();
        live.recorded(tcp, frame.time.saturating_sub(self.origin.unwrap_or_default()));
        self.work.push(id);
        (live.recorded_again() > before).then_some(id)
    }

    /// What was sent again in the record is sent again by the kernel before anything of the other side answers it, where it is due.
    fn catch_up(&mut self, id: LiveId) -> Result<(), ReplayError> {
        let late = if self.kernel.clock() == Clock::Real { TIMER } else { TICK };
        let limit = self.kernel.now() + late;
        while self.live.get(id).is_some_and(Live::is_behind) {
            match self.kernel.run(limit)? {
                Pause::Sent => self.settle()?,
                Pause::Limit => break,
            }
        }
        Ok(())
    }

    /// A segment of the other side: it is fed to the stack, as soon as it can have been sent.
    fn theirs(&mut self, frame: &Frame<'_>, ip: &Ip, tcp: &Tcp<'_>) {
        let ends = (tcp.dst, tcp.src);
        if self.plan.silent.contains(&ends) {
            return;
        }
        let mut found = self.live.find(&Key(ends));
        let is_new = |live: &Live| !live.is_caller() && live.is_succeeded_by(tcp);
        if tcp.flags & (SYN | ACK) == SYN
            && found.and_then(|id| self.live.get(id)).is_none_or(is_new)
        {
            self.know(tcp.src.0);
            self.listen(tcp.dst, frame.time);
            self.forget(ends);
            let live = Live::called(tcp, self.kind(&ends));
            found = Some(self.live.put(Key(ends), live));
        }
        let away = self.plan.away(tcp.dst.0);
        let due = self.kernel.now().saturating_add(away);
        let Some((id, live)) = found.and_then(|id| Some((id, self.live.get_mut(id)?))) else {
            return;
        };
        if self.plan.is_captured_twice && live.is_captured_twice(1, ip.id, tcp) {
            return;
        }
        live.queue((frame, ip, tcp), due, |len| self.kernel.memory(len));
        self.work.push(id);
        // What arrives now is fed in this turn.
        if !away.is_zero() {
            self.wakes.insert((due, id));
        }
    }

    /// The kernel offers this in its SYNs from now on.
    fn offer(&mut self, offer: Offer) -> Result<(), KernelError> {
        if self.offer == Some(offer) {
            return Ok(());
        }
        self.offer = Some(offer);
        let settings = [
            ("net/ipv4/tcp_timestamps", offer.timestamps),
            ("net/ipv4/tcp_sack", offer.sack),
            ("net/ipv4/tcp_window_scaling", offer.shift.is_some()),
        ];
        for (path, is_offered) in settings {
            self.kernel.sysctl(path, if is_offered { "1" } else { "0" })?;
        }
        match offer.shift {
            Some(shift) => self.kernel.limit_window((1 << (16 + u32::from(shift.min(14)))) - 1),
            None => Ok(()),
        }
    }

    fn kind(&self, ends: &Ends) -> Kind<'a> {
        let slow = self.plan.slow.get(ends);
        let pace = slow.map_or(Pace::AtOnce, |window| Pace::AsRecorded(*window));
        Kind { app: &self.settings.app, pace }
    }

    /// A neighbour that answers nothing: everything leaves by its link-layer address.
    pub(super) fn know(&mut self, peer: IpAddr) {
        if !is_group(peer)
            && self.neighbours.insert(peer)
            && let Err(error) = self.kernel.add_peer(peer)
        {
            self.note(format!("{peer}: {error}"));
        }
    }

    /// What the comparison does not show; the first thousand.
    pub(super) fn note(&mut self, text: String) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(text);
        }
    }

    /// Feeds a frame, of a conversation where it is a segment.
    pub(super) fn feed(&mut self, fed: Fed, id: Option<LiveId>) -> Result<(), ReplayError> {
        let packet = fed.packet();
        if let Ok(Packet { body: Body::Tcp(tcp), .. }) = &packet
            && tcp.flags & (SYN | ACK) == SYN
        {
            self.offer(self.plan.answer())?;
        }
        self.show((self.kernel.now(), false), &fed.bytes, &packet, id)?;
        self.kernel.arrive(fed.bytes)?;
        self.collect()
    }

    /// Feeds what waits for a conversation, up to what acknowledges bytes that the stack has not sent.
    fn release(&mut self, id: LiveId) -> Result<(), ReplayError> {
        let now = if self.is_over { Duration::MAX } else { self.kernel.now() };
        while let Some(fed) =
            self.live.get_mut(id).and_then(|live| live.next_to_feed(now, self.sums))
        {
            self.feed(fed, Some(id))?;
        }
        Ok(())
    }

    /// Lets programs act and feeds what may come now, until nothing happens any more.
    fn settle(&mut self) -> Result<(), ReplayError> {
        self.collect()?;
        while let Some(id) = self.work.pop() {
            let Some(live) = self.live.get(id) else { continue };
            if live.is_without_socket() {
                self.accept(live.ends().0);
            }
            if let Some(live) = self.live.get_mut(id) {
                let wakes = live.act(self.kernel, &mut self.room);
                self.wakes.extend(wakes.map(|at| (at, id)));
            }
            self.release(id)?;
            self.collect()?;
        }
        Ok(())
    }

    /// Gives the connections that a listener made to their programs.
    fn accept(&mut self, listener: Endpoint) {
        let Some(listening) = self.listeners.get(&listener) else { return };
        while let Some((socket, peer)) = self.kernel.accept(*listening) {
            let found = self.live.find(&Key((listener, (peer.ip(), peer.port()))));
            match found.and_then(|id| self.live.get_mut(id)) {
                Some(live) if live.is_without_socket() => live.accepted(self.kernel, socket),
                _ => self.kernel.abort(socket),
            }
        }
    }

    /// The capture is over.
    pub fn finish(mut self) -> Result<Outcome, ReplayError> {
        self.settle()?;
        if self.kernel.clock() == Clock::Real {
            self.run(self.kernel.now() + LATE)?;
        }
        let now = self.kernel.now();
        let mut stuck: Vec<String> = self.live.iter().filter_map(|live| live.stuck(now)).collect();
        stuck.sort();
        self.notes.extend(stuck);
        // What still was on its way to our side.
        self.is_over = true;
        self.work.extend(std::mem::take(&mut self.wakes).into_iter().map(|(_, id)| id));
        self.settle()?;
        self.compare_finished();
        self.recorded.take_all().into_iter().for_each(|flow| self.comparison.take(0, flow));
        self.replayed.take_all().into_iter().for_each(|flow| self.comparison.take(1, flow));
        Ok(Outcome {
            flows: self.recorded.flow_count(),
            verdict: self.comparison.finish(),
            left_out: self.plan.left_out.clone(),
            notes: self.notes,
            shortened: self.shortened,
        })
    }
}
