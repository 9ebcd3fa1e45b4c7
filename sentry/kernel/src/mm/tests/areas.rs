//! Areas against a model: a table of pages.

use std::collections::BTreeMap;

use platform::Prot;

use super::model::Random;
use crate::mm::area::{Backing, Label, Vma, VmaFlags};
use crate::mm::areas::{Areas, Totals};

const PAGE: u64 = 4096;
const PAGES: u64 = 64;

fn vma(start: u64, end: u64, prot: Prot) -> Vma {
    let (backing, label) = (Backing::Anonymous, Label::None);
    Vma { start, end, prot, flags: VmaFlags::MAY_ALL, backing, label }
}

/// Maximal runs of equal neighbours in the model.
fn runs(model: &BTreeMap<u64, Prot>) -> Vec<(u64, u64, Prot)> {
    let mut runs: Vec<(u64, u64, Prot)> = Vec::new();
    for (page, prot) in model {
        match runs.last_mut() {
            Some(last) if last.1 == page * PAGE && last.2 == *prot => last.1 += PAGE,
            _ => runs.push((page * PAGE, (page + 1) * PAGE, *prot)),
        }
    }
    runs
}

fn check(areas: &Areas, model: &BTreeMap<u64, Prot>, seed: u64) {
    let found: Vec<_> = areas.iter().map(|v| (v.start, v.end, v.prot)).collect();
    assert_eq!(found, runs(model), "seed {seed}");
    let data = model.values().filter(|prot| prot.contains(Prot::WRITE)).count() as u64 * PAGE;
    let totals = areas.totals();
    assert_eq!((totals.mapped, totals.data), (model.len() as u64 * PAGE, data), "seed {seed}");
    for page in 0..PAGES {
        let here = areas.find(page * PAGE + 17).map(|v| v.prot);
        assert_eq!(here, model.get(&page).copied(), "seed {seed}");
    }
}

#[test]
fn areas_agree_with_a_table_of_pages() {
    for seed in 1..=60 {
        let mut random = Random::new(seed);
        let (mut areas, mut model) = (Areas::default(), BTreeMap::new());
        for _ in 0..120 {
            let start = random.below(PAGES);
            let end = start + 1 + random.below((PAGES - start).min(12));
            let prot = Prot::from_bits_truncate(random.below(4) as u8);
            match random.below(3) {
                0 => {
                    areas.remove(start * PAGE, end * PAGE);
                    areas.insert(vma(start * PAGE, end * PAGE, prot));
                    model.extend((start..end).map(|page| (page, prot)));
                }
                1 => {
                    areas.remove(start * PAGE, end * PAGE);
                    model.retain(|page, _| !(start..end).contains(page));
                }
                _ => {
                    areas.update(start * PAGE, end * PAGE, |v| v.prot = prot);
                    model.range_mut(start..end).for_each(|(_, old)| *old = prot);
                }
            }
            check(&areas, &model, seed);
            let len = (1 + random.below(6)) * PAGE;
            for room in [
                areas.room_below(len, 0, PAGES * PAGE, PAGE),
                areas.room_above(len, 0, PAGES * PAGE, PAGE),
            ] {
                let free = |at: u64| (at..at + len / PAGE).all(|page| !model.contains_key(&page));
                match room {
                    Some(at) => assert!(at + len <= PAGES * PAGE && free(at / PAGE)),
                    None => assert!(!(0..=PAGES - len / PAGE).any(free), "seed {seed}"),
                }
            }
        }
        areas.remove(0, PAGES * PAGE);
        assert_eq!(areas.totals(), Totals::default());
    }
}

#[test]
fn room_below_keeps_the_guard_of_a_stack() {
    let mut areas = Areas::default();
    let mut stack = vma(0x100_0000, 0x100_1000, Prot::READ);
    stack.flags |= VmaFlags::GROWSDOWN;
    areas.insert(stack);
    assert_eq!(areas.room_below(PAGE, 0, 0x100_1000, PAGE), Some(0xf0_0000 - PAGE));
}
