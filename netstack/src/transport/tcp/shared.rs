//! What all connections of a stack share: the configuration and the keys.

use super::config::TcpConfig;
use super::isn::IsnKeys;
use super::listen::RequestTable;
use super::listen::cookie::CookieKeys;
use crate::rng::{KeyedState, Seed, SipKey};
use parking_lot::RwLock;
use std::sync::Arc;

const DOMAIN_REQUESTS: u64 = 0x7463_7072_6571;

/// The TCP part of a stack's shared state.
pub struct TcpShared {
    config: RwLock<Arc<TcpConfig>>,
    /// Keys of initial sequence numbers.
    pub keys: IsnKeys,
    /// Handshakes under way, of all listeners.
    pub requests: RequestTable,
    /// Keys of SYN cookies.
    pub cookies: CookieKeys,
}

impl TcpShared {
    /// The defaults, with keys derived from a stack's seed.
    pub fn new(seed: &Seed) -> TcpShared {
        TcpShared {
            config: RwLock::default(),
            keys: IsnKeys::new(seed),
            requests: RequestTable::new(KeyedState::new(SipKey::derive(seed, DOMAIN_REQUESTS))),
            cookies: CookieKeys::new(seed),
        }
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
