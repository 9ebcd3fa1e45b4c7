//! Things by small numbers, which are given again when they are gone.

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
