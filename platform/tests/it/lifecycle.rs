//! Spaces and contexts come and go without leaving processes, threads or descriptors.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use platform::{Event, Platform, PlatformError, Registers};

use crate::fixture::{CODE, DATA, Guest, SYSCALL, map_guest, program};

crate::platform_tests!(
    many_spaces_leave_nothing_behind,
    a_context_is_bound_to_its_thread,
    a_context_can_be_made_on_one_thread_and_run_on_another,
    one_context_visits_many_spaces,
    a_thousand_threads_live_in_one_space,
    hundreds_of_spaces_live_at_once,
    a_thread_that_was_left_begins_anew_for_the_next_context,
    cpu_time_of_the_guest_is_counted,
);

/// The processes in the session that this platform's helpers lead: found by their own name and by
/// descent from this process.
fn helpers() -> Vec<i32> {
    let own = std::process::id() as i32;
    let mut parents = std::collections::HashMap::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if let Ok(stat) = std::fs::read_to_string(entry.path().join("stat"))
            && let Some((_, rest)) = stat.rsplit_once(") ")
            && let Some(parent) = rest.split(' ').nth(1).and_then(|word| word.parse::<i32>().ok())
        {
            parents.insert(pid, parent);
        }
    }
    let descends = |mut pid: i32| {
        while let Some(&parent) = parents.get(&pid) {
            if parent == own {
                return true;
            }
            pid = parent;
        }
        false
    };
    parents.keys().copied().filter(|pid| descends(*pid)).collect()
}

/// The helpers of one platform: other tests run meanwhile, so they are told by the address of their
/// region.
pub fn helpers_of(region: u64) -> Vec<i32> {
    let ours = helpers();
    processes_with(region).into_iter().filter(|pid| ours.contains(pid)).collect()
}

/// All processes that have a mapping at that address.
pub fn processes_with(region: u64) -> Vec<i32> {
    let needle = format!("{region:x}-");
    let with_region = |pid: &i32| {
        let maps = Path::new("/proc").join(pid.to_string()).join("maps");
        std::fs::read_to_string(maps).is_ok_and(|maps| maps.contains(&needle))
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(with_region).collect()
}

/// The file behind a descriptor, by device and inode.
fn file_of(descriptor: impl AsRef<Path>) -> Option<(u64, u64)> {
    let file = std::fs::metadata(descriptor).ok()?;
    Some((file.dev(), file.ino()))
}

fn many_spaces_leave_nothing_behind(platform: Arc<dyn Platform>) {
    let region = platform.user_range().end;
    // The stubs' result files, and the zygote's command file: other tests hold descriptors, too, but none of these.
    let mut files = HashSet::new();
    for _ in 0..3 {
        let guests: Vec<Guest> = (0..10)
            .map(|number| {
                let mut guest = Guest::new(platform.clone(), &SYSCALL);
                guest.regs.rax = number;
                guest.expect_syscall(number);
                guest
            })
            .collect();
        let helpers = helpers_of(region);
        assert!(helpers.len() > 10, "a zygote and its stubs are visible");
        files.extend(helpers.iter().filter_map(|pid| file_of(format!("/proc/{pid}/fd/1"))));
        drop(guests);
    }
    assert!(files.len() > 30, "each stub has a result file of its own");
    drop(platform);
    assert_eq!(helpers_of(region), Vec::<i32>::new());
    let own = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let left = own.filter(|entry| file_of(entry.path()).is_some_and(|file| files.contains(&file)));
    assert_eq!(left.count(), 0, "descriptors of stubs that are gone");
}

fn a_context_is_bound_to_its_thread(platform: Arc<dyn Platform>) {
    let mut guest = Guest::new(platform, &SYSCALL);
    guest.regs.rax = 1;
    guest.expect_syscall(1);
    std::thread::scope(|scope| {
        let guest = &mut guest;
        let elsewhere = scope.spawn(move || {
            let mut regs = Registers::at_entry(CODE, 0);
            guest.context.switch(&guest.space, &mut regs)
        });
        let result = elsewhere.join().unwrap();
        // A backend may also serve any thread.
        let served = matches!(result, Err(PlatformError::WrongThread) | Ok(Event::Syscall));
        assert!(served, "{result:?}");
    });
    guest.regs = Registers { rax: 2, ..Registers::at_entry(CODE, 0) };
    guest.expect_syscall(2);
}

fn a_context_can_be_made_on_one_thread_and_run_on_another(platform: Arc<dyn Platform>) {
    let mut guest = Guest::new(platform, &SYSCALL);
    let kick = guest.context.kick_handle();
    kick.kick();
    std::thread::spawn(move || {
        assert_eq!(guest.run(), Event::Interrupted);
        guest.regs.rax = 6;
        guest.expect_syscall(6);
    })
    .join()
    .unwrap();
}

fn one_context_visits_many_spaces(platform: Arc<dyn Platform>) {
    let mut guest = Guest::new(platform, &SYSCALL);
    for number in 0..20 {
        let next = guest.platform.new_address_space().unwrap();
        map_guest(&*next, guest.code, guest.data);
        guest.space = next;
        guest.regs = Registers { rax: number, ..Registers::at_entry(CODE, 0) };
        guest.expect_syscall(number);
    }
}

fn a_thousand_threads_live_in_one_space(platform: Arc<dyn Platform>) {
    // 1: inc rbx; syscall; jmp 1b
    let guest =
        Guest::new(platform.clone(), &program(&[&[0x48, 0xff, 0xc3], &SYSCALL, &[0xeb, 0xf9]]));
    let mut threads: Vec<_> = (0..1000u64)
        .map(|number| {
            let regs = Registers { rax: number, rbx: 2 * number, ..Registers::at_entry(CODE, 0) };
            (platform.new_context().unwrap(), regs)
        })
        .collect();
    for round in 1..=2 {
        for (number, (context, regs)) in threads.iter_mut().enumerate() {
            let number = number as u64;
            assert_eq!(context.switch(&guest.space, regs).unwrap(), Event::Syscall);
            assert_eq!((regs.nr(), regs.rbx), (number, 2 * number + round));
            regs.rax = number;
        }
    }
}

fn hundreds_of_spaces_live_at_once(platform: Arc<dyn Platform>) {
    let code = program(&[&SYSCALL, &[0xeb, 0xfc]]);
    let mut guests: Vec<Guest> = (0..500).map(|_| Guest::new(platform.clone(), &code)).collect();
    for _ in 0..2 {
        for (number, guest) in guests.iter_mut().enumerate() {
            guest.regs.rax = number as u64;
            guest.expect_syscall(number as u64);
        }
    }
}

/// Registers, FPU state and kicks of the context before are not to be seen by the next one.
fn a_thread_that_was_left_begins_anew_for_the_next_context(platform: Arc<dyn Platform>) {
    // movups xmm0, [rbx]; syscall; movups [rbx + 32], xmm0; syscall
    let code = program(&[&[0x0f, 0x10, 0x03], &SYSCALL, &[0x0f, 0x11, 0x43, 0x20], &SYSCALL]);
    let mut first = Guest::new(platform.clone(), &code);
    first.set_word(0, u64::MAX);
    first.set_word(32, 5);
    first.regs = Registers { rbx: DATA, r12: 9, fs_base: DATA, ..first.regs };
    first.expect_syscall(0);
    first.context.kick_handle().kick();
    let Guest { context, space, data, .. } = first;
    drop(context);
    let mut next = platform.new_context().unwrap();
    // Where xmm0 is stored.
    let mut regs = Registers { rbx: DATA, ..Registers::at_entry(CODE + 5, 0) };
    assert_eq!(next.switch(&space, &mut regs).unwrap(), Event::Syscall);
    assert_eq!((regs.r12, regs.fs_base), (0, 0));
    let mut word = [1; 8];
    platform.memory().read_at(data.start + 32, &mut word).unwrap();
    assert_eq!(word, [0; 8]);
}

fn cpu_time_of_the_guest_is_counted(platform: Arc<dyn Platform>) {
    // 1: dec rcx; jnz 1b; syscall
    let code = program(&[&[0x48, 0xff, 0xc9, 0x75, 0xfb], &SYSCALL]);
    let mut guest = Guest::new(platform, &code);
    let mut last = guest.context.cpu_ns();
    for _ in 0..2 {
        let next = guest.platform.new_address_space().unwrap();
        map_guest(&*next, guest.code, guest.data);
        guest.space = next;
        guest.regs = Registers { rcx: 3_000_000, ..Registers::at_entry(CODE, 0) };
        guest.expect_syscall(0);
        let used = guest.context.cpu_ns();
        assert!(used > last + 100_000, "{used} after {last}");
        last = used;
    }
}

#[test]
fn every_listed_platform_probes() {
    assert!(!platform::all().is_empty());
    for backend in platform::all() {
        backend.probe().unwrap_or_else(|error| panic!("{}: {error}", backend.name));
    }
    assert!(platform::by_name("no such platform").is_none());
}
