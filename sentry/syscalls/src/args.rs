//! Typed arguments: how the six raw words of a call become the types that a handler's signature names.

use sentry_abi::{UserAddr, UserPtr, UserSlice};
use sentry_kernel::Result;
use sentry_kernel::task::CurrentTask;

/// A file descriptor as the program gave it: any 32-bit number (the upper half of the word is ignored, as on Linux).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fd(pub i32);

impl Fd {
    /// AT_FDCWD of openat(2) and its relatives.
    pub const CWD: Fd = Fd(-100);
}

/// The words of one call, taken from the front.
#[derive(Debug)]
pub struct ArgReader<'a> {
    words: &'a [u64; 6],
    next: usize,
}

impl<'a> ArgReader<'a> {
    /// Starts at the first word.
    pub fn new(words: &'a [u64; 6]) -> Self {
        Self { words, next: 0 }
    }

    /// The next word; 0 after the sixth.
    pub fn word(&mut self) -> u64 {
        let word = self.words.get(self.next).copied().unwrap_or(0);
        self.next += 1;
        word
    }
}

/// A type that decodes itself from one or more words. Pointers are only wrapped: validation is at the copy.
pub trait FromArg: Sized {
    /// How many words it takes.
    const WORDS: usize = 1;

    /// Takes its words. Errors: EINVAL for unknown flag bits and the like.
    fn from_arg(args: &mut ArgReader<'_>) -> Result<Self>;
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl FromArg for $type {
            fn from_arg(args: &mut ArgReader<'_>) -> Result<Self> {
                // The ABI passes narrow integers in the low part of a word; the rest is undefined.
                Ok(args.word() as $type)
            }
        }
    )*};
}

integers!(i32, u32, i64, u64, usize, u16);

impl FromArg for Fd {
    fn from_arg(args: &mut ArgReader<'_>) -> Result<Self> {
        i32::from_arg(args).map(Fd)
    }
}

impl FromArg for UserAddr {
    fn from_arg(args: &mut ArgReader<'_>) -> Result<Self> {
        Ok(UserAddr(args.word()))
    }
}

impl<T> FromArg for UserPtr<T> {
    fn from_arg(args: &mut ArgReader<'_>) -> Result<Self> {
        Ok(UserPtr::new(args.word()))
    }
}

/// Two words: the address and the number of elements.
impl<T> FromArg for UserSlice<T> {
    const WORDS: usize = 2;

    fn from_arg(args: &mut ArgReader<'_>) -> Result<Self> {
        let addr = args.word();
        Ok(UserSlice::new(addr, args.word()))
    }
}

/// Implements [`FromArg`] for bitflags types over `u32` or `u64`: an unknown bit is EINVAL.
#[macro_export]
macro_rules! flag_args {
    ($($type:ty : $bits:ty),* $(,)?) => {$(
        impl $crate::args::FromArg for $type {
            fn from_arg(args: &mut $crate::args::ArgReader<'_>) -> sentry_kernel::Result<Self> {
                <$type>::from_bits(args.word() as $bits)
                    .ok_or_else(|| sentry_kernel::Error::new(sentry_abi::Errno::EINVAL))
            }
        }
    )*};
}

/// What a handler may return: everything that fits the result register.
pub trait IntoResult {
    /// The word for rax.
    fn into_word(self) -> u64;
}

impl IntoResult for () {
    fn into_word(self) -> u64 {
        0
    }
}

impl IntoResult for u64 {
    fn into_word(self) -> u64 {
        self
    }
}

impl IntoResult for usize {
    fn into_word(self) -> u64 {
        self as u64
    }
}

impl IntoResult for u32 {
    fn into_word(self) -> u64 {
        u64::from(self)
    }
}

impl IntoResult for i32 {
    fn into_word(self) -> u64 {
        i64::from(self) as u64
    }
}

impl IntoResult for Fd {
    fn into_word(self) -> u64 {
        self.0.into_word()
    }
}

impl IntoResult for UserAddr {
    fn into_word(self) -> u64 {
        self.0
    }
}

/// Marks handlers that take `&CurrentTask`.
pub enum Shared {}
/// Marks handlers that take `&mut CurrentTask`.
pub enum Exclusive {}

/// A handler: a function of the current task and up to six decoded arguments.
pub trait Handler<Args> {
    /// How many argument words it takes.
    const WORDS: usize;

    /// Decodes the arguments in order and calls it.
    fn call(&self, task: &mut CurrentTask, words: &[u64; 6]) -> Result<u64>;
}

/// How many argument words a handler takes.
pub const fn words_of<Args, H: Handler<Args>>(_: &H) -> usize {
    H::WORDS
}

macro_rules! handlers {
    ($(($($arg:ident)*))*) => {$(
        impl<F, R, $($arg,)*> Handler<(Shared, R, $($arg,)*)> for F
        where
            F: Fn(&CurrentTask, $($arg),*) -> Result<R>,
            R: IntoResult,
            $($arg: FromArg,)*
        {
            const WORDS: usize = 0 $(+ $arg::WORDS)*;

            #[allow(non_snake_case, unused_mut, unused_variables)]
            fn call(&self, task: &mut CurrentTask, words: &[u64; 6]) -> Result<u64> {
                let mut args = ArgReader::new(words);
                $(let $arg = $arg::from_arg(&mut args)?;)*
                self(task, $($arg),*).map(IntoResult::into_word)
            }
        }

        impl<F, R, $($arg,)*> Handler<(Exclusive, R, $($arg,)*)> for F
        where
            F: Fn(&mut CurrentTask, $($arg),*) -> Result<R>,
            R: IntoResult,
            $($arg: FromArg,)*
        {
            const WORDS: usize = 0 $(+ $arg::WORDS)*;

            #[allow(non_snake_case, unused_mut, unused_variables)]
            fn call(&self, task: &mut CurrentTask, words: &[u64; 6]) -> Result<u64> {
                let mut args = ArgReader::new(words);
                $(let $arg = $arg::from_arg(&mut args)?;)*
                self(task, $($arg),*).map(IntoResult::into_word)
            }
        }
    )*};
}

handlers! {
    () (A1) (A1 A2) (A1 A2 A3) (A1 A2 A3 A4) (A1 A2 A3 A4 A5) (A1 A2 A3 A4 A5 A6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_takes_two_words_and_integers_are_truncated() {
        let words = [0xffff_ffff_0000_0003, 0x1000, 16, u64::MAX, 0, 0];
        let mut args = ArgReader::new(&words);
        assert_eq!(Fd::from_arg(&mut args).unwrap(), Fd(3));
        let slice = UserSlice::<u8>::from_arg(&mut args).unwrap();
        assert_eq!((slice.addr(), slice.len()), (UserAddr(0x1000), 16));
        assert_eq!(i32::from_arg(&mut args).unwrap(), -1);
    }

    #[test]
    fn negative_results_keep_their_sign() {
        assert_eq!((-1i32).into_word(), u64::MAX);
    }
}
