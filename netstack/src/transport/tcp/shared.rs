//! What all connections of a stack share: the configuration and the keys.

use super::config::TcpConfig;
use super::isn::IsnKeys;
use crate::rng::Seed;
use parking_lot::RwLock;
use std::sync::Arc;

/// The TCP part of a stack's shared state.
pub struct TcpShared {
    config: RwLock<Arc<TcpConfig>>,
    /// Keys of initial sequence numbers.
    pub keys: IsnKeys,
}

impl TcpShared {
    /// The defaults, with keys derived from a stack's seed.
    pub fn new(seed: &Seed) -> TcpShared {
        TcpShared { config: RwLock::default(), keys: IsnKeys::new(seed) }
    }

    /// The configuration for connections that begin now.
    pub fn config(&self) -> Arc<TcpConfig> {
        self.config.read().clone()
    }

    /// Changes the configuration for connections that begin later.
    pub fn set_config(&self, config: TcpConfig) {
        *self.config.write() = Arc::new(config);
    }
}
