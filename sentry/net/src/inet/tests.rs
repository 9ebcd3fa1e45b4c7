//! Internet sockets over the loopback interface of a namespace, without tasks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use netstack::ip::Family;
use sentry_abi::Errno;
use sentry_abi::in_::*;
use sentry_abi::socket::*;
use sentry_abi::tcp::*;
use sentry_kernel::cred::Credentials;
use sentry_kernel::file::FileOps;
use sentry_kernel::io::{SliceSource, VecSink};
use sentry_kernel::socket::{Control, Received, SendMessage, Socket};
use sentry_kernel::time::{Clock, Instant};
use sentry_kernel::wait::{Events, Sharing, Wake};

use super::InetSocket;
use super::endpoint::Endpoint;
use super::sockaddr;
use crate::netns::{Loopback, NetConfig, NetNamespace};
use crate::sockopt::value;

struct HostClock(std::time::Instant);

impl Clock for HostClock {
    fn monotonic(&self) -> Instant {
        Instant(self.0.elapsed().as_nanos() as u64 + 1)
    }

    fn realtime_ns(&self) -> i64 {
        1_700_000_000_000_000_000
    }
}

pub(crate) fn namespace() -> Arc<NetNamespace> {
    NetNamespace::new(NetConfig {
        loopback: Loopback::Up,
        nics: Vec::new(),
        routes: Vec::new(),
        seed: [9; 32],
        clock: Arc::new(HostClock(std::time::Instant::now())),
    })
    .unwrap()
}

fn tcp(net: &Arc<NetNamespace>, family: Family) -> Arc<InetSocket> {
    let endpoint = Endpoint::Tcp(net.stack().tcp_socket(family));
    InetSocket::new(net, family, endpoint, (SOCK_STREAM, IPPROTO_TCP))
}

fn udp(net: &Arc<NetNamespace>, family: Family) -> Arc<InetSocket> {
    let endpoint = Endpoint::Udp(net.stack().udp_socket(family));
    InetSocket::new(net, family, endpoint, (SOCK_DGRAM, IPPROTO_UDP))
}

struct Bell(std::sync::mpsc::Sender<()>);

impl Wake for Bell {
    fn wake(&self, _: Events) {
        // The test may be over.
        let _ = self.0.send(());
    }
}

fn listen_to(socket: &InetSocket) -> Receiver<()> {
    let (sender, receiver) = channel();
    socket.waiters.add(Events::EVERY, Sharing::All, Arc::new(Bell(sender)));
    receiver
}

/// Tries until it answers something, between the socket's wake-ups.
fn wait<T>(bell: &Receiver<()>, mut attempt: impl FnMut() -> sentry_kernel::Result<T>) -> T {
    loop {
        match attempt() {
            Err(error) if error.is(Errno::EAGAIN) => {
                bell.recv_timeout(Duration::from_secs(30)).expect("never woken");
            }
            other => return other.unwrap(),
        }
    }
}

fn read(
    socket: &InetSocket,
    room: usize,
    flags: u32,
) -> sentry_kernel::Result<(Vec<u8>, Received)> {
    let mut sink = VecSink::new(room);
    let received = socket.take(&mut sink, flags)?;
    Ok((sink.into_vec(), received))
}

fn write(socket: &InetSocket, bytes: &[u8]) -> usize {
    socket.give(None, &mut SliceSource::new(bytes), SendMessage::default()).unwrap()
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn a_stream_over_loopback_carries_bytes_readiness_and_its_end() {
    let net = namespace();
    let server = tcp(&net, Family::V6);
    server.endpoint.bind(net.now(), addr("[::]:8080")).unwrap();
    server.listen(5).unwrap();
    assert!(server.accept().err().is_some_and(|e| e.is(Errno::EAGAIN)));
    let ring = listen_to(&server);
    // A dual-stack listener shows an IPv4 client as mapped.
    let client = tcp(&net, Family::V4);
    let client_ring = listen_to(&client);
    client.endpoint.connect(net.now(), addr("127.0.0.1:8080")).unwrap();
    let (accepted, peer) = wait(&ring, || server.accept());
    let shown = sockaddr::decode(Family::V6, &peer).unwrap();
    assert!(shown.to_string().starts_with("[::ffff:127.0.0.1]:"), "{shown}");
    wait(&client_ring, || match client.readiness().contains(Events::OUT) {
        true => Ok(()),
        false => Err(Errno::EAGAIN.into()),
    });
    assert_eq!(write(&client, b"request"), 7);
    let mut sink = VecSink::new(100);
    let n = wait(&ring, || match accepted.read(0, &mut sink) {
        // The accepted socket has no bell of its own; over loopback the bytes are there at once.
        Err(error) if error.is(Errno::EAGAIN) => panic!("loopback delivers within the send"),
        other => other,
    });
    assert_eq!((n, sink.into_vec()), (7, b"request".to_vec()));
    let tables = crate::proc_net::files(&net);
    let tcp6 = tables.iter().find(|(name, _)| *name == "tcp6").unwrap().1().unwrap();
    assert_eq!(String::from_utf8(tcp6).unwrap().lines().count(), 3);
    drop(accepted);
    let (bytes, _) = wait(&client_ring, || read(&client, 10, 0));
    assert!(bytes.is_empty());
    assert!(client.readiness().contains(Events::IN | Events::RDHUP));
}

#[test]
fn a_refused_connection_is_an_error_to_be_taken_once() {
    let net = namespace();
    let client = tcp(&net, Family::V4);
    let ring = listen_to(&client);
    let begun = client.endpoint.connect(net.now(), addr("127.0.0.1:1"));
    if begun.is_ok() {
        wait(&ring, || match client.readiness().contains(Events::ERR) {
            true => Ok(()),
            false => Err(Errno::EAGAIN.into()),
        });
        let refused = value::from_int(Errno::ECONNREFUSED.number());
        assert_eq!(client.load(SOL_SOCKET, SO_ERROR, &[]).unwrap(), refused);
    }
    assert_eq!(client.load(SOL_SOCKET, SO_ERROR, &[]).unwrap(), value::from_int(0));
}

#[test]
fn datagrams_tell_sender_truncation_and_what_was_asked_for() {
    let net = namespace();
    let root = Credentials::root();
    let server = udp(&net, Family::V4);
    server.endpoint.bind(net.now(), addr("0.0.0.0:5353")).unwrap();
    for (level, name) in
        [(SOL_IP, IP_PKTINFO), (SOL_IP, IP_RECVTTL), (SOL_SOCKET, SO_TIMESTAMPNS_OLD)]
    {
        server.store(&root, level, name, &value::from_int(1)).unwrap();
    }
    assert!(read(&server, 10, 0).err().is_some_and(|e| e.is(Errno::EAGAIN)));
    let client = udp(&net, Family::V4);
    let to = Some(sockaddr::encode(Family::V4, addr("127.0.0.1:5353")));
    let message = SendMessage { to, ..SendMessage::default() };
    client.give(None, &mut SliceSource::new(b"0123456789"), message).unwrap();
    assert!(server.readiness().contains(Events::IN));
    let (bytes, received) = read(&server, 4, MSG_PEEK | MSG_TRUNC).unwrap();
    assert_eq!((bytes.as_slice(), received.len, received.flags), (&b"0123"[..], 10, MSG_TRUNC));
    let (_, received) = read(&server, 10, 0).unwrap();
    let from = sockaddr::decode(Family::V4, &received.from.unwrap()).unwrap();
    assert_eq!(
        from,
        SocketAddr::new(addr("127.0.0.1:0").ip(), client.endpoint.local_addr().port())
    );
    let kinds: Vec<_> = received
        .control
        .iter()
        .map(|control| match control {
            Control::Raw { level, kind, .. } => (*level, *kind),
            _ => (0, 0),
        })
        .collect();
    assert_eq!(kinds, [(SOL_SOCKET, SCM_TIMESTAMPNS), (SOL_IP, IP_PKTINFO), (SOL_IP, IP_TTL)]);
}

#[test]
fn option_tables_answer_default_set_get_short_and_wrong_level() {
    let net = namespace();
    let root = Credentials::root();
    let (stream, datagrams) = (tcp(&net, Family::V6), udp(&net, Family::V4));
    // socket, level, name, default, a value to set, what is read back
    let rows: [(&InetSocket, i32, i32, i32, i32, i32); 12] = [
        (&stream, SOL_TCP, TCP_NODELAY, 0, 1, 1),
        (&stream, SOL_TCP, TCP_KEEPIDLE, 7200, 60, 60),
        (&stream, SOL_TCP, TCP_KEEPINTVL, 75, 5, 5),
        (&stream, SOL_TCP, TCP_KEEPCNT, 9, 3, 3),
        (&stream, SOL_TCP, TCP_USER_TIMEOUT, 0, 1500, 1500),
        (&stream, SOL_IPV6, IPV6_V6ONLY, 0, 1, 1),
        (&stream, SOL_SOCKET, SO_KEEPALIVE, 0, 1, 1),
        (&datagrams, SOL_IP, IP_TTL, 64, 9, 9),
        (&datagrams, SOL_IP, IP_TOS, 0, 16, 16),
        (&datagrams, SOL_IP, IP_MULTICAST_TTL, 1, 4, 4),
        (&datagrams, SOL_IP, IP_PKTINFO, 0, 1, 1),
        (&datagrams, SOL_SOCKET, SO_BROADCAST, 0, 1, 1),
    ];
    for (socket, level, name, default, set, read) in rows {
        let what = format!("level {level} option {name}");
        assert_eq!(
            socket.load(level, name, &[0; 4]).expect(&what),
            value::from_int(default),
            "{what}"
        );
        // ip(7): no bytes at all are a zero for most options of its level.
        let short = socket.store(&root, level, name, &[]);
        assert!(level == SOL_IP || short.is_err_and(|e| e.is(Errno::EINVAL)), "{what}");
        socket.store(&root, level, name, &value::from_int(set)).expect(&what);
        assert_eq!(
            socket.load(level, name, &[0; 4]).expect(&what),
            value::from_int(read),
            "{what}"
        );
        let wrong = socket.store(&root, 4711, name, &value::from_int(set));
        assert!(wrong.is_err_and(|e| e.is(Errno::ENOPROTOOPT)), "{what}");
    }
    assert!(
        stream
            .store(&root, SOL_TCP, 9999, &value::from_int(1))
            .is_err_and(|e| e.is(Errno::ENOPROTOOPT))
    );
    assert!(datagrams.store(&root, SOL_TCP, TCP_NODELAY, &value::from_int(1)).is_err());
    assert!(
        stream.store(&root, SOL_TCP, TCP_CONGESTION, b"bogus").is_err_and(|e| e.is(Errno::ENOENT))
    );
    let lo = value::from_int(1);
    assert!(
        stream
            .store(&root, SOL_SOCKET, SO_BINDTODEVICE, b"nope\0")
            .is_err_and(|e| e.is(Errno::ENODEV))
    );
    stream.store(&root, SOL_SOCKET, SO_BINDTOIFINDEX, &lo).unwrap();
    assert_eq!(stream.load(SOL_SOCKET, SO_BINDTODEVICE, &[0; 16]).unwrap(), b"lo\0");
    assert_eq!(stream.load(SOL_TCP, TCP_INFO, &[]).unwrap().len(), 280);
}

#[test]
fn errors_of_sends_wait_in_the_error_queue_where_asked_for() {
    let net = namespace();
    let client = udp(&net, Family::V4);
    client.store(&Credentials::root(), SOL_IP, IP_RECVERR, &value::from_int(1)).unwrap();
    assert!(read(&client, 10, MSG_ERRQUEUE).err().is_some_and(|e| e.is(Errno::EAGAIN)));
    let to = Some(sockaddr::encode(Family::V4, addr("127.0.0.1:9")));
    let message = SendMessage { to, ..SendMessage::default() };
    client.give(None, &mut SliceSource::new(b"hello"), message).unwrap();
    assert!(client.readiness().contains(Events::ERR));
    let (bytes, received) = read(&client, 100, MSG_ERRQUEUE).unwrap();
    assert_eq!((bytes.as_slice(), received.flags), (&b"hello"[..], MSG_ERRQUEUE));
    let [Control::Raw { level: SOL_IP, kind: IP_RECVERR, data }] = received.control.as_slice()
    else {
        panic!("no report")
    };
    // ECONNREFUSED from ICMP: destination unreachable, port unreachable.
    assert_eq!(data[..7], [111, 0, 0, 0, SO_EE_ORIGIN_ICMP, 3, 3]);
    assert!(!client.readiness().contains(Events::ERR));
}
