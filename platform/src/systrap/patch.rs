//! Call sites that are patched: `mov $nr, %eax; syscall`, once it has been seen often, becomes a jump to a trampoline,
//! by which the thread hands over without a signal.
//!
//! The seven bytes become `jmp *slot`, one instruction whose last two bytes, the upper half of the slot's address, are
//! those of `syscall` again. So a thread that stands or jumps in the middle, a call that is made again, and whoever
//! must leave the trampoline find there what has always been there.
//!
//! What is patched is a copy of the page, mapped in place of it in one host call: other threads have the old page or
//! the new one. The kernel knows nothing of the copy; whatever it maps or makes writable there takes the copy away.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::OnceLock;

use iced_x86::{Decoder, DecoderOptions};
use parking_lot::Mutex;

use super::code::{Places, SITE_SIZE, SITES_MAX};
use super::{Shared, call};
use crate::stub::process::{StubProcess, map_call};
use crate::{CallSite, FileRange, MapOp, MemoryError, PAGE_SIZE, PlatformError, Populate, Prot};

/// Where slots lie in each space that has a patched site: the bytes of `syscall` are its upper half.
const SLOTS: u64 = 0x050f_0000;
const SLOT_SIZE: u64 = 8;
const SLOTS_LEN: u64 = SITES_MAX * SLOT_SIZE;
pub(super) const SLOTS_RANGE: Range<u64> = SLOTS..SLOTS + SLOTS_LEN;
/// Bytes of `mov $nr, %eax`, and of the whole site.
const MOV_LEN: u64 = 5;
const SITE_LEN: u64 = 7;
/// Rows of instructions are decoded from so many bytes before a site on, at most and at least.
const FAR: usize = 64;
const NEAR: usize = 24;
/// Where functions begin.
const FUNCTION_ALIGN: usize = 16;
/// Pages with patched sites in one space at most: each is a page of memory and two more mappings of the host's.
const PAGES_MAX: usize = 128;
/// Debuggers and unwinders know a signal's return by its bytes.
const RT_SIGRETURN: u64 = libc::SYS_rt_sigreturn as u64;

/// What is the same in all spaces: the slots, and the trampolines that they lead to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trampolines {
    slots: FileRange,
    code: FileRange,
}

impl Trampolines {
    fn make(shared: &Shared) -> Result<Trampolines, MemoryError> {
        let places = Places::of(shared.zygote.base());
        let code_len = SITES_MAX * SITE_SIZE;
        let memory = &shared.memory;
        let slots = memory.allocate(SLOTS_LEN, PAGE_SIZE)?;
        let code = memory.allocate(code_len, PAGE_SIZE)?;
        for index in 0..SITES_MAX {
            let at = index * SITE_SIZE;
            let place = places.sites.start + at;
            memory.write_at(slots.start + index * SLOT_SIZE, &place.to_le_bytes())?;
            memory.write_at(code.start + at, &trampoline(index, place, places.call))?;
        }
        Ok(Trampolines { slots, code })
    }
}

/// `mov $(index << 16), %r11d; jmp call`, and what traps.
fn trampoline(index: u64, place: u64, call: u64) -> [u8; SITE_SIZE as usize] {
    let mut code = [0xcc; SITE_SIZE as usize];
    let behind = place + 11;
    code[..2].copy_from_slice(&[0x41, 0xbb]);
    code[2..6].copy_from_slice(&((index << 16) as u32).to_le_bytes());
    code[6] = 0xe9;
    // The region and what is behind it are less than a GiB.
    code[7..11].copy_from_slice(&(call.wrapping_sub(behind) as u32).to_le_bytes());
    code
}

/// `jmp *slot` of that site.
fn jump(index: u64) -> [u8; SITE_LEN as usize] {
    let mut code = [0xff, 0x24, 0x25, 0, 0, 0, 0];
    code[3..].copy_from_slice(&((SLOTS + index * SLOT_SIZE) as u32).to_le_bytes());
    code
}

/// The patched sites of a space.
#[derive(Default)]
pub(super) struct Patches {
    /// By number. A number is never used for another address: threads may be on their way with it.
    sites: OnceLock<Box<[OnceLock<CallSite>]>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stage: Stage,
    /// Numbers by address.
    numbers: BTreeMap<u64, u64>,
    /// By address of the page.
    copies: BTreeMap<u64, Copied>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// There is no site yet.
    #[default]
    Unused,
    /// Slots and trampolines are mapped.
    Used,
    /// The program has mapped what it likes at the slots' place: no site from now on.
    Ended,
}

/// A page whose copy is mapped in its place.
#[derive(Clone, Copy, Debug)]
struct Copied {
    /// Offset of the page itself.
    original: u64,
    copy: FileRange,
    /// As the kernel has it.
    prot: Prot,
}

impl Patches {
    /// Whether a thread of the space can come to a trampoline.
    pub(super) fn are_used(&self) -> bool {
        self.sites.get().is_some()
    }

    /// The site of that number.
    pub(super) fn site(&self, number: u64) -> Option<CallSite> {
        self.sites.get()?.get(usize::try_from(number).ok()?)?.get().copied()
    }

    /// Executes map operations, and gives up the copies of pages that they change.
    pub(super) fn batch(
        &self,
        process: &StubProcess,
        shared: &Shared,
        ops: &[MapOp],
    ) -> Result<(), PlatformError> {
        let mut state = self.state.lock();
        if ops.iter().any(maps_at_slots) && state.stage == Stage::Unused {
            state.stage = Stage::Ended;
        }
        if state.stage != Stage::Used {
            return process.batch(ops);
        }
        let (ops, dropped) = state.adapt(ops);
        let result = process.batch(&ops);
        for copy in dropped {
            match result {
                Ok(()) => shared.memory.decref(copy),
                // It may still be mapped.
                Err(_) => process.free_at_end(copy),
            }
        }
        result
    }

    /// Patches a site in the page that the kernel has mapped from `original` in the memory file. Whatever
    /// speaks against it, the call goes on by its signal.
    pub(super) fn patch(
        &self,
        process: &StubProcess,
        shared: &Shared,
        site: CallSite,
        original: u64,
    ) -> Option<()> {
        let start = site.behind.checked_sub(SITE_LEN)?;
        let page = site.last_byte() / PAGE_SIZE * PAGE_SIZE;
        // A site over two pages is none.
        let offset = start.checked_sub(page)?;
        let mut state = self.state.lock();
        let known = state.numbers.get(&site.behind).copied();
        let copied = state.copies.get(&page).copied();
        let room = copied.is_some() || state.copies.len() < PAGES_MAX;
        let stale = copied.is_some_and(|copied| copied.original != original);
        if state.stage == Stage::Ended || !call::is_supported() || !room || stale {
            return None;
        }
        let mut bytes = vec![0; PAGE_SIZE as usize];
        shared.memory.read_at(original, &mut bytes).ok()?;
        if !is_site(&bytes, offset as usize, site.nr) {
            return None;
        }
        let patched = |number| {
            let mut bytes = [0; SITE_LEN as usize];
            let at = copied?.copy.start + offset;
            shared.memory.read_at(at, &mut bytes).ok()?;
            (bytes == jump(number)).then_some(())
        };
        if let Some(()) = known.and_then(patched) {
            // Another thread was first.
            return None;
        }
        let number = known.unwrap_or(state.numbers.len() as u64);
        if number >= SITES_MAX {
            return None;
        }
        self.begin(&mut state, process, shared)?;
        let sites = self.sites.get_or_init(|| (0..SITES_MAX).map(|_| OnceLock::new()).collect());
        if *sites.get(number as usize)?.get_or_init(|| site) != site {
            return None;
        }
        state.numbers.insert(site.behind, number);
        let source = copied.map_or(original, |copied| copied.copy.start);
        let copy = shared.memory.allocate(PAGE_SIZE, PAGE_SIZE).ok()?;
        let made = shared
            .memory
            .copy_within(source, copy.start, PAGE_SIZE)
            .and_then(|()| shared.memory.write_at(copy.start + offset, &jump(number)));
        let prot = Prot::READ | Prot::EXEC;
        let op = MapOp::MapFile {
            addr: page,
            len: PAGE_SIZE,
            file_offset: copy.start,
            prot,
            populate: Populate::Now,
        };
        if made.is_err() || process.batch(&[op]).is_err() {
            process.free_at_end(copy);
            return None;
        }
        state.copies.insert(page, Copied { original, copy, prot });
        copied.iter().for_each(|old| shared.memory.decref(old.copy));
        Some(())
    }

    /// Maps slots and trampolines before the first site.
    fn begin(&self, state: &mut State, process: &StubProcess, shared: &Shared) -> Option<()> {
        if state.stage == Stage::Used {
            return Some(());
        }
        let mut made = shared.trampolines.lock();
        let Trampolines { slots, code } = match *made {
            Some(made) => made,
            None => *made.insert(Trampolines::make(shared).ok()?),
        };
        let at = Places::of(shared.zygote.base()).sites;
        let (read, execute) = (libc::PROT_READ as u64, (libc::PROT_READ | libc::PROT_EXEC) as u64);
        let len = at.end - at.start;
        let code = map_call(at.start, len, code.start, execute, libc::MAP_POPULATE);
        let slots = map_call(SLOTS, SLOTS_LEN, slots.start, read, libc::MAP_POPULATE);
        process.map_own(&[code, slots]).ok()?;
        state.stage = Stage::Used;
        Some(())
    }

    /// Gives the copies back when the process is gone.
    pub(super) fn free_at_end(&self, process: &StubProcess) {
        let copies = std::mem::take(&mut self.state.lock().copies);
        copies.values().for_each(|copied| process.free_at_end(copied.copy));
    }
}

impl State {
    /// The operations with those that bring back what they touch, and the copies that are mapped no more behind them.
    fn adapt(&mut self, ops: &[MapOp]) -> (Vec<MapOp>, Vec<FileRange>) {
        let mut adapted = Vec::with_capacity(ops.len());
        let mut dropped = Vec::new();
        if ops.iter().any(takes_slots) {
            // No jump may be left when its slot goes.
            self.stage = Stage::Ended;
            for (page, Copied { original, copy, prot }) in std::mem::take(&mut self.copies) {
                adapted.push(original_op(page, original, prot));
                dropped.push(copy);
            }
        }
        for op in ops {
            adapted.push(*op);
            if let MapOp::Protect { prot, .. } = *op
                && !prot.contains(Prot::WRITE)
            {
                self.copies.range_mut(range_of(op)).for_each(|(_, copied)| copied.prot = prot);
                continue;
            }
            for (page, Copied { original, copy, .. }) in self.take(range_of(op)) {
                if let MapOp::Protect { prot, .. } = *op {
                    adapted.push(original_op(page, original, prot));
                }
                dropped.push(copy);
            }
        }
        (adapted, dropped)
    }

    fn take(&mut self, range: Range<u64>) -> Vec<(u64, Copied)> {
        self.copies.extract_if(range, |_, _| true).collect()
    }
}

fn original_op(page: u64, original: u64, prot: Prot) -> MapOp {
    let populate = Populate::Lazy;
    MapOp::MapFile { addr: page, len: PAGE_SIZE, file_offset: original, prot, populate }
}

fn range_of(op: &MapOp) -> Range<u64> {
    let (MapOp::MapFile { addr, len, .. }
    | MapOp::Unmap { addr, len }
    | MapOp::Protect { addr, len, .. }) = *op;
    addr..addr.saturating_add(len)
}

fn meets_slots(range: &Range<u64>) -> bool {
    range.start < SLOTS_RANGE.end && range.end > SLOTS_RANGE.start
}

/// Whether the program has something of its own at the slots' place from now on.
fn maps_at_slots(op: &MapOp) -> bool {
    matches!(op, MapOp::MapFile { .. }) && meets_slots(&range_of(op))
}

/// Whether slots are not readable behind the operation.
fn takes_slots(op: &MapOp) -> bool {
    meets_slots(&range_of(op))
}

/// Whether the bytes at `at` of a page are `mov $nr, %eax; syscall`, and the first one begins an instruction, and is not inside
/// of another that ends before the `syscall`, which has run.
///
/// What is decoded from a few instructions before falls into step with the program soon: all such rows must agree. Nearer
/// to the site only a function can begin, behind what is no code.
fn is_site(page: &[u8], at: usize, nr: u64) -> bool {
    let (Ok(number), Some(near)) = (u32::try_from(nr), at.checked_sub(NEAR)) else {
        return false;
    };
    let mut wanted = [0xb8, 0, 0, 0, 0, 0x0f, 0x05];
    wanted[1..5].copy_from_slice(&number.to_le_bytes());
    let same = page.get(at..at + SITE_LEN as usize).is_some_and(|bytes| bytes == wanted);
    if !same || nr == RT_SIGRETURN {
        return false;
    }
    let mut far = (at.saturating_sub(FAR)..=near).filter_map(|start| row(page, start, at));
    let functions = (near..at).filter(|start| start.is_multiple_of(FUNCTION_ALIGN));
    let mut near = functions.filter_map(|start| row(page, start, at));
    far.next() == Some(Row::Agrees)
        && far.all(|row| row == Row::Agrees)
        && near.all(|row| row == Row::Agrees)
}

/// What a row of instructions says about the first byte of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    /// It begins an instruction.
    Agrees,
    /// It is inside of one.
    Contradicts,
}

/// The row that begins at `start`. `None`: it is no code, or none that comes to the `syscall`.
fn row(page: &[u8], start: usize, at: usize) -> Option<Row> {
    let syscall = at + MOV_LEN as usize;
    let mut decoder = Decoder::new(64, page, DecoderOptions::NONE);
    decoder.set_position(start).ok()?;
    let mut said = Row::Contradicts;
    while decoder.position() < syscall {
        if decoder.position() == at {
            said = Row::Agrees;
        }
        if decoder.decode().is_invalid() {
            return None;
        }
    }
    (decoder.position() == syscall).then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GETPID: [u8; 7] = [0xb8, 39, 0, 0, 0, 0x0f, 0x05];

    fn page_with(before: &[u8]) -> (Vec<u8>, usize) {
        let mut page = vec![0x90; 4096];
        page[100..100 + before.len()].copy_from_slice(before);
        let at = 100 + before.len();
        page[at..at + 7].copy_from_slice(&GETPID);
        (page, at)
    }

    #[test]
    fn the_jump_has_the_call_in_its_end() {
        for index in 0..SITES_MAX {
            let code = jump(index);
            assert_eq!(code[5..], [0x0f, 0x05]);
            let decoded = Decoder::with_ip(64, &code, 0x40_0000, DecoderOptions::NONE).decode();
            assert_eq!(decoded.len(), 7);
            assert_eq!(decoded.memory_displacement64(), SLOTS + index * SLOT_SIZE);
        }
    }

    #[test]
    fn a_trampoline_names_its_site_and_goes_to_the_call() {
        let code = trampoline(5, 0x7f00_2000_0050, 0x7f00_0000_0500);
        let mut decoder = Decoder::with_ip(64, &code, 0x7f00_2000_0050, DecoderOptions::NONE);
        assert_eq!(decoder.decode().immediate32(), 5 << 16);
        assert_eq!(decoder.decode().near_branch64(), 0x7f00_0000_0500);
    }

    #[test]
    fn usual_wrappers_are_sites() {
        let before: [&[u8]; 6] = [
            &[0xb8, 0x01, 0, 0, 0, 0x31, 0xf6], // mov $1, %eax; xor %esi, %esi
            &[0xf3, 0x0f, 0x1e, 0xfa],          // endbr64
            &[0x49, 0x89, 0xca],                // mov %rcx, %r10
            &[0x41, 0x89, 0xca],                // mov %ecx, %r10d
            &[0x31, 0xf6],                      // xor %esi, %esi
            &[0x48, 0x8b, 0x7c, 0x24, 0x08],    // mov 8(%rsp), %rdi
        ];
        for before in before {
            let (page, at) = page_with(before);
            assert!(is_site(&page, at, 39), "{before:x?}");
            assert!(!is_site(&page, at, 40), "another number");
        }
    }

    #[test]
    fn what_is_the_end_of_another_instruction_is_none() {
        let before: [&[u8]; 4] = [
            // A function that begins behind what is no code: idivb 39(%rax)
            &[0x06, 0x06, 0x06, 0x06, 0x06, 0x06, 0x06, 0x06, 0x06, 0x06, 0x06, 0x06, 0xf6],
            &[0x41],                   // mov $39, %r8d
            &[0xc7, 0x45],             // movl $39, -72(%rbp)
            &[0x48, 0xc7, 0x44, 0x24], // movq $39, -72(%rsp)
        ];
        for before in before {
            let (page, at) = page_with(before);
            assert!(!is_site(&page, at, 39), "{before:x?}");
        }
        let (mut page, at) = page_with(&[0x90]);
        page[at + 1] = RT_SIGRETURN as u8;
        assert!(!is_site(&page, at, RT_SIGRETURN));
    }

    #[test]
    fn a_site_lies_in_one_page_with_what_is_before_it() {
        let mut page = vec![0x90; 4096];
        for at in [0, NEAR - 1, 4096 - 6] {
            let end = (at + 7).min(4096);
            page[at..end].copy_from_slice(&GETPID[..end - at]);
            assert!(!is_site(&page, at, 39), "{at}");
        }
        page[4089..].copy_from_slice(&GETPID);
        assert!(is_site(&page, 4089, 39));
    }

    fn state() -> State {
        let copied = |number: u64| Copied {
            original: 0x10_0000 + number * PAGE_SIZE,
            copy: FileRange::new(0x20_0000 + number * PAGE_SIZE, PAGE_SIZE),
            prot: Prot::READ | Prot::EXEC,
        };
        let copies = (0..3).map(|number| (0x40_0000 + number * PAGE_SIZE, copied(number)));
        State { stage: Stage::Used, numbers: BTreeMap::new(), copies: copies.collect() }
    }

    #[test]
    fn a_page_that_is_mapped_anew_or_away_has_no_copy_any_more() {
        for op in [
            MapOp::Unmap { addr: 0x40_1000, len: 0x1000 },
            original_op(0x40_1000, 0x90_0000, Prot::READ),
        ] {
            let mut state = state();
            let (ops, dropped) = state.adapt(&[op]);
            assert_eq!((ops, dropped.len(), state.copies.len()), (vec![op], 1, 2));
            assert_eq!(dropped[0].start, 0x20_1000);
        }
    }

    #[test]
    fn a_page_that_becomes_writable_is_itself_again() {
        let mut state = state();
        let all = Prot::READ | Prot::WRITE | Prot::EXEC;
        let op = |prot| MapOp::Protect { addr: 0x40_0000, len: 0x2000, prot };
        let (ops, dropped) = state.adapt(&[op(Prot::READ)]);
        assert_eq!((ops, dropped.len()), (vec![op(Prot::READ)], 0));
        let (ops, dropped) = state.adapt(&[op(all)]);
        let original = |number: u64| original_op(0x40_0000 + number, 0x10_0000 + number, all);
        assert_eq!(ops, [op(all), original(0), original(0x1000)]);
        assert_eq!((dropped.len(), state.copies.len()), (2, 1));
    }

    #[test]
    fn where_slots_go_all_pages_are_themselves_before() {
        let mut state = state();
        let closed = Prot::empty();
        state.adapt(&[MapOp::Protect { addr: 0x40_2000, len: 0x1000, prot: closed }]);
        let op = original_op(SLOTS + PAGE_SIZE, 0x90_0000, Prot::READ);
        let (ops, dropped) = state.adapt(&[op]);
        assert_eq!((ops.len(), ops[3], dropped.len()), (4, op, 3));
        assert_eq!(ops[0], original_op(0x40_0000, 0x10_0000, Prot::READ | Prot::EXEC));
        assert_eq!(ops[2], original_op(0x40_2000, 0x10_2000, closed));
        assert_eq!((state.stage, state.copies.len()), (Stage::Ended, 0));
    }
}
