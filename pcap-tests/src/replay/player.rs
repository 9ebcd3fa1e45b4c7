//! The player: feeds the kernel what was recorded of the other side, and lets programs do what was recorded of theirs.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::kernel::{Clock, Handle, Kernel, Pause};
use super::live::Live;
use super::plan::Plan;
use super::{Outcome, ReplayError, Settings, Sink};
use crate::capture::{Frame, LinkType};
use crate::compare::Comparison;
use crate::flows::Summary;
use crate::packet::{ACK, Body, Endpoint, Fault, Packet, SYN, Tcp};

/// Our endpoint and the other side's.
pub type Ends = (Endpoint, Endpoint);

/// The kernel, the conversations under way and what came of them.
pub struct Player<'a> {
    settings: &'a Settings,
    plan: &'a Plan,
    kernel: &'a mut dyn Kernel,
    sink: Sink<'a>,
    listeners: HashMap<Endpoint, Handle>,
    neighbours: BTreeSet<IpAddr>,
    live: HashMap<Ends, Live>,
    /// Conversations in which something happened.
    work: Vec<Ends>,
    /// Time of the first frame: the origin of the kernel's time.
    origin: Option<Duration>,
    sent: u64,
    recorded: Summary,
    replayed: Summary,
    comparison: Comparison<'a>,
    notes: Vec<String>,
    shortened: [(u64, Duration); 2],
    /// Where programs read to.
    room: Vec<u8>,
}

/// No more time than this passes between two frames.
const MAX_GAP: Duration = Duration::from_secs(3 * 3600);
/// What is at rest shows nothing new after this.
const REST: Duration = Duration::from_secs(1);
/// A timer of the record fires no sooner than one of the kernel that is due so soon: whoever captures is late.
const TICK: Duration = Duration::from_millis(1);
/// How late a kernel in real time may be with its last frames.
const LATE: Duration = Duration::from_millis(20);
const READ: usize = 64 << 10;
/// Frames between two looks for conversations that are over.
const STRIDE: u64 = 4096;
/// Conversations of which is told that something could not be fed.
const MAX_NOTES: usize = 1000;

impl<'a> Player<'a> {
    /// Makes a kernel ready: what the side offered, and its addresses.
    pub fn new(
        settings: &'a Settings,
        plan: &'a Plan,
        kernel: &'a mut dyn Kernel,
        sink: Sink<'a>,
    ) -> Result<Self, ReplayError> {
        if let Some(options) = plan.options() {
            let offers = [
                ("net/ipv4/tcp_timestamps", options.timestamps.is_some()),
                ("net/ipv4/tcp_sack", options.sack_permitted),
                ("net/ipv4/tcp_window_scaling", options.window_scale.is_some()),
            ];
            for (path, is_offered) in offers {
                kernel.sysctl(path, if is_offered { "1" } else { "0" })?;
            }
        }
        if let Some(shift) = plan.window_scale() {
            kernel.limit_window((1 << (16 + u32::from(shift.min(14)))) - 1)?;
        }
        let mut player = Self {
            settings,
            plan,
            kernel,
            sink,
            listeners: HashMap::new(),
            neighbours: BTreeSet::new(),
            live: HashMap::new(),
            work: Vec::new(),
            origin: None,
            sent: 0,
            recorded: Summary::passing(settings.terms.detail()),
            replayed: Summary::passing(settings.terms.detail()),
            comparison: Comparison::new(&settings.terms),
            notes: Vec::new(),
            shortened: [(0, Duration::ZERO); 2],
            room: vec![0; READ],
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
            Err(why) => self.notes.push(format!("cannot listen on {endpoint:?}: {why}")),
        }
    }

    /// The next frame of the capture.
    pub fn frame(&mut self, frame: &Frame<'_>) -> Result<(), ReplayError> {
        let origin = *self.origin.get_or_insert(frame.time);
        // A clock that lies by centuries would fire every timer of centuries.
        let at = frame.time.saturating_sub(origin);
        self.advance(at.min(self.kernel.now() + MAX_GAP))?;
        let packet = Packet::of(frame);
        let Ok(Packet { body: Body::Tcp(tcp), tunnels: 0, .. }) = packet else { return Ok(()) };
        let plays = |end| self.settings.roles.iter().any(|role| role.plays(end));
        let ends = (tcp.src, tcp.dst);
        let is_again = match (plays(tcp.src), plays(tcp.dst)) {
            (true, false) => {
                let before = self.live.get(&ends).map_or(0, Live::recorded_again);
                self.ours(frame, &tcp);
                self.live.get(&ends).is_some_and(|live| live.recorded_again() > before)
            }
            (false, true) => {
                self.theirs(frame, &tcp);
                false
            }
            _ => return Ok(()),
        };
        if !self.work.is_empty() {
            self.recorded.add_read(frame, &packet);
        }
        self.settle()?;
        if is_again {
            self.catch_up(ends)?;
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

    fn forget(&mut self, ends: Ends) {
        if let Some(mut live) = self.live.remove(&ends) {
            if self.notes.len() < MAX_NOTES {
                self.notes.extend(live.stuck(ends.0, ends.1));
            }
            live.end(self.kernel);
        }
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
                if is_busy == 1 || self.live.values().all(Live::is_at_rest) {
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
        while self.kernel.run(to)? == Pause::Sent {
            self.settle()?;
        }
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
            if let Err(why) = live.connect(self.kernel) {
                self.notes.push(format!("frame {}: cannot connect: {why}", frame.number));
            }
            self.live.insert(ends, live);
        }
        if let Some(live) = self.live.get_mut(&ends) {
            live.recorded(tcp, frame.time);
            self.work.push(ends);
        }
    }

    /// What was sent again in the record is sent again by the kernel before anything of the other side answers it, where it is due.
    fn catch_up(&mut self, ends: Ends) -> Result<(), ReplayError> {
        let late = if self.kernel.clock() == Clock::Real { LATE } else { TICK };
        let limit = self.kernel.now() + late;
        while self.live.get(&ends).is_some_and(Live::is_behind) {
            match self.kernel.run(limit)? {
                Pause::Sent => self.settle()?,
                Pause::Limit => break,
            }
        }
        Ok(())
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
        live.queue(frame, tcp);
        self.work.push(ends);
    }

    /// A neighbour that answers nothing: everything leaves by its link-layer address.
    fn know(&mut self, peer: IpAddr) {
        if self.neighbours.insert(peer)
            && let Err(error) = self.kernel.add_peer(peer)
        {
            self.notes.push(format!("{peer}: {error}"));
        }
    }

    /// Feeds what waits for a conversation, up to what acknowledges bytes that the stack has not sent.
    fn release(&mut self, ends: Ends) -> Result<(), ReplayError> {
        while let Some(bytes) = self.live.get_mut(&ends).and_then(Live::next_to_feed) {
            let packet = crate::packet::dissect(LinkType::Ethernet, &bytes, bytes.len());
            self.show((self.kernel.now(), false), &bytes, &packet)?;
            self.kernel.arrive(bytes)?;
            self.collect()?;
        }
        Ok(())
    }

    /// Lets programs act and feeds what may come now, until nothing happens any more.
    fn settle(&mut self) -> Result<(), ReplayError> {
        self.collect()?;
        while let Some(ends) = self.work.pop() {
            self.accept(ends.0);
            if let Some(live) = self.live.get_mut(&ends) {
                live.act(self.kernel, &mut self.room);
            }
            self.release(ends)?;
            self.collect()?;
        }
        Ok(())
    }

    /// Gives the connections that a listener made to their programs.
    fn accept(&mut self, listener: Endpoint) {
        let Some(listening) = self.listeners.get(&listener) else { return };
        while let Some((socket, peer)) = self.kernel.accept(*listening) {
            match self.live.get_mut(&(listener, (peer.ip(), peer.port()))) {
                Some(live) if live.is_without_socket() => live.accepted(socket),
                _ => self.kernel.abort(socket),
            }
        }
    }

    fn collect(&mut self) -> Result<(), ReplayError> {
        for (at, bytes) in self.kernel.sent()? {
            let packet = crate::packet::dissect(LinkType::Ethernet, &bytes, bytes.len());
            let Ok(Packet { body: Body::Tcp(tcp), .. }) = &packet else { continue };
            if let Some(live) = self.live.get_mut(&(tcp.src, tcp.dst)) {
                live.sent(tcp, at);
                self.work.push((tcp.src, tcp.dst));
                self.show((at, true), &bytes, &packet)?;
            }
        }
        Ok(())
    }

    fn show(
        &mut self,
        (at, is_ours): (Duration, bool),
        bytes: &[u8],
        packet: &Result<Packet<'_>, Fault>,
    ) -> Result<(), ReplayError> {
        self.sent += 1;
        let time = at + self.origin.unwrap_or_default();
        let frame = Frame {
            number: self.sent,
            time,
            interface: 0,
            link: LinkType::Ethernet,
            wire_len: bytes.len() as u32,
            bytes,
        };
        self.replayed.add_read(&frame, packet);
        Ok((self.sink)(time, is_ours, bytes)?)
    }

    /// The capture is over.
    pub fn finish(mut self) -> Result<Outcome, ReplayError> {
        self.settle()?;
        if self.kernel.clock() == Clock::Real {
            self.run(self.kernel.now() + LATE)?;
        }
        let mut stuck: Vec<String> = self
            .live
            .iter()
            .filter_map(|((ours, theirs), live)| live.stuck(*ours, *theirs))
            .collect();
        stuck.sort();
        self.notes.extend(stuck);
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
