//! What a hostile program or a rude host does: forged responses, killed stubs, a killed sentry.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use platform::{Event, PAGE_SIZE, Platform, PlatformError, Populate, Prot, Registers};

use crate::fixture::{CODE, Guest, LOOP, SYSCALL, program};
use crate::lifecycle::{helpers_of, processes_with};

crate::platform_tests!(
    scribbling_on_the_platforms_pages_gains_nothing,
    scribbling_over_another_threads_pages_harms_nobody_else,
    a_killed_stub_is_an_error_and_no_hang,
    stubs_that_were_killed_before_they_were_needed_are_not_used,
    signals_from_outside_are_not_seen_by_the_guest,
    a_stub_owns_nothing,
);

/// A guest thread writes every value as fast as it can to every page near the platform's region,
/// while the sentry changes the map: each change must still be true when the call returns.
fn scribbling_on_the_platforms_pages_gains_nothing(platform: Arc<dyn Platform>) {
    // 1: inc eax; mov [rbx], eax; mov [rbx + 4], eax; jmp 1b
    let code = program(&[&[0xff, 0xc0], &[0x89, 0x03], &[0x89, 0x43, 0x04], &[0xeb, 0xf7]]);
    let guest = Guest::new(platform.clone(), &code);
    let writable: Vec<u64> = (0..8)
        .map(|page| platform.user_range().end + page * PAGE_SIZE)
        .filter(|page| {
            let mut probe = guest.platform.new_context().unwrap();
            let kick = probe.kick_handle();
            kick.kick();
            let mut regs = Registers { rbx: *page, ..Registers::at_entry(CODE, 0) };
            assert_eq!(probe.switch(&guest.space, &mut regs).unwrap(), Event::Interrupted);
            // Single-step over the store: a fault says that the page is not the guest's to write.
            regs.rip = CODE + 2;
            regs.eflags |= platform::arch::registers::FLAG_TRAP;
            !matches!(probe.switch(&guest.space, &mut regs).unwrap(), Event::Fault { .. })
        })
        .collect();
    // A page of responses. What threads share with the sentry comes behind it: see below.
    let (responses, threads) = writable.split_at(writable.len().min(1));
    assert!(threads.len() <= 4, "{threads:x?}");
    for &page in responses {
        let mut context = platform.new_context().unwrap();
        let (kick, space) = (context.kick_handle(), guest.space.clone());
        let scribbler = std::thread::spawn(move || {
            let mut regs = Registers { rbx: page, ..Registers::at_entry(CODE, 0) };
            context.switch(&space, &mut regs).unwrap()
        });
        let mut reader = platform.new_context().unwrap();
        for round in 0..200u64 {
            let addr = 0x7000_0000 + round % 3 * PAGE_SIZE;
            let file = guest.data.start;
            guest.space.map_file(addr, PAGE_SIZE, file, Prot::READ, Populate::Lazy).unwrap();
            guest.space.unmap(addr, PAGE_SIZE).unwrap();
            let mut regs = Registers::at_entry(addr, 0);
            let event = reader.switch(&guest.space, &mut regs).unwrap();
            assert!(matches!(event, Event::Fault { error_code: 0x14, .. }), "{event:?}");
        }
        kick.kick();
        assert_eq!(scribbler.join().unwrap(), Event::Interrupted);
    }
}

/// A guest thread overwrites everything that it can reach of what another one shares with the sentry:
/// that one may get strange answers, hang until somebody kicks it, or lose its process, but the sentry
/// and other processes go on.
fn scribbling_over_another_threads_pages_harms_nobody_else(platform: Arc<dyn Platform>) {
    // 1: inc rcx; mov [rbx], rcx; add rbx, 8; cmp rbx, rdx; cmove rbx, rsi; jmp 1b
    let scribble = program(&[
        &[0x48, 0xff, 0xc1],
        &[0x48, 0x89, 0x0b],
        &[0x48, 0x83, 0xc3, 0x08],
        &[0x48, 0x39, 0xd3],
        &[0x48, 0x0f, 0x44, 0xde],
        &[0xeb, 0xed],
    ]);
    let first = platform.user_range().end;
    let mut elsewhere = Guest::new(platform.clone(), &SYSCALL);
    for page in 0..8 {
        let mut victim = Guest::new(platform.clone(), &program(&[&SYSCALL, &[0xeb, 0xfc]]));
        victim.platform.memory().write_at(victim.code.start + 64, &scribble).unwrap();
        victim.regs.rax = 1;
        victim.expect_syscall(1);
        let mut context = platform.new_context().unwrap();
        let (kick, space) = (context.kick_handle(), victim.space.clone());
        let start = first + page * PAGE_SIZE;
        let scribbler = std::thread::spawn(move || {
            let mut regs = Registers {
                rbx: start,
                rsi: start,
                rdx: start + PAGE_SIZE,
                ..Registers::at_entry(CODE + 64, 0)
            };
            context.switch(&space, &mut regs)
        });
        let waker = victim.context.kick_handle();
        let calls = std::thread::spawn(move || {
            for _ in 0..50 {
                if victim.context.switch(&victim.space, &mut victim.regs).is_err() {
                    break;
                }
            }
        });
        // Nobody else notices anything, as long as it goes on.
        for round in 0..200 {
            elsewhere.regs = Registers { rax: round, ..Registers::at_entry(CODE, 0) };
            elsewhere.expect_syscall(round);
        }
        while !calls.is_finished() {
            waker.kick();
            std::thread::yield_now();
        }
        calls.join().unwrap();
        // It has stopped at a page that it cannot write, or is stopped, or its process is gone.
        kick.kick();
        let _ = scribbler.join().unwrap();
    }
}

fn a_killed_stub_is_an_error_and_no_hang(platform: Arc<dyn Platform>) {
    let mut guest = Guest::new(platform.clone(), &LOOP);
    let space = guest.space.clone();
    let killer = std::thread::spawn({
        let platform = platform.clone();
        move || kill_stubs(&platform)
    });
    let result = guest.context.switch(&space, &mut guest.regs);
    killer.join().unwrap();
    assert!(matches!(result, Err(PlatformError::StubDied)), "{result:?}");
    let result = space.unmap(CODE, PAGE_SIZE);
    assert!(matches!(result, Err(PlatformError::StubDied)), "{result:?}");
    assert!(guest.context.switch(&space, &mut guest.regs).is_err());
    // The platform and the context go on elsewhere.
    guest.space = platform.new_address_space().unwrap();
    crate::fixture::map_guest(&*guest.space, guest.code, guest.data);
    guest.platform.memory().write_at(guest.code.start, &SYSCALL).unwrap();
    guest.regs = Registers { rax: 4, ..Registers::at_entry(CODE, 0) };
    guest.expect_syscall(4);
}

/// Kills all processes of the platform that hold or will hold program code, and waits for their end.
fn kill_stubs(platform: &Arc<dyn Platform>) {
    use nix::sys::signal::{Signal, kill};
    let region = platform.user_range().end;
    let zygote = |pid: i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.contains(&format!("PPid:\t{}\n", std::process::id()))
    };
    let stubs: Vec<i32> = helpers_of(region).into_iter().filter(|pid| !zygote(*pid)).collect();
    for pid in &stubs {
        let _ = kill(nix::unistd::Pid::from_raw(*pid), Signal::SIGKILL);
    }
    while helpers_of(region).iter().any(|pid| stubs.contains(pid)) {
        std::thread::yield_now();
    }
}

/// A backend may make processes ahead of need: one that was killed meanwhile is nobody's.
fn stubs_that_were_killed_before_they_were_needed_are_not_used(platform: Arc<dyn Platform>) {
    let spaces = |count| (0..count).map(|_| Guest::new(platform.clone(), &SYSCALL)).collect();
    let first: Vec<Guest> = spaces(3);
    for round in 0..3 {
        // Those that are made at this moment may be counted in vain: they live.
        kill_stubs(&platform);
        for (number, mut guest) in (round..).zip(spaces(6)) {
            guest.regs.rax = number;
            guest.expect_syscall(number);
        }
    }
    drop(first);
}

fn signals_from_outside_are_not_seen_by_the_guest(platform: Arc<dyn Platform>) {
    use nix::sys::signal::{Signal, kill};
    let code = program(&[&SYSCALL, &[0xeb, 0xfc]]);
    let mut guest = Guest::new(platform.clone(), &code);
    guest.regs.rax = 1;
    guest.expect_syscall(1);
    for pid in helpers_of(platform.user_range().end) {
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
            kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
        }
    }
    for round in 0..10 {
        guest.regs.rax = round;
        guest.expect_syscall(round);
    }
}

/// What the host says about the processes that hold program code: filtered, without privileges, and
/// nothing of the sentry mapped or open.
fn a_stub_owns_nothing(platform: Arc<dyn Platform>) {
    let mut guest = Guest::new(platform.clone(), &SYSCALL);
    guest.run();
    let region = platform.user_range().end;
    for pid in helpers_of(region) {
        let read = |name| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
        let status = read("status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().to_owned()
        };
        assert_eq!(field("NoNewPrivs:"), "1");
        for set in ["CapEff:", "CapPrm:", "CapInh:"] {
            assert_eq!(field(set), "0000000000000000", "{set}");
        }
        let zygote = field("PPid:") == std::process::id().to_string();
        assert_eq!(field("Seccomp:"), "2");
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        assert_eq!(open, if zygote { 3 } else { 2 });
        for line in read("maps").lines() {
            let allowed = ["memfd:netcell-memory", "memfd:netcell-stub", "[vsyscall]"];
            let own = line.starts_with(&format!("{:x}-", region + PAGE_SIZE));
            let named = allowed.iter().any(|name| line.contains(name));
            assert!(named || (zygote && own), "{line}");
            assert!(!line.contains(" rwx"), "{line}");
        }
    }
}

/// Run by the next test in a process of its own: prints its region and waits to be killed.
#[test]
#[ignore = "a helper of `stubs_die_with_the_sentry`"]
fn sentry_that_waits_to_be_killed() {
    let backend = platform::by_name("ptrace").expect("listed");
    let platform = (backend.start)(platform::BackendOptions::default()).unwrap();
    println!("\nregion {:x}", platform.user_range().end);
    let mut guest = Guest::new(platform, &LOOP);
    let _idle = guest.platform.new_address_space().unwrap();
    let event = guest.run();
    panic!("the guest spins for ever, but: {event:?}");
}

#[test]
fn stubs_die_with_the_sentry() {
    let mut sentry = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "hostile::sentry_that_waits_to_be_killed"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(sentry.stdout.take().unwrap()).lines();
    let region = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("region ").map(str::to_owned))
        .unwrap();
    let region = u64::from_str_radix(&region, 16).unwrap();
    // The zygote and two stubs.
    while processes_with(region).len() < 3 {
        std::thread::yield_now();
    }
    sentry.kill().unwrap();
    sentry.wait().unwrap();
    while !processes_with(region).is_empty() {
        std::thread::yield_now();
    }
}
