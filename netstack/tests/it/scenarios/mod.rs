//! Situations of the network, a file a behaviour: each is one virtual run from one seed, and says what must come of it.
