//! Types of the auxiliary vector (linux/auxvec.h, asm/auxvec.h, getauxval(3)).

/// End of the vector.
pub const AT_NULL: u64 = 0;
/// Entry to be ignored.
pub const AT_IGNORE: u64 = 1;
/// Address of the program headers.
pub const AT_PHDR: u64 = 3;
/// Size of a program header in bytes.
pub const AT_PHENT: u64 = 4;
/// Number of program headers.
pub const AT_PHNUM: u64 = 5;
/// Page size in bytes.
pub const AT_PAGESZ: u64 = 6;
/// Where the interpreter was loaded; 0 without one.
pub const AT_BASE: u64 = 7;
/// Flags, always 0.
pub const AT_FLAGS: u64 = 8;
/// Entry point of the program.
pub const AT_ENTRY: u64 = 9;
/// Real user id.
pub const AT_UID: u64 = 11;
/// Effective user id.
pub const AT_EUID: u64 = 12;
/// Real group id.
pub const AT_GID: u64 = 13;
/// Effective group id.
pub const AT_EGID: u64 = 14;
/// Address of the platform's name.
pub const AT_PLATFORM: u64 = 15;
/// CPU features: CPUID.1:EDX on x86.
pub const AT_HWCAP: u64 = 16;
/// Frequency of times(2) in hertz.
pub const AT_CLKTCK: u64 = 17;
/// 1 where the program must not trust its environment.
pub const AT_SECURE: u64 = 23;
/// Address of 16 random bytes.
pub const AT_RANDOM: u64 = 25;
/// More CPU features.
pub const AT_HWCAP2: u64 = 26;
/// Address of the pathname given to execve(2).
pub const AT_EXECFN: u64 = 31;
/// Address of the vDSO's ELF header.
pub const AT_SYSINFO_EHDR: u64 = 33;
/// Smallest stack in bytes that holds a signal frame.
pub const AT_MINSIGSTKSZ: u64 = 51;
