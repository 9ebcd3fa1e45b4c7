//! The zygote: a process forked once from the sentry that has given up all its memory but three
//! pages, and forks a stub whenever an address space is wanted.
//!
//! It lives as long as its socket: when the sentry ends, however that happens, the zygote reads the
//! end of the socket and exits, and the stubs die with it (PDEATHSIG on its only thread). So nothing
//! is bound to the sentry thread that called `start`.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::memfd::MFdFlags;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair};
use nix::unistd::Pid;
use parking_lot::Mutex;

use super::child::{self, ChildPlan};
use super::code::{FILTER, THREAD_CODE, THREAD_CODE_MAX, THREAD_FILTER, code};
use super::filter::{self, Instruction};
use super::{Image, cores, pidfd};
use crate::mem::Mapping;
use crate::{FileRange, MemoryFile, PlatformError};

/// How long a process that was just forked may take to answer before it is given up.
const ANSWER_TIMEOUT_MS: u16 = 20_000;
/// Region bases are random here, 256 TiB/256 below the end of the address space: 26 bits.
const REGION_LOWEST: u64 = 0x7f00_0000_0000;
/// What backends map behind the region is aligned to this from the region's start.
const REGION_ALIGN: u64 = 0x4000;
/// Bytes of a command page and a response page.
const SLOT_SIZE: usize = 2 * 4096;
const REGION_SPAN: u64 = 0xff_0000_0000;
/// A region and what its backend maps behind it, which together cross no 4 GiB boundary: filters
/// compare the halves of an address one by one.
pub(crate) const REGION_AND_MORE: u64 = 1 << 30;

/// The connection to the zygote and the files it shares with the stubs.
pub(crate) struct Zygote {
    pid: Pid,
    /// `None` only while it is being dropped.
    socket: Option<Mutex<OwnedFd>>,
    commands: OwnedFd,
    base: u64,
    image: &'static Image,
    memory: Arc<MemoryFile>,
    slots: Mutex<Slots>,
}

/// Which pages of the command file are in use.
#[derive(Default)]
struct Slots {
    free: Vec<Slot>,
    /// Slots that were ever used: the file has a page of code and two pages for each.
    made: u64,
    dying: Vec<Dying>,
}

/// A stub's pages in the command file. They stay mapped from stub to stub: to unmap them would interrupt
/// every core that the sentry runs on.
pub(crate) struct Slot {
    /// Offset of the command page; the response page follows.
    offset: u64,
    /// The command page and the response page.
    pub(crate) pages: Arc<Mapping>,
}

/// A killed stub, whose slot and pages are free once it is gone.
struct Dying {
    pidfd: OwnedFd,
    slot: Slot,
    pages: Vec<FileRange>,
}

/// A stub that has just been forked.
pub(crate) struct NewStub {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) slot: Slot,
}

impl Zygote {
    /// Forks it.
    pub(crate) fn start(
        memory: &Arc<MemoryFile>,
        image: &'static Image,
    ) -> Result<Arc<Zygote>, PlatformError> {
        let commands = nix::sys::memfd::memfd_create(c"netcell-stub", MFdFlags::MFD_CLOEXEC)
            .map_err(PlatformError::host("memfd_create"))?;
        nix::unistd::ftruncate(&commands, 4096).map_err(PlatformError::host("ftruncate"))?;
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(PlatformError::host("socketpair"))?;
        child::fork_zygote(&ChildPlan {
            candidates: random_bases()?,
            memory: memory.fd().as_raw_fd(),
            commands: commands.as_raw_fd(),
            socket: theirs.as_raw_fd(),
            handler: image.handler,
        })?;
        drop(theirs);
        // The helper that shared the zygote's memory is gone; now it may go on.
        let hello = receive::<2>(&ours)?;
        let (pid, base) = (Pid::from_raw(hello[0] as i32), hello[1]);
        let zygote = Zygote {
            pid,
            socket: Some(Mutex::new(ours)),
            commands,
            base,
            image,
            memory: memory.clone(),
            slots: Mutex::default(),
        };
        write_code_page(&zygote.commands, base, image)?;
        zygote.request(0)?;
        Ok(Arc::new(zygote))
    }

    /// Address of the stubs' three pages; the same in all stubs of this zygote.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// What the backend put there.
    pub(crate) fn image(&self) -> &'static Image {
        self.image
    }

    /// Forks a stub with a pair of zeroed pages of its own.
    pub(crate) fn fork_stub(&self) -> Result<NewStub, PlatformError> {
        let slot = self.take_slot()?;
        let forked = self.request(slot.offset).and_then(|pid| {
            let pidfd = pidfd::open(pid).map_err(PlatformError::host("pidfd_open of a stub"))?;
            Ok((pid, pidfd))
        });
        match forked {
            Ok((pid, pidfd)) => Ok(NewStub { pid, pidfd, slot }),
            Err(error) => {
                self.slots.lock().free.push(slot);
                Err(error)
            }
        }
    }

    fn request(&self, offset: u64) -> Result<Pid, PlatformError> {
        let socket = self.socket.as_ref().ok_or(PlatformError::StubDied)?.lock();
        let bytes = offset.to_ne_bytes();
        // On the caller's core, which it and the stub then need not wake another for.
        if let Ok(core) = nix::sched::sched_getcpu() {
            let _ = cores::pin_thread(self.pid.as_raw(), core);
        }
        sendmsg::<()>(
            socket.as_raw_fd(),
            &[IoSlice::new(&bytes)],
            &[],
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .map_err(|_| PlatformError::StubDied)?;
        answer(&socket)
    }

    fn take_slot(&self) -> Result<Slot, PlatformError> {
        let mut slots = self.slots.lock();
        slots.reap(&self.memory);
        let slot = match slots.free.pop() {
            Some(slot) => slot,
            None => {
                let offset = 4096 * (1 + 2 * slots.made);
                nix::unistd::ftruncate(&self.commands, (offset + SLOT_SIZE as u64) as i64)
                    .map_err(PlatformError::host("ftruncate of the command file"))?;
                let pages = Mapping::shared(self.commands.as_fd(), offset, SLOT_SIZE)
                    .map_err(PlatformError::host("mmap of a command page"))?;
                slots.made += 1;
                Slot { offset, pages: Arc::new(pages) }
            }
        };
        nix::sys::uio::pwrite(&self.commands, &[0u8; SLOT_SIZE], slot.offset as i64)
            .map_err(PlatformError::host("write of a command page"))?;
        Ok(slot)
    }

    /// Kills a stub. Its slot is used again, and the pages of the memory file are freed, when it is
    /// really gone.
    pub(crate) fn kill(&self, pidfd: OwnedFd, slot: Slot, pages: Vec<FileRange>) {
        pidfd::kill(&pidfd);
        let mut slots = self.slots.lock();
        slots.reap(&self.memory);
        slots.dying.push(Dying { pidfd, slot, pages });
    }
}

impl Slots {
    fn reap(&mut self, memory: &MemoryFile) {
        let gone = |dying: &mut Dying| pidfd::wait_gone(&dying.pidfd, Duration::ZERO);
        for Dying { slot, pages, .. } in self.dying.extract_if(.., gone) {
            self.free.push(slot);
            pages.iter().for_each(|range| memory.decref(*range));
        }
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        let slots = self.slots.get_mut();
        for dying in &slots.dying {
            pidfd::wait_gone(&dying.pidfd, Duration::from_secs(5));
        }
        slots.reap(&self.memory);
        self.socket = None;
        // It exits at the end of its socket; that it is our child makes the pid ours until here.
        while let Err(Errno::EINTR) = nix::sys::wait::waitpid(self.pid, None) {}
    }
}

/// Reads a pid that the zygote sent.
fn answer(socket: &OwnedFd) -> Result<Pid, PlatformError> {
    let [word] = receive::<1>(socket)?;
    match i32::try_from(word as i64) {
        Ok(pid) if pid > 0 => Ok(Pid::from_raw(pid)),
        Ok(failed) => Err(PlatformError::Host {
            what: "fork of a stub process",
            errno: Errno::from_raw(failed.wrapping_neg()),
        }),
        _ => Err(PlatformError::StubDied),
    }
}

/// Reads one message of `N` words.
fn receive<const N: usize>(socket: &OwnedFd) -> Result<[u64; N], PlatformError> {
    let mut ready = [nix::poll::PollFd::new(socket.as_fd(), nix::poll::PollFlags::POLLIN)];
    loop {
        match nix::poll::poll(&mut ready, ANSWER_TIMEOUT_MS) {
            Ok(0) => return Err(PlatformError::StubDied),
            Ok(_) => break,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(PlatformError::Host { what: "poll", errno }),
        }
    }
    let mut bytes = [0u8; 16];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let read = recvmsg::<()>(socket.as_raw_fd(), &mut parts, None, MsgFlags::empty())
        .map_err(PlatformError::host("read from the zygote"))?
        .bytes;
    if read != 8 * N {
        return Err(PlatformError::StubDied);
    }
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    Ok(words)
}

/// Candidates for the region's address.
fn random_bases() -> Result<[u64; 16], PlatformError> {
    let mut bytes = [0u8; 128];
    crate::host::random::fill(&mut bytes).map_err(PlatformError::host("getrandom"))?;
    let mut bases = [0; 16];
    for (base, word) in bases.iter_mut().zip(bytes.chunks_exact(8)) {
        let word = word.iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        let start = REGION_LOWEST + word % REGION_SPAN;
        *base = (start.min((start | 0xffff_ffff) - REGION_AND_MORE) & !(REGION_ALIGN - 1))
            .max(REGION_LOWEST);
    }
    Ok(bases)
}

/// Writes the code and the filters, which know where the code is.
fn write_code_page(commands: &OwnedFd, base: u64, image: &Image) -> Result<(), PlatformError> {
    let mut page = vec![0u8; 4096];
    page[..code().len()].copy_from_slice(code());
    let thread_code = image.thread_code;
    debug_assert!(thread_code.len() <= THREAD_CODE_MAX);
    page[THREAD_CODE..THREAD_CODE + thread_code.len()].copy_from_slice(thread_code);
    write_filter(&mut page, base, FILTER, &(image.filter)(base));
    write_filter(&mut page, base, THREAD_FILTER, &(image.thread_filter)(base));
    nix::sys::uio::pwrite(commands, &page, 0).map_err(PlatformError::host("write of the stub"))?;
    Ok(())
}

/// Writes a filter as `prctl` takes it: `struct sock_fprog`, which is a u16 length, padding and a
/// pointer, and the instructions.
fn write_filter(page: &mut [u8], base: u64, at: usize, program: &[Instruction]) {
    const PROGRAM_SIZE: usize = 16;
    page[at..at + 2].copy_from_slice(&(program.len() as u16).to_ne_bytes());
    let pointer = base + (at + PROGRAM_SIZE) as u64;
    page[at + 8..at + PROGRAM_SIZE].copy_from_slice(&pointer.to_ne_bytes());
    let bytes = filter::to_bytes(program);
    page[at + PROGRAM_SIZE..at + PROGRAM_SIZE + bytes.len()].copy_from_slice(&bytes);
}

const _: () = assert!(REGION_LOWEST + REGION_SPAN + REGION_AND_MORE < 0x7fff_ffff_f000);

/// Takes ownership of a descriptor that a raw call returned.
pub(crate) fn owned(fd: i64) -> Result<OwnedFd, Errno> {
    if fd < 0 {
        return Err(Errno::last());
    }
    // SAFETY: the caller's raw call has just returned this descriptor, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
