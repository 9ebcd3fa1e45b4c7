//! Descriptors, pipes, eventfd and epoll together. Expected values were taken from Linux.

use std::sync::Arc;

use sentry_abi::Errno;

use crate::cred::Credentials;
use crate::error::Result;
use crate::file::epoll::{Epoll, EpollMode, Interest, Ready};
use crate::file::eventfd::{EventFd, Taking};
use crate::file::pipe::{DEFAULT_CAPACITY, Direction, PIPE_BUF, Pipe, PipeEnd, open_fifo, pipe};
use crate::file::{FdTable, FileDescription, FileOps, OnExec};
use crate::io::{SliceSource, VecSink};
use crate::vfs::OpenFlags;
use crate::wait::{Events, WaitQueue};

fn write(file: &FileDescription, bytes: &[u8]) -> Result<usize> {
    file.write(&mut SliceSource::new(bytes), u64::MAX)
}

fn read(file: &FileDescription, len: usize) -> Result<Vec<u8>> {
    let mut sink = VecSink::new(len);
    file.read(&mut sink)?;
    Ok(sink.into_vec())
}

fn errno<T>(result: Result<T>) -> Option<Errno> {
    result.err().map(|e| e.errno())
}

fn ready(file: &FileDescription) -> Events {
    file.ops().readiness()
}

const IN: Events = Events::IN.union(Events::RDNORM);
const OUT: Events = Events::OUT.union(Events::WRNORM);

#[test]
fn a_pipe_gives_bytes_in_order_and_ends_with_its_writers() {
    let (r, w) = pipe(OpenFlags::empty());
    assert_eq!(errno(read(&r, 1)), Some(Errno::EAGAIN));
    assert_eq!(write(&w, b"hello").unwrap(), 5);
    assert_eq!(read(&r, 3).unwrap(), b"hel");
    assert_eq!((ready(&r), ready(&w)), (IN, OUT));
    assert_eq!(errno(write(&r, b"x")), Some(Errno::EBADF));
    assert_eq!(errno(r.pread(0, &mut VecSink::new(1))), Some(Errno::ESPIPE));
    drop(w);
    assert_eq!(ready(&r), IN | Events::HUP);
    assert_eq!(read(&r, 9).unwrap(), b"lo");
    assert_eq!(ready(&r), Events::HUP);
    assert_eq!(read(&r, 9).unwrap(), b"");
}

#[test]
fn a_pipe_without_readers_is_broken() {
    let (r, w) = pipe(OpenFlags::empty());
    drop(r);
    assert_eq!(errno(write(&w, b"x")), Some(Errno::EPIPE));
    assert_eq!(ready(&w), OUT | Events::ERR);
}

#[test]
fn small_writes_are_whole_and_large_ones_fill_the_pipe() {
    let (r, w) = pipe(OpenFlags::empty());
    assert_eq!(write(&w, &vec![1; DEFAULT_CAPACITY + 10]).unwrap(), DEFAULT_CAPACITY);
    assert_eq!(errno(write(&w, b"x")), Some(Errno::EAGAIN));
    assert_eq!(ready(&w), Events::empty());
    read(&r, PIPE_BUF - 1).unwrap();
    assert_eq!(errno(write(&w, &[2; PIPE_BUF])), Some(Errno::EAGAIN));
    assert_eq!(ready(&w), Events::empty());
    assert_eq!(errno(write(&w, &[2; PIPE_BUF + 1])), Some(Errno::EAGAIN));
    read(&r, 1).unwrap();
    assert_eq!(write(&w, &[2; PIPE_BUF + 1]).unwrap(), PIPE_BUF);
    let all = read(&r, usize::MAX).unwrap();
    assert_eq!(all.len(), DEFAULT_CAPACITY);
    assert_eq!(&all[DEFAULT_CAPACITY - PIPE_BUF - 1..][..3], [1, 2, 2]);
}

#[test]
fn bytes_keep_their_order_around_the_ring_and_over_a_new_size() {
    let (r, w) = pipe(OpenFlags::empty());
    let (mut sent, mut got) = (0u8, 0u8);
    for round in 1..400 {
        let bytes: Vec<u8> = (0..round * 7)
            .map(|_| {
                sent = sent.wrapping_add(1);
                sent
            })
            .collect();
        assert_eq!(write(&w, &bytes).unwrap(), bytes.len());
        if round == 200 {
            let end = PipeEnd::of(&**r.ops()).unwrap();
            assert_eq!(end.pipe().set_capacity(100_000).unwrap(), 131_072);
        }
        for byte in read(&r, bytes.len()).unwrap() {
            got = got.wrapping_add(1);
            assert_eq!(byte, got);
        }
    }
    let end = PipeEnd::of(&**r.ops()).unwrap();
    write(&w, &[0; 5000]).unwrap();
    assert_eq!(errno(end.pipe().set_capacity(4096)), Some(Errno::EBUSY));
    assert_eq!(end.pipe().set_capacity(8192).unwrap(), 8192);
    assert_eq!(read(&r, 9000).unwrap().len(), 5000);
}

#[test]
fn a_fifo_waits_for_its_peer() {
    let fifo = Pipe::new();
    let nonblocking = OpenFlags::WRONLY | OpenFlags::NONBLOCK;
    assert_eq!(errno(open_fifo(&fifo, nonblocking)), Some(Errno::ENXIO));
    let reader = PipeEnd::open(&fifo, Direction::Read);
    assert!(!reader.peer_came());
    let desc = FileDescription::new(reader.clone(), None, OpenFlags::NONBLOCK);
    assert_eq!(read(&desc, 1).unwrap(), b"");
    assert_eq!(ready(&desc), Events::empty(), "no writer yet is no hang-up");
    drop(open_fifo(&fifo, nonblocking).unwrap());
    assert!(reader.peer_came(), "a writer that came and went counts");
    assert_eq!(ready(&desc), Events::HUP);
    assert!(PipeEnd::open(&fifo, Direction::Both).peer_came());
}

#[test]
fn a_pipe_opened_again_does_not_wait() {
    let (r, w) = pipe(OpenFlags::empty());
    write(&w, b"rest").unwrap();
    drop(w);
    let inode = r.path().unwrap().inode().clone();
    let again = inode.open(OpenFlags::empty(), &Credentials::root()).unwrap();
    assert!(PipeEnd::of(&*again).unwrap().peer_came());
    let again = FileDescription::new(again, None, OpenFlags::empty());
    assert_eq!(ready(&again), Events::IN | Events::RDNORM | Events::HUP);
    drop(r);
    assert_eq!(read(&again, 9).unwrap(), b"rest");
    assert_eq!(read(&again, 9).unwrap(), b"");
}

#[test]
fn peeked_bytes_stay_until_consumed() {
    let (r, w) = pipe(OpenFlags::empty());
    let p = PipeEnd::of(&**r.ops()).unwrap().pipe().clone();
    assert_eq!(errno(p.peek(1)), Some(Errno::EAGAIN));
    write(&w, b"abc").unwrap();
    assert_eq!(p.peek(2).unwrap(), b"ab");
    p.consume(2);
    assert_eq!(read(&r, 9).unwrap(), b"c");
    drop(w);
    assert_eq!(p.peek(2).unwrap(), b"");
}

#[test]
fn an_eventfd_counts() {
    let e = EventFd::create(2, Taking::All, OpenFlags::empty());
    let s = EventFd::create(2, Taking::One, OpenFlags::empty());
    assert_eq!(ready(&e), Events::IN | Events::OUT);
    assert_eq!(read(&e, 8).unwrap(), 2u64.to_ne_bytes());
    assert_eq!(errno(read(&e, 8)), Some(Errno::EAGAIN));
    assert_eq!(errno(read(&s, 7)), Some(Errno::EINVAL));
    assert_eq!(read(&s, 8).unwrap(), 1u64.to_ne_bytes());
    assert_eq!(errno(write(&e, &u64::MAX.to_ne_bytes())), Some(Errno::EINVAL));
    write(&e, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    assert_eq!(errno(write(&e, &1u64.to_ne_bytes())), Some(Errno::EAGAIN));
    assert_eq!(ready(&e), Events::IN);
    assert_eq!(errno(write(&e, &[0; 9])), Some(Errno::EINVAL));
}

#[test]
fn descriptors_take_the_lowest_free_number() {
    let table = FdTable::new();
    let file = EventFd::create(0, Taking::All, OpenFlags::empty());
    let install = |limit| table.install(file.clone(), OnExec::Close, limit);
    assert_eq!((install(9).unwrap(), install(9).unwrap(), install(9).unwrap()), (0, 1, 2));
    table.close(1).unwrap();
    assert_eq!(errno(table.close(1)), Some(Errno::EBADF));
    assert_eq!(table.install_from(0, file.clone(), OnExec::Keep, 9).unwrap(), 1);
    assert_eq!(errno(install(3)), Some(Errno::EMFILE));
    assert_eq!(table.install_from(7, file.clone(), OnExec::Keep, 9).unwrap(), 7);
    assert_eq!(errno(table.install_at(9, file.clone(), OnExec::Keep, 9)), Some(Errno::EBADF));
    table.install_at(2, file.clone(), OnExec::Keep, 9).unwrap();
    let copy = table.fork();
    table.close_on_exec();
    assert_eq!(table.list(), [1, 2, 7]);
    assert_eq!(copy.list(), [0, 1, 2, 7]);
    copy.close_range(1, 2);
    assert_eq!(copy.list(), [0, 7]);
    assert_eq!(errno(table.any(-1)), Some(Errno::EBADF));
}

fn interest(events: Events, mode: EpollMode, data: u64) -> Interest {
    Interest { events, mode, data }
}

fn taken(epoll: &FileDescription) -> Vec<Ready> {
    Epoll::of(&**epoll.ops()).unwrap().take_ready(16)
}

#[test]
fn level_triggered_items_stay_ready_and_edge_triggered_ones_tell_once() {
    let (r, w) = pipe(OpenFlags::empty());
    let epoll = Epoll::create();
    let e = Epoll::of(&**epoll.ops()).unwrap();
    e.add(3, &r, interest(Events::IN, EpollMode::empty(), 30)).unwrap();
    assert!(taken(&epoll).is_empty());
    write(&w, b"x").unwrap();
    let told = [Ready { events: Events::IN, data: 30 }];
    assert_eq!((ready(&epoll), taken(&epoll), taken(&epoll)), (IN, told.to_vec(), told.to_vec()));
    e.modify(3, &r, interest(Events::IN, EpollMode::EDGE, 31)).unwrap();
    let told = [Ready { events: Events::IN, data: 31 }];
    assert_eq!(taken(&epoll), told);
    assert!(taken(&epoll).is_empty());
    assert_eq!(ready(&epoll), Events::empty());
    write(&w, b"y").unwrap();
    assert_eq!(taken(&epoll), told);
    read(&r, 9).unwrap();
    drop(w);
    assert_eq!(taken(&epoll), [Ready { events: Events::HUP, data: 31 }]);
}

/// A file whose next event comes while somebody looks.
#[derive(Default)]
struct Restless(WaitQueue);

impl FileOps for Restless {
    fn readiness(&self) -> Events {
        self.0.notify(Events::IN);
        Events::IN
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.0)
    }
}

#[test]
fn a_file_that_is_woken_while_it_is_looked_at_stands_once_in_a_result() {
    for mode in [EpollMode::empty(), EpollMode::EDGE] {
        let file = FileDescription::new(Arc::new(Restless::default()), None, OpenFlags::RDWR);
        let other = EventFd::create(1, Taking::All, OpenFlags::empty());
        let epoll = Epoll::create();
        let e = Epoll::of(&**epoll.ops()).unwrap();
        e.add(3, &file, interest(Events::IN, mode, 3)).unwrap();
        e.add(4, &other, interest(Events::IN, EpollMode::empty(), 4)).unwrap();
        for _ in 0..3 {
            let mut told: Vec<u64> = taken(&epoll).iter().map(|ready| ready.data).collect();
            told.sort_unstable();
            assert_eq!(told, [3, 4]);
        }
    }
}

#[test]
fn a_oneshot_item_sleeps_until_modified() {
    let file = EventFd::create(1, Taking::All, OpenFlags::empty());
    let epoll = Epoll::create();
    let e = Epoll::of(&**epoll.ops()).unwrap();
    let once = interest(Events::IN, EpollMode::ONESHOT, 1);
    e.add(3, &file, once).unwrap();
    assert_eq!(taken(&epoll).len(), 1);
    write(&file, &1u64.to_ne_bytes()).unwrap();
    assert!(taken(&epoll).is_empty());
    e.modify(3, &file, once).unwrap();
    assert_eq!(taken(&epoll).len(), 1);
}

#[test]
fn epoll_refuses_what_linux_refuses() {
    let (r, w) = pipe(OpenFlags::empty());
    let (epoll, inner) = (Epoll::create(), Epoll::create());
    let (e, i) = (Epoll::of(&**epoll.ops()).unwrap(), Epoll::of(&**inner.ops()).unwrap());
    let plain = interest(Events::IN, EpollMode::empty(), 0);
    e.add(3, &r, plain).unwrap();
    assert_eq!(errno(e.add(3, &r, plain)), Some(Errno::EEXIST));
    assert!(e.add(4, &r, plain).is_ok(), "another number of the same file");
    assert_eq!(errno(e.remove(5, &r)), Some(Errno::ENOENT));
    assert_eq!(errno(e.add(9, &epoll, plain)), Some(Errno::EINVAL));
    e.add(5, &inner, plain).unwrap();
    assert_eq!(errno(i.add(6, &epoll, plain)), Some(Errno::ELOOP));
    let exclusive = interest(Events::IN, EpollMode::EXCLUSIVE, 0);
    assert_eq!(errno(e.add(7, &Epoll::create(), exclusive)), Some(Errno::EINVAL));
    e.add(8, &w, exclusive).unwrap();
    assert_eq!(errno(e.modify(8, &w, plain)), Some(Errno::EINVAL));
    assert_eq!(errno(Epoll::of(&**r.ops()).map(drop)), Some(Errno::EINVAL));
}

#[test]
fn a_nested_epoll_is_readable_while_something_in_it_is() {
    let (outer, inner) = (Epoll::create(), Epoll::create());
    let (r, w) = pipe(OpenFlags::empty());
    let plain = interest(Events::IN, EpollMode::empty(), 1);
    Epoll::of(&**outer.ops()).unwrap().add(3, &inner, plain).unwrap();
    Epoll::of(&**inner.ops()).unwrap().add(4, &r, plain).unwrap();
    assert!(taken(&outer).is_empty());
    write(&w, b"x").unwrap();
    assert_eq!(taken(&outer).len(), 1);
    read(&r, 1).unwrap();
    assert!(taken(&outer).is_empty());
}

#[test]
fn a_closed_file_leaves_its_epoll() {
    let (r, w) = pipe(OpenFlags::empty());
    let epoll = Epoll::create();
    Epoll::of(&**epoll.ops())
        .unwrap()
        .add(3, &r, interest(Events::IN, EpollMode::empty(), 0))
        .unwrap();
    write(&w, b"x").unwrap();
    let queue_of = PipeEnd::of(&**w.ops()).unwrap().pipe().clone();
    assert!(!queue_of.queue().is_empty());
    drop(r);
    assert!(taken(&epoll).is_empty());
    assert!(queue_of.queue().is_empty(), "its registration ended with it");
    let file = EventFd::create(1, Taking::All, OpenFlags::empty());
    let plain = interest(Events::IN, EpollMode::empty(), 0);
    Epoll::of(&**epoll.ops()).unwrap().add(3, &file, plain).unwrap();
    drop(epoll);
    assert!(file.ops().wait_queue().unwrap().is_empty());
    assert_eq!(Arc::strong_count(&file), 1);
}
