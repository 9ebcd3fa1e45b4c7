//! User addresses as typed allegations: they can be copied, offset and handed to the memory manager, never dereferenced.

use core::fmt;
use core::marker::PhantomData;

use crate::errno::Errno;

/// Size of a page in bytes on x86-64.
pub const PAGE_SIZE: u64 = 4096;

/// An address that a program gave us; nothing about it has been checked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UserAddr(pub u64);

impl UserAddr {
    /// The null address.
    pub const NULL: Self = Self(0);

    /// True for address 0.
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The address `bytes` further on, or EFAULT where that wraps.
    pub fn offset(self, bytes: u64) -> Result<Self, Errno> {
        self.0.checked_add(bytes).map(Self).ok_or(Errno::EFAULT)
    }

    /// Rounds down to a page boundary.
    pub const fn page_down(self) -> Self {
        Self(self.0 & !(PAGE_SIZE - 1))
    }

    /// Rounds up to a page boundary, or `None` where that wraps.
    pub fn page_up(self) -> Option<Self> {
        self.0.checked_add(PAGE_SIZE - 1).map(|a| Self(a & !(PAGE_SIZE - 1)))
    }

    /// True on a page boundary.
    pub const fn is_page_aligned(self) -> bool {
        self.0.is_multiple_of(PAGE_SIZE)
    }
}

impl fmt::Debug for UserAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::LowerHex for UserAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// Where a program alleges that a `T` lies. Validation is at the copy, not at decode.
pub struct UserPtr<T> {
    addr: UserAddr,
    of: PhantomData<fn() -> T>,
}

impl<T> UserPtr<T> {
    /// Wraps a raw address.
    pub const fn new(addr: u64) -> Self {
        Self { addr: UserAddr(addr), of: PhantomData }
    }

    /// The raw address.
    pub const fn addr(self) -> UserAddr {
        self.addr
    }

    /// True for the null pointer.
    pub const fn is_null(self) -> bool {
        self.addr.is_null()
    }

    /// `None` for null: the shape of an optional argument.
    pub fn non_null(self) -> Option<Self> {
        (!self.is_null()).then_some(self)
    }

    /// Pointer to the element `index` further on, or EFAULT where that wraps.
    pub fn element(self, index: u64) -> Result<Self, Errno> {
        let bytes = index.checked_mul(size_of::<T>() as u64).ok_or(Errno::EFAULT)?;
        Ok(Self { addr: self.addr.offset(bytes)?, of: PhantomData })
    }

    /// The same address as a pointer to another type.
    pub const fn cast<U>(self) -> UserPtr<U> {
        UserPtr { addr: self.addr, of: PhantomData }
    }
}

impl<T> Clone for UserPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for UserPtr<T> {}

impl<T> fmt::Debug for UserPtr<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.addr, f)
    }
}

/// Where a program alleges that `len` elements of `T` lie.
pub struct UserSlice<T> {
    ptr: UserPtr<T>,
    len: u64,
}

impl<T> UserSlice<T> {
    /// Wraps a raw address and an element count.
    pub const fn new(addr: u64, len: u64) -> Self {
        Self { ptr: UserPtr::new(addr), len }
    }

    /// First element.
    pub const fn ptr(self) -> UserPtr<T> {
        self.ptr
    }

    /// First byte.
    pub const fn addr(self) -> UserAddr {
        self.ptr.addr
    }

    /// Number of elements.
    pub const fn len(self) -> u64 {
        self.len
    }

    /// True without elements.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Number of bytes, or EFAULT where that wraps.
    pub fn byte_len(self) -> Result<u64, Errno> {
        self.len.checked_mul(size_of::<T>() as u64).ok_or(Errno::EFAULT)
    }
}

impl<T> Clone for UserSlice<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for UserSlice<T> {}

impl<T> fmt::Debug for UserSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}+{}", self.ptr.addr, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_that_wrap_are_faults() {
        assert_eq!(UserAddr(u64::MAX).offset(1), Err(Errno::EFAULT));
        assert!(UserPtr::<u64>::new(8).element(u64::MAX).is_err());
        assert_eq!(UserAddr(u64::MAX).page_up(), None);
        assert_eq!(UserAddr(4097).page_down(), UserAddr(4096));
    }
}
