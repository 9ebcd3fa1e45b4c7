//! Things by small numbers, which are given again when they are gone.

use std::hash::Hash;

use crate::keyed::Map;

/// The number of something in a [`Table`].
pub type Id = usize;

/// Things by their numbers.
pub struct Table<T> {
    places: Vec<Option<T>>,
    free: Vec<Id>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Table<T> {
    /// Keeps something.
    pub fn put(&mut self, thing: T) -> Id {
        let id = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[id] = Some(thing);
        id
    }

    /// That of a number.
    pub fn get(&self, id: Id) -> Option<&T> {
        self.places.get(id)?.as_ref()
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        self.places.get_mut(id)?.as_mut()
    }

    /// Takes it out: the number is free.
    pub fn take(&mut self, id: Id) -> Option<T> {
        let thing = self.places.get_mut(id)?.take()?;
        self.free.push(id);
        Some(thing)
    }

    /// All that are there.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten()
    }
}

/// A key of which the latest that were found are remembered.
pub trait Recent: Copy + Eq + Hash {
    /// Where: keys that are looked for in turns should differ in it. It is told in a few instructions.
    fn place(&self) -> u8;
}

/// Things by their numbers that are found by a key, too.
pub struct Keyed<K, T> {
    ids: Map<K, Id>,
    things: Table<T>,
    /// The latest that was found of each place, which spares most searches.
    recent: Box<[Option<(K, Id)>]>,
}

impl<K: Copy, T> Default for Keyed<K, T> {
    fn default() -> Self {
        let recent = vec![None; 1 << u8::BITS].into();
        Self { ids: Map::default(), things: Table::default(), recent }
    }
}

impl<K: Recent, T> Keyed<K, T> {
    /// The number of what has this key.
    pub fn find(&mut self, key: &K) -> Option<Id> {
        let recent = &mut self.recent[usize::from(key.place())];
        if let Some((found, id)) = recent
            && found == key
        {
            return Some(*id);
        }
        let id = *self.ids.get(key)?;
        *recent = Some((*key, id));
        Some(id)
    }

    /// Whether there is something of this key.
    pub fn has(&self, key: &K) -> bool {
        self.ids.contains_key(key)
    }

    /// Keeps something; there is nothing of its key.
    pub fn put(&mut self, key: K, thing: T) -> Id {
        let id = self.things.put(thing);
        self.ids.insert(key, id);
        self.recent[usize::from(key.place())] = Some((key, id));
        id
    }

    /// That of a number.
    pub fn get(&self, id: Id) -> Option<&T> {
        self.things.get(id)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        self.things.get_mut(id)
    }

    /// Takes out what has this key: its number is free.
    pub fn take(&mut self, key: &K) -> Option<T> {
        let id = self.ids.remove(key)?;
        self.recent[usize::from(key.place())] = None;
        self.things.take(id)
    }

    /// Takes out those that are over.
    pub fn extract(&mut self, mut is_over: impl FnMut(&T) -> bool) -> Vec<T> {
        let things = &mut self.things;
        let over = |_: &K, id: &mut Id| things.get(*id).is_none_or(&mut is_over);
        let gone: Vec<(K, Id)> = self.ids.extract_if(over).collect();
        gone.iter().for_each(|(key, _)| self.recent[usize::from(key.place())] = None);
        let ids = gone.into_iter().map(|(_, id)| id);
        ids.filter_map(|id| things.take(id)).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.things.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Recent for u16 {
        fn place(&self) -> u8 {
            (*self % 4) as u8
        }
    }

    #[test]
    fn what_was_found_lately_is_forgotten_with_what_it_was() {
        let mut keyed: Keyed<u16, u16> = Keyed::default();
        let mut state = 1_u32;
        for _ in 0..20_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let key = (state >> 16) as u16 % 12;
            let found = keyed.find(&key);
            assert_eq!(found.is_some(), keyed.has(&key));
            assert_eq!(found.map(|id| keyed.get(id)), found.map(|_| Some(&key)));
            match state >> 28 {
                0 => keyed.extract(|thing| thing % 3 == key % 3).clear(),
                1..6 => assert_eq!(keyed.take(&key).is_some(), found.is_some()),
                _ if found.is_none() => assert!(keyed.put(key, key) < 12),
                _ => {}
            }
        }
    }
}
