//! Memory: mmap, munmap, mprotect, mremap, brk, madvise and their relatives.

use crate::rows;

rows! {}
