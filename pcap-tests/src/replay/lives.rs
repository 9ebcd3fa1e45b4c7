//! The conversations under way, by number: they are found by their ends once for a frame.

use std::hash::{Hash, Hasher};

use super::live::Live;
use super::player::Ends;
use crate::keyed;
use crate::table::{Id, Keyed, Recent};

/// The number of a conversation under way. That of one that is over is given again.
pub type LiveId = Id;

/// What a conversation is found by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key(pub Ends);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        keyed::hash_ends(state, 0, [&self.0.0, &self.0.1]);
    }
}

impl Recent for Key {
    fn place(&self) -> u8 {
        (self.0.0.1 ^ self.0.1.1) as u8
    }
}

/// Conversations.
pub type Lives = Keyed<Key, Live>;
