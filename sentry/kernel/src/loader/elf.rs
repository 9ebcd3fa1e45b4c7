//! ELF headers as pure data: bytes in, checked segments out. No file, no memory; a fuzz target drives [`parse`].

use sentry_abi::elf::{
    EI_CLASS, EI_DATA, ELF_MAGIC, ELFCLASS64, ELFDATA2LSB, EM_X86_64, ET_DYN, ET_EXEC, ElfHeader,
    PF_R, PF_W, PF_X, PT_GNU_STACK, PT_INTERP, PT_LOAD, ProgramHeader,
};
use sentry_abi::{Errno, PAGE_SIZE};
use zerocopy::FromBytes;

use platform::Prot;

/// Bytes of the file header.
pub const HEADER_LEN: usize = size_of::<ElfHeader>();
/// Most bytes of program headers that Linux reads (binfmt_elf.c).
const TABLE_MAX: usize = 65536;
/// Longest interpreter path with its NUL (PATH_MAX).
const INTERPRETER_MAX: u64 = 4096;

/// Why a file is no program for this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ElfError {
    /// Shorter than its headers.
    #[error("the file ends inside its ELF headers")]
    Truncated,
    /// Not an ELF file at all.
    #[error("the file has no ELF magic")]
    Magic,
    /// An ELF file of another machine, word size or byte order.
    #[error("the file is for another machine")]
    Machine,
    /// Neither executable nor shared object.
    #[error("the file is no executable (object or core file)")]
    Type,
    /// The table of program headers has a bad size.
    #[error("the table of program headers is malformed")]
    Table,
    /// A segment that cannot be loaded: its sizes or addresses wrap, or address and offset do not fit together.
    #[error("a segment has impossible sizes or addresses")]
    Segment,
    /// The interpreter's name has a bad length.
    #[error("the interpreter's name is malformed")]
    Interpreter,
}

impl ElfError {
    /// What execve(2) answers for a program (an interpreter gives ELIBBAD instead).
    pub fn errno(self) -> Errno {
        Errno::ENOEXEC
    }
}

/// Executable at fixed addresses, or at any.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// ET_EXEC
    Fixed,
    /// ET_DYN: the loader adds a bias to all addresses.
    Anywhere,
}

/// What the file header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Fixed or not.
    pub placement: Placement,
    /// Entry point, unbiased.
    pub entry: u64,
    /// File offset of the program headers.
    pub table_offset: u64,
    /// Bytes of the program headers.
    pub table_len: usize,
    /// Number of program headers.
    pub count: u16,
}

/// A PT_LOAD segment. All sums of its fields fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// First byte, unbiased.
    pub addr: u64,
    /// File offset of it; as far into its page as `addr` is.
    pub offset: u64,
    /// Bytes from the file.
    pub file_len: u64,
    /// Bytes in memory, at least `file_len`; the rest is zero.
    pub memory_len: u64,
    /// What the program may do.
    pub prot: Prot,
}

impl Segment {
    /// First byte of its first page.
    pub fn page_start(&self) -> u64 {
        self.addr / PAGE_SIZE * PAGE_SIZE
    }

    /// Behind its last byte in memory.
    pub fn end(&self) -> u64 {
        self.addr + self.memory_len
    }
}

/// Bytes of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FilePart {
    /// File offset.
    pub offset: u64,
    /// Length.
    pub len: u64,
}

/// Whether the program wants its stack executable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StackRights {
    /// No, or it says nothing.
    Data,
    /// PT_GNU_STACK with PF_X.
    Executable,
}

/// A checked program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// The file header.
    pub header: Header,
    /// Segments to load, in the order of the file; at least one.
    pub segments: Vec<Segment>,
    /// Where the interpreter's path lies in the file, with its NUL.
    pub interpreter: Option<FilePart>,
    /// Stack rights.
    pub stack: StackRights,
    /// Greatest alignment of a segment: a power of two, at least a page.
    pub align: u64,
}

impl Image {
    /// First page and end of all segments, unbiased.
    pub fn span(&self) -> (u64, u64) {
        let start = self.segments.iter().map(Segment::page_start).min().unwrap_or(0);
        let end = self.segments.iter().map(Segment::end).max().unwrap_or(0);
        (start, end)
    }

    /// Address of the program headers, unbiased, where a segment holds them; else 0 as on Linux.
    pub fn table_addr(&self) -> u64 {
        let at = self.header.table_offset;
        let holder = self.segments.iter().find(|s| s.offset <= at && at - s.offset < s.file_len);
        holder.map_or(0, |s| s.addr + (at - s.offset))
    }
}

/// Parses a file header from the first bytes of a file.
pub fn parse_header(bytes: &[u8]) -> Result<Header, ElfError> {
    if !bytes.starts_with(&ELF_MAGIC) {
        return Err(ElfError::Magic);
    }
    let Ok((header, _)) = ElfHeader::read_from_prefix(bytes) else {
        return Err(ElfError::Truncated);
    };
    let ours = header.ident[EI_CLASS] == ELFCLASS64
        && header.ident[EI_DATA] == ELFDATA2LSB
        && header.machine == EM_X86_64;
    if !ours {
        return Err(ElfError::Machine);
    }
    let placement = match header.file_type {
        ET_EXEC => Placement::Fixed,
        ET_DYN => Placement::Anywhere,
        _ => return Err(ElfError::Type),
    };
    let table_len = usize::from(header.phnum) * size_of::<ProgramHeader>();
    let fine = usize::from(header.phentsize) == size_of::<ProgramHeader>()
        && (1..=TABLE_MAX).contains(&table_len)
        && header.phoff.checked_add(table_len as u64).is_some();
    if !fine {
        return Err(ElfError::Table);
    }
    Ok(Header {
        placement,
        entry: header.entry,
        table_offset: header.phoff,
        table_len,
        count: header.phnum,
    })
}

/// Parses the program headers; `table` holds `header.table_len` bytes. Addresses end at or below `user_end`.
pub fn parse_table(header: Header, table: &[u8], user_end: u64) -> Result<Image, ElfError> {
    let table = table.get(..header.table_len).ok_or(ElfError::Truncated)?;
    let mut image = Image {
        header,
        segments: Vec::new(),
        interpreter: None,
        stack: StackRights::Data,
        align: PAGE_SIZE,
    };
    for bytes in table.chunks_exact(size_of::<ProgramHeader>()) {
        let Ok(entry) = ProgramHeader::read_from_bytes(bytes) else {
            return Err(ElfError::Truncated);
        };
        match entry.kind {
            PT_LOAD if entry.memsz == 0 && entry.filesz == 0 => {}
            PT_LOAD => {
                image.segments.push(segment(&entry, user_end)?);
                // An alignment that is no power of two means nothing (Linux ignores it); a huge one would leave no room.
                if entry.align.is_power_of_two() && entry.align <= 1 << 30 {
                    image.align = image.align.max(entry.align);
                }
            }
            // Linux takes the first of each.
            PT_INTERP if image.interpreter.is_none() => {
                if entry.filesz < 2 || entry.filesz > INTERPRETER_MAX {
                    return Err(ElfError::Interpreter);
                }
                image.interpreter = Some(FilePart { offset: entry.offset, len: entry.filesz });
            }
            PT_GNU_STACK if entry.flags & PF_X != 0 => image.stack = StackRights::Executable,
            _ => {}
        }
    }
    if image.segments.is_empty() {
        return Err(ElfError::Segment);
    }
    Ok(image)
}

/// Parses header and program headers of a whole file in memory.
pub fn parse(file: &[u8], user_end: u64) -> Result<Image, ElfError> {
    let header = parse_header(file)?;
    let start = usize::try_from(header.table_offset).map_err(|_| ElfError::Truncated)?;
    parse_table(header, file.get(start..).ok_or(ElfError::Truncated)?, user_end)
}

fn segment(entry: &ProgramHeader, user_end: u64) -> Result<Segment, ElfError> {
    let page_offset = entry.vaddr % PAGE_SIZE;
    let fits = entry.filesz <= entry.memsz
        && entry.vaddr.checked_add(entry.memsz).is_some_and(|end| end <= user_end)
        && entry.offset.checked_add(entry.filesz).is_some_and(|end| end <= i64::MAX as u64)
        && (entry.filesz == 0 || entry.offset % PAGE_SIZE == page_offset);
    if !fits {
        return Err(ElfError::Segment);
    }
    let mut prot = Prot::empty();
    prot.set(Prot::READ, entry.flags & PF_R != 0);
    prot.set(Prot::WRITE, entry.flags & PF_W != 0);
    prot.set(Prot::EXEC, entry.flags & PF_X != 0);
    Ok(Segment {
        addr: entry.vaddr,
        offset: entry.offset,
        file_len: entry.filesz,
        memory_len: entry.memsz,
        prot,
    })
}
