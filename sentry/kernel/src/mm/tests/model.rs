//! Whole address spaces against a model: pages with a protection and a byte, through fork, moves and drops.

use std::collections::BTreeMap;
use std::sync::Arc;

use platform::{Platform, Prot};
use sentry_abi::mman::{Advice, MapFlags, RemapFlags};
use sentry_abi::{PAGE_SIZE, UserAddr};

use super::{Guest, guest_on, platform};
use crate::mm::{MmapArgs, MremapArgs};

const BASE: u64 = 0x20_0000_0000;
const PAGES: u64 = 96;

/// A generator whose runs are a function of its seed (xorshift64*).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Page {
    prot: Prot,
    byte: u8,
}

type Model = BTreeMap<u64, Page>;

struct World {
    guest: Guest,
    model: Model,
}

fn at(page: u64) -> u64 {
    BASE + page * PAGE_SIZE
}

fn step(world: &mut World, random: &mut Random) {
    let World { guest, model } = world;
    let start = random.below(PAGES);
    let count = 1 + random.below((PAGES - start).min(24));
    let (addr, len) = (UserAddr(at(start)), count * PAGE_SIZE);
    let pages = start..start + count;
    let covered = pages.clone().all(|page| model.contains_key(&page));
    match random.below(8) {
        0 | 1 => {
            let prot = [Prot::READ, Prot::READ | Prot::WRITE][random.below(2) as usize];
            let flags = MapFlags::FIXED;
            guest.mm.mmap(MmapArgs { addr, flags, ..MmapArgs::anonymous(len, prot) }).unwrap();
            model.extend(pages.map(|page| (page, Page { prot, byte: 0 })));
        }
        2 => {
            guest.mm.munmap(addr, len).unwrap();
            model.retain(|page, _| !pages.contains(page));
        }
        3 => {
            let prot = Prot::from_bits_truncate(random.below(4) as u8);
            // Up to the first hole the change is made; the result says whether there was one.
            assert_eq!(guest.mm.mprotect(addr, len, prot).is_ok(), covered);
            for page in pages {
                match model.get_mut(&page) {
                    Some(held) => held.prot = prot,
                    None => break,
                }
            }
        }
        4 => {
            assert_eq!(guest.mm.madvise(addr, len, Advice::DontNeed).is_ok(), covered);
            model.range_mut(pages).for_each(|(_, held)| held.byte = 0);
        }
        5 => {
            let to = random.below(PAGES - count);
            let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
            let new_addr = UserAddr(at(to));
            let args = MremapArgs { addr, old_len: len, new_len: len, flags, new_addr };
            let apart = to + count <= start || to >= start + count;
            let first = model.get(&start).map(|page| page.prot);
            let whole = pages.clone().all(|page| model.get(&page).map(|p| p.prot) == first);
            let result = guest.mm.mremap(args);
            assert_eq!(result.is_ok(), apart && whole && first.is_some());
            if result.is_ok() {
                let moved: Vec<Page> = pages.filter_map(|page| model.remove(&page)).collect();
                model.extend((to..).zip(moved));
            } else if apart && first.is_some() {
                // mremap(2) unmaps the target before it finds that the source is several areas.
                model.retain(|page, _| !(to..to + count).contains(page));
            }
        }
        _ => {
            let byte = random.below(255) as u8 + 1;
            for page in pages {
                let writable = model.get(&page).is_some_and(|p| p.prot.contains(Prot::WRITE));
                let stored = match random.below(2) {
                    0 => guest.store(at(page), byte).is_ok(),
                    _ => guest.mm.write(UserAddr(at(page)), &[byte]).is_ok(),
                };
                assert_eq!(stored, writable, "page {page}");
                if let Some(held) = model.get_mut(&page).filter(|_| stored) {
                    held.byte = byte;
                }
            }
        }
    }
}

fn check(world: &World, seed: u64) {
    for page in 0..PAGES {
        let expected = world.model.get(&page).filter(|held| !held.prot.is_empty());
        let expected = expected.map(|held| held.byte);
        let mut byte = [0];
        let read = world.guest.mm.read(UserAddr(at(page)), &mut byte).ok().map(|()| byte[0]);
        assert_eq!(read, expected, "seed {seed}, page {page}");
    }
    // The host never allows what the areas do not.
    for mapping in world.guest.space().mappings() {
        for page in
            (mapping.addr - BASE) / PAGE_SIZE..(mapping.addr + mapping.len - BASE) / PAGE_SIZE
        {
            let held = world.model.get(&page).map_or(Prot::empty(), |held| held.prot);
            let may = if held.contains(Prot::WRITE) { held | Prot::READ } else { held };
            assert!(may.contains(mapping.prot), "seed {seed}, page {page}");
        }
    }
}

#[test]
fn address_spaces_agree_with_a_table_of_pages_through_forks() {
    let platform: Arc<dyn Platform> = platform();
    for seed in 1..=40 {
        let mut random = Random::new(seed);
        let mut worlds = vec![World { guest: guest_on(&platform), model: Model::new() }];
        for _ in 0..150 {
            let chosen = random.below(worlds.len() as u64) as usize;
            if random.below(30) == 0 && worlds.len() < 4 {
                let World { guest, model } = &worlds[chosen];
                let child = World { guest: guest.fork(), model: model.clone() };
                worlds.push(child);
            } else if random.below(60) == 0 && worlds.len() > 1 {
                worlds.swap_remove(chosen);
            } else {
                step(&mut worlds[chosen], &mut random);
            }
        }
        worlds.iter().for_each(|world| check(world, seed));
        drop(worlds);
        assert_eq!(platform.memory().used_bytes(), 0, "seed {seed}: a page was leaked");
    }
}
