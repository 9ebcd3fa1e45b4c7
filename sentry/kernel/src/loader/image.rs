//! Maps an ELF image: segments as private mappings of the file, what lies behind their bytes as zeroes.

use core::ops::Range;

use platform::Prot;
use sentry_abi::mman::{MapFlags, MapType};
use sentry_abi::{Errno, PAGE_SIZE, UserAddr};

use crate::error::{Error, Result};
use crate::file::FileDescription;
use crate::loader::elf::{self, Image, Segment};
use crate::loader::read_part;
use crate::mm::{Label, MapSource, MemoryManager, MmapArgs};

/// Where an image goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// At the addresses in the file.
    AsLinked,
    /// Its first page here.
    At(u64),
    /// Where mmap finds room.
    Mmap,
}

/// A mapped image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Placed {
    /// What is added to the file's addresses (wrapping).
    pub bias: u64,
    /// First byte: AT_BASE for an interpreter.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
    /// Entry point.
    pub entry: u64,
    /// Executable segments.
    pub code: Range<u64>,
    /// The other segments.
    pub data: Range<u64>,
}

/// Reads and checks the headers; `head` holds the file's first bytes. Errors: ENOEXEC, EIO.
pub(super) fn read(file: &FileDescription, head: &[u8], user_end: u64) -> Result<Image> {
    let refused = |_| Error::with_msg(Errno::ENOEXEC, "no ELF file for this machine");
    let header = elf::parse_header(head).map_err(refused)?;
    let table = read_part(file, header.table_offset, header.table_len)?;
    let image = elf::parse_table(header, &table, user_end)
        .map_err(|_| Error::with_msg(Errno::ENOEXEC, "malformed program headers"))?;
    // A file that ends inside a segment would give SIGBUS later; saying so now is kinder.
    let len = file.ops().end()?;
    if image.segments.iter().any(|segment| segment.offset + segment.file_len > len) {
        return Err(Error::with_msg(Errno::ENOEXEC, "the file is shorter than its segments"));
    }
    Ok(image)
}

/// Maps the image. Errors: ENOEXEC where the file cannot be mapped or its addresses cannot be had, ENOMEM.
pub(super) fn map(
    mm: &MemoryManager,
    file: &FileDescription,
    image: &Image,
    place: Place,
) -> Result<Placed> {
    let (first, last) = image.span();
    let bias = match (image.header.placement, place) {
        (elf::Placement::Fixed, _) | (_, Place::AsLinked) => 0,
        (_, Place::At(at)) => (at & !(image.align - 1)).wrapping_sub(first & !(image.align - 1)),
        (_, Place::Mmap) => reserve(mm, image, first, last)?.wrapping_sub(first),
    };
    let at = |addr: u64| addr.wrapping_add(bias);
    let user_end = mm.layout().user.end;
    if at(first) > at(last) || at(last) > user_end {
        return Err(Errno::ENOMEM.into());
    }
    for segment in &image.segments {
        map_segment(mm, file, segment, bias)?;
    }
    let range_of = |executable: bool| {
        let chosen = image.segments.iter().filter(|s| s.prot.contains(Prot::EXEC) == executable);
        let start = chosen.clone().map(|s| at(s.addr)).min().unwrap_or(0);
        start..chosen.map(|s| at(s.addr + s.file_len)).max().unwrap_or(0)
    };
    Ok(Placed {
        bias,
        start: at(first),
        end: at(last),
        entry: at(image.header.entry),
        code: range_of(true),
        data: range_of(false),
    })
}

/// Finds room for the whole image and leaves it free: nobody else maps in a new address space.
fn reserve(mm: &MemoryManager, image: &Image, first: u64, last: u64) -> Result<u64> {
    let span = (last - first).checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::ENOMEM)?;
    let slack = image.align - PAGE_SIZE;
    let len = span.checked_add(slack).ok_or(Errno::ENOMEM)?;
    let base = mm.mmap(MmapArgs::anonymous(len, Prot::empty()))?;
    mm.munmap(base, len)?;
    // The first segment keeps its place in an aligned block.
    let within = first & (image.align - 1);
    let aligned = (base.0.wrapping_sub(within)).checked_next_multiple_of(image.align);
    aligned.map(|at| at + within).ok_or_else(|| Errno::ENOMEM.into())
}

fn map_segment(
    mm: &MemoryManager,
    file: &FileDescription,
    segment: &Segment,
    bias: u64,
) -> Result<()> {
    let start = segment.addr.wrapping_add(bias);
    let page_start = start / PAGE_SIZE * PAGE_SIZE;
    let in_page = start - page_start;
    let file_end = start + segment.file_len;
    let end = start.checked_add(segment.memory_len).ok_or(Errno::ENOMEM)?;
    let mut zero_from = page_start;
    if segment.file_len > 0 {
        let object = file.ops().mappable().map_err(|_| Errno::ENOEXEC)?;
        let label = file.path().map_or(Label::None, |path| Label::File(path.clone()));
        let (offset, allowed) = (segment.offset - in_page, Prot::all());
        let source = MapSource::Object { object, offset, allowed, label };
        map_at(mm, page_start, in_page + segment.file_len, segment.prot, source)?;
        zero_from = file_end.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::ENOMEM)?;
        // What the file has behind the segment in its last page is not the program's; the dynamic linker
        // allocates from there to the page's end and expects zeroes (padzero of Linux).
        if segment.memory_len > segment.file_len && segment.prot.contains(Prot::WRITE) {
            mm.zero(UserAddr(file_end), (zero_from - file_end) as usize)?;
        }
    }
    if end > zero_from {
        map_at(mm, zero_from, end - zero_from, segment.prot, MapSource::Anonymous)?;
    }
    Ok(())
}

fn map_at(mm: &MemoryManager, addr: u64, len: u64, prot: Prot, source: MapSource) -> Result<()> {
    let args = MmapArgs {
        addr: UserAddr(addr),
        len,
        prot,
        kind: MapType::Private,
        flags: MapFlags::FIXED,
        source,
    };
    mm.mmap(args).map(|_| ())
}
