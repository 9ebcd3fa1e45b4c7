//! The conversations under way, by number: they are found by their ends once for a frame.

use std::hash::{Hash, Hasher};

use super::live::Live;
use super::player::Ends;
use crate::keyed::{self, Map};
use crate::table::{Id, Table};

/// The number of a conversation under way. That of one that is over is given again.
pub type LiveId = Id;

#[derive(PartialEq, Eq)]
struct Key(Ends);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        keyed::hash_ends(state, 0, [&self.0.0, &self.0.1]);
    }
}

/// Conversations.
#[derive(Default)]
pub struct Lives {
    ids: Map<Key, LiveId>,
    lives: Table<Live>,
}

impl Lives {
    /// The one between these ends.
    pub fn find(&self, ends: Ends) -> Option<LiveId> {
        self.ids.get(&Key(ends)).copied()
    }

    /// Adds one; there is none between its ends.
    pub fn put(&mut self, live: Live) -> LiveId {
        let ends = live.ends();
        let id = self.lives.put(live);
        self.ids.insert(Key(ends), id);
        id
    }

    /// That of a number.
    pub fn get(&self, id: LiveId) -> Option<&Live> {
        self.lives.get(id)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: LiveId) -> Option<&mut Live> {
        self.lives.get_mut(id)
    }

    /// Takes out the one between these ends.
    pub fn take(&mut self, ends: Ends) -> Option<Live> {
        let id = self.ids.remove(&Key(ends))?;
        self.lives.take(id)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Live> {
        self.lives.iter()
    }
}
