//! A transfer in one direction that scenarios of sending share, and the eye on its segments.

use std::sync::Arc;

use netstack::link::fault::Faults;
use netstack::sim::{HostId, SegmentId, Sim, Verdict};
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{RecvFlags, SendFlags, TcpOption};
use netstack::time::{Duration, Instant};
use netstack::transport::Host;
use netstack::transport::tcp::{Info, TcpConfig};
use netstack::wire::tcp::{Flags, Header};
use parking_lot::Mutex;

pub const MS: Duration = Duration::from_millis(1);
/// Payload of a full segment: an MTU of 1500 with timestamps.
pub const MSS: usize = 1448;

/// A connection from the first host of a pair to the second, and what its program has sent and read.
pub struct Bulk {
    pub sender: TcpSocket,
    pub receiver: TcpSocket,
    queued: usize,
    total: usize,
    pub received: usize,
    pub reads: bool,
    room: Vec<u8>,
}

/// Changes what the connections of a host begin with.
pub fn configure(sim: &Sim, host: HostId, change: impl FnOnce(&mut TcpConfig)) {
    let shared = &sim.stack(host).shared().tcp;
    let mut config = (*shared.config()).clone();
    change(&mut config);
    shared.set_config(config);
}

impl Bulk {
    /// Connects to `port`, with a congestion control by name.
    pub fn open(sim: &mut Sim, [a, b]: [HostId; 2], port: u16, congestion: &'static str) -> Bulk {
        let listener = sim.stack(b).tcp_socket(netstack::ip::Family::V4);
        listener.bind(([0, 0, 0, 0], port).into()).unwrap();
        listener.listen(1).unwrap();
        let sender = sim.stack(a).tcp_socket(netstack::ip::Family::V4);
        sender.set_option(sim.now(), TcpOption::Congestion(congestion)).unwrap();
        sender.connect(sim.now(), ([10, 0, 0, 2], port).into()).unwrap();
        let limit = sim.now() + 100 * Duration::from_secs(1);
        let mut accepted = None;
        sim.run_until(limit, |sim| {
            accepted = accepted.take().or_else(|| listener.accept(sim.now()).ok());
            accepted.is_some()
        });
        listener.close(sim.now());
        let receiver = accepted.expect("a connection");
        Bulk {
            sender,
            receiver,
            queued: 0,
            total: 0,
            received: 0,
            reads: true,
            room: vec![0; 64 << 10],
        }
    }

    /// The program shall send so many more bytes.
    pub fn queue(&mut self, bytes: usize) {
        self.queued += bytes;
        self.total = self.total.saturating_add(bytes);
    }

    /// Both programs get their turn.
    pub fn pump(&mut self, now: Instant) {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        while self.queued > 0 {
            let mut bytes = &ZEROS[..self.queued.min(ZEROS.len())];
            match self.sender.send(now, &mut bytes, SendFlags::empty()) {
                Ok(n) => self.queued -= n,
                Err(_) => break,
            }
        }
        while self.reads {
            match self.receiver.recv(now, &mut &mut self.room[..], RecvFlags::empty()) {
                Ok(n) if n > 0 => self.received += n,
                _ => break,
            }
        }
    }

    /// Runs until all is received that was queued; false when `limit` came first.
    pub fn finish(&mut self, sim: &mut Sim, limit: Duration) -> bool {
        let until = sim.now() + limit;
        sim.run_until(until, |sim| {
            self.pump(sim.now());
            self.received >= self.total
        })
    }

    /// Runs for a time.
    pub fn run(&mut self, sim: &mut Sim, time: Duration) {
        let until = sim.now() + time;
        sim.run_until(until, |sim| {
            self.pump(sim.now());
            false
        });
    }

    /// TCP_INFO of the sender.
    pub fn info(&self) -> Info {
        self.sender.info().expect("a connection")
    }

    /// The sender's congestion window in segments.
    pub fn window(&self) -> usize {
        self.info().window / MSS
    }
}

/// A counter of `TcpExt` of a host.
pub fn tcp_ext(sim: &Sim, host: HostId, name: &str) -> u64 {
    sim.stack(host).stats().value("TcpExt", name)
}

/// A data segment in an IPv4 frame: its sequence number relative to the first one seen, and its payload.
pub struct Data {
    pub offset: usize,
    pub len: usize,
}

/// The TCP header of an IPv4 frame, with the length of its payload; None for anything else.
pub fn header_of(frame: &[u8]) -> Option<(Header, usize)> {
    let packet = frame.get(14..)?;
    if packet.first()? >> 4 != 4 || *packet.get(9)? != 6 {
        return None;
    }
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let tcp = packet.get(usize::from(packet[0] & 15) * 4..total)?;
    let parsed = Header::parse(tcp).ok()?;
    Some((parsed.header, tcp.len() - parsed.header_len))
}

/// Offsets of data segments from the initial sequence number of the connection that they belong to.
#[derive(Default)]
pub struct Offsets {
    first: Option<u32>,
}

impl Offsets {
    /// The data segment in a frame; the SYN must have been seen.
    pub fn data(&mut self, frame: &[u8]) -> Option<Data> {
        let (header, len) = header_of(frame)?;
        if header.flags.contains(Flags::SYN) {
            self.first = Some(header.seq.wrapping_add(1));
        }
        let offset = header.seq.wrapping_sub(self.first?) as usize;
        (len > 0).then_some(Data { offset, len })
    }
}

/// Drops segments from the first host that hold a byte of `lost` (offsets into the stream), each as often as it says.
/// What was dropped is kept.
pub fn drop_bytes(sim: &mut Sim, lost: &[(usize, usize)]) -> Arc<Mutex<Vec<Vec<u8>>>> {
    let dropped = Arc::new(Mutex::new(Vec::new()));
    let (kept, mut lost) = (dropped.clone(), lost.to_vec());
    let mut offsets = Offsets::default();
    sim.set_filter(move |_, port, frame| {
        if port != 0 {
            return Verdict::Pass;
        }
        let Some(data) = offsets.data(frame) else { return Verdict::Pass };
        let holds = |at: usize| data.offset <= at && at < data.offset + data.len;
        match lost.iter_mut().find(|(at, times)| *times > 0 && holds(*at)) {
            Some((_, times)) => {
                *times -= 1;
                kept.lock().push(frame.to_vec());
                Verdict::Drop
            }
            None => Verdict::Pass,
        }
    });
    dropped
}

/// When the first host sent data, at which offset, and how much.
pub fn sent_data(sim: &Sim, segment: SegmentId) -> Vec<(Instant, Data)> {
    let mut offsets = Offsets::default();
    let frames = sim.capture().sent_by(segment, 0);
    frames.filter_map(|frame| Some((frame.at, offsets.data(&frame.bytes)?))).collect()
}

/// Two hosts on a link of a round-trip time and a rate in Mbit/s, whose queue holds `queue`.
pub fn path(rtt: Duration, mbit: u64, queue: Duration) -> Faults {
    Faults { delay: rtt / 2, rate: Some(mbit * 1_000_000), queue, ..Faults::default() }
}

/// What was sent, a line each, for the message of a failure.
pub fn trace(sim: &Sim) -> String {
    let line = |frame: &netstack::sim::Captured| {
        let (header, len) = header_of(&frame.bytes)?;
        let (at, port, fates) = (frame.at, frame.port, &frame.fates);
        let (seq, ack) = (header.seq, header.ack);
        let sack: Vec<_> = header.options.sack.iter().collect();
        Some(format!("{at} {port} {:?} {seq}+{len} {ack} {sack:?} {fates:?}\n", header.flags))
    };
    sim.capture().frames().iter().filter_map(line).collect()
}
