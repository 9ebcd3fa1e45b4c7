//! Behaviours that every filesystem here shares, and a randomized comparison with the host's own filesystem.

mod model;
mod suite;
mod trees;
mod vfs;
mod world;
