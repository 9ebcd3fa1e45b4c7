//! Credentials as a real state, checked where Linux checks them (credentials(7), capabilities(7)).

use std::sync::Arc;

use bitflags::bitflags;

bitflags! {
    /// Capability sets, a bit a capability number (linux/capability.h).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Capabilities: u64 {
        /// CAP_CHOWN
        const CHOWN = 1 << 0;
        /// CAP_DAC_OVERRIDE
        const DAC_OVERRIDE = 1 << 1;
        /// CAP_DAC_READ_SEARCH
        const DAC_READ_SEARCH = 1 << 2;
        /// CAP_FOWNER
        const FOWNER = 1 << 3;
        /// CAP_FSETID
        const FSETID = 1 << 4;
        /// CAP_KILL
        const KILL = 1 << 5;
        /// CAP_SETGID
        const SETGID = 1 << 6;
        /// CAP_SETUID
        const SETUID = 1 << 7;
        /// CAP_SETPCAP
        const SETPCAP = 1 << 8;
        /// CAP_LINUX_IMMUTABLE
        const LINUX_IMMUTABLE = 1 << 9;
        /// CAP_NET_BIND_SERVICE
        const NET_BIND_SERVICE = 1 << 10;
        /// CAP_NET_BROADCAST
        const NET_BROADCAST = 1 << 11;
        /// CAP_NET_ADMIN
        const NET_ADMIN = 1 << 12;
        /// CAP_NET_RAW
        const NET_RAW = 1 << 13;
        /// CAP_IPC_LOCK
        const IPC_LOCK = 1 << 14;
        /// CAP_IPC_OWNER
        const IPC_OWNER = 1 << 15;
        /// CAP_SYS_MODULE
        const SYS_MODULE = 1 << 16;
        /// CAP_SYS_RAWIO
        const SYS_RAWIO = 1 << 17;
        /// CAP_SYS_CHROOT
        const SYS_CHROOT = 1 << 18;
        /// CAP_SYS_PTRACE
        const SYS_PTRACE = 1 << 19;
        /// CAP_SYS_PACCT
        const SYS_PACCT = 1 << 20;
        /// CAP_SYS_ADMIN
        const SYS_ADMIN = 1 << 21;
        /// CAP_SYS_BOOT
        const SYS_BOOT = 1 << 22;
        /// CAP_SYS_NICE
        const SYS_NICE = 1 << 23;
        /// CAP_SYS_RESOURCE
        const SYS_RESOURCE = 1 << 24;
        /// CAP_SYS_TIME
        const SYS_TIME = 1 << 25;
        /// CAP_SYS_TTY_CONFIG
        const SYS_TTY_CONFIG = 1 << 26;
        /// CAP_MKNOD
        const MKNOD = 1 << 27;
        /// CAP_LEASE
        const LEASE = 1 << 28;
        /// CAP_AUDIT_WRITE
        const AUDIT_WRITE = 1 << 29;
        /// CAP_AUDIT_CONTROL
        const AUDIT_CONTROL = 1 << 30;
        /// CAP_SETFCAP
        const SETFCAP = 1 << 31;
        /// CAP_MAC_OVERRIDE
        const MAC_OVERRIDE = 1 << 32;
        /// CAP_MAC_ADMIN
        const MAC_ADMIN = 1 << 33;
        /// CAP_SYSLOG
        const SYSLOG = 1 << 34;
        /// CAP_WAKE_ALARM
        const WAKE_ALARM = 1 << 35;
        /// CAP_BLOCK_SUSPEND
        const BLOCK_SUSPEND = 1 << 36;
        /// CAP_AUDIT_READ
        const AUDIT_READ = 1 << 37;
        /// CAP_PERFMON
        const PERFMON = 1 << 38;
        /// CAP_BPF
        const BPF = 1 << 39;
        /// CAP_CHECKPOINT_RESTORE
        const CHECKPOINT_RESTORE = 1 << 40;
    }
}

/// A task's identity. Immutable: a change makes a new one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credentials {
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Saved user id.
    pub suid: u32,
    /// File-system user id.
    pub fsuid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Saved group id.
    pub sgid: u32,
    /// File-system group id.
    pub fsgid: u32,
    /// Supplementary groups.
    pub groups: Arc<[u32]>,
    /// Permitted capabilities.
    pub permitted: Capabilities,
    /// Effective capabilities.
    pub effective: Capabilities,
    /// Inheritable capabilities.
    pub inheritable: Capabilities,
    /// Bounding set.
    pub bounding: Capabilities,
    /// Ambient set.
    pub ambient: Capabilities,
    /// SECBIT_* of prctl(2).
    pub securebits: u32,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privs: bool,
}

impl Credentials {
    /// User and group 0 with every capability.
    pub fn root() -> Self {
        Self::user(0, 0, Arc::from([]))
    }

    /// The identity that a login as `uid`:`gid` gives: all capabilities for uid 0, none otherwise.
    pub fn user(uid: u32, gid: u32, groups: Arc<[u32]>) -> Self {
        let caps = if uid == 0 { Capabilities::all() } else { Capabilities::empty() };
        Self {
            uid,
            euid: uid,
            suid: uid,
            fsuid: uid,
            gid,
            egid: gid,
            sgid: gid,
            fsgid: gid,
            groups,
            permitted: caps,
            effective: caps,
            inheritable: Capabilities::empty(),
            bounding: Capabilities::all(),
            ambient: Capabilities::empty(),
            securebits: 0,
            no_new_privs: false,
        }
    }

    /// True where the effective set holds `cap`.
    pub fn has(&self, cap: Capabilities) -> bool {
        self.effective.contains(cap)
    }

    /// True where `gid` is the file-system group or a supplementary one.
    pub fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }
}
