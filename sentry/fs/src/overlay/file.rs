//! Open files of an overlay: they follow the content from the lower to the upper inode.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use sentry_abi::Errno;
use sentry_kernel::cred::Credentials;
use sentry_kernel::error::Result;
use sentry_kernel::file::{FileOps, WriteAt, Written};
use sentry_kernel::io::{Sink, Source};
use sentry_kernel::mm::{Mappable, MemoryManager, PageRun, Touch};
use sentry_kernel::sync::{Mutex, Rank};
use sentry_kernel::vfs::{DirSink, OpenFlags};

use super::node::OverlayNode;
use crate::listing::Listing;

/// An open regular file.
pub(super) struct OpenFile {
    node: Arc<OverlayNode>,
    flags: OpenFlags,
    creds: Credentials,
    /// The open file of the inode that had the content at this generation.
    real: Mutex<(u64, Arc<dyn FileOps>)>,
}

impl OpenFile {
    pub(super) fn new(
        node: Arc<OverlayNode>,
        flags: OpenFlags,
        creds: &Credentials,
    ) -> Result<Self> {
        let generation = node.generation.load(Ordering::Acquire);
        let real = node.real_content()?.open(flags, creds)?;
        let real = Mutex::new(Rank::INODE, (generation, real));
        Ok(Self { node, flags, creds: creds.clone(), real })
    }

    /// The file that has the content now.
    fn real(&self) -> Result<Arc<dyn FileOps>> {
        let generation = self.node.generation.load(Ordering::Acquire);
        let mut real = self.real.lock();
        if real.0 != generation {
            let now = self.node.real_content()?.open(self.flags, &self.creds)?;
            *real = (generation, now);
        }
        Ok(real.1.clone())
    }
}

impl FileOps for OpenFile {
    fn read(&self, offset: u64, dst: &mut dyn Sink) -> Result<usize> {
        self.real()?.read(offset, dst)
    }

    fn write(&self, at: WriteAt, src: &mut dyn Source) -> Result<Written> {
        self.real()?.write(at, src)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn end(&self) -> Result<u64> {
        self.real()?.end()
    }

    fn next_data(&self, offset: u64) -> Result<u64> {
        self.real()?.next_data(offset)
    }

    fn next_hole(&self, offset: u64) -> Result<u64> {
        self.real()?.next_hole(offset)
    }

    fn allocate(&self, mode: u32, offset: u64, len: u64) -> Result<()> {
        self.real()?.allocate(mode, offset, len)
    }

    fn sync(&self) -> Result<()> {
        self.real()?.sync()
    }

    fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        let place = (self.node.shared.dev, self.node.ino);
        Ok(Arc::new(Mapping { real: self.real()?.mappable()?, place }))
    }

    fn flush(&self) {
        let real = self.real.lock().1.clone();
        real.flush();
    }
}

/// The content that a file had when it was mapped, under the overlay's own numbers. As on Linux, it stays the lower one after a copy-up.
struct Mapping {
    real: Arc<dyn Mappable>,
    place: (u64, u64),
}

impl Mappable for Mapping {
    fn pages(&self, offset: u64, max_len: u64, touch: Touch) -> Result<PageRun> {
        self.real.pages(offset, max_len, touch)
    }

    fn register(&self, manager: Weak<MemoryManager>) {
        self.real.register(manager);
    }

    fn identity(&self) -> u64 {
        self.real.identity()
    }

    fn device_and_inode(&self) -> (u64, u64) {
        self.place
    }

    fn sync(&self) -> Result<()> {
        self.real.sync()
    }
}

/// An open directory.
pub(super) struct OpenDirectory {
    node: Arc<OverlayNode>,
    listing: Listing,
}

impl OpenDirectory {
    pub(super) fn new(node: Arc<OverlayNode>) -> Self {
        Self { node, listing: Listing::default() }
    }
}

impl FileOps for OpenDirectory {
    fn read(&self, _: u64, _: &mut dyn Sink) -> Result<usize> {
        Err(Errno::EISDIR.into())
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn end(&self) -> Result<u64> {
        Ok(i64::MAX as u64)
    }

    fn read_dir(&self, from: u64, sink: &mut DirSink<'_>) -> Result<()> {
        self.listing.emit(from, sink, || self.node.list())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }
}
