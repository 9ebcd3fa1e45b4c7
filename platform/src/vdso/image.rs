//! The ELF image around the vDSO's code: what a dynamic linker needs to find the functions, in the
//! shape that Linux's own vDSO has (vdso(7)): soname `linux-vdso.so.1`, version `LINUX_2.6`.
//!
//! Page 0 holds headers and dynamic tables, the code follows at [`CODE_OFFSET`]. Addresses start at 0.

use super::code::{CODE_OFFSET, code, functions};
use crate::PAGE_SIZE;

const HEADER_SIZE: usize = 64;
const PROGRAM_HEADER_SIZE: usize = 56;
const SYMBOL_SIZE: usize = 24;
const SONAME: &str = "linux-vdso.so.1";
const VERSION: &str = "LINUX_2.6";

/// Little-endian bytes that grow.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u16(&mut self, value: u16) -> &mut Bytes {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn u32(&mut self, value: u32) -> &mut Bytes {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Bytes {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Pads to eight bytes; returns the offset of what comes next.
    fn align(&mut self) -> u64 {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        self.0.len() as u64
    }
}

/// A string table.
struct Strings(Vec<u8>);

impl Strings {
    fn add(&mut self, text: &str) -> u32 {
        let offset = self.0.len() as u32;
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
        offset
    }
}

/// The image: a whole number of pages, to be mapped R-X directly behind the parameter page.
pub fn image() -> Vec<u8> {
    let len = (CODE_OFFSET as usize + code().len()).next_multiple_of(PAGE_SIZE as usize);
    let mut bytes = Bytes(vec![0; HEADER_SIZE + 2 * PROGRAM_HEADER_SIZE]);
    let mut strings = Strings(vec![0]);
    let names = exported_names();
    let symbols = bytes.align();
    put_symbols(&mut bytes, &mut strings, &names);
    let hash = bytes.align();
    put_hash(&mut bytes, &names);
    let versions = bytes.align();
    bytes.u16(0);
    for _ in &names {
        bytes.u16(2);
    }
    let definitions = bytes.align();
    let soname = put_definitions(&mut bytes, &mut strings);
    let table = bytes.align();
    bytes.0.extend_from_slice(&strings.0);
    let dynamic = bytes.align();
    let entries = [
        (14, u64::from(soname)),      // DT_SONAME
        (4, hash),                    // DT_HASH
        (5, table),                   // DT_STRTAB
        (6, symbols),                 // DT_SYMTAB
        (10, strings.0.len() as u64), // DT_STRSZ
        (11, SYMBOL_SIZE as u64),     // DT_SYMENT
        (0x6fff_fff0, versions),      // DT_VERSYM
        (0x6fff_fffc, definitions),   // DT_VERDEF
        (0x6fff_fffd, 2),             // DT_VERDEFNUM
        (0, 0),
    ];
    for (tag, value) in entries {
        bytes.u64(tag).u64(value);
    }
    let dynamic_size = 16 * entries.len() as u64;
    let headers = headers(len as u64, dynamic, dynamic_size);
    bytes.0[..headers.len()].copy_from_slice(&headers);
    debug_assert!(bytes.0.len() <= CODE_OFFSET as usize);
    bytes.0.resize(CODE_OFFSET as usize, 0);
    bytes.0.extend_from_slice(code());
    bytes.0.resize(len, 0);
    bytes.0
}

/// Every function by both its names, with its address and size.
fn exported_names() -> Vec<(String, u64, u64)> {
    functions()
        .iter()
        .flat_map(|function| {
            let at = CODE_OFFSET + function.offset;
            [
                (format!("__vdso_{}", function.name), at, function.size),
                (function.name.to_string(), at, function.size),
            ]
        })
        .collect()
}

fn put_symbols(bytes: &mut Bytes, strings: &mut Strings, names: &[(String, u64, u64)]) {
    bytes.0.resize(bytes.0.len() + SYMBOL_SIZE, 0);
    for (name, at, size) in names {
        // The names with prefix are global, the plain ones weak: a C library's own come first.
        let binding: u8 = if name.starts_with("__vdso_") { 1 } else { 2 };
        bytes.u32(strings.add(name));
        bytes.0.extend_from_slice(&[binding << 4 | 2, 0]); // STT_FUNC, STV_DEFAULT
        bytes.u16(1).u64(*at).u64(*size);
    }
}

/// DT_HASH with a single chain: ten symbols need no buckets.
fn put_hash(bytes: &mut Bytes, names: &[(String, u64, u64)]) {
    let count = names.len() as u32 + 1;
    bytes.u32(1).u32(count).u32(1).u32(0);
    for index in 1..count {
        bytes.u32(if index + 1 < count { index + 1 } else { 0 });
    }
}

/// DT_VERDEF: the file itself, then the one version; returns the name of the file.
fn put_definitions(bytes: &mut Bytes, strings: &mut Strings) -> u32 {
    let (soname, version) = (strings.add(SONAME), strings.add(VERSION));
    bytes.u16(1).u16(1).u16(1).u16(1).u32(elf_hash(SONAME)).u32(20).u32(28).u32(soname).u32(0);
    bytes.u16(1).u16(0).u16(2).u16(1).u32(elf_hash(VERSION)).u32(20).u32(0).u32(version).u32(0);
    soname
}

/// The hash of the System V ABI.
fn elf_hash(name: &str) -> u32 {
    name.bytes().fold(0u32, |hash, byte| {
        let hash = (hash << 4).wrapping_add(u32::from(byte));
        let high = hash & 0xf000_0000;
        (hash ^ (high >> 24)) & !high
    })
}

fn headers(len: u64, dynamic: u64, dynamic_size: u64) -> Vec<u8> {
    let mut bytes = Bytes::default();
    bytes.0.extend_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    // ET_DYN for x86-64; program headers follow this header; no sections.
    bytes.u16(3).u16(62).u32(1).u64(0).u64(HEADER_SIZE as u64).u64(0).u32(0);
    bytes.u16(HEADER_SIZE as u16).u16(PROGRAM_HEADER_SIZE as u16).u16(2).u16(0).u16(0).u16(0);
    // PT_LOAD, R-X.
    bytes.u32(1).u32(5).u64(0).u64(0).u64(0).u64(len).u64(len).u64(PAGE_SIZE);
    // PT_DYNAMIC, R.
    bytes.u32(2).u32(4).u64(dynamic).u64(dynamic).u64(dynamic);
    bytes.u64(dynamic_size).u64(dynamic_size).u64(8);
    bytes.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_hash_is_the_one_that_programs_look_for() {
        // From the Linux documentation of parse_vdso.c and every Go program.
        assert_eq!(elf_hash("LINUX_2.6"), 0x03ae_75f6);
    }

    #[test]
    fn the_image_is_whole_pages_with_the_code_at_its_place() {
        let image = image();
        assert_eq!(image.len() % PAGE_SIZE as usize, 0);
        assert_eq!(&image[CODE_OFFSET as usize..][..code().len()], code());
    }

    #[test]
    fn a_dynamic_linker_finds_every_function_by_both_names() {
        let image = image();
        let word = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap());
        // The second program header is PT_DYNAMIC; its entries are pairs of tag and value.
        let header = HEADER_SIZE + PROGRAM_HEADER_SIZE;
        assert_eq!(image[header], 2);
        let dynamic = word(header + 8) as usize;
        let at = |tag: u64| {
            let mut entries = (dynamic..).step_by(16).take_while(|at| word(*at) != 0);
            word(entries.find(|at| word(*at) == tag).unwrap() + 8) as usize
        };
        let text = |offset: usize| {
            let bytes = image[at(5) + offset..].split(|byte| *byte == 0).next().unwrap();
            std::str::from_utf8(bytes).unwrap()
        };
        assert_eq!(text(at(14)), SONAME);
        // DT_HASH says how many symbols there are; the chain visits each once.
        let hash = |index: usize| word(at(4) + 4 * index) as u32 as usize;
        let mut found = Vec::new();
        let mut symbol = hash(2);
        while symbol != 0 {
            let entry = at(6) + symbol * SYMBOL_SIZE;
            found.push((text(word(entry) as u32 as usize), word(entry + 8)));
            symbol = hash(3 + symbol);
        }
        assert_eq!((found.len(), hash(1)), (10, 11));
        for function in functions() {
            let at = CODE_OFFSET + function.offset;
            assert!(function.size > 0);
            for name in [function.name.to_string(), format!("__vdso_{}", function.name)] {
                assert!(found.contains(&(name.as_str(), at)), "{name} in {found:?}");
            }
        }
        // The second definition, 28 bytes on: its index and its hash.
        let second = &image[at(0x6fff_fffc) + 28..];
        assert_eq!((second[4], &second[8..12]), (2, &elf_hash(VERSION).to_le_bytes()[..]));
        let first_symbol = &image[at(0x6fff_fff0) + 2..];
        assert_eq!(first_symbol[0], 2, "every symbol has that version");
    }
}
