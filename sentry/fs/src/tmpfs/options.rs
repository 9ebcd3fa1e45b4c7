//! Mount options of tmpfs (tmpfs(5)): size, nr_blocks, nr_inodes, mode, uid, gid.

use core::fmt;

use sentry_abi::Errno;
use sentry_kernel::error::Result;

use crate::pages::PAGE;

/// Memory that the default bounds are a share of where the memory file itself has no limit.
pub(super) const DEFAULT_MEMORY: u64 = 16 << 30;

/// A bound as the option states it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Bound {
    /// Not given: half of the memory.
    #[default]
    Default,
    /// 0: none.
    Unlimited,
    /// Bytes, or inodes.
    At(u64),
    /// A share of the memory in percent.
    Percent(u64),
}

/// What `mount -t tmpfs -o …` can say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Bytes of all files.
    pub size: Bound,
    /// Inodes.
    pub inodes: Bound,
    /// Permissions of the root directory.
    pub mode: u32,
    /// Owner of the root directory.
    pub uid: u32,
    /// Group of the root directory.
    pub gid: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { size: Bound::Default, inodes: Bound::Default, mode: 0o1777, uid: 0, gid: 0 }
    }
}

/// A number with the suffixes k, m, g.
fn number(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 10),
        b'm' | b'M' => (&text[..text.len() - 1], 20),
        b'g' | b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn bound(text: &str) -> Option<Bound> {
    if let Some(percent) = text.strip_suffix('%') {
        return Some(Bound::Percent(percent.parse().ok()?));
    }
    Some(match number(text)? {
        0 => Bound::Unlimited,
        n => Bound::At(n),
    })
}

impl Options {
    /// Parses `size=64m,mode=755`. Errors: EINVAL for anything unknown.
    pub fn parse(data: &[u8]) -> Result<Self> {
        let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
        let mut options = Self::default();
        for option in text.split(',').filter(|option| !option.is_empty()) {
            options.apply(option).ok_or(Errno::EINVAL)?;
        }
        Ok(options)
    }

    fn apply(&mut self, option: &str) -> Option<()> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "size" => self.size = bound(value)?,
            "nr_blocks" => {
                self.size = match bound(value)? {
                    Bound::At(blocks) => Bound::At(blocks.checked_mul(PAGE)?),
                    other => other,
                }
            }
            "nr_inodes" => self.inodes = bound(value)?,
            "mode" => self.mode = u32::from_str_radix(value, 8).ok()? & 0o7777,
            "uid" => self.uid = value.parse().ok()?,
            "gid" => self.gid = value.parse().ok()?,
            // Placement hints: Linux, too, accepts them where they have no effect.
            "huge" | "mpol" | "inode32" | "inode64" | "noswap" => {}
            _ => return None,
        }
        Some(())
    }

    /// Pages and inodes of a machine with this many pages.
    pub(super) fn limits(&self, memory_pages: u64) -> (u64, u64) {
        let of = |bound: Bound, unit: u64| match bound {
            Bound::Default => memory_pages / 2,
            Bound::Unlimited => u64::MAX / PAGE,
            Bound::At(n) => n.div_ceil(unit),
            Bound::Percent(percent) => memory_pages / 100 * percent.min(100_000),
        };
        (of(self.size, PAGE), of(self.inodes, 1))
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        match self.size {
            Bound::At(bytes) => parts.push(format!("size={}k", bytes.div_ceil(1024))),
            Bound::Percent(percent) => parts.push(format!("size={percent}%")),
            Bound::Default | Bound::Unlimited => {}
        }
        if let Bound::At(inodes) = self.inodes {
            parts.push(format!("nr_inodes={inodes}"));
        }
        if self.mode != 0o1777 {
            parts.push(format!("mode={:o}", self.mode));
        }
        if self.uid != 0 {
            parts.push(format!("uid={}", self.uid));
        }
        if self.gid != 0 {
            parts.push(format!("gid={}", self.gid));
        }
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_shown_as_linux_does() {
        let options = Options::parse(b"size=64m,mode=755,uid=5").unwrap();
        assert_eq!(options.to_string(), "size=65536k,mode=755,uid=5");
        assert_eq!(options.limits(100).0, 16384);
        assert!(Options::parse(b"size=64x").is_err());
        assert!(Options::parse(b"colour=red").is_err());
        assert!(Options::parse(b"size=99999999999g").is_err());
    }
}
