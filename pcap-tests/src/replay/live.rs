//! One conversation under way: what its program does, and how recorded numbers are those of the kernel.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::kernel::{Clock, Handle, Kernel};
use super::program::{App, Program};
use super::reading::{Pace, Reading};
use super::stamps::Stamps;
use super::wire::{Fed, Mapping, Message, Segment};
use crate::capture::Frame;
use crate::flows::FlowId;
use crate::namespace::KernelError;
use crate::packet::{ACK, Endpoint, FIN, Ip, RST, SYN, Sums, Tcp, controls};

/// Segments that may wait for the stack to send what they acknowledge.
const MAX_HELD: usize = 10_000;
/// Segments that are kept behind missing ones.
const MAX_AHEAD: usize = 4096;
/// Bytes missing from a capture at one place that are written all the same.
const MAX_MISSING: u32 = 1 << 20;

/// A recorded segment of the other side, kept until it can have been sent.
struct Held {
    /// When it arrives at our side.
    due: Duration,
    what: What,
    /// Behind its last number.
    end: u32,
    /// What it acknowledges in the record, where it does.
    ack: Option<u32>,
    /// Whether it brings nothing but an acknowledgment.
    is_pure: bool,
    /// Whether it ends the connection.
    is_reset: bool,
}

/// What is kept.
enum What {
    Segment(Segment),
    /// An ICMP error about a segment.
    Error(Message),
}

impl Held {
    fn is_error(&self) -> bool {
        matches!(self.what, What::Error(_))
    }
}

/// The program of a conversation.
#[derive(Clone, Copy, Debug)]
pub struct Kind<'a> {
    /// What it does.
    pub app: &'a App,
    /// When it reads, where that is read from the record.
    pub pace: Pace,
}

/// A segment that was captured: its IP identification, numbers, flags and length.
type Seen = (u32, u32, u32, u16, u32);

/// A conversation.
pub struct Live {
    is_caller: bool,
    socket: Option<Handle>,
    local: Endpoint,
    peer: Endpoint,
    /// The SYN that began it.
    first_seq: u32,
    /// Our initial sequence number in the record, and the stack's.
    recorded_isn: Option<u32>,
    isn: Option<u32>,
    /// What the stack has sent up to, as a distance from its initial number, and what it was given to send.
    sent: u32,
    given: u32,
    /// What the stack was sent up to and what it acknowledged, by the other side's numbers.
    fed: Option<u32>,
    acknowledged: Option<u32>,
    /// What the program has still to write, up to which recorded number it was taken, and after which it closes.
    to_write: VecDeque<u8>,
    taken: Option<u32>,
    fin: Option<u32>,
    /// Bytes behind others that were not captured yet, by their distance from the first.
    ahead: BTreeMap<u32, Vec<u8>>,
    resets: bool,
    /// The program, where it is none of the record.
    program: Option<Program>,
    /// When it read, by the windows of the record: the other side's first byte, and the shifts that either side offered.
    reading: Reading,
    peer_isn: Option<u32>,
    shifts: [Option<u8>; 2],
    /// Whether the program of the record has closed.
    has_closed: bool,
    /// Whether it is gone altogether, and reads no more.
    is_gone: bool,
    /// Whether a reset came or went.
    is_broken: bool,
    /// Whether something was fed since the program read that it may read.
    has_news: bool,
    held: VecDeque<Held>,
    /// The segment that acknowledged most, without its data, and what it acknowledges in the record; and what the stack was told of it.
    furthest: Option<(Segment, u32)>,
    told: u32,
    lost: u64,
    /// The last segment of either side: identification, numbers, flags, length.
    last: [Option<Seen>; 2],
    /// Up to which number the record has sent.
    recorded_to: Option<u32>,
    /// Segments that were sent again: in the record, and by the stack.
    again: [u64; 2],
    stamps: Stamps,
    /// Its flows as recorded and as replayed.
    pub flows: [Option<FlowId>; 2],
}

impl Live {
    fn new(
        is_caller: bool,
        local: Endpoint,
        peer: Endpoint,
        first_seq: u32,
        kind: Kind<'_>,
    ) -> Self {
        Self {
            is_caller,
            socket: None,
            local,
            peer,
            first_seq,
            recorded_isn: None,
            isn: None,
            sent: 0,
            given: 1,
            fed: None,
            acknowledged: None,
            to_write: VecDeque::new(),
            taken: None,
            fin: None,
            ahead: BTreeMap::new(),
            resets: false,
            program: Program::of(kind.app),
            reading: Reading::new(kind.pace),
            peer_isn: None,
            shifts: [None; 2],
            has_closed: false,
            is_gone: false,
            is_broken: false,
            has_news: false,
            held: VecDeque::new(),
            furthest: None,
            told: 0,
            lost: 0,
            last: [None; 2],
            recorded_to: None,
            again: [0; 2],
            stamps: Stamps::default(),
            flows: [None; 2],
        }
    }

    /// Our side sent this SYN.
    pub fn calling(tcp: &Tcp<'_>, kind: Kind<'_>) -> Self {
        Self::new(true, tcp.src, tcp.dst, tcp.seq, kind)
    }

    /// The other side sent this SYN.
    pub fn called(tcp: &Tcp<'_>, kind: Kind<'_>) -> Self {
        Self::new(false, tcp.dst, tcp.src, tcp.seq, kind)
    }

    pub fn is_caller(&self) -> bool {
        self.is_caller
    }

    /// Whether a SYN of ours opens another conversation.
    pub fn is_succeeded(&self, tcp: &Tcp<'_>) -> bool {
        !self.is_caller || self.first_seq != tcp.seq
    }

    /// Whether a SYN of the other side opens another conversation.
    pub fn is_succeeded_by(&self, tcp: &Tcp<'_>) -> bool {
        self.first_seq != tcp.seq
    }

    /// The program calls.
    pub fn connect(&mut self, kernel: &mut dyn Kernel) -> Result<(), KernelError> {
        let socket = kernel.connect(self.local.into(), self.peer.into())?;
        self.accepted(kernel, socket);
        Ok(())
    }

    /// Our endpoint and the other side's.
    pub fn ends(&self) -> (Endpoint, Endpoint) {
        (self.local, self.peer)
    }

    /// Whether a connection of a listener can be its own.
    pub fn is_without_socket(&self) -> bool {
        self.socket.is_none() && !self.resets && !self.has_closed
    }

    /// Takes its connection.
    pub fn accepted(&mut self, kernel: &mut dyn Kernel, socket: Handle) {
        if let Some(window) = self.reading.window().filter(|_| self.program.is_none()) {
            kernel.fix_window(socket, window);
        }
        self.socket = Some(socket);
        self.has_news = true;
    }

    /// Whether nothing is under way: all was acknowledged, both ways. Whatever timers still run, they show nothing soon.
    pub fn is_at_rest(&self) -> bool {
        let is_over = self.is_broken || self.socket.is_none() && self.isn.is_none();
        let is_heard = self.sent == self.told && self.sent == self.given;
        is_over || self.held.is_empty() && is_heard && self.fed == self.acknowledged
    }

    /// Takes in a recorded segment of our side: what its program did.
    pub fn recorded(&mut self, tcp: &Tcp<'_>, time: Duration) {
        if let Some((value, _)) = tcp.options.timestamps {
            self.stamps.recorded(value, time);
        }
        let len = tcp.payload_len.wrapping_add(controls(tcp.flags));
        if len > 0 && tcp.flags & RST == 0 {
            let end = tcp.seq.wrapping_add(len);
            let is_new = self.recorded_to.is_none_or(|to| (end.wrapping_sub(to) as i32) > 0);
            self.recorded_to = if is_new { Some(end) } else { self.recorded_to };
            self.again[0] += u64::from(!is_new);
        }
        if tcp.flags & SYN != 0 {
            self.recorded_isn = Some(tcp.seq);
            self.taken.get_or_insert(tcp.seq.wrapping_add(1));
            self.shifts[0] = tcp.options.window_scale;
        } else if let (true, Some(isn)) = (tcp.flags & ACK != 0, self.peer_isn) {
            let shift = self.shifts[0].filter(|_| self.shifts[1].is_some()).unwrap_or(0).min(14);
            let position = tcp.ack.wrapping_sub(isn).wrapping_sub(1);
            self.reading.offered(position, u32::from(tcp.window) << shift);
        }
        if tcp.flags & RST != 0 {
            // Behind its FIN it is the kernel's answer to what came when the program was gone, and takes nothing back.
            let is_gone = self.fin.is_some() || self.has_closed && self.sent != self.given;
            self.is_gone |= is_gone;
            self.resets = self.program.is_none() && !is_gone;
            return;
        }
        let Some(taken) = self.taken else { return };
        // New bytes were written; those that were sent again had been.
        let data = tcp.seq.wrapping_add(u32::from(tcp.flags & SYN != 0));
        let distance = data.wrapping_sub(taken) as i32;
        if distance > 0 && self.ahead.len() < MAX_AHEAD {
            self.ahead.insert(data.wrapping_sub(self.first_byte()), whole(tcp).into_owned());
        } else if distance <= 0 {
            self.take(&whole(tcp), distance.unsigned_abs());
        }
        // A capture may have the end before what stands before it.
        if tcp.flags & FIN != 0 {
            self.fin = Some(data.wrapping_add(tcp.payload_len));
        }
    }

    fn first_byte(&self) -> u32 {
        self.recorded_isn.unwrap_or(0).wrapping_add(1)
    }

    /// The program wrote these bytes, of which the first `known` were taken before.
    fn take(&mut self, bytes: &[u8], known: u32) {
        let Some(new) = bytes.get(known as usize..) else { return };
        if self.program.is_none() {
            self.to_write.extend(new);
        }
        self.taken = self.taken.map(|taken| taken.wrapping_add(new.len() as u32));
        let taken = self.taken.unwrap_or(0).wrapping_sub(self.first_byte());
        if let Some((at, bytes)) = self.ahead.first_key_value().map(|(at, b)| (*at, b.clone()))
            && at <= taken
        {
            self.ahead.remove(&at);
            self.take(&bytes, taken - at);
        }
    }

    /// The other side acknowledged up to a distance from our first byte: what of that the capture does not have was written all the
    /// same. What it was is not known, and is not compared.
    fn take_missing(&mut self, acknowledged: u32) {
        while let (Some(taken), Some((next, _))) = (self.taken, self.ahead.first_key_value()) {
            let missing = next.wrapping_sub(taken.wrapping_sub(self.first_byte()));
            if acknowledged < *next || missing > MAX_MISSING {
                return;
            }
            self.take(&vec![0; missing as usize], 0);
        }
    }

    /// Lets the program act: what it did in the record, or what it is made for. Gives when it wants its next turn, whatever comes.
    pub fn act(&mut self, kernel: &mut dyn Kernel, room: &mut [u8]) -> Option<Duration> {
        let socket = self.socket?;
        if let Some(program) = &mut self.program {
            let turn = program.act(kernel, socket, room);
            let given = turn.written as u32 + u32::from(turn.closed);
            self.given = self.given.wrapping_add(given);
            if turn.reset {
                kernel.abort(socket);
                self.socket = None;
            }
            return turn.wakes;
        }
        self.act_as_recorded(kernel, socket, room);
        None
    }

    fn act_as_recorded(&mut self, kernel: &mut dyn Kernel, socket: Handle, room: &mut [u8]) {
        if self.resets {
            kernel.abort(socket);
            self.socket = None;
            return;
        }
        // In real time the kernel may not have had the time to look at what was fed.
        if self.has_news || self.reading.window().is_some() || kernel.clock() == Clock::Real {
            self.reading.act(kernel, socket, room);
            self.has_news = false;
        }
        while !self.to_write.is_empty() {
            let taken = kernel.send(socket, self.to_write.as_slices().0);
            if taken == 0 {
                break;
            }
            self.to_write.drain(..taken);
            self.given = self.given.wrapping_add(taken as u32);
        }
        if self.fin.is_some() && self.fin == self.taken && self.to_write.is_empty() {
            self.fin = None;
            self.given = self.given.wrapping_add(1);
            self.has_closed = true;
            // It writes no more, and stays for a while.
            self.to_write = VecDeque::new();
            kernel.shutdown(socket);
        }
        if self.has_closed && (self.reading.is_at_end || self.is_gone) {
            kernel.close(socket);
            self.socket = None;
        }
    }

    /// It is over in the record, or another takes its place: its program ends, too.
    pub fn end(self, kernel: &mut dyn Kernel) {
        if let Some(socket) = self.socket {
            kernel.abort(socket);
        }
    }

    /// Takes in a segment that the stack sent.
    pub fn sent(&mut self, tcp: &Tcp<'_>, at: Duration) {
        if tcp.flags & SYN != 0 {
            self.isn = Some(tcp.seq);
        }
        if let Some((value, _)) = tcp.options.timestamps {
            self.stamps.sent(value, at);
        }
        self.is_broken |= tcp.flags & RST != 0;
        if tcp.flags & ACK != 0 {
            self.acknowledged = Some(tcp.ack);
        }
        let Some(isn) = self.isn.filter(|_| tcp.flags & RST == 0) else { return };
        let end = tcp.seq.wrapping_sub(isn).wrapping_add(tcp.payload_len);
        let end = end.wrapping_add(controls(tcp.flags));
        if (end.wrapping_sub(self.sent) as i32) > 0 {
            self.sent = end;
        } else if tcp.payload_len + controls(tcp.flags) > 0 {
            self.again[1] += 1;
        }
    }

    /// Whether this is the last segment of a side (0: ours) once more, down to its IP identification (0 tells nothing).
    pub fn is_captured_twice(&mut self, side: usize, id: u32, tcp: &Tcp<'_>) -> bool {
        let this = Some((id, tcp.seq, tcp.ack, tcp.flags, tcp.payload_len));
        id != 0 && std::mem::replace(&mut self.last[side], this) == this
    }

    /// How many segments the record has sent again.
    pub fn recorded_again(&self) -> u64 {
        self.again[0]
    }

    /// Whether the record has sent something again that the stack has not.
    pub fn is_behind(&self) -> bool {
        self.again[1] < self.again[0]
    }

    /// Keeps a recorded segment of the other side, in memory with room for so many bytes.
    pub fn queue(
        &mut self,
        (frame, ip, tcp): (&Frame<'_>, &Ip, &Tcp<'_>),
        due: Duration,
        memory: impl FnOnce(usize) -> Vec<u8>,
    ) {
        if let (true, Some(_)) = (tcp.flags & ACK != 0, self.recorded_isn) {
            self.take_missing(tcp.ack.wrapping_sub(self.first_byte()));
        }
        if tcp.flags & SYN != 0 {
            self.peer_isn = Some(tcp.seq);
            self.shifts[1] = tcp.options.window_scale;
        }
        let segment = Segment::of((frame, ip, tcp), memory);
        let Some(segment) = segment.filter(|_| self.held.len() < MAX_HELD) else {
            self.lost += 1;
            return;
        };
        self.held.push_back(Held {
            due,
            what: What::Segment(segment),
            end: tcp.seq.wrapping_add(tcp.payload_len).wrapping_add(controls(tcp.flags)),
            ack: (tcp.flags & ACK != 0).then_some(tcp.ack),
            is_pure: tcp.payload_len == 0 && tcp.flags & (SYN | FIN | RST) == 0,
            is_reset: tcp.flags & RST != 0,
        });
    }

    /// Keeps what could be made of a frame, where there is room.
    fn hold(&mut self, held: Option<Held>) {
        match held.filter(|_| self.held.len() < MAX_HELD) {
            Some(held) => self.held.push_back(held),
            None => self.lost += 1,
        }
    }

    /// Keeps an ICMP error about the segment that began with `seq`, until the kernel has sent that.
    pub fn queue_error(&mut self, frame: &Frame<'_>, ip: &Ip, seq: u32, due: Duration) {
        let held = Message::of(frame, ip).map(|message| Held {
            due,
            what: What::Error(message),
            end: self.fed.unwrap_or(0),
            ack: Some(seq.wrapping_add(1)),
            is_pure: false,
            is_reset: false,
        });
        self.hold(held);
    }

    /// The next segment to feed that has arrived, mapped. The stack may have sent less than was recorded: then it is told that all of that came, and
    /// again when it has sent more; what carries data waits, because it may be the answer.
    pub fn next_to_feed(&mut self, now: Duration, sums: Sums) -> Option<Fed> {
        while let Some(held) = self.held.front().filter(|held| held.due <= now) {
            let distance = self.acknowledged(held.ack);
            if distance.is_some_and(|distance| self.is_unsent(distance)) {
                let waits = !held.is_pure && self.program.is_none();
                self.keep_furthest();
                // The answer of another program is not waited for.
                if waits {
                    break;
                }
            }
            let held = self.held.pop_front()?;
            let (is_error, ack) = (held.is_error(), held.ack);
            self.has_news |= !held.is_pure;
            let Some(bytes) = self.mapped(held.what, ack, sums) else {
                self.lost += 1;
                continue;
            };
            if !is_error {
                self.told = self.told.max(distance.unwrap_or(0).min(self.sent));
                self.is_broken |= held.is_reset;
                if self.fed.is_none_or(|fed| (held.end.wrapping_sub(fed) as i32) > 0) {
                    self.fed = Some(held.end);
                }
            }
            return Some(bytes);
        }
        let (segment, ack) = self.furthest.as_ref()?;
        let (ack, most) = (Some(*ack), self.acknowledged(Some(*ack))?);
        let distance = most.min(self.sent);
        if distance <= self.told {
            return None;
        }
        self.told = distance;
        let bytes = self.mapped(What::Segment(segment.clone()), ack, sums);
        if most <= self.sent {
            self.furthest = None;
        }
        bytes
    }

    /// How much of our side's stream a recorded segment acknowledges, where the record has sent that.
    fn acknowledged(&self, ack: Option<u32>) -> Option<u32> {
        Some(ack?.wrapping_sub(self.recorded_isn?)).filter(|_| self.isn.is_some())
    }

    fn is_unsent(&self, distance: u32) -> bool {
        let taken = match (self.taken, self.recorded_isn) {
            // The end of the stream has a number, too.
            (Some(taken), Some(isn)) => taken.wrapping_sub(isn).wrapping_add(1),
            _ => return false,
        };
        // Acknowledging what was never sent in the record either is the other side's fault, and is fed.
        (distance.wrapping_sub(self.sent) as i32) > 0 && (distance.wrapping_sub(taken) as i32) <= 0
    }

    /// Remembers the first segment that waits, where none acknowledges more.
    fn keep_furthest(&mut self) {
        let Some(Held { what: What::Segment(segment), ack: Some(ack), .. }) = self.held.front()
        else {
            return;
        };
        let of = |ack| self.acknowledged(Some(ack)).unwrap_or(0);
        if self.furthest.as_ref().is_none_or(|(_, furthest)| of(*ack) > of(*furthest)) {
            self.furthest = Some((segment.clone().bare(), *ack));
        }
    }

    /// The frame to feed for what acknowledges `ack` in the record.
    fn mapped(&self, what: What, ack: Option<u32>, sums: Sums) -> Option<Fed> {
        let shift = match (self.isn, self.recorded_isn) {
            (Some(isn), Some(recorded)) => isn.wrapping_sub(recorded),
            _ => 0,
        };
        let segment = match what {
            What::Segment(segment) => segment,
            What::Error(message) => return message.mapped(Some(shift)).map(Fed::from),
        };
        let unsent = self.acknowledged(ack).is_some_and(|distance| self.is_unsent(distance));
        let limit = self.isn.filter(|_| unsent).map(|isn| isn.wrapping_add(self.sent));
        let echo = segment.echo().map(|echo| self.stamps.echo(echo));
        segment.mapped(Mapping { shift, limit, echo, sums })
    }

    /// What the comparison does not say: segments that had arrived and could not be fed.
    pub fn stuck(&self, now: Duration) -> Option<String> {
        let ((host, port), (peer, service)) = self.ends();
        let name = || format!("{host} port {port} and {peer} port {service}");
        let first = self.held.front().filter(|held| held.due <= now);
        match (first.and_then(|held| held.ack), self.recorded_isn, self.lost) {
            (Some(ack), Some(isn), _) => Some(format!(
                "between {} {} segments were not fed: the first acknowledges {} bytes, and the stack has sent {}",
                name(),
                self.held.len(),
                ack.wrapping_sub(isn),
                self.sent
            )),
            (_, _, lost) if lost > 0 => {
                Some(format!("between {} {lost} segments could not be fed", name()))
            }
            _ => None,
        }
    }
}

/// The payload; what the snapshot length cut was written, too, as zeros.
fn whole<'a>(tcp: &Tcp<'a>) -> Cow<'a, [u8]> {
    let len = tcp.payload_len as usize;
    if tcp.payload.len() == len {
        return Cow::Borrowed(tcp.payload);
    }
    let mut bytes = tcp.payload.to_vec();
    bytes.resize(len, 0);
    Cow::Owned(bytes)
}
