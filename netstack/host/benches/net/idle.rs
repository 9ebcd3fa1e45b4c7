//! Many idle connections: what one of them holds, and what they cost the others.
//! Each figure comes from a process of its own, whose memory holds nothing else.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;

use netstack::ip::Family;
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{RecvFlags, SendFlags};
use netstack::stack::Stack;

use crate::inside::{Clock, alone, pair};
use crate::measure::{Runs, Samples, cpu};

/// Connections from one address of ours: fewer than half of the ephemeral ports, because a bind takes those of one parity first and
/// looks at all of them before it takes the others.
const AN_ADDRESS: usize = 12_000;
const ECHOES: usize = 20_000;
/// So many come, and then nothing for a few seconds.
const A_WHILE: usize = 1000;
/// The word that makes this program be the process of its own.
pub const ALONE: &str = "--idle-alone";

/// Connections that exchanged a byte and are silent now.
struct Idle {
    stack: Arc<Stack>,
    clock: Clock,
    ends: Vec<TcpSocket>,
}

impl Idle {
    fn new(count: usize) -> Idle {
        let (stack, mut clock) = (alone(), Clock::new());
        let listener = stack.tcp_socket(Family::V4);
        listener.listen(16).expect("a listener");
        let port = listener.local_addr().port();
        let mut ends = Vec::with_capacity(2 * count);
        for n in 0..count {
            let source = Ipv4Addr::from(0x7f01_0000 + (n / AN_ADDRESS) as u32);
            let client = stack.tcp_socket(Family::V4);
            client.bind(SocketAddr::from((source, 0))).expect("a port");
            let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            client.connect(clock.now(), target).expect("a connection");
            let server = listener.accept(clock.now()).expect("the other end");
            trip(&clock, &client, &server);
            trip(&clock, &server, &client);
            ends.extend([client, server]);
            if n % A_WHILE == A_WHILE - 1 {
                rest(&stack, &mut clock);
            }
        }
        rest(&stack, &mut clock);
        listener.close(clock.now());
        Idle { stack, clock, ends }
    }
}

/// Delayed acknowledgments go out, and connections that have nothing to do come to rest.
fn rest(stack: &Stack, clock: &mut Clock) {
    for _ in 0..3 {
        clock.skip(netstack::time::Duration::from_secs(2));
        stack.poll(clock.now());
    }
}

fn trip(clock: &Clock, from: &TcpSocket, to: &TcpSocket) {
    let mut room = [0];
    assert_eq!(from.send(clock.now(), &mut &[7][..], SendFlags::empty()), Ok(1));
    assert_eq!(to.recv(clock.now(), &mut &mut room[..], RecvFlags::empty()), Ok(1));
}

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("/proc/self/statm");
    let pages = text
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse::<usize>().ok())
        .expect("its second word");
    pages * 4096
}

/// What a process of its own measured with a number of idle connections.
pub struct Measured {
    bytes: f64,
    /// The cost of an echo among them, and among few, in nanoseconds.
    echoes: Vec<(f64, f64)>,
}

/// Runs this program again, so that its memory holds nothing but the connections.
pub fn measure(runs: Runs, count: usize) -> Measured {
    let me = std::env::current_exe().expect("this program");
    let words = [ALONE.to_string(), count.to_string(), runs.0.to_string()];
    let told = Command::new(me).args(words).output().expect("this program");
    let text = String::from_utf8_lossy(&told.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let (Some(bytes), true) = (numbers.first(), told.status.success()) else {
        panic!("{}", String::from_utf8_lossy(&told.stderr));
    };
    let echoes = numbers[1..].chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    Measured { bytes: *bytes, echoes }
}

impl Measured {
    /// Bytes of memory of one idle connection with both its ends.
    pub fn memory(&self) -> Samples {
        Samples::of(vec![self.bytes], Vec::new())
    }

    /// Nanoseconds of CPU of a byte there and back among the idle connections, against the same among 10.
    pub fn echo(&self) -> Samples {
        let (among, few) = self.echoes.iter().copied().unzip();
        Samples::of(among, few)
    }
}

/// What the process of its own does: tells the bytes, and then the cost of echoes in pairs.
pub fn alone_with(count: usize, runs: usize) {
    // The first ones make what all share, and are the few.
    let few = Idle::new(10);
    let before = resident();
    let many = Idle::new(count);
    println!("{}", (resident() - before) as f64 / count as f64);
    for _ in 0..runs {
        println!("{} {}", echo_among(&many), echo_among(&few));
    }
    drop((few.ends, many.ends));
}

fn echo_among(idle: &Idle) -> f64 {
    let (one, other) = pair(&idle.stack, idle.clock.now());
    let echoes = |count: usize| {
        for _ in 0..count {
            trip(&idle.clock, &one, &other);
            trip(&idle.clock, &other, &one);
            let now = idle.clock.now();
            if idle.stack.next_deadline().is_some_and(|deadline| deadline <= now) {
                idle.stack.poll(now);
            }
        }
    };
    echoes(ECHOES / 10);
    let start = cpu();
    echoes(ECHOES);
    let result = (cpu() - start) * 1e9 / ECHOES as f64;
    one.abort(idle.clock.now());
    other.abort(idle.clock.now());
    result
}
