//! Tests of the fake platform: a script drives registers and memory through recorded maps.

use super::*;
use crate::{Access, PAGE_SIZE, Populate, Prot};

#[test]
fn a_script_makes_calls_and_sees_their_results() {
    let platform = FakePlatform::new().unwrap();
    platform.push_script(
        Script::new()
            .syscall(39, [0; 6])
            .check(|_, regs| assert_eq!(regs.result(), 77))
            .event(Event::CompatSyscall),
    );
    let space = platform.new_address_space().unwrap();
    let mut context = platform.new_context().unwrap();
    let mut regs = Registers::at_entry(0x1000, 0);
    assert_eq!(context.switch(&space, &mut regs).unwrap(), Event::Syscall);
    assert_eq!((regs.nr(), regs.rip), (39, 0x1002));
    regs.set_result(77);
    assert_eq!(context.switch(&space, &mut regs).unwrap(), Event::CompatSyscall);
    assert!(matches!(context.switch(&space, &mut regs), Err(PlatformError::ScriptEnded)));
}

#[test]
fn a_kick_is_sticky_and_counts_once() {
    let platform = FakePlatform::new().unwrap();
    platform.push_script(Script::new().syscall(1, [0; 6]));
    let space = platform.new_address_space().unwrap();
    let mut context = platform.new_context().unwrap();
    let kick = context.kick_handle();
    kick.kick();
    kick.kick();
    let mut regs = Registers::default();
    assert_eq!(context.switch(&space, &mut regs).unwrap(), Event::Interrupted);
    assert_eq!(context.switch(&space, &mut regs).unwrap(), Event::Syscall);
}

#[test]
fn memory_is_reached_through_the_recorded_maps_and_their_rights() {
    let platform = FakePlatform::new().unwrap();
    let space = platform.new_address_space().unwrap();
    let pages = platform.memory().allocate(3 * PAGE_SIZE, PAGE_SIZE).unwrap();
    let rw = Prot::READ | Prot::WRITE;
    space.map_file(0x10_0000, 3 * PAGE_SIZE, pages.start, rw, Populate::Lazy).unwrap();
    space.unmap(0x10_1000, PAGE_SIZE).unwrap();
    space.protect(0x10_2000, PAGE_SIZE, Prot::READ).unwrap();
    let fake = FakeAddressSpace::of(&space).unwrap();
    fake.write(0x10_0ffc, b"abcd").unwrap();
    let mut found = [0; 4];
    platform.memory().read_at(pages.start + 0xffc, &mut found).unwrap();
    assert_eq!(&found, b"abcd");
    let fault = fake.write(0x10_0ffe, b"abcd").unwrap_err();
    assert_eq!((fault.addr, fault.access), (0x10_1000, Access::Write));
    let event = fake.write(0x10_2000, b"x").unwrap_err().event();
    assert_eq!(event, Event::Fault { addr: 0x10_2000, access: Access::Write, error_code: 7 });
    assert_eq!(fake.mappings().len(), 2);
    assert_eq!(fake.history().len(), 3);
    assert!(space.protect(0x10_1000, PAGE_SIZE, rw).is_err());
}
