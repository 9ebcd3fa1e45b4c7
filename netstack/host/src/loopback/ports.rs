//! The ports of the host's loopback that are open because something listens inside.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use netstack::transport::tcp::listen::Listens;
use nix::libc;
use parking_lot::Mutex;

use super::{Tell, resolver};

/// Ports at a time.
const PORTS_MAX: usize = 256;
/// Lines for the operator about ports that cannot be opened: a program can make any number of them.
const TOLD_MAX: usize = 64;

/// Where the host should listen: an address of its loopback, and how many listeners inside it stands for.
#[derive(Default)]
pub(super) struct Wanted(Mutex<BTreeMap<SocketAddr, u32>>);

/// The address of the host's loopback by which a listener is reached; None where it is not reached by loopback.
fn on_loopback(local: SocketAddr) -> Option<SocketAddr> {
    let ip = match local.ip() {
        // Docker's, whose own resolver is there on the host.
        IpAddr::V4(resolver::HOST) => return None,
        ip if ip.is_loopback() => ip,
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, local.port()))
}

impl Wanted {
    /// Takes note of a listener; answers whether something is to be opened or closed.
    pub(super) fn note(&self, local: SocketAddr, what: Listens) -> bool {
        let Some(address) = on_loopback(local) else { return false };
        let mut wanted = self.0.lock();
        let count = wanted.entry(address).or_default();
        match what {
            Listens::Begins => {
                *count = count.saturating_add(1);
                *count == 1
            }
            Listens::Ends if *count > 1 => {
                *count -= 1;
                false
            }
            Listens::Ends => wanted.remove(&address).is_some(),
        }
    }

    fn addresses(&self) -> BTreeSet<SocketAddr> {
        self.0.lock().keys().copied().collect()
    }
}

/// What came of a port.
pub(super) enum Accepted {
    /// A connection.
    Stream(TcpStream),
    /// Nothing: its peer has left, or the port was closed.
    None,
    /// The host has no descriptor for it.
    NoRoom,
}

/// The open ports.
#[derive(Default)]
pub(super) struct Ports {
    open: BTreeMap<SocketAddr, TcpListener>,
    /// Those that could not be opened; they are not tried again before they were closed inside.
    failed: BTreeSet<SocketAddr>,
    /// How often the operator was told of one.
    told: usize,
}

impl Ports {
    /// The open ports.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&SocketAddr, &TcpListener)> {
        self.open.iter()
    }

    /// Opens and closes ports until they are those that are wanted, in the caller's namespace.
    pub(super) fn follow(&mut self, wanted: &Wanted, tell: &Tell) {
        let wanted = wanted.addresses();
        self.open.retain(|address, _| wanted.contains(address));
        self.failed.retain(|address| wanted.contains(address));
        for address in wanted {
            if self.open.contains_key(&address) || self.failed.contains(&address) {
                continue;
            }
            let opened = match self.open.len() < PORTS_MAX {
                true => open(address),
                false => Err(io::Error::from_raw_os_error(libc::EMFILE)),
            };
            match opened {
                Ok(listener) => {
                    self.open.insert(address, listener);
                }
                Err(error) => {
                    self.failed.insert(address);
                    // The namespace has no such address where IPv6 is off, or its loopback down.
                    let absent = [libc::EADDRNOTAVAIL, libc::EAFNOSUPPORT].map(Some);
                    if !absent.contains(&error.raw_os_error()) {
                        self.tell_failed(address, &error, tell);
                    }
                }
            }
        }
    }

    fn tell_failed(&mut self, address: SocketAddr, error: &io::Error, tell: &Tell) {
        if self.told >= TOLD_MAX {
            return;
        }
        self.told += 1;
        let last = if self.told == TOLD_MAX { "; further ones are not told" } else { "" };
        tell(format!("{address} of the namespace does not lead inside: {error}{last}"));
    }

    /// Takes a connection that waits at a port.
    pub(super) fn accept(&self, port: SocketAddr) -> Accepted {
        let Some(listener) = self.open.get(&port) else { return Accepted::None };
        match listener.accept() {
            Ok((stream, _)) if stream.set_nonblocking(true).is_ok() => Accepted::Stream(stream),
            Err(error) => match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    Accepted::NoRoom
                }
                _ => Accepted::None,
            },
            Ok(_) => Accepted::None,
        }
    }
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_reached_by_loopback_or_not() {
        let at = |text: &str| on_loopback(text.parse().unwrap()).map(|address| address.to_string());
        assert_eq!(at("0.0.0.0:80").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(at("[::]:80").as_deref(), Some("[::1]:80"));
        assert_eq!(at("127.0.0.5:80").as_deref(), Some("127.0.0.5:80"));
        assert_eq!((at("10.0.0.1:80"), at("[fd00::1]:80")), (None, None));
    }

    #[test]
    fn a_port_is_wanted_as_long_as_one_listens() {
        let wanted = Wanted::default();
        let (all, own) = ("0.0.0.0:80".parse().unwrap(), "127.0.0.1:80".parse().unwrap());
        assert!(wanted.note(all, Listens::Begins));
        assert!(!wanted.note(own, Listens::Begins));
        assert!(!wanted.note(all, Listens::Ends));
        assert_eq!(wanted.addresses(), BTreeSet::from([own]));
        assert!(wanted.note(own, Listens::Ends));
        assert!(wanted.addresses().is_empty());
    }

    #[test]
    fn a_port_that_fails_without_end_is_told_so_often_and_no_more() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let (told, lines) = std::sync::mpsc::channel();
        let tell: Tell = Box::new(move |line| told.send(line).unwrap());
        let (wanted, mut ports) = (Wanted::default(), Ports::default());
        for _ in 0..2 * TOLD_MAX {
            for what in [Listens::Begins, Listens::Ends] {
                wanted.note(address, what);
                ports.follow(&wanted, &tell);
            }
        }
        let lines: Vec<String> = lines.try_iter().collect();
        assert_eq!(lines.len(), TOLD_MAX);
        let last = |line: &String| line.ends_with("; further ones are not told");
        assert_eq!(lines.iter().position(last), Some(TOLD_MAX - 1));
    }
}
