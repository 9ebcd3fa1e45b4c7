//! A map from prefixes to values that finds the longest prefix of an address: a path-compressed binary trie whose nodes
//! are shared between copies, so that a copy costs nothing and a change copies one path.

use core::net::IpAddr;
use std::sync::Arc;

use super::cidr::IpCidr;

/// The first `len` bits of an address, in the high bits of a word; the rest is zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Key {
    bits: u128,
    len: u8,
}

impl Key {
    fn of(cidr: &IpCidr) -> Key {
        let len = cidr.prefix_len();
        Key { bits: word(cidr.address()) & Key::mask(len), len }
    }

    fn mask(len: u8) -> u128 {
        !u128::MAX.checked_shr(u32::from(len)).unwrap_or(0)
    }

    /// Whether bit `at`, counted from the front, is set: the side of a child. Only asked for within an address.
    fn side(self, at: u8) -> usize {
        usize::from(self.bits.checked_shl(u32::from(at)).is_some_and(|rest| rest >> 127 == 1))
    }

    /// How many leading bits two keys share.
    fn shared(self, other: Key) -> u8 {
        let same = (self.bits ^ other.bits).leading_zeros() as u8;
        same.min(self.len).min(other.len)
    }

    fn covers(self, bits: u128) -> bool {
        (self.bits ^ bits) & Key::mask(self.len) == 0
    }
}

/// An address as the high bits of a word. One trie holds one family.
fn word(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

type Link<V> = Option<Arc<Node<V>>>;

#[derive(Clone)]
struct Node<V> {
    key: Key,
    value: Option<V>,
    children: [Link<V>; 2],
}

/// The map. All prefixes are of one family.
#[derive(Clone)]
pub struct Trie<V> {
    root: Link<V>,
}

impl<V> Default for Trie<V> {
    fn default() -> Trie<V> {
        Trie { root: None }
    }
}

impl<V: Clone> Trie<V> {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Changes the value of a prefix; it is None where there is none, and None afterwards removes it.
    pub fn edit<R>(&mut self, prefix: &IpCidr, change: impl FnOnce(&mut Option<V>) -> R) -> R {
        edit(&mut self.root, Key::of(prefix), change)
    }

    /// The value of exactly this prefix.
    pub fn get(&self, prefix: &IpCidr) -> Option<&V> {
        let key = Key::of(prefix);
        let mut link = &self.root;
        while let Some(node) = link {
            if node.key == key {
                return node.value.as_ref();
            }
            if node.key.len >= key.len || !node.key.covers(key.bits) {
                return None;
            }
            link = &node.children[key.side(node.key.len)];
        }
        None
    }

    /// Shows the values whose prefixes hold an address, the longest first, until one gives an answer.
    pub fn find<'a, R>(
        &'a self,
        address: IpAddr,
        mut judge: impl FnMut(&'a V) -> Option<R>,
    ) -> Option<R> {
        find(&self.root, word(address), &mut judge)
    }

    /// The value of the longest prefix that holds an address.
    pub fn longest(&self, address: IpAddr) -> Option<&V> {
        let bits = word(address);
        let (mut link, mut best) = (&self.root, None);
        while let Some(node) = link.as_ref().filter(|node| node.key.covers(bits)) {
            best = node.value.as_ref().or(best);
            link = &node.children[Key { bits, len: 128 }.side(node.key.len)];
        }
        best
    }

    /// Shows every value, a prefix before those within it.
    pub fn for_each<'a>(&'a self, mut show: impl FnMut(&'a V)) {
        for_each(&self.root, &mut show);
    }
}

fn edit<V: Clone, R>(link: &mut Link<V>, key: Key, change: impl FnOnce(&mut Option<V>) -> R) -> R {
    let shared = link.as_ref().map(|node| (node.key.shared(key), node.key.len));
    let answer = match (link.as_mut(), shared) {
        (Some(node), Some((shared, len))) if shared == len => {
            let node = Arc::make_mut(node);
            match shared == key.len {
                true => change(&mut node.value),
                false => edit(&mut node.children[key.side(shared)], key, change),
            }
        }
        _ => {
            let mut value = None;
            let answer = change(&mut value);
            if value.is_some() {
                insert(link, Node { key, value, children: [None, None] });
            }
            return answer;
        }
    };
    prune(link);
    answer
}

/// Puts a node where the place is empty or holds a node whose prefix does not cover it.
fn insert<V>(link: &mut Link<V>, mut new: Node<V>) {
    let Some(old) = link.take() else {
        *link = Some(Arc::new(new));
        return;
    };
    let shared = old.key.shared(new.key);
    let side = old.key.side(shared);
    if shared == new.key.len {
        new.children[side] = Some(old);
        *link = Some(Arc::new(new));
        return;
    }
    let key = Key { bits: new.key.bits & Key::mask(shared), len: shared };
    let mut children = [None, Some(Arc::new(new))];
    if side == 1 {
        children.swap(0, 1);
    }
    children[side] = Some(old);
    *link = Some(Arc::new(Node { key, value: None, children }));
}

/// Takes a node out that holds nothing and joins nothing.
fn prune<V: Clone>(link: &mut Link<V>) {
    let Some(node) = link.as_ref().filter(|node| node.value.is_none()) else { return };
    match &node.children {
        [None, None] => *link = None,
        [Some(only), None] | [None, Some(only)] => *link = Some(only.clone()),
        [Some(_), Some(_)] => {}
    }
}

fn find<'a, V, R>(
    link: &'a Link<V>,
    bits: u128,
    judge: &mut impl FnMut(&'a V) -> Option<R>,
) -> Option<R> {
    let node = link.as_ref().filter(|node| node.key.covers(bits))?;
    // The children of a host prefix are both empty, so any side will do.
    let side = Key { bits, len: 128 }.side(node.key.len);
    find(&node.children[side], bits, judge).or_else(|| node.value.as_ref().and_then(judge))
}

fn for_each<'a, V>(link: &'a Link<V>, show: &mut impl FnMut(&'a V)) {
    let Some(node) = link else { return };
    node.value.iter().for_each(&mut *show);
    node.children.iter().for_each(|child| for_each(child, show));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cidr(text: &str) -> IpCidr {
        text.parse().unwrap()
    }

    #[test]
    fn a_copy_keeps_what_the_original_loses() {
        let mut trie = Trie::default();
        for (n, prefix) in
            ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32"].iter().enumerate()
        {
            trie.edit(&cidr(prefix), |value| *value = Some(n));
        }
        let copy = trie.clone();
        trie.edit(&cidr("10.1.0.0/16"), |value| *value = None);
        let longest = |trie: &Trie<usize>, at: &str| trie.find(at.parse().unwrap(), |n| Some(*n));
        assert_eq!(longest(&trie, "10.1.9.9"), Some(1));
        assert_eq!(longest(&copy, "10.1.9.9"), Some(2));
        assert_eq!(longest(&trie, "10.1.2.3"), Some(3));
        assert_eq!(copy.get(&cidr("10.1.0.0/16")), Some(&2));
        assert_eq!(copy.get(&cidr("10.1.0.0/17")), None);
    }

    proptest! {
        #[test]
        fn it_answers_as_a_list_of_prefixes_does(
            steps in proptest::collection::vec((any::<u32>(), 0u8..=32, any::<bool>()), 1..60),
            asked in proptest::collection::vec(any::<u32>(), 1..20),
        ) {
            let mut trie = Trie::default();
            let mut list: Vec<(IpCidr, usize)> = Vec::new();
            for (n, (bits, len, add)) in steps.iter().enumerate() {
                // Few distinct bits, so that prefixes nest and are removed again.
                let cidr = IpCidr::new(IpAddr::V4((bits & 0xc0c0_c0c0).into()), *len).network();
                list.retain(|(old, _)| *old != cidr);
                if *add {
                    list.push((cidr, n));
                }
                trie.edit(&cidr, |value| *value = add.then_some(n));
            }
            let mut count = 0;
            trie.for_each(|_| count += 1);
            prop_assert_eq!(count, list.len());
            for address in asked.iter().map(|bits| IpAddr::V4((bits & 0xc0c0_c0c0).into())) {
                let mut covering: Vec<_> = list.iter().filter(|(cidr, _)| cidr.contains(address)).collect();
                covering.sort_by_key(|(cidr, _)| core::cmp::Reverse(cidr.prefix_len()));
                let mut seen = Vec::new();
                trie.find(address, |n| -> Option<()> { seen.push(*n); None });
                prop_assert_eq!(seen, covering.iter().map(|(_, n)| *n).collect::<Vec<_>>());
                prop_assert_eq!(trie.longest(address), covering.first().map(|(_, n)| n));
            }
            for (cidr, _) in list {
                trie.edit(&cidr, |value| *value = None);
            }
            prop_assert!(trie.is_empty());
        }
    }
}
