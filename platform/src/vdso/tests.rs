//! Tests of the vDSO: the code runs natively here, from a mapping laid out as in a guest.

use super::*;
use crate::PAGE_SIZE;
use crate::host::clock as host;
use crate::mem::MemoryOptions;

/// The parameters and the image, mapped in this process and executable.
struct Mapped {
    base: usize,
    len: usize,
}

impl Mapped {
    fn new(memory: &MemoryFile, range: FileRange) -> Mapped {
        use std::os::fd::AsRawFd;
        let prot = libc::PROT_READ | libc::PROT_EXEC;
        let (len, fd) = (range.len as usize, memory.fd().as_raw_fd());
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), len, prot, libc::MAP_SHARED, fd, range.start as i64)
        };
        assert_ne!(base, libc::MAP_FAILED);
        Mapped { base: base as usize, len }
    }

    fn address(&self, name: &str) -> usize {
        let functions = functions();
        let function = functions.iter().find(|function| function.name == name).unwrap();
        self.base + (PAGE_SIZE + CODE_OFFSET + function.offset) as usize
    }

    fn clock_gettime(&self, clock: i32) -> u64 {
        type ClockGettime = extern "sysv64" fn(i32, *mut [u64; 2]) -> i64;
        // SAFETY: the address is that of the function in an executable mapping, with its signature.
        let function: ClockGettime = unsafe { std::mem::transmute(self.address("clock_gettime")) };
        let mut time = [0, 0];
        assert_eq!(function(clock, &mut time), 0);
        assert!(time[1] < 1_000_000_000);
        time[0] * 1_000_000_000 + time[1]
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: made by `new`; nothing refers to it any more.
        unsafe { libc::munmap(self.base as *mut libc::c_void, self.len) };
    }
}

fn vdso() -> (Arc<MemoryFile>, Vdso, Mapped) {
    let options = MemoryOptions { size_bytes: 1 << 30, ..MemoryOptions::default() };
    let memory = Arc::new(MemoryFile::new(options).unwrap());
    let vdso = Vdso::install(&memory).unwrap();
    let mapped = Mapped::new(&memory, vdso.range);
    (memory, vdso, mapped)
}

/// Refreshes until the counter is used; false where it never will be.
fn make_usable(vdso: &Vdso) -> bool {
    while vdso.state() == TscState::Measuring {
        vdso.refresh();
    }
    vdso.state() == TscState::Used
}

#[test]
fn clocks_are_right_before_and_after_the_counter_is_used() {
    let (_memory, vdso, mapped) = vdso();
    type Row = (i32, GuestClock, fn() -> u64);
    let clocks: [Row; 5] = [
        (libc::CLOCK_MONOTONIC, GuestClock::Monotonic, host::monotonic_ns),
        (libc::CLOCK_REALTIME, GuestClock::Realtime, host::realtime_ns),
        (libc::CLOCK_MONOTONIC_RAW, GuestClock::Monotonic, host::monotonic_ns),
        (libc::CLOCK_MONOTONIC_COARSE, GuestClock::Monotonic, host::monotonic_ns),
        (libc::CLOCK_REALTIME_COARSE, GuestClock::Realtime, host::realtime_ns),
    ];
    for _ in 0..2 {
        for (clock, guest, host) in clocks {
            let relative = !matches!(clock, libc::CLOCK_MONOTONIC | libc::CLOCK_REALTIME);
            if vdso.state() != TscState::Used && relative {
                // Answered by the host's own coarse or raw clock here, natively.
                continue;
            }
            let before = host().saturating_sub(5_000_000);
            let (first, second) = (mapped.clock_gettime(clock), vdso.now_ns(guest));
            assert!(before <= first && first <= second, "{clock}: {before} {first} {second}");
            assert!(second <= host() + 5_000_000, "{clock}");
        }
        make_usable(&vdso);
    }
}

#[test]
fn time_never_goes_back_between_the_two_ways_while_refreshes_go_on() {
    let (memory, vdso, mapped) = vdso();
    if !make_usable(&vdso) {
        return;
    }
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut last = 0;
                    for _ in 0..200_000 {
                        let guest = guest_monotonic(&memory, &mapped, &vdso);
                        for now in [guest, vdso.now_ns(GuestClock::Monotonic)] {
                            assert!(now >= last, "{now} after {last}");
                            last = now;
                        }
                    }
                })
            })
            .collect();
        while readers.iter().any(|reader| !reader.is_finished()) {
            vdso.refresh();
        }
    });
}

/// What a program sees: the code's own answer, or the kernel's where the code makes a system call
/// because a refresh is going on. (Natively that call would reach the host's clock instead.)
fn guest_monotonic(memory: &MemoryFile, mapped: &Mapped, vdso: &Vdso) -> u64 {
    let sequence = || memory.load_u32(vdso.params().start).unwrap();
    let before = sequence();
    let seen = mapped.clock_gettime(libc::CLOCK_MONOTONIC);
    if before & 1 == 0 && sequence() == before {
        return seen;
    }
    vdso.now_ns(GuestClock::Monotonic)
}

#[test]
fn the_dynamic_linker_of_this_system_accepts_the_image() {
    use std::os::fd::AsRawFd;
    let file = crate::host::file::memory_file(c"vdso").unwrap();
    nix::unistd::write(&file, &image()).unwrap();
    let path = std::ffi::CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    // SAFETY: the image has no initialisers, and the functions found are not called.
    unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        assert!(!library.is_null(), "{:?}", std::ffi::CStr::from_ptr(libc::dlerror()));
        let first = libc::dlsym(library, c"__vdso_clock_gettime".as_ptr());
        let plain = libc::dlsym(library, c"clock_gettime".as_ptr());
        assert!(!first.is_null() && first == plain);
        let version = c"LINUX_2.6".as_ptr();
        assert_eq!(libc::dlvsym(library, c"__vdso_clock_gettime".as_ptr(), version), first);
        assert!(libc::dlvsym(library, c"__vdso_time".as_ptr(), c"LINUX_9".as_ptr()).is_null());
        libc::dlclose(library);
    }
}

#[test]
fn the_other_functions_answer() {
    let (_memory, vdso, mapped) = vdso();
    for _ in 0..2 {
        type Time = extern "sysv64" fn(*mut u64) -> u64;
        type Gettimeofday = extern "sysv64" fn(*mut [u64; 2], usize) -> i64;
        type Getcpu = extern "sysv64" fn(*mut u32, *mut u32, usize) -> i64;
        // SAFETY: the addresses are those of functions with these signatures.
        let (time, gettimeofday, getcpu) = unsafe {
            (
                std::mem::transmute::<usize, Time>(mapped.address("time")),
                std::mem::transmute::<usize, Gettimeofday>(mapped.address("gettimeofday")),
                std::mem::transmute::<usize, Getcpu>(mapped.address("getcpu")),
            )
        };
        // time(2) tells the second of the last tick, which may be the one before.
        let seconds = host::realtime_ns() / 1_000_000_000 - 1;
        let mut stored = 0;
        let returned = time(&mut stored);
        assert!(returned == stored && (seconds..seconds + 3).contains(&returned));
        assert!((seconds..seconds + 4).contains(&time(std::ptr::null_mut())));
        let mut timeval = [0, u64::MAX];
        assert_eq!(gettimeofday(&mut timeval, 0), 0);
        assert!((seconds..seconds + 4).contains(&timeval[0]) && timeval[1] < 1_000_000);
        let (mut cpu, mut node) = (u32::MAX, u32::MAX);
        assert_eq!(getcpu(&mut cpu, &mut node, 0), 0);
        assert!(cpu < 8192 && node < 1024);
        assert_eq!(getcpu(std::ptr::null_mut(), std::ptr::null_mut(), 0), 0);
        make_usable(&vdso);
        vdso.expose_host_cpu_numbers();
    }
}
