//! Character devices by number: a file whose inode is a device opens what is registered here.

use std::collections::HashMap;
use std::sync::Arc;

use sentry_abi::Errno;

use crate::error::Result;
use crate::file::FileOps;
use crate::sync::{Rank, RwLock};
use crate::task::Task;
use crate::vfs::OpenFlags;

/// A device number as makedev(3) encodes it for x86-64.
pub const fn makedev(major: u32, minor: u32) -> u64 {
    let (major, minor) = (major as u64, minor as u64);
    ((major & 0xffff_f000) << 32)
        | ((major & 0xfff) << 8)
        | ((minor & 0xffff_ff00) << 12)
        | (minor & 0xff)
}

/// Major number of a device number.
pub const fn major(dev: u64) -> u32 {
    (((dev >> 32) & 0xffff_f000) | ((dev >> 8) & 0xfff)) as u32
}

/// Minor number of a device number.
pub const fn minor(dev: u64) -> u32 {
    (((dev >> 12) & 0xffff_ff00) | (dev & 0xff)) as u32
}

/// A driver of one device number, or of all minors of a major.
pub trait Device: Send + Sync {
    /// Name as in /proc/devices.
    fn name(&self) -> &str;

    /// Opens it for `task`. Errors: ENXIO, EBUSY, EACCES.
    fn open(&self, task: &Task, rdev: u64, flags: OpenFlags) -> Result<Arc<dyn FileOps>>;
}

/// Device numbers and their drivers.
pub struct Devices {
    exact: RwLock<HashMap<u64, Arc<dyn Device>>>,
    majors: RwLock<HashMap<u32, Arc<dyn Device>>>,
}

impl Default for Devices {
    fn default() -> Self {
        Self {
            exact: RwLock::new(Rank::LEAF, HashMap::new()),
            majors: RwLock::new(Rank::LEAF, HashMap::new()),
        }
    }
}

impl Devices {
    /// Registers a driver for one number.
    pub fn register(&self, rdev: u64, device: Arc<dyn Device>) {
        self.exact.write().insert(rdev, device);
    }

    /// Registers a driver for every minor of a major (that has no driver of its own).
    pub fn register_major(&self, major: u32, device: Arc<dyn Device>) {
        self.majors.write().insert(major, device);
    }

    /// The driver of a number. Errors: ENXIO.
    pub fn find(&self, rdev: u64) -> Result<Arc<dyn Device>> {
        if let Some(device) = self.exact.read().get(&rdev) {
            return Ok(device.clone());
        }
        self.majors.read().get(&major(rdev)).cloned().ok_or(Errno::ENXIO.into())
    }

    /// Registered numbers and names, lowest first; a whole major is listed with minor 0.
    pub fn list(&self) -> Vec<(u64, String)> {
        let mut list: Vec<_> =
            self.exact.read().iter().map(|(n, d)| (*n, d.name().to_owned())).collect();
        list.extend(self.majors.read().iter().map(|(m, d)| (makedev(*m, 0), d.name().to_owned())));
        list.sort();
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_encoded_as_by_makedev() {
        assert_eq!(makedev(1, 3), 0x103);
        let dev = makedev(0x1234_5678, 0x9abc_def0);
        assert_eq!((major(dev), minor(dev)), (0x1234_5678, 0x9abc_def0));
        assert!(Devices::default().find(dev).is_err());
    }
}
