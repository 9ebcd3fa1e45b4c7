//! The fake address space: records mappings and reads and writes guest memory through them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::{
    Access, AddressSpace, CallSite, Event, MapOp, MemoryFile, PAGE_SIZE, PlatformError, Prot, check,
};

/// A run of guest addresses and the file bytes behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FakeMapping {
    pub addr: u64,
    pub len: u64,
    pub file_offset: u64,
    pub prot: Prot,
}

/// An access that the mappings do not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FakeFault {
    pub addr: u64,
    pub access: Access,
    /// Whether something is mapped there, with less rights.
    pub present: Presence,
}

/// Whether a faulting page was mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Absent,
    Protected,
}

impl FakeFault {
    /// The event that a processor would have raised.
    pub fn event(&self) -> Event {
        let present = u32::from(self.present == Presence::Protected);
        let access = match self.access {
            Access::Read => 0,
            Access::Write => 2,
            Access::Execute => 16,
        };
        Event::Fault { addr: self.addr, access: self.access, error_code: present | access | 4 }
    }
}

/// Where patched calls would need something.
pub const PATCH_RANGE: Range<u64> = 0x0500_0000..0x0500_2000;

/// A recorded memory map.
pub struct FakeAddressSpace {
    memory: Arc<MemoryFile>,
    user_range: Range<u64>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    by_addr: BTreeMap<u64, FakeMapping>,
    history: Vec<MapOp>,
    offered: Vec<(CallSite, u64)>,
}

impl State {
    /// Removes the range, cutting mappings at its ends; returns what was there.
    fn remove(&mut self, addr: u64, len: u64) -> Vec<FakeMapping> {
        let end = addr + len;
        let mut removed = Vec::new();
        while let Some((_, &mapping)) = self.by_addr.range(..end).next_back() {
            let mapping_end = mapping.addr + mapping.len;
            if mapping_end <= addr {
                break;
            }
            self.by_addr.remove(&mapping.addr);
            let (cut_start, cut_end) = (mapping.addr.max(addr), mapping_end.min(end));
            if mapping.addr < cut_start {
                self.insert(FakeMapping { len: cut_start - mapping.addr, ..mapping });
            }
            if cut_end < mapping_end {
                self.insert(part(&mapping, cut_end, mapping_end));
            }
            removed.push(part(&mapping, cut_start, cut_end));
        }
        removed
    }

    fn insert(&mut self, mapping: FakeMapping) {
        self.by_addr.insert(mapping.addr, mapping);
    }

    fn apply(&mut self, op: MapOp) -> Result<(), PlatformError> {
        match op {
            MapOp::MapFile { addr, len, file_offset, prot, .. } => {
                self.remove(addr, len);
                self.insert(FakeMapping { addr, len, file_offset, prot });
            }
            MapOp::Unmap { addr, len } => {
                self.remove(addr, len);
            }
            MapOp::Protect { addr, len, prot } => {
                let parts = self.remove(addr, len);
                let mapped: u64 = parts.iter().map(|part| part.len).sum();
                for part in parts {
                    self.insert(FakeMapping { prot, ..part });
                }
                if mapped != len {
                    // mprotect(2): ENOMEM for a range that is not wholly mapped.
                    return Err(PlatformError::Map { addr, errno: nix::errno::Errno::ENOMEM });
                }
            }
        }
        self.history.push(op);
        Ok(())
    }

    fn find(&self, addr: u64) -> Option<&FakeMapping> {
        let (_, mapping) = self.by_addr.range(..=addr).next_back()?;
        (addr - mapping.addr < mapping.len).then_some(mapping)
    }
}

fn part(mapping: &FakeMapping, start: u64, end: u64) -> FakeMapping {
    FakeMapping {
        addr: start,
        len: end - start,
        file_offset: mapping.file_offset + (start - mapping.addr),
        prot: mapping.prot,
    }
}

impl FakeAddressSpace {
    pub(super) fn new(memory: Arc<MemoryFile>, user_range: Range<u64>) -> FakeAddressSpace {
        FakeAddressSpace { memory, user_range, state: Mutex::default() }
    }

    /// The fake space behind a trait object.
    pub fn of(space: &Arc<dyn AddressSpace>) -> Option<&FakeAddressSpace> {
        let any: &dyn std::any::Any = &**space;
        any.downcast_ref()
    }

    /// The mappings by address.
    pub fn mappings(&self) -> Vec<FakeMapping> {
        self.state.lock().by_addr.values().copied().collect()
    }

    /// Every operation that was made, in its order.
    pub fn history(&self) -> Vec<MapOp> {
        self.state.lock().history.clone()
    }

    /// The call sites that could have been patched and were not given up, each with the offset of its page.
    pub fn offered_sites(&self) -> Vec<(CallSite, u64)> {
        self.state.lock().offered.clone()
    }

    /// Reads guest memory as the program would.
    pub fn read(&self, addr: u64, buffer: &mut [u8]) -> Result<(), FakeFault> {
        let mut done = 0;
        while done < buffer.len() {
            let (offset, len) = self.piece(addr, done, buffer.len(), Access::Read)?;
            let piece = &mut buffer[done..done + len];
            self.memory.read_at(offset, piece).map_err(|_| absent(addr, Access::Read))?;
            done += len;
        }
        Ok(())
    }

    /// Writes guest memory as the program would.
    pub fn write(&self, addr: u64, data: &[u8]) -> Result<(), FakeFault> {
        let mut done = 0;
        while done < data.len() {
            let (offset, len) = self.piece(addr, done, data.len(), Access::Write)?;
            let piece = &data[done..done + len];
            self.memory.write_at(offset, piece).map_err(|_| absent(addr, Access::Write))?;
            done += len;
        }
        Ok(())
    }

    /// The file offset of `addr + done` and how many of the remaining bytes its page holds.
    fn piece(
        &self,
        addr: u64,
        done: usize,
        total: usize,
        access: Access,
    ) -> Result<(u64, usize), FakeFault> {
        let at = addr.wrapping_add(done as u64);
        let wanted = match access {
            Access::Read => Prot::READ,
            Access::Write => Prot::WRITE,
            Access::Execute => Prot::EXEC,
        };
        let state = self.state.lock();
        let mapping = state.find(at).ok_or_else(|| absent(at, access))?;
        if !mapping.prot.contains(wanted) {
            return Err(FakeFault { addr: at, access, present: Presence::Protected });
        }
        let len = (PAGE_SIZE - at % PAGE_SIZE).min((total - done) as u64);
        Ok((mapping.file_offset + (at - mapping.addr), len as usize))
    }
}

fn absent(addr: u64, access: Access) -> FakeFault {
    FakeFault { addr, access, present: Presence::Absent }
}

impl AddressSpace for FakeAddressSpace {
    fn batch(&self, ops: &[MapOp]) -> Result<(), PlatformError> {
        check::ops(ops, &self.user_range, self.memory.size())?;
        let mut state = self.state.lock();
        ops.iter().try_for_each(|op| state.apply(*op))
    }

    fn patch_call(&self, site: CallSite, file_offset: u64) {
        self.state.lock().offered.push((site, file_offset));
    }

    fn patch_range(&self) -> Option<Range<u64>> {
        Some(PATCH_RANGE)
    }

    fn end_patches(&self) {
        self.state.lock().offered.clear();
    }
}
