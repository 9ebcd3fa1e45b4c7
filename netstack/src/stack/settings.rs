//! What of a stack's habits can be read and changed while it runs.

use std::sync::Arc;

use super::Stack;
use crate::transport::tcp::TcpConfig;

impl Stack {
    /// The configuration of TCP connections that begin now.
    pub fn tcp_config(&self) -> Arc<TcpConfig> {
        self.shared.tcp.config()
    }

    /// Changes the configuration of TCP connections that begin later.
    pub fn edit_tcp_config(&self, edit: impl FnOnce(&mut TcpConfig)) {
        self.shared.tcp.edit_config(edit);
    }

    /// The time to live and hop limit of packets whose socket asks for none (`ip_default_ttl`).
    pub fn default_ttl(&self) -> u8 {
        self.tunables().ip.ip_default_ttl
    }
}
