//! What is held and mapped ahead: one fault enters, or takes back, all that lies around it.

use super::*;

/// Faults that `act` takes.
fn faults(guest: &Guest, act: impl FnOnce()) -> u64 {
    let before = guest.mm.fault_count();
    act();
    guest.mm.fault_count() - before
}

#[test]
fn one_fault_enters_every_file_that_was_mapped_before() {
    let platform = platform();
    let g = guest_on(&platform);
    let mut at = Vec::new();
    for pages in [1, 3, 2] {
        let file = File::new(platform.memory(), pages);
        at.push(g.mm.mmap(of_file(&file, MapType::Private, Prot::READ, pages)).unwrap().0);
    }
    let taken = faults(&g, || at.iter().for_each(|at| assert_eq!(g.load(*at), Ok(1))));
    assert_eq!(taken, 1);
}

#[test]
fn data_segments_are_copied_when_they_are_mapped() {
    let platform = platform();
    let g = guest_on(&platform);
    let file = File::new(platform.memory(), 2);
    let place = g.map(2 * PAGE_SIZE, RW);
    let mut args = of_file(&file, MapType::Private, RW, 2);
    (args.addr, args.flags) = (UserAddr(place), MapFlags::FIXED);
    let at = g.mm.mmap(args).unwrap().0;
    let used = platform.memory().used_bytes();
    let taken = faults(&g, || {
        assert_eq!(g.load(at), Ok(1));
        g.store(at + PAGE_SIZE, 9).unwrap();
    });
    assert_eq!((taken, platform.memory().used_bytes()), (1, used));
    let mut second = [0];
    platform.memory().read_at(file.pages.start + PAGE_SIZE, &mut second).unwrap();
    assert_eq!(second, [2], "the file is untouched");
}

#[test]
fn a_parent_takes_back_all_areas_at_once_and_a_child_keeps_its_own() {
    let platform = platform();
    let parent = guest_on(&platform);
    // Areas of different rights between them keep the three apart.
    let at: Vec<u64> = (0..3)
        .map(|_| {
            parent.map(PAGE_SIZE, Prot::empty());
            parent.map(PAGE_SIZE, RW)
        })
        .collect();
    let store_all = |byte| at.iter().for_each(|at| parent.store(*at, byte).unwrap());
    store_all(1);
    drop(parent.fork());
    assert_eq!(faults(&parent, || store_all(2)), 1);
    let child = parent.fork();
    assert_eq!(faults(&parent, || store_all(3)), 3, "each page is copied for itself");
    assert!(at.iter().all(|at| child.load(*at) == Ok(2)));
    let grandchild = child.fork();
    child.store(at[0], 4).unwrap();
    assert!(at.iter().all(|at| grandchild.load(*at) == Ok(2)));
}
