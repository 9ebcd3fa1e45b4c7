//! Credentials as a real state, checked where Linux checks them (credentials(7), capabilities(7)).

use std::sync::Arc;

use bitflags::bitflags;
use sentry_abi::Errno;

use crate::error::Result;

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

/// SECBIT_NO_SETUID_FIXUP: changes of user ids leave capabilities alone.
const SECBIT_NO_SETUID_FIXUP: u32 = 1 << 2;
/// SECBIT_KEEP_CAPS: a change from root to another user keeps the permitted set.
const SECBIT_KEEP_CAPS: u32 = 1 << 4;

/// The capabilities that the file-system user id stands for.
const FS_CAPABILITIES: Capabilities = Capabilities::CHOWN
    .union(Capabilities::DAC_OVERRIDE)
    .union(Capabilities::DAC_READ_SEARCH)
    .union(Capabilities::FOWNER)
    .union(Capabilities::FSETID)
    .union(Capabilities::LINUX_IMMUTABLE)
    .union(Capabilities::MAC_OVERRIDE)
    .union(Capabilities::MKNOD);

/// The three user or group ids of setresuid(2); `None` leaves one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IdChange {
    /// Real.
    pub real: Option<u32>,
    /// Effective (the file-system id follows).
    pub effective: Option<u32>,
    /// Saved.
    pub saved: Option<u32>,
}

impl Credentials {
    /// setresuid(2). Errors: EPERM for an id that is none of the present ones, without CAP_SETUID.
    pub fn with_uids(&self, change: IdChange) -> Result<Self> {
        let known = [self.uid, self.euid, self.suid];
        check_ids(change, &known, self.has(Capabilities::SETUID))?;
        let mut new = self.clone();
        new.uid = change.real.unwrap_or(self.uid);
        new.euid = change.effective.unwrap_or(self.euid);
        new.suid = change.saved.unwrap_or(self.suid);
        new.fsuid = new.euid;
        new.fix_capabilities(self);
        Ok(new)
    }

    /// setresgid(2). Errors: EPERM for an id that is none of the present ones, without CAP_SETGID.
    pub fn with_gids(&self, change: IdChange) -> Result<Self> {
        let known = [self.gid, self.egid, self.sgid];
        check_ids(change, &known, self.has(Capabilities::SETGID))?;
        let mut new = self.clone();
        new.gid = change.real.unwrap_or(self.gid);
        new.egid = change.effective.unwrap_or(self.egid);
        new.sgid = change.saved.unwrap_or(self.sgid);
        new.fsgid = new.egid;
        Ok(new)
    }

    /// setfsuid(2); `None` where it is not allowed (the call has no error).
    pub fn with_fsuid(&self, id: u32) -> Option<Self> {
        let known = [self.uid, self.euid, self.suid, self.fsuid].contains(&id);
        if !known && !self.has(Capabilities::SETUID) {
            return None;
        }
        let mut new = self.clone();
        new.fsuid = id;
        new.fix_capabilities(self);
        Some(new)
    }

    /// setfsgid(2); `None` where it is not allowed.
    pub fn with_fsgid(&self, id: u32) -> Option<Self> {
        let known = [self.gid, self.egid, self.sgid, self.fsgid].contains(&id);
        if !known && !self.has(Capabilities::SETGID) {
            return None;
        }
        Some(Self { fsgid: id, ..self.clone() })
    }

    /// capabilities(7), "Effect of user ID changes on capabilities".
    fn fix_capabilities(&mut self, old: &Self) {
        if self.securebits & SECBIT_NO_SETUID_FIXUP != 0 {
            return;
        }
        let any_root = |c: &Self| c.uid == 0 || c.euid == 0 || c.suid == 0;
        if any_root(old) && !any_root(self) {
            if self.securebits & SECBIT_KEEP_CAPS == 0 {
                self.permitted = Capabilities::empty();
                self.effective = Capabilities::empty();
            }
            self.ambient = Capabilities::empty();
        }
        if old.euid == 0 && self.euid != 0 {
            self.effective = Capabilities::empty();
        }
        if old.euid != 0 && self.euid == 0 {
            self.effective = self.permitted;
        }
        if old.fsuid == 0 && self.fsuid != 0 {
            self.effective -= FS_CAPABILITIES;
        }
        if old.fsuid != 0 && self.fsuid == 0 {
            self.effective |= self.permitted & FS_CAPABILITIES;
        }
    }

    /// capset(2). Errors: EPERM where a set would grow beyond what the manual allows.
    pub fn with_capabilities(
        &self,
        effective: Capabilities,
        permitted: Capabilities,
        inheritable: Capabilities,
    ) -> Result<Self> {
        let may_inherit = self.inheritable | self.permitted;
        let setpcap = self.has(Capabilities::SETPCAP);
        let fine = self.permitted.contains(permitted)
            && permitted.contains(effective)
            && (self.inheritable | self.bounding).contains(inheritable)
            && (setpcap || may_inherit.contains(inheritable));
        if !fine {
            return Err(Errno::EPERM.into());
        }
        let mut new = self.clone();
        (new.effective, new.permitted, new.inheritable) = (effective, permitted, inheritable);
        new.ambient &= permitted & inheritable;
        Ok(new)
    }
}

fn check_ids(change: IdChange, known: &[u32; 3], privileged: bool) -> Result<()> {
    let wanted = [change.real, change.effective, change.saved];
    let fine = privileged || wanted.iter().flatten().all(|id| known.contains(id));
    if fine { Ok(()) } else { Err(Errno::EPERM.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(id: u32) -> IdChange {
        IdChange { real: Some(id), effective: Some(id), saved: Some(id) }
    }

    #[test]
    fn leaving_root_loses_capabilities_and_does_not_come_back() {
        let user = Credentials::root().with_uids(all(1000)).unwrap();
        assert!(user.permitted.is_empty() && user.effective.is_empty());
        assert!(user.with_uids(all(0)).is_err());
    }

    #[test]
    fn a_saved_root_gives_capabilities_back() {
        let change = IdChange { effective: Some(1000), ..IdChange::default() };
        let user = Credentials::root().with_uids(change).unwrap();
        assert!(user.effective.is_empty() && !user.permitted.is_empty());
        let back = IdChange { effective: Some(0), ..IdChange::default() };
        assert_eq!(user.with_uids(back).unwrap().effective, Capabilities::all());
    }

    #[test]
    fn capset_never_grows_the_permitted_set() {
        let user = Credentials::user(1000, 1000, Arc::from([]));
        let none = Capabilities::empty();
        assert!(user.with_capabilities(none, Capabilities::KILL, none).is_err());
        let root = Credentials::root();
        let less = root.with_capabilities(none, Capabilities::KILL, none).unwrap();
        assert!(less.with_capabilities(none, Capabilities::all(), none).is_err());
    }
}
