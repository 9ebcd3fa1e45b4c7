//! System V shared memory (sysvipc(7)): segments by id and key, their owners, and who has them attached.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use platform::MemoryFile;
use sentry_abi::ipc::{IPC_CREAT, IPC_EXCL, IPC_PRIVATE, IpcPerm, SHM_DEST, SHM_HUGETLB, ShmidDs};
use sentry_abi::{Errno, PAGE_SIZE};

use crate::cred::{Capabilities, Credentials};
use crate::error::Result;
use crate::mm::{Mappable, SharedMemory};
use crate::sync::{Mutex, Rank};

/// Segments at a time (SHMMNI).
const SEGMENTS_MAX: usize = 4096;
/// Permission to read, as the last three bits of a mode.
const READ: u32 = 4;
/// Permission to write.
const WRITE: u32 = 2;

/// Who calls, and when.
pub struct Caller<'a> {
    /// Its credentials.
    pub creds: &'a Credentials,
    /// Its process.
    pub pid: u32,
    /// Seconds since the epoch.
    pub now_s: i64,
}

/// What an attachment may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attach {
    /// SHM_RDONLY
    Read,
    /// The default.
    ReadWrite,
}

/// A segment lives while the table holds it; a removed one lives on in the areas that map it.
enum Memory {
    Kept(Arc<SharedMemory>),
    Removed(Weak<SharedMemory>),
}

impl Memory {
    fn live(&self) -> Option<Arc<SharedMemory>> {
        match self {
            Self::Kept(memory) => Some(memory.clone()),
            Self::Removed(memory) => memory.upgrade(),
        }
    }

    /// Every area that maps it holds it once.
    fn attachments(&self) -> usize {
        match self {
            Self::Kept(memory) => Arc::strong_count(memory).saturating_sub(1),
            Self::Removed(memory) => memory.strong_count(),
        }
    }
}

struct Segment {
    memory: Memory,
    identity: u64,
    /// All but `nattch`.
    status: ShmidDs,
}

#[derive(Default)]
struct State {
    next: i32,
    segments: BTreeMap<i32, Segment>,
}

/// The segments of an ipc namespace.
pub struct Segments {
    number: u32,
    state: Mutex<State>,
}

fn allows(perm: &IpcPerm, creds: &Credentials, wanted: u32) -> bool {
    let granted = if creds.euid == perm.uid || creds.euid == perm.cuid {
        perm.mode >> 6
    } else if creds.in_group(perm.gid) || creds.in_group(perm.cgid) {
        perm.mode >> 3
    } else {
        perm.mode
    };
    granted & wanted == wanted || creds.has(Capabilities::IPC_OWNER)
}

fn check_owner(perm: &IpcPerm, creds: &Credentials) -> Result<()> {
    let owner = creds.euid == perm.uid || creds.euid == perm.cuid;
    if owner || creds.has(Capabilities::SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM.into()) }
}

impl State {
    /// Forgets removed segments that nobody maps any more.
    fn sweep(&mut self) {
        self.segments.retain(|_, s| match &s.memory {
            Memory::Kept(_) => true,
            Memory::Removed(memory) => memory.strong_count() > 0,
        });
    }

    fn segment(&mut self, id: i32) -> Result<&mut Segment> {
        self.sweep();
        Ok(self.segments.get_mut(&id).ok_or(Errno::EINVAL)?)
    }

    fn by_key(&self, key: i32) -> Option<(i32, &Segment)> {
        let kept = |s: &Segment| matches!(s.memory, Memory::Kept(_));
        let found = self.segments.iter().find(|(_, s)| s.status.perm.key == key && kept(s));
        found.map(|(id, segment)| (*id, segment)).filter(|_| key != IPC_PRIVATE)
    }
}

impl Segments {
    /// A namespace of this number ([`crate::namespaces`]) without segments.
    pub fn new(number: u32) -> Arc<Self> {
        Arc::new(Self { number, state: Mutex::new(Rank::LEAF, State::default()) })
    }

    /// What /proc/PID/ns shows.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// shmget(2): the id of the segment with `key`, made of `size` bytes where `flags` (IPC_CREAT, IPC_EXCL, nine bits of mode) say so.
    /// Errors: EINVAL, ENOENT, EEXIST, EACCES, ENOSPC, ENOMEM (more than `file` can hold, or huge pages).
    pub fn find_or_make(
        &self,
        file: &Arc<MemoryFile>,
        key: i32,
        size: u64,
        flags: u32,
        by: &Caller<'_>,
    ) -> Result<i32> {
        let mut state = self.state.lock();
        state.sweep();
        if let Some((id, segment)) = state.by_key(key) {
            if flags & IPC_CREAT != 0 && flags & IPC_EXCL != 0 {
                return Err(Errno::EEXIST.into());
            }
            let wanted = (flags >> 6 | flags >> 3 | flags) & (READ | WRITE);
            if !allows(&segment.status.perm, by.creds, wanted) {
                return Err(Errno::EACCES.into());
            }
            let fits = size <= segment.status.size;
            return if fits { Ok(id) } else { Err(Errno::EINVAL.into()) };
        }
        if key != IPC_PRIVATE && flags & IPC_CREAT == 0 {
            return Err(Errno::ENOENT.into());
        }
        let rounded = size.checked_next_multiple_of(PAGE_SIZE).filter(|s| *s > 0);
        let rounded = rounded.ok_or(Errno::EINVAL)?;
        if flags & SHM_HUGETLB != 0 || rounded > file.limit_bytes() {
            return Err(Errno::ENOMEM.into());
        }
        if state.segments.len() >= SEGMENTS_MAX {
            return Err(Errno::ENOSPC.into());
        }
        let mut id = state.next;
        while state.segments.contains_key(&id) {
            id = id.wrapping_add(1) & i32::MAX;
        }
        state.next = id.wrapping_add(1) & i32::MAX;
        let memory = SharedMemory::new(file.clone(), rounded);
        let identity = memory.identity();
        let status = new_status(key, size, flags & 0o777, by);
        state.segments.insert(id, Segment { memory: Memory::Kept(memory), identity, status });
        Ok(id)
    }

    /// shmat(2): what to map. Errors: EINVAL, EACCES.
    pub fn attach(&self, id: i32, how: Attach, by: &Caller<'_>) -> Result<Arc<SharedMemory>> {
        let mut state = self.state.lock();
        let segment = state.segment(id)?;
        let wanted = if how == Attach::Read { READ } else { READ | WRITE };
        if !allows(&segment.status.perm, by.creds, wanted) {
            return Err(Errno::EACCES.into());
        }
        let memory = segment.memory.live().ok_or(Errno::EINVAL)?;
        segment.status.atime = by.now_s;
        segment.status.lpid = by.pid as i32;
        Ok(memory)
    }

    /// shmdt(2): notes that a process detached the segment whose memory has this identity, and gives its size in bytes.
    /// Errors: EINVAL where it is no segment.
    pub fn detach(&self, identity: u64, by: &Caller<'_>) -> Result<u64> {
        let mut state = self.state.lock();
        let segment = state.segments.values_mut().find(|s| s.identity == identity);
        let segment = segment.ok_or(Errno::EINVAL)?;
        segment.status.dtime = by.now_s;
        segment.status.lpid = by.pid as i32;
        Ok(segment.status.size)
    }

    /// IPC_STAT. Errors: EINVAL, EACCES.
    pub fn status(&self, id: i32, by: &Caller<'_>) -> Result<ShmidDs> {
        let mut state = self.state.lock();
        let segment = state.segment(id)?;
        if !allows(&segment.status.perm, by.creds, READ) {
            return Err(Errno::EACCES.into());
        }
        Ok(ShmidDs { nattch: segment.memory.attachments() as u64, ..segment.status })
    }

    /// IPC_SET: owner, group and permissions of `new`. Errors: EINVAL, EPERM.
    pub fn set_owner(&self, id: i32, new: &IpcPerm, by: &Caller<'_>) -> Result<()> {
        let mut state = self.state.lock();
        let status = &mut state.segment(id)?.status;
        check_owner(&status.perm, by.creds)?;
        status.perm.uid = new.uid;
        status.perm.gid = new.gid;
        status.perm.mode = (status.perm.mode & !0o777) | (new.mode & 0o777);
        status.ctime = by.now_s;
        Ok(())
    }

    /// IPC_RMID: it goes when nobody has it attached. Errors: EINVAL, EPERM.
    pub fn remove(&self, id: i32, by: &Caller<'_>) -> Result<()> {
        let last = {
            let mut state = self.state.lock();
            let segment = state.segment(id)?;
            check_owner(&segment.status.perm, by.creds)?;
            let memory = segment.memory.live();
            if let Some(memory) = &memory {
                segment.memory = Memory::Removed(Arc::downgrade(memory));
            }
            segment.status.perm.key = IPC_PRIVATE;
            segment.status.perm.mode |= SHM_DEST;
            memory
        };
        // Pages may be given back here: no lock is held.
        drop(last);
        Ok(())
    }

    /// Whether there is such a segment and the caller owns it (SHM_LOCK). Errors: EINVAL, EPERM.
    pub fn check_owned(&self, id: i32, by: &Caller<'_>) -> Result<()> {
        let mut state = self.state.lock();
        check_owner(&state.segment(id)?.status.perm, by.creds)
    }
}

fn new_status(key: i32, size: u64, mode: u32, by: &Caller<'_>) -> ShmidDs {
    let (uid, gid) = (by.creds.euid, by.creds.egid);
    let perm = IpcPerm { key, uid, gid, cuid: uid, cgid: gid, mode, ..IpcPerm::default() };
    ShmidDs { perm, size, ctime: by.now_s, cpid: by.pid as i32, ..ShmidDs::default() }
}

#[cfg(test)]
mod tests {
    use platform::Platform;

    use super::*;

    fn caller(creds: &Credentials) -> Caller<'_> {
        Caller { creds, pid: 7, now_s: 100 }
    }

    #[test]
    fn a_removed_segment_lives_until_its_last_attachment_goes() {
        let file = platform::fake::FakePlatform::new().unwrap().memory().clone();
        let (segments, root) = (Segments::new(0), Credentials::root());
        let by = caller(&root);
        let make = |key, size, flags| segments.find_or_make(&file, key, size, flags, &by);
        let errno = |r: Result<i32>| r.map_err(|e| e.errno());
        assert_eq!(errno(make(5, 100, 0)), Err(Errno::ENOENT));
        let id = make(5, 5000, IPC_CREAT | 0o600).unwrap();
        assert_eq!(make(5, 0, 0).unwrap(), id);
        assert_eq!(errno(make(5, 5001, 0)), Err(Errno::EINVAL));
        assert_eq!(errno(make(5, 1, IPC_CREAT | IPC_EXCL)), Err(Errno::EEXIST));
        assert_eq!(errno(make(6, 0, IPC_CREAT)), Err(Errno::EINVAL));
        let other = Credentials::user(1000, 1000, Arc::new([]));
        let denied = segments.attach(id, Attach::Read, &caller(&other));
        assert_eq!(denied.err().map(|e| e.errno()), Some(Errno::EACCES));

        let memory = segments.attach(id, Attach::ReadWrite, &by).unwrap();
        assert_eq!(memory.size(), 8192);
        segments.remove(id, &by).unwrap();
        let status = segments.status(id, &by).unwrap();
        assert_eq!((status.nattch, status.size, status.perm.mode), (1, 5000, SHM_DEST | 0o600));
        assert_ne!(make(5, 1, IPC_CREAT).unwrap(), id, "its key is free");
        let again = segments.attach(id, Attach::Read, &by).unwrap();
        assert_eq!(again.identity(), memory.identity());
        assert_eq!(segments.detach(memory.identity(), &by).unwrap(), 5000);
        drop((memory, again));
        assert_eq!(segments.status(id, &by).err().map(|e| e.errno()), Some(Errno::EINVAL));
    }
}
