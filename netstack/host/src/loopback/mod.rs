//! Carries connections between the loopback of a network namespace of the host and that of a stack which serves the namespace.
//! Whoever enters such a namespace and dials 127.0.0.1 (`kubectl port-forward`) means the programs inside.
//!
//! What listens inside, on all addresses or on loopback, listens on the host's loopback too ([`Ports`]); each connection there is
//! continued inside ([`splice::Splice`]). Where nothing listens, the host refuses by itself. One thread serves all of it, and
//! everything is bounded: ports, connections, bytes under way.
//!
//! The other way, Docker's resolver at 127.0.0.11 is reached from inside ([`resolver::Resolver`]).

mod ports;
mod resolver;
mod splice;

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use netstack::ip::Family;
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{Readiness, Wake};
use netstack::stack::Stack;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, socket};
use parking_lot::Mutex;

use crate::driver::Clock;
use crate::netns::Namespace;
use ports::{Accepted, Ports, Wanted};
use resolver::Resolver;
use splice::{Splice, Turn};

/// Connections at a time. Further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 256;

/// The number of the resolver among those with news.
const RESOLVER: u64 = u64::MAX;

/// Whether the namespace has Docker's resolver.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DockerResolver {
    /// It has not.
    #[default]
    Absent,
    /// It has, at 127.0.0.11.
    Present,
}

/// Takes what an operator should know.
pub type Tell = Box<dyn Fn(String) + Send>;

/// A running thread that carries connections. It ends when this is dropped, and resets them.
pub struct Loopback {
    shared: Arc<Shared>,
    stack: Arc<Stack>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is woken for.
struct Shared {
    event: EventFd,
    stop: AtomicBool,
    /// Connections whose end inside has news.
    news: Mutex<HashSet<u64>>,
    wanted: Wanted,
}

impl Shared {
    fn wake(&self) {
        // It fails only where the counter is full, and then the thread wakes as well.
        let _ = self.event.write(1);
    }

    fn has_news(&self, id: u64) {
        // Between two turns a connection has news once.
        if self.news.lock().insert(id) {
            self.wake();
        }
    }
}

/// Wakes the thread for one connection.
struct Waker {
    shared: Arc<Shared>,
    id: u64,
}

impl Wake for Waker {
    fn wake(&self, _: Readiness) {
        self.shared.has_news(self.id);
    }
}

impl netstack::transport::tcp::listen::ListenHook for Shared {
    fn listens(&self, local: SocketAddr, what: netstack::transport::tcp::listen::Listens) {
        if self.wanted.note(local, what) {
            self.wake();
        }
    }
}

impl Loopback {
    /// Starts in a namespace whose loopback shall be a stack's too, before programs listen. Errors: no descriptor or thread is to
    /// be had.
    pub fn start(
        namespace: Namespace,
        stack: Arc<Stack>,
        clock: Clock,
        resolver: DockerResolver,
        tell: Tell,
    ) -> io::Result<Loopback> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let shared = Arc::new(Shared {
            event: EventFd::from_value_and_flags(0, flags)?,
            stop: AtomicBool::new(false),
            news: Mutex::default(),
            wanted: Wanted::default(),
        });
        stack.set_listen_hook(Some(shared.clone()));
        let waker: Arc<dyn Wake> = Arc::new(Waker { shared: shared.clone(), id: RESOLVER });
        let resolver = match resolver {
            DockerResolver::Absent => None,
            DockerResolver::Present => Some(Resolver::new(&stack, &waker)?),
        };
        let thread = Thread {
            shared: shared.clone(),
            stack: stack.clone(),
            clock,
            tell,
            ports: Ports::default(),
            splices: HashMap::new(),
            resolver,
            next: 0,
            starved: false,
        };
        let run = move || match namespace.enter() {
            Ok(()) => thread.run(),
            // It was entered before, so that only a privilege that was given up can be the reason.
            Err(errno) => (thread.tell)(format!(
                "nobody reaches programs inside by the namespace's loopback: cannot enter it: {errno}"
            )),
        };
        let thread = std::thread::Builder::new().name("net loopback".into()).spawn(run)?;
        Ok(Loopback { shared, stack, thread: Some(thread) })
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.stack.set_listen_hook(None);
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by the panic hook.
            let _ = thread.join();
        }
    }
}

struct Thread {
    shared: Arc<Shared>,
    stack: Arc<Stack>,
    clock: Clock,
    tell: Tell,
    ports: Ports,
    splices: HashMap<u64, Splice>,
    resolver: Option<Resolver>,
    next: u64,
    /// The host had no descriptor for one more connection: ports are left alone until something else happens.
    starved: bool,
}

/// What a descriptor of the thread is.
#[derive(Clone, Copy)]
enum Source {
    Event,
    Port(SocketAddr),
    Splice(u64),
    /// Who asked the resolver.
    Asker(SocketAddr),
}

impl Thread {
    fn run(mut self) {
        while !self.shared.stop.load(Ordering::SeqCst) {
            self.ports.follow(&self.shared.wanted, &self.tell);
            let Some(ready) = self.sleep() else { return };
            // Something happened: it may have been a descriptor that was given back.
            self.starved = false;
            let mut turns = HashSet::new();
            for source in ready {
                match source {
                    Source::Event => {
                        let _ = self.shared.event.read();
                    }
                    Source::Port(port) => turns.extend(self.accept(port)),
                    Source::Splice(id) => drop(turns.insert(id)),
                    Source::Asker(from) => self.answer(from),
                }
            }
            // After the event was read: what comes now raises it again.
            turns.extend(std::mem::take(&mut *self.shared.news.lock()));
            if turns.remove(&RESOLVER) {
                self.resolve();
            }
            turns.into_iter().for_each(|id| self.turn(id));
        }
        let now = (self.clock)();
        self.splices.values().for_each(|splice| splice.reset(now));
        self.resolver.iter().for_each(|resolver| resolver.close(now));
    }

    /// Waits for what can be done. None where the host fails.
    fn sleep(&self) -> Option<Vec<Source>> {
        let mut sources = vec![Source::Event];
        let mut fds = vec![PollFd::new(self.shared.event.as_fd(), PollFlags::POLLIN)];
        if self.splices.len() < CONNECTIONS_MAX && !self.starved {
            for (address, listener) in self.ports.iter() {
                sources.push(Source::Port(*address));
                fds.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
            }
        }
        for (id, splice) in &self.splices {
            // One that waits for its end inside is left out: its hang-up would be told without end.
            if let Some(interest) = splice.interest() {
                sources.push(Source::Splice(*id));
                fds.push(PollFd::new(splice.as_fd(), interest));
            }
        }
        for (from, socket) in self.resolver.iter().flat_map(Resolver::waiting) {
            sources.push(Source::Asker(*from));
            fds.push(PollFd::new(socket.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => return Some(Vec::new()),
            Err(errno) => {
                (self.tell)(format!("the namespace's loopback is not served any more: {errno}"));
                return None;
            }
            Ok(_) => {}
        }
        let ready = fds.iter().zip(sources).filter(|(fd, _)| fd.any() == Some(true));
        Some(ready.map(|(_, source)| source).collect())
    }

    /// Takes a connection of a port, and opens the one inside.
    fn accept(&mut self, port: SocketAddr) -> Option<u64> {
        if self.splices.len() >= CONNECTIONS_MAX {
            return None;
        }
        let stream = match self.ports.accept(port) {
            Accepted::Stream(stream) => stream,
            Accepted::None => return None,
            Accepted::NoRoom => {
                self.starved = true;
                return None;
            }
        };
        let now = (self.clock)();
        let guest = self.stack.tcp_socket(Family::of(port.ip()));
        let id = self.join(stream, guest);
        let splice = self.splices.get(&id)?;
        if splice.guest().connect(now, port).is_err() {
            // It listened a moment ago.
            splice.reset(now);
            self.splices.remove(&id);
        }
        Some(id)
    }

    /// Keeps both ends of a connection; gives its number.
    fn join(&mut self, stream: TcpStream, guest: TcpSocket) -> u64 {
        let id = self.next;
        self.next += 1;
        guest.set_waker(Arc::new(Waker { shared: self.shared.clone(), id }));
        self.splices.insert(id, Splice::new(stream, guest));
        id
    }

    /// Passes on what programs ask the resolver.
    fn resolve(&mut self) {
        let now = (self.clock)();
        let Some(resolver) = &mut self.resolver else { return };
        if resolver.ask(now) {
            self.shared.has_news(RESOLVER);
        }
        while self.splices.len() < CONNECTIONS_MAX {
            let Some(guest) = self.resolver.as_ref().and_then(|resolver| resolver.accept(now))
            else {
                return;
            };
            match dial() {
                Ok(stream) => {
                    let id = self.join(stream, guest);
                    self.shared.has_news(id);
                }
                Err(_) => guest.abort(now),
            }
        }
    }

    fn answer(&mut self, from: SocketAddr) {
        let now = (self.clock)();
        if let Some(resolver) = &mut self.resolver {
            resolver.answer(now, from);
        }
    }

    fn turn(&mut self, id: u64) {
        let now = (self.clock)();
        let Some(splice) = self.splices.get_mut(&id) else { return };
        match splice.turn(now) {
            Turn::Waits => {}
            Turn::Goes => self.shared.has_news(id),
            Turn::Over => {
                self.splices.remove(&id);
                // Those that found no room have it now.
                self.shared.has_news(RESOLVER);
            }
        }
    }
}

/// A connection to the resolver, which may be under way.
fn dial() -> io::Result<TcpStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    let address = SockaddrIn::from(SocketAddrV4::new(resolver::HOST, resolver::PORT));
    match connect(fd.as_raw_fd(), &address) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(TcpStream::from(fd)),
        Err(errno) => Err(errno.into()),
    }
}
