//! Tests of the loader: programs made byte by byte, loaded on the fake platform, and damaged in every way.

use std::collections::BTreeMap;
use std::sync::Arc;

use platform::fake::FakePlatform;
use platform::{FileRange, MemoryFile, Platform, Prot};
use sentry_abi::elf::*;
use sentry_abi::{Errno, PAGE_SIZE, UserAddr, UserPtr, auxv};
use zerocopy::IntoBytes;

use super::*;
use crate::file::FileOps;
use crate::io::Sink;
use crate::mm::{Mappable, PageRun, Touch, new_identity};
use crate::vfs::OpenFlags;

const CODE: u64 = 0x40_0000;
const DATA: u64 = 0x40_2000;

/// A file with these bytes.
struct Bytes {
    memory: Arc<MemoryFile>,
    range: FileRange,
    len: u64,
    identity: u64,
}

impl FileOps for Bytes {
    fn read(&self, offset: u64, dst: &mut dyn Sink) -> Result<usize> {
        let len = self.len.saturating_sub(offset).min(dst.room() as u64);
        dst.write_memory(&self.memory, self.range.start + offset.min(self.len), len as usize)
    }

    fn end(&self) -> Result<u64> {
        Ok(self.len)
    }

    fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        let (memory, range, len) = (self.memory.clone(), self.range, self.len);
        Ok(Arc::new(Bytes { memory, range, len, identity: self.identity }))
    }
}

impl Mappable for Bytes {
    fn pages(&self, offset: u64, max_len: u64, _: Touch) -> Result<PageRun> {
        if offset >= self.len {
            return Err(Errno::ENXIO.into());
        }
        let len = (self.range.len - offset).min(max_len);
        Ok(PageRun { offset: self.range.start + offset, len })
    }

    fn identity(&self) -> u64 {
        self.identity
    }
}

/// Files by path.
struct Tree {
    platform: Arc<dyn Platform>,
    files: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Tree {
    fn new(files: &[(&str, Vec<u8>)]) -> Self {
        let files = files.iter().map(|(path, bytes)| (path.as_bytes().to_vec(), bytes.clone()));
        Self { platform: FakePlatform::new().unwrap(), files: files.collect() }
    }

    fn load(&self, path: &str, argv: &[&str]) -> Result<Loaded> {
        self.load_with(path, argv.iter().map(|arg| arg.as_bytes().to_vec()).collect())
    }

    fn load_with(&self, path: &str, argv: Vec<Vec<u8>>) -> Result<Loaded> {
        load(&LoadRequest {
            platform: &self.platform,
            file: self.open_exec(path.as_bytes())?,
            path: path.as_bytes(),
            argv,
            envp: vec![b"HOME=/".to_vec()],
            opener: self,
            random: LoadRandom { bytes: [7; 16], ..LoadRandom::default() },
            limits: MemoryLimits::default(),
            machine: Machine { hwcap: 1, hwcap2: 2, min_signal_stack: 3632 },
            vdso: None,
        })
    }
}

impl ExecOpener for Tree {
    fn open_exec(&self, path: &[u8]) -> Result<Arc<FileDescription>> {
        let bytes = self.files.get(path).ok_or(Errno::ENOENT)?;
        let memory = self.platform.memory().clone();
        let range = memory.allocate((bytes.len() as u64).max(1), PAGE_SIZE).unwrap();
        memory.write_at(range.start, bytes).unwrap();
        let (len, identity) = (bytes.len() as u64, new_identity());
        let file = Bytes { memory, range, len, identity };
        Ok(FileDescription::new(Arc::new(file), None, OpenFlags::empty()))
    }

    fn identity(&self, _: &FileDescription) -> ExecIdentity {
        ExecIdentity { uid: 10, euid: 11, gid: 12, egid: 13, secure: true }
    }
}

fn header(file_type: u16, entry: u64, count: u16) -> ElfHeader {
    let mut ident = [0; 16];
    ident[..4].copy_from_slice(&ELF_MAGIC);
    (ident[EI_CLASS], ident[EI_DATA], ident[6]) = (ELFCLASS64, ELFDATA2LSB, 1);
    ElfHeader {
        ident,
        file_type,
        machine: EM_X86_64,
        version: 1,
        entry,
        phoff: 64,
        shoff: 0,
        flags: 0,
        ehsize: 64,
        phentsize: 56,
        phnum: count,
        shentsize: 0,
        shnum: 0,
        shstrndx: 0,
    }
}

fn load_segment(vaddr: u64, offset: u64, filesz: u64, memsz: u64, flags: u32) -> ProgramHeader {
    let kind = PT_LOAD;
    ProgramHeader { kind, flags, offset, vaddr, paddr: 0, filesz, memsz, align: PAGE_SIZE }
}

fn elf_file(file_type: u16, entry: u64, table: &[ProgramHeader]) -> Vec<u8> {
    let mut bytes = header(file_type, entry, table.len() as u16).as_bytes().to_vec();
    bytes.extend(table.iter().flat_map(|entry| entry.as_bytes().to_vec()));
    bytes.resize(2 * PAGE_SIZE as usize, 0xcc);
    bytes
}

/// Code, and data of 100 bytes with 20,000 in memory, whose page goes on in the file with other bytes.
fn static_program() -> Vec<u8> {
    elf_file(
        ET_EXEC,
        CODE + 0x800,
        &[
            load_segment(CODE, 0, 0x1000, 0x1000, PF_R | PF_X),
            load_segment(DATA, 0x1000, 100, 20_000, PF_R | PF_W),
        ],
    )
}

fn interpreter() -> Vec<u8> {
    elf_file(ET_DYN, 0x123, &[load_segment(0, 0, 0x1000, 0x1000, PF_R | PF_X)])
}

fn pie_program() -> Vec<u8> {
    let name = b"/lib/ld.so\0";
    let interp = ProgramHeader {
        kind: PT_INTERP,
        offset: 0x900,
        filesz: name.len() as u64,
        ..load_segment(0, 0, 0, 0, PF_R)
    };
    let load = load_segment(0, 0, 0x1000, 0x1000, PF_R | PF_X);
    let mut bytes = elf_file(ET_DYN, 0x456, &[interp, load]);
    bytes[0x900..0x900 + name.len()].copy_from_slice(name);
    bytes
}

/// What a program finds on its stack.
struct Start {
    argv: Vec<String>,
    envp: Vec<String>,
    auxv: BTreeMap<u64, u64>,
}

fn start_of(loaded: &Loaded) -> Start {
    let mut at = loaded.sp.0;
    let mut word = || {
        let value: u64 = loaded.mm.read_obj(UserPtr::new(at)).unwrap();
        at += 8;
        value
    };
    let string = |addr: u64| {
        String::from_utf8(loaded.mm.read_cstring(UserAddr(addr), 4096).unwrap()).unwrap()
    };
    let argc = word();
    let argv: Vec<u64> = (0..argc).map(|_| word()).collect();
    assert_eq!(word(), 0);
    let mut envp = Vec::new();
    loop {
        match word() {
            0 => break,
            addr => envp.push(string(addr)),
        }
    }
    let mut vector = BTreeMap::new();
    loop {
        let (kind, value) = (word(), word());
        if kind == auxv::AT_NULL {
            break;
        }
        assert!(vector.insert(kind, value).is_none(), "entry {kind} twice");
    }
    Start { argv: argv.into_iter().map(string).collect(), envp, auxv: vector }
}

#[test]
fn a_static_program_starts_as_the_abi_says() {
    let tree = Tree::new(&[("/bin/prog-with-a-long-name", static_program())]);
    let loaded = tree.load("/bin/prog-with-a-long-name", &["prog", "-x", ""]).unwrap();
    assert_eq!(loaded.entry, UserAddr(CODE + 0x800));
    assert_eq!(loaded.sp.0 % 16, 0);
    assert_eq!(loaded.comm, b"prog-with-a-lon");
    let start = start_of(&loaded);
    assert_eq!(start.argv, ["prog", "-x", ""]);
    assert_eq!(start.envp, ["HOME=/"]);
    let expected = [
        (auxv::AT_PHDR, CODE + 64),
        (auxv::AT_PHENT, 56),
        (auxv::AT_PHNUM, 2),
        (auxv::AT_PAGESZ, 4096),
        (auxv::AT_BASE, 0),
        (auxv::AT_ENTRY, CODE + 0x800),
        (auxv::AT_UID, 10),
        (auxv::AT_EUID, 11),
        (auxv::AT_GID, 12),
        (auxv::AT_EGID, 13),
        (auxv::AT_SECURE, 1),
        (auxv::AT_CLKTCK, 100),
        (auxv::AT_HWCAP2, 2),
    ];
    for (kind, value) in expected {
        assert_eq!(start.auxv.get(&kind), Some(&value), "entry {kind}");
    }
    let mut random = [0; 16];
    loaded.mm.read(UserAddr(start.auxv[&auxv::AT_RANDOM]), &mut random).unwrap();
    assert_eq!(random, [7; 16]);
    let name = loaded.mm.read_cstring(UserAddr(start.auxv[&auxv::AT_EXECFN]), 100).unwrap();
    assert_eq!(name, b"/bin/prog-with-a-long-name");
    let image = loaded.mm.image();
    let mut args = vec![0; (image.arg.end - image.arg.start) as usize];
    loaded.mm.read(UserAddr(image.arg.start), &mut args).unwrap();
    assert_eq!(args, b"prog\0-x\0\0");
    let (brk_start, _) = loaded.mm.brk_range();
    assert_eq!(brk_start.0, (DATA + 20_000).next_multiple_of(PAGE_SIZE));
}

#[test]
fn what_lies_behind_the_files_bytes_is_zero_and_the_file_stays() {
    let tree = Tree::new(&[("/p", static_program())]);
    let loaded = tree.load("/p", &["p"]).unwrap();
    let mut data = vec![1; 20_000];
    loaded.mm.read(UserAddr(DATA), &mut data).unwrap();
    assert!(data[..100].iter().all(|byte| *byte == 0xcc));
    assert!(data[100..].iter().all(|byte| *byte == 0));
    let mut end = [0; 1];
    loaded.exe.ops().read(0x1000 + 100, &mut SliceSink::new(&mut end)).unwrap();
    assert_eq!(end, [0xcc]);
    let code = loaded.mm.maps().into_iter().find(|entry| entry.vma.start == CODE).unwrap();
    assert_eq!(code.vma.prot, Prot::READ | Prot::EXEC);
    assert!(loaded.mm.write(UserAddr(CODE), b"x").is_err());
}

#[test]
fn a_dynamic_program_starts_in_its_interpreter() {
    let tree = Tree::new(&[("/p", pie_program()), ("/lib/ld.so", interpreter())]);
    let loaded = tree.load("/p", &["p"]).unwrap();
    let auxv = start_of(&loaded).auxv;
    let base = auxv[&auxv::AT_BASE];
    assert_eq!(loaded.entry.0, base + 0x123);
    assert_eq!(auxv[&auxv::AT_ENTRY] % PAGE_SIZE, 0x456);
    assert_eq!(auxv[&auxv::AT_PHDR], auxv[&auxv::AT_ENTRY] - 0x456 + 64);
    assert_ne!(base, auxv[&auxv::AT_ENTRY] - 0x456);
}

#[test]
fn a_position_independent_program_keeps_the_alignment_of_its_segments() {
    let mut load = load_segment(0x20_0000, 0, 0x1000, 0x1000, PF_R | PF_X);
    load.align = 0x20_0000;
    let tree = Tree::new(&[("/p", elf_file(ET_DYN, 0x20_0010, &[load]))]);
    let loaded = tree.load("/p", &["p"]).unwrap();
    assert_eq!(loaded.entry.0 % 0x20_0000, 0x10);
}

#[test]
fn scripts_run_their_interpreter_with_the_scripts_path() {
    let tree = Tree::new(&[
        ("/bin/sh", static_program()),
        ("/tmp/script", b"#!/bin/sh -e x\necho".to_vec()),
        ("/tmp/outer", b"#! /tmp/script\n".to_vec()),
    ]);
    let loaded = tree.load("/tmp/script", &["ignored", "a", "b"]).unwrap();
    assert_eq!(start_of(&loaded).argv, ["/bin/sh", "-e x", "/tmp/script", "a", "b"]);
    assert_eq!(loaded.comm, b"script");
    let loaded = tree.load("/tmp/outer", &["ignored", "a"]).unwrap();
    let argv = start_of(&loaded).argv;
    assert_eq!(argv, ["/bin/sh", "-e x", "/tmp/script", "/tmp/outer", "a"]);
    let loaded = tree.load("/bin/sh", &[]).unwrap();
    assert_eq!(start_of(&loaded).argv, [""], "an empty argv gets an empty name");
}

#[test]
fn scripts_of_scripts_end() {
    let chain = |count: usize| {
        let mut files = vec![("/s0".to_string(), static_program())];
        for n in 1..=count {
            files.push((format!("/s{n}"), format!("#!/s{}\n", n - 1).into_bytes()));
        }
        let files: Vec<(&str, Vec<u8>)> =
            files.iter().map(|(path, bytes)| (path.as_str(), bytes.clone())).collect();
        Tree::new(&files).load(&format!("/s{count}"), &["x"]).map(|_| ())
    };
    assert!(chain(5).is_ok());
    assert!(chain(6).unwrap_err().is(Errno::ELOOP));
    let own = Tree::new(&[("/s", b"#!/s\n".to_vec())]);
    assert!(own.load("/s", &["x"]).err().unwrap().is(Errno::ELOOP));
}

#[test]
fn errors_are_those_of_execve() {
    let garbage = Tree::new(&[
        ("/empty", Vec::new()),
        ("/text", b"hello\n".to_vec()),
        ("/pie", pie_program()),
        ("/script", b"#!/missing\n".to_vec()),
        ("/lib/ld.so", b"\x7fELFnonsense".to_vec()),
    ]);
    let refused = |path: &str| garbage.load(path, &["x"]).err().unwrap().errno();
    assert_eq!(refused("/empty"), Errno::ENOEXEC);
    assert_eq!(refused("/text"), Errno::ENOEXEC);
    assert_eq!(refused("/script"), Errno::ENOENT);
    assert_eq!(refused("/pie"), Errno::ELIBBAD);
    let lonely = Tree::new(&[("/pie", pie_program())]);
    assert_eq!(lonely.load("/pie", &["x"]).err().unwrap().errno(), Errno::ENOENT);
    let mut foreign = static_program();
    foreign[18] = 183; // AArch64
    let tree = Tree::new(&[("/p", static_program()), ("/arm", foreign)]);
    assert_eq!(tree.load("/arm", &["x"]).err().unwrap().errno(), Errno::ENOEXEC);
    let long = tree.load_with("/p", vec![vec![b'a'; 131_072]]);
    assert_eq!(long.err().unwrap().errno(), Errno::E2BIG);
    let many = tree.load_with("/p", vec![vec![b'a'; 100_000]; 30]);
    assert_eq!(many.err().unwrap().errno(), Errno::E2BIG);
    assert!(tree.load_with("/p", vec![vec![b'a'; 100_000]; 15]).is_ok());
}

#[test]
fn a_truncated_program_is_refused_at_every_length() {
    let whole = static_program();
    for len in 0..0x1000 + 100 {
        let tree = Tree { files: BTreeMap::new(), ..Tree::new(&[]) };
        if len % 97 == 0 || len < 200 {
            let tree = Tree { files: [(b"/p".to_vec(), whole[..len].to_vec())].into(), ..tree };
            assert!(tree.load("/p", &["x"]).err().unwrap().is(Errno::ENOEXEC), "{len}");
        }
        assert!(elf::parse(&whole[..len.min(175)], 1 << 47).is_err());
    }
}

#[test]
fn hostile_headers_are_refused_or_loaded_and_nothing_else() {
    let values = [0u64, 1, 4095, 4096, 1 << 31, 1 << 46, 0x7fff_ffff_f000, i64::MAX as u64, !0];
    let whole = pie_program();
    for field in (24..64 + 2 * 56).step_by(4) {
        for value in values {
            let mut bytes = whole.clone();
            bytes[field..field + 8].copy_from_slice(&value.to_le_bytes());
            let tree = Tree::new(&[("/p", bytes), ("/lib/ld.so", interpreter())]);
            // Whatever it is, it ends, and what is loaded lies where a program may be.
            if let Ok(loaded) = tree.load("/p", &["x"]) {
                let end = tree.platform.user_range().end;
                assert!(loaded.mm.maps().iter().all(|entry| entry.vma.end <= end));
            }
        }
    }
}

#[test]
fn overlapping_and_huge_segments_stay_in_bounds() {
    let huge = load_segment(CODE, 0, 0x1000, 1 << 46, PF_R | PF_W);
    let over = load_segment(CODE + 0x800, 0x800, 0x100, 0x5000, PF_R | PF_W);
    let wrap = load_segment(!0xfff, 0, 0x1000, 0x2000, PF_R);
    let odd = load_segment(CODE + 1, 0, 0x100, 0x100, PF_R);
    let small = load_segment(CODE, 0, 0x1000, 0x10, PF_R);
    let one = |table: &[ProgramHeader]| {
        let tree = Tree::new(&[("/p", elf_file(ET_EXEC, CODE, table))]);
        tree.load("/p", &["x"]).map(|_| ()).map_err(|error| error.errno())
    };
    let first = load_segment(CODE, 0, 0x1000, 0x1000, PF_R | PF_X);
    assert_eq!(one(&[first, over]), Ok(()));
    assert_eq!(one(&[huge]), Err(Errno::ENOMEM));
    for bad in [wrap, odd, small] {
        assert_eq!(one(&[first, bad]), Err(Errno::ENOEXEC), "{bad:x?}");
    }
    assert_eq!(one(&[]), Err(Errno::ENOEXEC));
    let low = load_segment(0, 0, 0x1000, 0x1000, PF_R);
    assert_eq!(one(&[low]), Err(Errno::EPERM), "below the lowest address");
}

#[test]
fn this_very_test_program_parses() {
    let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let image = elf::parse(&bytes, 1 << 47).unwrap();
    assert!(image.segments.len() >= 2);
    assert!(image.segments.iter().any(|segment| segment.prot.contains(Prot::EXEC)));
    assert_eq!(image.stack, StackRights::Data);
}

#[test]
fn strings_are_read_from_a_program_within_the_budget() {
    let tree = Tree::new(&[("/p", static_program())]);
    let loaded = tree.load("/p", &["one", "two"]).unwrap();
    let argv = UserPtr::<u64>::new(loaded.sp.0 + 8);
    let mut budget = ArgBudget::new(8 << 20);
    let strings = read_strings(&loaded.mm, argv, &mut budget).unwrap();
    assert_eq!(strings, [b"one".to_vec(), b"two".to_vec()]);
    let bad = read_strings(&loaded.mm, UserPtr::new(8), &mut budget);
    assert!(bad.unwrap_err().is(Errno::EFAULT));
    assert!(read_strings(&loaded.mm, UserPtr::new(0), &mut budget).unwrap().is_empty());
}
