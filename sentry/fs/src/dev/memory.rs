//! The memory devices: null, zero, full, random, urandom (mem(4), null(4), full(4), random(4)).

use std::sync::{Arc, Weak};

use platform::MemoryFile;
use sentry_abi::Errno;
use sentry_kernel::device::{Device, makedev};
use sentry_kernel::error::Result;
use sentry_kernel::file::{FileOps, WriteAt, Written};
use sentry_kernel::io::{Sink, Source};
use sentry_kernel::mm::{Mappable, MemoryManager, PageRun, Touch};
use sentry_kernel::task::Task;
use sentry_kernel::vfs::OpenFlags;

use crate::pages::{FilePages, MAX_SIZE, PAGE};

/// Fills a buffer with random bytes.
pub type Random = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

/// Random bytes made at a time.
const RANDOM_CHUNK: usize = 4096;

#[derive(Clone)]
enum Kind {
    Null,
    Zero(Arc<MemoryFile>),
    Full,
    Random(Random),
}

/// A driver, and its open file: none of them has state.
#[derive(Clone)]
struct MemoryDevice {
    name: &'static str,
    kind: Kind,
}

/// The drivers with their device numbers, for the kernel's registry.
pub fn devices(memory: &Arc<MemoryFile>, random: Random) -> Vec<(u64, Arc<dyn Device>)> {
    let rows = [
        (3, "null", Kind::Null),
        (5, "zero", Kind::Zero(memory.clone())),
        (7, "full", Kind::Full),
        (8, "random", Kind::Random(random.clone())),
        (9, "urandom", Kind::Random(random)),
    ];
    let device = |(minor, name, kind)| {
        let device: Arc<dyn Device> = Arc::new(MemoryDevice { name, kind });
        (makedev(1, minor), device)
    };
    rows.into_iter().map(device).collect()
}

impl Device for MemoryDevice {
    fn name(&self) -> &str {
        self.name
    }

    fn open(&self, _: &Task, _: u64, _: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(self.clone()))
    }
}

impl FileOps for MemoryDevice {
    fn read(&self, _: u64, dst: &mut dyn Sink) -> Result<usize> {
        match &self.kind {
            Kind::Null => Ok(0),
            Kind::Zero(_) | Kind::Full => dst.write_zeros(dst.room()),
            Kind::Random(random) => read_random(random, dst),
        }
    }

    fn write(&self, at: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let WriteAt::Offset(offset) = at else {
            return self.write(WriteAt::Offset(0), src);
        };
        if matches!(self.kind, Kind::Full) && src.remaining() > 0 {
            return Err(Errno::ENOSPC.into());
        }
        // As on Linux, the bytes are not even looked at.
        let len = src.remaining();
        Ok(Written { len, end: offset.saturating_add(len as u64) })
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn end(&self) -> Result<u64> {
        Ok(0)
    }

    fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        match &self.kind {
            Kind::Zero(memory) => {
                let pages = FilePages::new(memory.clone(), None);
                pages.set_size(MAX_SIZE / PAGE * PAGE);
                Ok(Arc::new(ZeroMapping(pages)))
            }
            _ => Err(Errno::ENODEV.into()),
        }
    }
}

fn read_random(random: &Random, dst: &mut dyn Sink) -> Result<usize> {
    let mut buffer = [0; RANDOM_CHUNK];
    let mut done = 0;
    while dst.room() > 0 {
        let part = &mut buffer[..dst.room().min(RANDOM_CHUNK)];
        random(part);
        match dst.write(part) {
            Ok(n) => {
                done += n;
                if n < part.len() {
                    break;
                }
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Each mapping of /dev/zero is zero memory of its own, which a fork shares.
struct ZeroMapping(FilePages);

impl Mappable for ZeroMapping {
    fn pages(&self, offset: u64, max_len: u64, _: Touch) -> Result<PageRun> {
        self.0.fault(offset, max_len)
    }

    fn register(&self, manager: Weak<MemoryManager>) {
        self.0.register(manager);
    }

    fn identity(&self) -> u64 {
        self.0.identity()
    }
}
