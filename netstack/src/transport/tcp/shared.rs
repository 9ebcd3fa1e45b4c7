//! What all connections of a stack share: the configuration and the keys.

use super::config::TcpConfig;
use super::fast_open::FastOpenShared;
use super::isn::IsnKeys;
use super::listen::cookie::CookieKeys;
use super::listen::{ListenWatch, RequestTable};
use super::time_wait::TimeWaitTable;
use crate::rng::{KeyedState, Seed, SipKey};
use core::sync::atomic::AtomicUsize;
use parking_lot::RwLock;
use std::sync::Arc;

const DOMAIN_REQUESTS: u64 = 0x7463_7072_6571;

const DOMAIN_TIME_WAIT: u64 = 0x7463_7074_7774;

/// The TCP part of a stack's shared state.
pub struct TcpShared {
    config: RwLock<Arc<TcpConfig>>,
    /// Keys of initial sequence numbers.
    pub keys: IsnKeys,
    /// Handshakes under way, of all listeners.
    pub requests: RequestTable,
    /// Connections in TIME-WAIT and the like.
    pub time_wait: TimeWaitTable,
    /// Connections that no program holds.
    pub orphans: AtomicUsize,
    /// Cookies of fast open, given and got.
    pub fast_open: FastOpenShared,
    /// Keys of SYN cookies.
    pub cookies: CookieKeys,
    /// Who is told of listeners.
    pub listen_watch: ListenWatch,
}

impl TcpShared {
    /// The defaults, with keys derived from a stack's seed.
    pub fn new(seed: &Seed) -> TcpShared {
        TcpShared {
            config: RwLock::default(),
            keys: IsnKeys::new(seed),
            requests: RequestTable::new(KeyedState::new(SipKey::derive(seed, DOMAIN_REQUESTS))),
            time_wait: TimeWaitTable::new(SipKey::derive(seed, DOMAIN_TIME_WAIT)),
            orphans: AtomicUsize::new(0),
            fast_open: FastOpenShared::new(seed),
            cookies: CookieKeys::new(seed),
            listen_watch: ListenWatch::default(),
        }
    }

    /// The configuration for connections that begin now.
    pub fn config(&self) -> Arc<TcpConfig> {
        self.config.read().clone()
    }

    /// Changes some of the configuration for connections that begin later.
    pub fn edit_config(&self, edit: impl FnOnce(&mut TcpConfig)) {
        edit(Arc::make_mut(&mut *self.config.write()));
    }

    /// Changes the configuration for connections that begin later.
    pub fn set_config(&self, config: TcpConfig) {
        *self.config.write() = Arc::new(config);
    }
}
