//! The stack as a whole, without a network.
