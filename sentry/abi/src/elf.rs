//! ELF files of 64-bit x86 (linux/elf.h, elf(5)): headers as they lie in the file.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First bytes of every ELF file.
pub const ELF_MAGIC: [u8; 4] = *b"\x7fELF";
/// e_ident index of the class.
pub const EI_CLASS: usize = 4;
/// e_ident index of the byte order.
pub const EI_DATA: usize = 5;
/// 64-bit objects.
pub const ELFCLASS64: u8 = 2;
/// Little-endian.
pub const ELFDATA2LSB: u8 = 1;
/// Executable at fixed addresses.
pub const ET_EXEC: u16 = 2;
/// Shared object or position-independent executable.
pub const ET_DYN: u16 = 3;
/// x86-64.
pub const EM_X86_64: u16 = 62;
/// Loadable segment.
pub const PT_LOAD: u32 = 1;
/// Path of the interpreter.
pub const PT_INTERP: u32 = 3;
/// The program headers themselves.
pub const PT_PHDR: u32 = 6;
/// Stack permissions.
pub const PT_GNU_STACK: u32 = 0x6474_e551;
/// Segment is executable.
pub const PF_X: u32 = 1;
/// Segment is writable.
pub const PF_W: u32 = 2;
/// Segment is readable.
pub const PF_R: u32 = 4;

/// Elf64_Ehdr
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ElfHeader {
    /// Magic, class, byte order, version, ABI.
    pub ident: [u8; 16],
    /// ET_*
    pub file_type: u16,
    /// EM_*
    pub machine: u16,
    /// 1
    pub version: u32,
    /// Entry point, before relocation.
    pub entry: u64,
    /// File offset of the program headers.
    pub phoff: u64,
    /// File offset of the section headers.
    pub shoff: u64,
    /// Processor flags.
    pub flags: u32,
    /// Size of this header in bytes.
    pub ehsize: u16,
    /// Size of a program header in bytes.
    pub phentsize: u16,
    /// Number of program headers.
    pub phnum: u16,
    /// Size of a section header in bytes.
    pub shentsize: u16,
    /// Number of section headers.
    pub shnum: u16,
    /// Index of the section of names.
    pub shstrndx: u16,
}

const _: () = assert!(size_of::<ElfHeader>() == 64);

/// Elf64_Phdr
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ProgramHeader {
    /// PT_*
    pub kind: u32,
    /// PF_*
    pub flags: u32,
    /// File offset.
    pub offset: u64,
    /// Address, before relocation.
    pub vaddr: u64,
    /// Physical address, unused.
    pub paddr: u64,
    /// Bytes in the file.
    pub filesz: u64,
    /// Bytes in memory.
    pub memsz: u64,
    /// Alignment: 0, 1 or a power of two.
    pub align: u64,
}

const _: () = assert!(size_of::<ProgramHeader>() == 56);
