//! The stack as a program finds it (System V ABI, "Process Initialization"): strings, auxiliary vector, environment, arguments.

use sentry_abi::{Errno, UserAddr, UserPtr, auxv};

use crate::error::Result;
use crate::mm::MemoryManager;

/// Longest argument or environment string with its NUL, in bytes (MAX_ARG_STRLEN).
const STRING_MAX: usize = 131_072;
/// Arguments and environment may always have this many bytes (ARG_MAX).
const TOTAL_MIN: u64 = 131_072;
/// And never more than three quarters of the default stack.
const TOTAL_MAX: u64 = 6 << 20;

/// How many bytes of arguments and environment are still allowed (execve(2), "Limits on size of arguments and environment").
#[derive(Clone, Copy, Debug)]
pub struct ArgBudget {
    left: u64,
}

impl ArgBudget {
    /// A quarter of the stack's limit (bytes), in bounds.
    pub fn new(stack_limit: u64) -> Self {
        Self { left: (stack_limit / 4).clamp(TOTAL_MIN, TOTAL_MAX) }
    }

    /// Takes a string of `len` bytes without its NUL and its pointer. Errors: E2BIG.
    pub fn take(&mut self, len: usize) -> Result<()> {
        if len >= STRING_MAX {
            return Err(Errno::E2BIG.into());
        }
        let bytes = len as u64 + 1 + size_of::<u64>() as u64;
        self.left = self.left.checked_sub(bytes).ok_or(Errno::E2BIG)?;
        Ok(())
    }
}

/// Reads a NULL-ended array of strings from program memory; a null `array` is empty, as on Linux. Errors: EFAULT, E2BIG.
pub fn read_strings(
    mm: &MemoryManager,
    array: UserPtr<u64>,
    budget: &mut ArgBudget,
) -> Result<Vec<Vec<u8>>> {
    let mut strings = Vec::new();
    if array.is_null() {
        return Ok(strings);
    }
    loop {
        let addr = mm.read_obj(array.element(strings.len() as u64)?)?;
        if addr == 0 {
            return Ok(strings);
        }
        let string = mm.read_cstring(UserAddr(addr), STRING_MAX).map_err(|error| {
            if error.is(Errno::ENAMETOOLONG) { Errno::E2BIG.into() } else { error }
        })?;
        budget.take(string.len())?;
        strings.push(string);
    }
}

/// What goes on the stack.
pub(super) struct Contents<'a> {
    /// Behind the last byte of the stack.
    pub top: u64,
    /// The path given to execve.
    pub filename: &'a [u8],
    pub argv: &'a [Vec<u8>],
    pub envp: &'a [Vec<u8>],
    pub random: [u8; 16],
    /// Bytes to move the strings down by, so that addresses differ between runs.
    pub shift: u64,
    /// AT_PLATFORM
    pub platform: &'a [u8],
    /// The vector without AT_RANDOM, AT_EXECFN, AT_PLATFORM and AT_NULL.
    pub auxv: &'a [(u64, u64)],
}

/// The finished stack: bytes from `sp` to the top, and where its parts lie.
#[derive(Debug)]
pub(super) struct Built {
    pub sp: u64,
    pub bytes: Vec<u8>,
    pub arg: core::ops::Range<u64>,
    pub env: core::ops::Range<u64>,
    pub auxv: core::ops::Range<u64>,
}

/// Bytes that are filled from the top down.
struct Down {
    top: u64,
    at: u64,
    /// The bytes in reverse.
    reversed: Vec<u8>,
}

impl Down {
    fn push(&mut self, bytes: &[u8]) -> Result<u64> {
        self.at = self.at.checked_sub(bytes.len() as u64).ok_or(Errno::E2BIG)?;
        self.reversed.extend(bytes.iter().rev());
        Ok(self.at)
    }

    fn string(&mut self, string: &[u8]) -> Result<u64> {
        self.push(&[0])?;
        self.push(string)
    }

    fn pad_to(&mut self, at: u64) {
        let at = at.min(self.at);
        self.reversed.resize((self.top - at) as usize, 0);
        self.at = at;
    }
}

/// Lays the stack out. Errors: E2BIG where it does not fit below `top`.
pub(super) fn build(contents: &Contents<'_>) -> Result<Built> {
    let mut down = Down { top: contents.top, at: contents.top, reversed: Vec::new() };
    // Linux leaves a null word at the very top.
    down.push(&[0; 8])?;
    let filename = down.string(contents.filename)?;
    let env_end = down.at;
    let mut envp = down_strings(&mut down, contents.envp)?;
    let env_start = down.at;
    let mut argv = down_strings(&mut down, contents.argv)?;
    let arg_start = down.at;
    down.pad_to(down.at.saturating_sub(contents.shift) & !15);
    let platform = down.string(contents.platform)?;
    let random = down.push(&contents.random)?;

    let mut vector: Vec<(u64, u64)> = contents.auxv.to_vec();
    vector.push((auxv::AT_RANDOM, random));
    vector.push((auxv::AT_EXECFN, filename));
    vector.push((auxv::AT_PLATFORM, platform));
    vector.push((auxv::AT_NULL, 0));
    let mut words = vec![argv.len() as u64];
    words.append(&mut argv);
    words.push(0);
    words.append(&mut envp);
    words.push(0);
    let auxv_index = words.len();
    words.extend(vector.iter().flat_map(|(kind, value)| [*kind, *value]));

    // System V ABI: at the entry point (rsp + 0) is 16-byte aligned and holds argc.
    let len = words.len() as u64 * 8;
    let sp = down.at.checked_sub(len).ok_or(Errno::E2BIG)? & !15;
    down.pad_to(sp + len);
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend(down.reversed.iter().rev());
    let auxv_start = sp + auxv_index as u64 * 8;
    Ok(Built {
        sp,
        bytes,
        arg: arg_start..env_start,
        env: env_start..env_end,
        auxv: auxv_start..sp + len,
    })
}

/// Pushes strings so that the first has the lowest address; returns the addresses in order.
fn down_strings(down: &mut Down, strings: &[Vec<u8>]) -> Result<Vec<u64>> {
    let mut addrs = Vec::with_capacity(strings.len());
    for string in strings.iter().rev() {
        addrs.push(down.string(string)?);
    }
    addrs.reverse();
    Ok(addrs)
}
