//! Values that most of their owners never change: they cost a pointer until somebody does.

use core::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A type with a value that needs no memory of its own.
pub trait Plain: Clone + 'static {
    /// That value.
    const PLAIN: &'static Self;
}

/// The plain value, or one of its own that the first change makes.
#[derive(Clone, Debug)]
pub struct Lazy<T>(Option<Box<T>>);

impl<T> Default for Lazy<T> {
    fn default() -> Lazy<T> {
        Lazy::PLAIN
    }
}

impl<T> Lazy<T> {
    /// The plain value.
    pub const PLAIN: Lazy<T> = Lazy(None);

    /// Gives the memory back: the value is the plain one again.
    pub fn reset(&mut self) {
        self.0 = None;
    }

    /// The value of its own, if there is one.
    pub fn own_mut(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    /// The value of its own, if there is one.
    pub fn into_own(self) -> Option<T> {
        self.0.map(|own| *own)
    }

    /// Whether it has memory of its own.
    pub fn is_own(&self) -> bool {
        self.0.is_some()
    }
}

impl<T: Plain> Deref for Lazy<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::PLAIN)
    }
}

impl<T: Plain> DerefMut for Lazy<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_with(|| Box::new(T::PLAIN.clone()))
    }
}

/// The plain value, or one that clones have in common until one of them changes it.
#[derive(Clone, Debug)]
pub struct Cow<T>(Option<Arc<T>>);

impl<T> Cow<T> {
    /// The plain value.
    pub const PLAIN: Cow<T> = Cow(None);
}

impl<T> From<T> for Cow<T> {
    fn from(value: T) -> Cow<T> {
        Cow(Some(Arc::new(value)))
    }
}

impl<T: Plain> Deref for Cow<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::PLAIN)
    }
}

impl<T: Plain> DerefMut for Cow<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(self.0.get_or_insert_with(|| Arc::new(T::PLAIN.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, PartialEq, Debug)]
    struct Pair(u8, u8);

    impl Plain for Pair {
        const PLAIN: &'static Pair = &Pair(1, 2);
    }

    #[test]
    fn the_first_change_makes_a_value_of_its_own() {
        let mut lazy = Lazy::<Pair>::PLAIN;
        assert_eq!((&*lazy, lazy.is_own()), (&Pair(1, 2), false));
        lazy.0 = None;
        lazy.deref_mut().1 = 9;
        assert_eq!((&*lazy, lazy.is_own()), (&Pair(1, 9), true));
        lazy.reset();
        assert_eq!((&*lazy, lazy.is_own()), (&Pair(1, 2), false));
    }

    #[test]
    fn clones_share_until_one_changes() {
        let one = Cow::from(Pair(3, 4));
        let mut two = one.clone();
        assert!(core::ptr::eq(&*one, &*two));
        two.deref_mut().0 = 5;
        assert_eq!((&*one, &*two, &*Cow::<Pair>::PLAIN), (&Pair(3, 4), &Pair(5, 4), &Pair(1, 2)));
    }
}
