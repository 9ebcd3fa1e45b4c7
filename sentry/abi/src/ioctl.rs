//! asm-generic/ioctls.h: the requests that the kernel answers for every file.

/// FIONBIO: non-blocking by the int at the address.
pub const FIONBIO: u32 = 0x5421;
/// FIONCLEX: keep over exec.
pub const FIONCLEX: u32 = 0x5450;
/// FIOCLEX: close on exec.
pub const FIOCLEX: u32 = 0x5451;
/// FIOASYNC: O_ASYNC by the int at the address.
pub const FIOASYNC: u32 = 0x5452;
/// FIONREAD (TIOCINQ): readable bytes.
pub const FIONREAD: u32 = 0x541B;
/// FIOQSIZE
pub const FIOQSIZE: u32 = 0x5460;
