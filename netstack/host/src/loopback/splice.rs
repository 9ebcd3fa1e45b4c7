//! One connection of the host that goes on inside: bytes, ends and resets pass both ways.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use netstack::socket::tcp::TcpSocket;
use netstack::socket::{How, RecvError, RecvFlags, SendError, SendFlags};
use netstack::time::Instant;
use netstack::transport::tcp::StateName;
use nix::libc;
use nix::poll::PollFlags;
use nix::sys::socket::{setsockopt, sockopt};

/// Bytes under way in each direction.
const PIECE: usize = 32 << 10;
/// Pieces that one turn moves, before others get theirs.
const PIECES_A_TURN: usize = 16;

/// How far a direction has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// More may come.
    Open,
    /// Its sender has ended, and the receiver is not told yet.
    Came,
    /// The receiver knows.
    Passed,
}

/// One direction.
struct Way {
    bytes: Vec<u8>,
    /// How much of them has passed.
    passed: usize,
    end: End,
}

impl Way {
    fn new() -> Way {
        Way { bytes: Vec::new(), passed: 0, end: End::Open }
    }

    fn left(&self) -> &[u8] {
        self.bytes.get(self.passed..).unwrap_or_default()
    }

    fn wants_more(&self) -> bool {
        self.end == End::Open && self.left().is_empty()
    }

    /// Takes what was read of a piece; nothing is the end.
    fn take(&mut self, piece: &[u8]) {
        if piece.is_empty() {
            self.end = End::Came;
        }
        self.bytes.clear();
        self.bytes.extend_from_slice(piece);
        self.passed = 0;
    }

    /// Whether the receiver is to be told of the end now.
    fn ends(&self) -> bool {
        self.end == End::Came && self.left().is_empty()
    }
}

/// Whether a connection goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// It waits for one of its ends.
    Waits,
    /// It has more to do, after others had their turn.
    Goes,
    /// It is over at both of them.
    Over,
}

/// What one step did.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Moved,
    Waits,
    /// One of the ends was reset.
    Failed,
}

/// A connection of the host and the one inside.
pub(super) struct Splice {
    host: TcpStream,
    guest: TcpSocket,
    inward: Way,
    outward: Way,
}

impl Splice {
    /// Joins a connection of the host, which does not block, and a socket that will connect.
    pub(super) fn new(host: TcpStream, guest: TcpSocket) -> Splice {
        Splice { host, guest, inward: Way::new(), outward: Way::new() }
    }

    /// The socket inside.
    pub(super) fn guest(&self) -> &TcpSocket {
        &self.guest
    }

    /// What the host's end is to be watched for; None where nothing is to be done with it now.
    pub(super) fn interest(&self) -> Option<PollFlags> {
        // Nothing moves before the one inside is connected, and its waker tells of that.
        if self.guest.state() == StateName::SynSent {
            return None;
        }
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::POLLIN, self.inward.wants_more());
        interest.set(PollFlags::POLLOUT, !self.outward.left().is_empty());
        (!interest.is_empty()).then_some(interest)
    }

    /// Resets both ends.
    pub(super) fn reset(&self, now: Instant) {
        self.guest.abort(now);
        // tcp(7): "When SO_LINGER is enabled with a time of zero" the end is a reset.
        let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
        // It fails for no descriptor that is open.
        let _ = setsockopt(&self.host, sockopt::Linger, &at_once);
    }

    /// Moves what can be moved. After the end neither descriptor nor socket is of use.
    pub(super) fn turn(&mut self, now: Instant) -> Turn {
        if self.guest.state() == StateName::SynSent {
            return Turn::Waits;
        }
        let mut pieces = 0;
        loop {
            let steps = [self.inward(now), self.outward(now)];
            if steps.contains(&Step::Failed) {
                self.reset(now);
                return Turn::Over;
            }
            if (self.inward.end, self.outward.end) == (End::Passed, End::Passed) {
                self.guest.close(now);
                return Turn::Over;
            }
            pieces += 1;
            if !steps.contains(&Step::Moved) {
                return Turn::Waits;
            }
            if pieces >= PIECES_A_TURN {
                return Turn::Goes;
            }
        }
    }

    /// From the host to the program.
    fn inward(&mut self, now: Instant) -> Step {
        if self.inward.wants_more() {
            let mut piece = [0; PIECE];
            match self.host.read(&mut piece) {
                Ok(n) => self.inward.take(&piece[..n]),
                Err(error) if error.kind() == ErrorKind::Interrupted => return Step::Moved,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Step::Waits,
                Err(_) => return Step::Failed,
            }
        }
        if self.inward.ends() {
            self.inward.end = End::Passed;
            // One that is over already needs no end.
            let _ = self.guest.shutdown(now, How::Write);
            return Step::Moved;
        }
        let mut left = self.inward.left();
        if left.is_empty() {
            return Step::Waits;
        }
        match self.guest.send(now, &mut left, SendFlags::empty()) {
            Ok(n) => {
                self.inward.passed += n;
                Step::Moved
            }
            Err(SendError::WouldBlock) => Step::Waits,
            Err(_) => Step::Failed,
        }
    }

    /// From the program to the host.
    fn outward(&mut self, now: Instant) -> Step {
        if self.outward.wants_more() {
            let mut piece = [0; PIECE];
            match self.guest.recv(now, &mut &mut piece[..], RecvFlags::empty()) {
                Ok(n) => self.outward.take(&piece[..n]),
                Err(RecvError::WouldBlock) => return Step::Waits,
                Err(_) => return Step::Failed,
            }
        }
        if self.outward.ends() {
            self.outward.end = End::Passed;
            // One whose peer has reset it needs no end.
            let _ = self.host.shutdown(Shutdown::Write);
            return Step::Moved;
        }
        let left = self.outward.left();
        if left.is_empty() {
            return Step::Waits;
        }
        match self.host.write(left) {
            Ok(n) => {
                self.outward.passed += n;
                Step::Moved
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Step::Moved,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Step::Waits,
            Err(_) => Step::Failed,
        }
    }
}

impl AsFd for Splice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.host.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use netstack::ip::Family;
    use netstack::socket::{Readiness, Wake};
    use netstack::stack::{Config, NicConfig, Stack};
    use netstack::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(&self, _: Readiness) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn stack() -> Arc<Stack> {
        let stack = Stack::new(Config::new([7; 32]));
        stack.add_nic(NicConfig::loopback()).unwrap();
        stack
    }

    #[test]
    fn a_caller_is_left_alone_until_the_program_takes_it() {
        let (stack, now) = (stack(), Instant::ZERO);
        let at: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let server = stack.tcp_socket(Family::V4);
        server.bind(at).unwrap();
        server.listen(0).unwrap();
        let connect = || {
            let socket = stack.tcp_socket(Family::V4);
            let _ = socket.connect(now, at);
            socket
        };
        // Its queue takes no more: those that come ask again and again.
        let before: Vec<_> = (0..4).map(|_| connect()).collect();
        let guest = connect();
        assert_eq!(guest.state(), StateName::SynSent);
        let woken = Arc::new(Count::default());
        guest.set_waker(woken.clone());
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut caller = TcpStream::connect(port.local_addr().unwrap()).unwrap();
        let (host, _) = port.accept().unwrap();
        host.set_nonblocking(true).unwrap();
        caller.write_all(b"x").unwrap();
        let mut splice = Splice::new(host, guest);
        assert_eq!((splice.turn(now), splice.interest()), (Turn::Waits, None));
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        let mut later = now;
        while splice.guest().state() == StateName::SynSent {
            while server.accept(later).is_ok() {}
            later = stack.next_deadline().unwrap().max(later);
            assert!(later < now + Duration::from_secs(60));
            stack.poll(later);
        }
        assert!(woken.0.load(Ordering::SeqCst) > 0);
        assert_eq!(splice.turn(later), Turn::Waits);
        assert_eq!(splice.interest(), Some(PollFlags::POLLIN));
        before.iter().for_each(|socket| socket.abort(later));
    }
}
