//! What unix(7) promises of local sockets, without tasks and without a VFS.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sentry_abi::Errno;
use sentry_abi::socket::{MSG_PEEK, MSG_TRUNC, UCred};
use sentry_kernel::file::FileDescription;
use sentry_kernel::io::{SliceSource, VecSink};
use sentry_kernel::socket::{Control, Received, Shutdown};
use sentry_kernel::vfs::OpenFlags;
use sentry_kernel::wait::Events;

use super::address::Name;
use super::socket::DATAGRAMS_MAX;
use super::{Kind, Names, Outgoing, UnixSocket};

const WHO: UCred = UCred { pid: 7, uid: 1000, gid: 1000 };

fn names() -> Arc<Names> {
    Arc::default()
}

fn out() -> Outgoing {
    Outgoing { cred: WHO, ..Outgoing::default() }
}

fn abstract_name(name: &str) -> Name {
    Name::Abstract(name.as_bytes().to_vec())
}

fn write(socket: &UnixSocket, bytes: &[u8]) -> sentry_kernel::Result<usize> {
    match socket.kind {
        Kind::Stream => socket.send_stream(&mut SliceSource::new(bytes), out()),
        _ => socket.send_datagram(None, &mut SliceSource::new(bytes), out()),
    }
}

fn read_with(
    socket: &UnixSocket,
    room: usize,
    flags: u32,
) -> sentry_kernel::Result<(Vec<u8>, Received)> {
    let mut sink = VecSink::new(room);
    let received = socket.take_bytes(&mut sink, flags, 1024)?;
    Ok((sink.into_vec(), received))
}

fn read(socket: &UnixSocket, room: usize) -> sentry_kernel::Result<Vec<u8>> {
    read_with(socket, room, 0).map(|(bytes, _)| bytes)
}

fn listener(names: &Arc<Names>, kind: Kind, name: &str, backlog: i32) -> Arc<UnixSocket> {
    let socket = UnixSocket::new(names, kind, WHO);
    socket.bind_abstract(abstract_name(name)).unwrap();
    socket.start_listening(backlog).unwrap();
    socket
}

fn description(socket: Arc<UnixSocket>) -> Arc<FileDescription> {
    FileDescription::new(socket, None, OpenFlags::RDWR)
}

#[test]
fn a_stream_keeps_bytes_in_order_across_partial_reads_and_ends_with_its_peer() {
    let (a, b) = UnixSocket::pair(&names(), Kind::Stream, WHO);
    assert!(read(&b, 4).unwrap_err().is(Errno::EAGAIN));
    assert_eq!(write(&a, b"hello ").unwrap(), 6);
    assert_eq!(write(&a, b"world").unwrap(), 5);
    assert_eq!(b.unread(), 11);
    assert_eq!(a.unsent(), 11);
    assert_eq!(read_with(&b, 8, MSG_PEEK).unwrap().0, b"hello wo");
    assert_eq!(read(&b, 8).unwrap(), b"hello wo");
    drop(a);
    assert_eq!(
        b.events(),
        Events::IN
            | Events::RDNORM
            | Events::RDHUP
            | Events::HUP
            | Events::OUT
            | Events::WRNORM
            | Events::WRBAND
    );
    assert_eq!(read(&b, 8).unwrap(), b"rld");
    assert_eq!(read(&b, 8).unwrap(), b"");
    assert!(write(&b, b"x").unwrap_err().is(Errno::EPIPE));
}

#[test]
fn a_peer_that_closes_with_unread_bytes_resets_the_reader() {
    let (a, b) = UnixSocket::pair(&names(), Kind::Stream, WHO);
    write(&a, b"lost").unwrap();
    drop(b);
    assert!(a.events().contains(Events::ERR | Events::HUP));
    assert!(read(&a, 1).unwrap_err().is(Errno::ECONNRESET));
    assert_eq!(read(&a, 1).unwrap(), b"");
}

#[test]
fn a_full_stream_takes_a_part_then_blocks_and_is_writable_again_below_a_quarter() {
    let (a, b) = UnixSocket::pair(&names(), Kind::Stream, WHO);
    let limit = a.options.sndbuf();
    assert_eq!(write(&a, &vec![7; limit + 1000]).unwrap(), limit);
    assert!(write(&a, b"x").unwrap_err().is(Errno::EAGAIN));
    assert!(!a.events().contains(Events::OUT));
    read(&b, limit / 2).unwrap();
    assert!(!a.events().contains(Events::OUT));
    read(&b, limit / 4 + 1).unwrap();
    assert!(a.events().contains(Events::OUT));
}

#[test]
fn shutdown_of_a_half_ends_reads_there_and_writes_here() {
    let (a, b) = UnixSocket::pair(&names(), Kind::Stream, WHO);
    write(&a, b"last").unwrap();
    a.shut(Shutdown::Write).unwrap();
    assert!(write(&a, b"x").unwrap_err().is(Errno::EPIPE));
    assert!(b.events().contains(Events::RDHUP | Events::IN) && !b.events().contains(Events::HUP));
    assert_eq!(read(&b, 10).unwrap(), b"last");
    assert_eq!(read(&b, 10).unwrap(), b"");
    write(&b, b"answer").unwrap();
    assert_eq!(read(&a, 10).unwrap(), b"answer");
    b.shut(Shutdown::Write).unwrap();
    assert!(b.events().contains(Events::HUP));
}

#[test]
fn connections_queue_up_to_the_backlog_and_one_more() {
    let names = names();
    let server = listener(&names, Kind::Stream, "srv", 1);
    assert_eq!(server.events(), Events::empty());
    let clients: Vec<_> = (0..3).map(|_| UnixSocket::new(&names, Kind::Stream, WHO)).collect();
    assert!(clients[0].events().contains(Events::OUT | Events::HUP));
    clients[0].connect_to(&server, WHO).unwrap();
    clients[1].connect_to(&server, WHO).unwrap();
    assert!(clients[2].connect_to(&server, WHO).unwrap_err().is(Errno::EAGAIN));
    assert!(clients[0].connect_to(&server, WHO).unwrap_err().is(Errno::EISCONN));
    assert!(server.events().contains(Events::IN));
    let (accepted, peer) = server.take_connection().unwrap();
    assert_eq!(peer, Name::Unnamed);
    assert_eq!(accepted.state.lock().local, abstract_name("srv"));
    clients[2].connect_to(&server, WHO).unwrap();
    write(&clients[0], b"hi").unwrap();
    assert_eq!(read(&accepted, 9).unwrap(), b"hi");
    drop(server);
    assert!(read(&clients[1], 1).unwrap_err().is(Errno::ECONNRESET));
    assert!(names.find(&super::names::Key::Abstract(b"srv".to_vec())).is_err());
}

#[test]
fn connecting_answers_linux_errors() {
    let names = names();
    let server = listener(&names, Kind::Stream, "srv", 5);
    let packets = UnixSocket::new(&names, Kind::SeqPacket, WHO);
    assert!(packets.connect_to(&server, WHO).unwrap_err().is(Errno::EPROTOTYPE));
    let bound = UnixSocket::new(&names, Kind::Stream, WHO);
    assert!(bound.start_listening(1).unwrap_err().is(Errno::EINVAL));
    assert!(bound.bind_abstract(abstract_name("srv")).unwrap_err().is(Errno::EADDRINUSE));
    bound.bind_abstract(Name::Unnamed).unwrap();
    assert!(matches!(&bound.state.lock().local, Name::Abstract(name) if name.len() == 5));
    assert!(bound.bind_abstract(abstract_name("other")).unwrap_err().is(Errno::EINVAL));
    let client = UnixSocket::new(&names, Kind::Stream, WHO);
    assert!(client.connect_to(&bound, WHO).unwrap_err().is(Errno::ECONNREFUSED));
    assert!(write(&client, b"x").unwrap_err().is(Errno::ENOTCONN));
    assert!(read(&client, 1).unwrap_err().is(Errno::EINVAL));
    assert!(read(&packets, 1).unwrap_err().is(Errno::ENOTCONN));
}

#[test]
fn datagrams_keep_their_bounds_and_are_cut_with_msg_trunc() {
    let (a, b) = UnixSocket::pair(&names(), Kind::Datagram, WHO);
    write(&a, b"first one").unwrap();
    write(&a, b"").unwrap();
    write(&a, b"second").unwrap();
    let (bytes, received) = read_with(&b, 5, MSG_TRUNC).unwrap();
    assert_eq!((bytes.as_slice(), received.len, received.flags), (&b"first"[..], 9, MSG_TRUNC));
    let (bytes, received) = read_with(&b, 5, 0).unwrap();
    assert_eq!((bytes.len(), received.len, received.flags), (0, 0, 0));
    assert_eq!(read(&b, 10).unwrap(), b"second");
    let too_long = vec![0; a.options.sndbuf()];
    assert!(write(&a, &too_long).unwrap_err().is(Errno::EMSGSIZE));
    drop(b);
    assert!(write(&a, b"x").unwrap_err().is(Errno::ECONNREFUSED));
    assert!(write(&a, b"x").unwrap_err().is(Errno::ENOTCONN));
}

#[test]
fn a_receiver_with_a_full_queue_blocks_its_senders_until_it_reads() {
    let names = names();
    let server = UnixSocket::new(&names, Kind::Datagram, WHO);
    server.bind_abstract(abstract_name("log")).unwrap();
    let client = UnixSocket::new(&names, Kind::Datagram, WHO);
    client.connect_datagrams(&server).unwrap();
    for _ in 0..=DATAGRAMS_MAX {
        write(&client, b"line").unwrap();
    }
    assert!(write(&client, b"line").unwrap_err().is(Errno::EAGAIN));
    assert!(!client.events().contains(Events::OUT));
    assert_eq!(server.state.lock().blocked.len(), 1);
    read(&server, 10).unwrap();
    assert!(server.state.lock().blocked.is_empty());
    assert!(client.events().contains(Events::OUT));
    write(&client, b"line").unwrap();
}

#[test]
fn a_connected_datagram_socket_hears_only_its_peer() {
    let names = names();
    let (a, _b) = UnixSocket::pair(&names, Kind::Datagram, WHO);
    let stranger = UnixSocket::new(&names, Kind::Datagram, WHO);
    let sent = stranger.send_datagram(Some(a.clone()), &mut SliceSource::new(b"x"), out());
    assert!(sent.unwrap_err().is(Errno::EPERM));
    assert!(stranger.connect_datagrams(&a).unwrap_err().is(Errno::EPERM));
}

#[test]
fn files_travel_with_their_first_byte_and_part_the_stream() {
    let names = names();
    let (a, b) = UnixSocket::pair(&names, Kind::Stream, WHO);
    let (c, _d) = UnixSocket::pair(&names, Kind::Stream, WHO);
    let file = description(c);
    write(&a, b"before").unwrap();
    let with = Outgoing { files: vec![file.clone()], ..out() };
    a.send_stream(&mut SliceSource::new(b"FD"), with).unwrap();
    write(&a, b"after").unwrap();
    assert_eq!(names.in_flight().load(Ordering::Relaxed), 1);
    let (bytes, received) = read_with(&b, 100, 0).unwrap();
    assert_eq!(bytes, b"beforeFD");
    let [Control::Rights(files)] = received.control.as_slice() else { panic!("no files came") };
    assert!(Arc::ptr_eq(&files[0], &file));
    assert_eq!(names.in_flight().load(Ordering::Relaxed), 0);
    assert_eq!(read(&b, 100).unwrap(), b"after");
}

#[test]
fn files_in_a_dead_queue_are_closed_whatever_the_depth() {
    let names = names();
    let (mut inner, watch) = UnixSocket::pair(&names, Kind::Stream, WHO);
    for _ in 0..5000 {
        let (a, b) = UnixSocket::pair(&names, Kind::Stream, WHO);
        let with = Outgoing { files: vec![description(inner)], ..out() };
        a.send_stream(&mut SliceSource::new(b"n"), with).unwrap();
        inner = b;
    }
    assert_eq!(names.in_flight().load(Ordering::Relaxed), 5000);
    drop(inner);
    assert_eq!(names.in_flight().load(Ordering::Relaxed), 0);
    assert!(watch.events().contains(Events::HUP));
}

#[test]
fn credentials_are_told_where_asked_and_keep_writers_apart() {
    let (a, b) = UnixSocket::pair(&names(), Kind::Stream, WHO);
    let root = sentry_kernel::cred::Credentials::root();
    b.options.set(&root, sentry_abi::socket::SO_PASSCRED, &1i32.to_ne_bytes()).unwrap();
    write(&a, b"me").unwrap();
    let other = Outgoing { cred: UCred { pid: 8, ..WHO }, ..out() };
    a.send_stream(&mut SliceSource::new(b"you"), other).unwrap();
    let (bytes, received) = read_with(&b, 100, 0).unwrap();
    assert_eq!(bytes, b"me");
    assert!(matches!(
        received.control[..],
        [Control::Credentials { pid: 7, uid: 1000, gid: 1000 }]
    ));
    assert_eq!(read(&b, 100).unwrap(), b"you");
}

#[test]
fn addresses_decode_and_encode_as_linux_shows_them() {
    use sentry_kernel::socket::SockAddr;
    let cases: [(&[u8], Name, &[u8]); 4] = [
        (b"\x01\x00", Name::Unnamed, b"\x01\x00"),
        (b"\x01\x00\0ab\0c", Name::Abstract(b"ab\0c".to_vec()), b"\x01\x00\0ab\0c"),
        (b"\x01\x00/tmp/s", Name::Path(b"/tmp/s".to_vec()), b"\x01\x00/tmp/s\0"),
        (b"\x01\x00/tmp/s\0junk", Name::Path(b"/tmp/s".to_vec()), b"\x01\x00/tmp/s\0"),
    ];
    for (bytes, name, shown) in cases {
        assert_eq!(Name::decode(&SockAddr(bytes.to_vec())).unwrap(), name);
        assert_eq!(name.encode().0, shown);
    }
    assert!(Name::decode(&SockAddr(vec![2, 0, 1])).unwrap_err().is(Errno::EINVAL));
    assert!(Name::decode(&SockAddr(vec![1; 111])).unwrap_err().is(Errno::EINVAL));
    assert!(Name::decode(&SockAddr(vec![1])).unwrap_err().is(Errno::EINVAL));
}
