//! A stack under attack, a bystander that talks to it over a link of a millisecond, and an attacker who puts frames on
//! the wire as it likes.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use netstack::buffer::PacketBuffer;
use netstack::ip::{Family, IpCidr};
use netstack::link::{Link, LinkError, MacAddr, NicId, NicKind};
use netstack::memory::Limits;
use netstack::rng::{Rng, seed_from};
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{RecvFlags, SendFlags};
use netstack::stack::{Config, NicConfig, Stack};
use netstack::time::{Duration, Instant};
use netstack::transport::Host;
use netstack::transport::tcp::{Segment, Seq};
use netstack::wire::tcp::Flags;
use parking_lot::Mutex;

use crate::scenarios::segments::{self, control};

/// What TCP sockets of the stack under attack may hold together.
pub const TCP_LIMIT: usize = 24 << 20;
/// And datagram sockets.
pub const UDP_LIMIT: usize = 8 << 20;
/// What everything else of a stack may take under attack: neighbours, fragments, requests, TIME-WAIT, endpoints.
pub const REST: usize = 24 << 20;

const VICTIM: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const BYSTANDER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
pub const ATTACKER: MacAddr = MacAddr([2, 0, 0, 0, 0, 6]);
/// A step of time, and what the bystander sends in each: 160 Mbit/s.
const TICK: Duration = Duration::from_micros(500);
const PER_TICK: usize = 10_000;
const DELAY: Duration = Duration::from_millis(1);

type Wire = Arc<Mutex<VecDeque<(Instant, PacketBuffer)>>>;

struct Cable(Wire);

impl Link for Cable {
    fn transmit(&self, now: Instant, frame: &PacketBuffer) -> Result<(), LinkError> {
        let mut wire = self.0.lock();
        // A device's queue is bounded as well.
        if wire.len() >= 10_000 {
            return Err(LinkError::Full);
        }
        wire.push_back((now + DELAY, PacketBuffer::from_vec(frame.to_vec_complete())));
        Ok(())
    }
}

/// The stage.
pub struct Bed {
    pub now: Instant,
    pub rng: Rng,
    /// Under attack: 10.0.0.1/8 and fd00::1/64.
    pub victim: Arc<Stack>,
    pub nic: NicId,
    bystander: Arc<Stack>,
    bystander_nic: NicId,
    from_victim: Wire,
    from_bystander: Wire,
    /// The last frames to the attacker.
    pub heard: VecDeque<Vec<u8>>,
    ends: Option<(TcpSocket, TcpSocket)>,
    received: usize,
}

fn stack(seed: u64, mac: MacAddr, last: u8, wire: &Wire) -> (Arc<Stack>, NicId) {
    let mut config = Config::new(seed_from(seed));
    config.tcp_memory = Limits::up_to(TCP_LIMIT);
    config.udp_memory = Limits::up_to(UDP_LIMIT);
    let stack = Stack::new(config);
    let link = Arc::new(Cable(wire.clone()));
    let nic = NicConfig { name: "eth0".into(), kind: NicKind::Ethernet, mac, mtu: 1500, link };
    let nic = stack.add_nic(nic).unwrap();
    let v4 = IpCidr::new(Ipv4Addr::new(10, 0, 0, last).into(), 8);
    stack.add_address(nic, v4).unwrap();
    stack.add_address(nic, IpCidr::new(format!("fd00::{last}").parse().unwrap(), 64)).unwrap();
    (stack, nic)
}

impl Bed {
    pub fn new(seed: u64) -> Bed {
        let (from_victim, from_bystander) = (Wire::default(), Wire::default());
        let (victim, nic) = stack(seed, VICTIM, 1, &from_victim);
        let (bystander, bystander_nic) = stack(seed + 1, BYSTANDER, 2, &from_bystander);
        let mut bed = Bed {
            now: Instant::from_secs(10),
            rng: Rng::new(&seed_from(seed), 77),
            victim,
            nic,
            bystander,
            bystander_nic,
            from_victim,
            from_bystander,
            heard: VecDeque::new(),
            ends: None,
            received: 0,
        };
        bed.connect_bystander();
        bed
    }

    fn connect_bystander(&mut self) {
        // Let the addresses become usable.
        for _ in 0..6000 {
            self.step();
        }
        let listener = self.listen(7000, 4);
        let client = self.bystander.tcp_socket(Family::V4);
        client.connect(self.now, "10.0.0.1:7000".parse().unwrap()).unwrap();
        for _ in 0..40 {
            self.step();
        }
        let server = listener.accept(self.now).expect("the bystander connects");
        listener.close(self.now);
        self.ends = Some((client, server));
        for _ in 0..400 {
            self.tick();
        }
    }

    /// A listening socket of the victim.
    pub fn listen(&self, port: u16, backlog: usize) -> TcpSocket {
        let listener = self.victim.tcp_socket(Family::V4);
        listener.bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).unwrap();
        listener.listen(backlog).unwrap();
        listener
    }

    /// Gives the victim a frame at once.
    pub fn put(&mut self, frame: Vec<u8>) {
        self.victim.handle_frame(self.now, self.nic, PacketBuffer::from_vec(frame));
    }

    /// Lets half a millisecond pass, in which the bystander sends and the victim's program reads.
    pub fn tick(&mut self) {
        if let Some((client, server)) = self.ends.clone() {
            // What finds no room now is late, which the rate shows.
            let _ = client.send(self.now, &mut &[0; PER_TICK][..], SendFlags::empty());
            let mut room = [0; 65_536];
            while let Ok(n) = server.recv(self.now, &mut &mut room[..], RecvFlags::empty()) {
                assert!(n > 0, "the bystander's connection ended");
                self.received += n;
            }
        }
        self.step();
    }

    fn step(&mut self) {
        self.now += TICK;
        loop {
            let due = |wire: &Wire, now: Instant| {
                let mut wire = wire.lock();
                let due = wire.front().is_some_and(|(at, _)| *at <= now);
                if due { wire.pop_front().map(|(_, frame)| frame) } else { None }
            };
            if let Some(frame) = due(&self.from_victim, self.now) {
                self.arrive(frame);
            } else if let Some(frame) = due(&self.from_bystander, self.now) {
                self.victim.handle_frame(self.now, self.nic, frame);
            } else {
                break;
            }
        }
        for stack in [&self.victim, &self.bystander] {
            if stack.next_deadline().is_some_and(|at| at <= self.now) {
                stack.poll(self.now);
            }
        }
    }

    fn arrive(&mut self, frame: PacketBuffer) {
        let bytes = frame.to_vec();
        let to = MacAddr(bytes[..6].try_into().unwrap());
        if to == ATTACKER || to.0[0] & 1 == 1 {
            if self.heard.len() >= 256 {
                self.heard.pop_front();
            }
            self.heard.push_back(bytes);
        }
        if to == BYSTANDER || to.0[0] & 1 == 1 {
            self.bystander.handle_frame(self.now, self.bystander_nic, frame);
        }
    }

    /// Makes an address of the attacker known to the victim.
    pub fn introduce(&mut self, ip: Ipv4Addr) {
        let mut arp = [&VICTIM.0[..], &ATTACKER.0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
        arp.extend_from_slice(&ATTACKER.0);
        arp.extend_from_slice(&ip.octets());
        arp.extend_from_slice(&[0; 6]);
        arp.extend_from_slice(&[10, 0, 0, 1]);
        self.put(arp);
    }

    /// Sends a segment to a port of the victim.
    pub fn segment(&mut self, from: SocketAddr, port: u16, segment: &Segment) {
        let to = SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), port));
        let frame = segments::frame((ATTACKER, VICTIM), from, to, segment);
        self.put(frame);
    }

    /// Opens a connection to a listener: our next sequence number and the victim's.
    pub fn open(&mut self, from: SocketAddr, port: u16, window: u16) -> (Seq, Seq) {
        self.heard.clear();
        let mut syn = control(Seq(self.rng.next_u32()), Seq(0), Flags::SYN);
        syn.options.mss = Some(1460);
        syn.options.sack_permitted = true;
        syn.window = window;
        self.segment(from, port, &syn);
        for _ in 0..4 {
            self.tick();
        }
        let mut answers = self.heard.iter().filter_map(|frame| segments::read(frame));
        let syn_ack = answers.rfind(|seen| seen.to == from && seen.segment.syn());
        let theirs = syn_ack.expect("a SYN-ACK").segment.seq + 1;
        let mut ack = control(syn.seq + 1, theirs, Flags::ACK);
        ack.window = window;
        self.segment(from, port, &ack);
        (syn.seq + 1, theirs)
    }

    /// Runs an attack, asked before each tick, and asserts what must hold.
    pub fn survive(&mut self, ticks: usize, mut attack: impl FnMut(&mut Bed, usize)) {
        // The same time without an attack is the measure.
        let before = self.received;
        for _ in 0..200 {
            self.tick();
        }
        let calm = self.received - before;
        let memory = self.victim.shared();
        let (tcp, udp) = (memory.memory.tcp.clone(), memory.memory.udp.clone());
        let before = self.received;
        let info = allocation_counter::measure(|| {
            for tick in 0..ticks {
                attack(self, tick);
                self.tick();
                assert!(tcp.used() <= TCP_LIMIT + TCP_LIMIT / 8, "TCP holds {}", tcp.used());
                assert!(udp.used() <= UDP_LIMIT + UDP_LIMIT / 8, "UDP holds {}", udp.used());
            }
        });
        let ceiling = (TCP_LIMIT + UDP_LIMIT + REST) as u64;
        println!(
            "at most {} bytes of memory, TCP {}, UDP {}",
            info.bytes_max,
            tcp.used(),
            udp.used()
        );
        assert!(info.bytes_max <= ceiling, "{} bytes of memory", info.bytes_max);
        let rate = (self.received - before) * 200 / ticks;
        assert!(rate * 100 >= calm * 95, "the bystander got {rate} bytes where it was {calm}");
    }
}
