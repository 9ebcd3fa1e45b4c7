//! Which program text is offered to the platform for its own use.

use platform::CallSite;
use platform::fake::PATCH_RANGE;

use super::*;

const TEXT: Prot = Prot::READ.union(Prot::EXEC);

/// A guest with so many pages of a file's private text, all loaded; the file, and where they are.
fn guest_with_text(pages: u64) -> (Guest, Arc<File>, u64) {
    let platform = platform();
    let g = guest_on(&platform);
    let file = File::new(platform.memory(), pages);
    let at = g.mm.mmap(of_file(&file, MapType::Private, TEXT, pages)).unwrap().0;
    for page in 0..pages {
        g.load(at + page * PAGE_SIZE).unwrap();
    }
    (g, file, at)
}

/// An area of one page somewhere in what the platform needs.
fn area_in_its_way(guest: &Guest) -> u64 {
    guest
        .map_with(|args| {
            args.addr = UserAddr(PATCH_RANGE.start + PAGE_SIZE);
            args.flags |= MapFlags::FIXED;
        })
        .unwrap()
}

/// Offers the site that ends at `behind`; the offsets at which the platform has got it.
fn offer(guest: &Guest, behind: u64) -> Vec<u64> {
    let before = guest.space().offered_sites().len();
    guest.mm.offer_call_site(CallSite { behind, nr: 39 });
    guest.space().offered_sites()[before..].iter().map(|(_, offset)| *offset).collect()
}

#[test]
fn private_text_of_a_file_is_offered() {
    let (g, file, at) = guest_with_text(2);
    assert_eq!(offer(&g, at + 100), [file.pages.start]);
    // The page is that of the last byte.
    assert_eq!(offer(&g, at + PAGE_SIZE), [file.pages.start]);
    assert_eq!(offer(&g, at + PAGE_SIZE + 1), [file.pages.start + PAGE_SIZE]);
    assert_eq!(offer(&g, 0), []);
    assert_eq!(offer(&g, at + 2 * PAGE_SIZE + 1), []);
}

#[test]
fn text_that_may_change_is_not_offered() {
    let platform = platform();
    let g = guest_on(&platform);
    let file = File::new(platform.memory(), 1);
    let shared = g.mm.mmap(of_file(&file, MapType::Shared, TEXT, 1)).unwrap().0;
    g.load(shared).unwrap();
    assert_eq!(offer(&g, shared + 100), []);

    let writable = g.mm.mmap(of_file(&file, MapType::Private, TEXT | Prot::WRITE, 1)).unwrap().0;
    g.load(writable).unwrap();
    assert_eq!(offer(&g, writable + 100), []);
    // Its own copy, which was written: code that was made at run time.
    g.store(writable, 1).unwrap();
    g.mm.mprotect(UserAddr(writable), PAGE_SIZE, TEXT).unwrap();
    g.load(writable).unwrap();
    assert_eq!(offer(&g, writable + 100), []);

    let own = g.map(PAGE_SIZE, TEXT);
    g.load(own).unwrap();
    assert_eq!(offer(&g, own + 100), []);
}

#[test]
fn the_platform_has_its_addresses_as_long_as_the_program_has_no_area_there() {
    let (g, file, at) = guest_with_text(1);
    let own = area_in_its_way(&g);
    assert_eq!(offer(&g, at + 100), []);
    g.mm.munmap(UserAddr(own), PAGE_SIZE).unwrap();
    assert_eq!(offer(&g, at + 100), [file.pages.start]);
    g.map(PAGE_SIZE, RW);
    assert_eq!(g.space().offered_sites().len(), 1);
    // A child has its own space, in which nothing is patched.
    let child = g.fork();
    area_in_its_way(&child);
    assert_eq!(g.space().offered_sites().len(), 1);
    // An area, before anybody touches it.
    area_in_its_way(&g);
    assert_eq!(g.space().offered_sites(), []);
}

#[test]
fn the_program_break_takes_the_platforms_addresses_too() {
    let (g, file, at) = guest_with_text(1);
    g.mm.set_brk_start(UserAddr(PATCH_RANGE.start - PAGE_SIZE));
    assert_eq!(offer(&g, at + 100), [file.pages.start]);
    g.mm.brk(UserAddr(PATCH_RANGE.start));
    assert_eq!(g.space().offered_sites().len(), 1);
    g.mm.brk(UserAddr(PATCH_RANGE.start + 1));
    assert_eq!(g.space().offered_sites(), []);
}
