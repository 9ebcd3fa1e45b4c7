//! Docker's resolver, 127.0.0.11 of the namespace, for programs inside: datagrams to that address of the stack go on from a socket of
//! the host, and the answers come back. (Its streams are connections like others.)

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket as HostSocket};
use std::sync::Arc;

use netstack::ip::Family;
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{RecvFlags, UdpSocket, Wake};
use netstack::stack::Stack;
use netstack::time::Instant;

/// Where it is, inside and outside.
pub(super) const HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
pub(super) const PORT: u16 = 53;
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(HOST), PORT);
/// Who may wait for answers at a time; the one that asked longest ago gives way.
const ASKERS_MAX: usize = 64;
/// Datagrams of one turn.
const BURST: usize = 64;
/// Connections that wait to be accepted.
const BACKLOG: usize = 64;
/// The longest datagram in bytes.
const DATAGRAM_MAX: usize = 65_535;

/// A program's socket that asked, and the host's that asks for it.
struct Asker {
    socket: HostSocket,
    /// A greater number asked later.
    turn: u64,
}

/// The resolver inside.
pub(super) struct Resolver {
    datagrams: UdpSocket,
    streams: TcpSocket,
    askers: BTreeMap<SocketAddr, Asker>,
    turns: u64,
    piece: Vec<u8>,
}

impl Resolver {
    /// Takes its address in a stack. Errors: somebody has it.
    pub(super) fn new(stack: &Arc<Stack>, waker: &Arc<dyn Wake>) -> io::Result<Resolver> {
        let (datagrams, streams) = (stack.udp_socket(Family::V4), stack.tcp_socket(Family::V4));
        let taken = |_| io::Error::from(io::ErrorKind::AddrInUse);
        datagrams.set_waker(waker.clone());
        streams.set_waker(waker.clone());
        datagrams.bind(ADDRESS).map_err(taken)?;
        streams.bind(ADDRESS).map_err(taken)?;
        streams.listen(BACKLOG).map_err(|_| io::Error::from(io::ErrorKind::AddrInUse))?;
        let (askers, turns) = (BTreeMap::new(), 0);
        Ok(Resolver { datagrams, streams, askers, turns, piece: Vec::new() })
    }

    /// The sockets of the host that wait for answers, with who asked.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&SocketAddr, &HostSocket)> {
        self.askers.iter().map(|(from, asker)| (from, &asker.socket))
    }

    /// A connection of a program that waits.
    pub(super) fn accept(&self, now: Instant) -> Option<TcpSocket> {
        self.streams.accept(now).ok()
    }

    /// Passes on what programs ask; answers whether there may be more.
    pub(super) fn ask(&mut self, now: Instant) -> bool {
        for _ in 0..BURST {
            let mut question = Vec::new();
            std::mem::swap(&mut question, &mut self.piece);
            question.clear();
            let received = self.datagrams.recv_from(now, &mut question, RecvFlags::empty());
            let from = received.map(|received| received.from);
            if let Ok(from) = &from {
                // Without a descriptor, or without a resolver there, the question is lost, as any datagram may be.
                let _ = self.asker(*from).and_then(|socket| socket.send(&question));
            }
            self.piece = question;
            if from.is_err() {
                return false;
            }
        }
        true
    }

    /// The socket of the host for a program's.
    fn asker(&mut self, from: SocketAddr) -> io::Result<&HostSocket> {
        if !self.askers.contains_key(&from) {
            if self.askers.len() >= ASKERS_MAX {
                let oldest = self.askers.iter().min_by_key(|(_, asker)| asker.turn);
                let oldest = oldest.map(|(from, _)| *from);
                oldest.and_then(|from| self.askers.remove(&from));
            }
            let socket = HostSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.set_nonblocking(true)?;
            socket.connect(ADDRESS)?;
            self.askers.insert(from, Asker { socket, turn: 0 });
        }
        self.turns += 1;
        let asker = self.askers.get_mut(&from).ok_or(io::ErrorKind::NotFound)?;
        asker.turn = self.turns;
        Ok(&asker.socket)
    }

    /// Passes an answer on to who asked.
    pub(super) fn answer(&mut self, now: Instant, from: SocketAddr) {
        let Some(asker) = self.askers.get(&from) else { return };
        self.piece.resize(DATAGRAM_MAX, 0);
        // An error tells that nobody resolves there: the program's own patience ends.
        let Ok(len) = asker.socket.recv(&mut self.piece) else { return };
        let mut answer = self.piece.get(..len).unwrap_or_default();
        let _ = self.datagrams.send_to(now, &mut answer, Some(from), &Default::default());
    }

    /// Gives its address back.
    pub(super) fn close(&self, now: Instant) {
        self.datagrams.close(now);
        self.streams.close(now);
    }
}
