//! Programs for the loader: whatever the bytes are, loading them ends, without a panic, and leaves no page behind.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use platform::fake::FakePlatform;
use platform::{FileRange, MemoryFile, Platform};
use sentry_abi::{Errno, PAGE_SIZE};
use sentry_kernel::Result;
use sentry_kernel::file::{FileDescription, FileOps};
use sentry_kernel::io::Sink;
use sentry_kernel::loader::{
    self, ExecIdentity, ExecOpener, LoadRandom, LoadRequest, Machine, elf, script,
};
use sentry_kernel::mm::{Mappable, MemoryLimits, PageRun, Touch, new_identity};
use sentry_kernel::vfs::OpenFlags;

static PLATFORM: LazyLock<Arc<dyn Platform>> =
    LazyLock::new(|| FakePlatform::new().expect("a memory file"));

/// The input as a file: the program, and every interpreter that it asks for.
struct Input {
    memory: Arc<MemoryFile>,
    pages: Arc<Pages>,
    len: u64,
}

struct Pages {
    memory: Arc<MemoryFile>,
    range: FileRange,
    identity: u64,
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.memory.decref(self.range);
    }
}

impl FileOps for Input {
    fn read(&self, offset: u64, dst: &mut dyn Sink) -> Result<usize> {
        let offset = offset.min(self.len);
        let len = (self.len - offset).min(dst.room() as u64) as usize;
        dst.write_memory(&self.memory, self.pages.range.start + offset, len)
    }

    fn end(&self) -> Result<u64> {
        Ok(self.len)
    }

    fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        Ok(self.pages.clone())
    }
}

impl Mappable for Pages {
    fn pages(&self, offset: u64, max_len: u64, _: Touch) -> Result<PageRun> {
        let left = self.range.len.checked_sub(offset).filter(|left| *left > 0);
        let len = left.ok_or(Errno::ENXIO)?.min(max_len);
        Ok(PageRun { offset: self.range.start + offset, len })
    }

    fn identity(&self) -> u64 {
        self.identity
    }
}

struct Opener(Arc<FileDescription>);

impl ExecOpener for Opener {
    fn open_exec(&self, _: &[u8]) -> Result<Arc<FileDescription>> {
        Ok(self.0.clone())
    }

    fn identity(&self, _: &FileDescription) -> ExecIdentity {
        ExecIdentity::default()
    }
}

fn input(data: &[u8]) -> Arc<FileDescription> {
    let memory = PLATFORM.memory().clone();
    let len = data.len() as u64;
    let range = memory.allocate(len.max(1), PAGE_SIZE).expect("memory for the input");
    memory.write_at(range.start, data).expect("the input fits");
    let pages = Arc::new(Pages { memory: memory.clone(), range, identity: new_identity() });
    FileDescription::new(Arc::new(Input { memory, pages, len }), None, OpenFlags::empty())
}

fuzz_target!(|data: &[u8]| {
    let _ = elf::parse(data, PLATFORM.user_range().end);
    let _ = script::parse(data);
    let file = input(data);
    let loaded = loader::load(&LoadRequest {
        platform: &PLATFORM,
        file: file.clone(),
        path: b"/program",
        argv: vec![b"program".to_vec()],
        envp: Vec::new(),
        opener: &Opener(file.clone()),
        random: LoadRandom::default(),
        limits: MemoryLimits::default(),
        machine: Machine { hwcap: 0, hwcap2: 0, min_signal_stack: 0 },
        vdso: None,
    });
    if let Ok(loaded) = &loaded {
        let user = PLATFORM.user_range();
        assert!(loaded.mm.maps().iter().all(|entry| entry.vma.end <= user.end));
    }
    drop((loaded, file));
    assert_eq!(PLATFORM.memory().used_bytes(), 0, "a page was left behind");
});
