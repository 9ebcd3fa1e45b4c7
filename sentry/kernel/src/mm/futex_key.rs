//! What futexes need of memory: atomic words in the program, and the identity of a word that several address spaces share.

use core::sync::atomic::{AtomicU32, Ordering};

use sentry_abi::{Errno, UserAddr};

use crate::error::Result;
use crate::futex::FutexKey;
use crate::mm::fault::{Extent, Refused};
use crate::mm::manager::{MemoryManager, memory_error};
use crate::mm::pages::Want;

/// How far a futex reaches (FUTEX_PRIVATE_FLAG).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FutexScope {
    /// Threads of one address space.
    Private,
    /// Whoever maps the word.
    Shared,
}

impl MemoryManager {
    /// The identity of the futex word at `addr`. Errors: EINVAL where it is not 4-byte aligned, EFAULT where no area holds it.
    pub fn futex_key(&self, addr: UserAddr, scope: FutexScope) -> Result<FutexKey> {
        if !addr.0.is_multiple_of(4) {
            return Err(Errno::EINVAL.into());
        }
        let private = FutexKey::Private { space: self.id(), addr: addr.0 };
        let map = self.map.read();
        if scope == FutexScope::Private {
            // futex(2): the word need not be mapped, but its address must be one that could be.
            let fine = addr.0.checked_add(4).is_some_and(|end| end <= map.layout.user.end);
            return if fine { Ok(private) } else { Err(Errno::EFAULT.into()) };
        }
        let Some(vma) = map.areas.find(addr.0) else { return Err(Errno::EFAULT.into()) };
        Ok(match vma.object_at(addr.0) {
            Some((object, offset)) if vma.is_shared() => {
                FutexKey::Shared { object: object.identity(), offset }
            }
            // A private page is the program's own, whatever it was copied from. Who calls it shared waits apart from who calls it
            // private, as on Linux; words are aligned, so the lowest bit is free to say so.
            _ => FutexKey::Private { space: self.id(), addr: addr.0 | 1 },
        })
    }

    fn with_word<R>(&self, addr: UserAddr, want: Want, act: impl Fn(&AtomicU32) -> R) -> Result<R> {
        if !addr.0.is_multiple_of(4) {
            return Err(Errno::EINVAL.into());
        }
        for _ in 0..1000 {
            {
                let pages = self.pages.read();
                if let Some((offset, _)) = pages.accessible(addr.0, want) {
                    return Ok(act(self.memory.atomic_u32(offset).map_err(memory_error)?));
                }
            }
            self.make_accessible(addr.0, want, Extent::ByNeed).map_err(
                |refused| match refused {
                    Refused::Failed(error) if error.is(Errno::ENOMEM) => error,
                    _ => Errno::EFAULT.into(),
                },
            )?;
        }
        Err(Errno::EFAULT.into())
    }

    /// The word at `addr`, atomically. Errors: EFAULT, EINVAL where it is not aligned.
    pub fn load_u32(&self, addr: UserAddr) -> Result<u32> {
        self.with_word(addr, Want::Read, |word| word.load(Ordering::SeqCst))
    }

    /// Stores the word at `addr`, atomically. Errors as [`Self::load_u32`].
    pub fn store_u32(&self, addr: UserAddr, value: u32) -> Result<()> {
        self.with_word(addr, Want::Write, |word| word.store(value, Ordering::SeqCst))
    }

    /// Stores the word at `addr` and returns what was there. Errors as [`Self::load_u32`].
    pub fn swap_u32(&self, addr: UserAddr, value: u32) -> Result<u32> {
        self.with_word(addr, Want::Write, |word| word.swap(value, Ordering::SeqCst))
    }

    /// Stores `new` where the word is `current`; the inner result is the word found (`Ok`: it was `current`). Errors as [`Self::load_u32`].
    pub fn compare_exchange_u32(
        &self,
        addr: UserAddr,
        current: u32,
        new: u32,
    ) -> Result<core::result::Result<u32, u32>> {
        self.with_word(addr, Want::Write, |word| {
            word.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst)
        })
    }

    /// Replaces the word by `change` of it, atomically, and returns what was there (FUTEX_WAKE_OP). Errors as [`Self::load_u32`].
    pub fn fetch_update_u32(&self, addr: UserAddr, change: impl Fn(u32) -> u32) -> Result<u32> {
        self.with_word(addr, Want::Write, |word| {
            let mut current = word.load(Ordering::SeqCst);
            loop {
                let (ok, fail) = (Ordering::SeqCst, Ordering::SeqCst);
                match word.compare_exchange_weak(current, change(current), ok, fail) {
                    Ok(old) => return old,
                    Err(now) => current = now,
                }
            }
        })
    }
}
