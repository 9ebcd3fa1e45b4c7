//! User and group ids, capabilities, groups, prctl.

use sentry_abi::capability::{
    CAPABILITY_VERSION_1, CAPABILITY_VERSION_2, CAPABILITY_VERSION_3, CapData, CapHeader,
};
use sentry_abi::prctl::{
    PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, PR_CAP_AMBIENT_IS_SET, PR_CAP_AMBIENT_LOWER,
    PR_CAP_AMBIENT_RAISE, PR_CAPBSET_DROP, PR_CAPBSET_READ, PR_GET_CHILD_SUBREAPER,
    PR_GET_DUMPABLE, PR_GET_KEEPCAPS, PR_GET_NAME, PR_GET_NO_NEW_PRIVS, PR_GET_PDEATHSIG,
    PR_GET_SECCOMP, PR_GET_SECUREBITS, PR_GET_THP_DISABLE, PR_GET_TIMERSLACK, PR_GET_TIMING,
    PR_GET_TSC, PR_MCE_KILL_DEFAULT, PR_MCE_KILL_GET, PR_SET_CHILD_SUBREAPER, PR_SET_DUMPABLE,
    PR_SET_KEEPCAPS, PR_SET_NAME, PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, PR_SET_PTRACER,
    PR_SET_SECUREBITS, PR_SET_TIMERSLACK, PR_SET_TIMING, PR_TSC_ENABLE,
};
use sentry_abi::{Errno, UserPtr, UserSlice};
use sentry_kernel::Result;
use sentry_kernel::cred::{Capabilities, Credentials, IdChange};
use sentry_kernel::task::CurrentTask;
use std::sync::Arc;

use crate::rows;

rows! {
    getuid = 102 full;
    getgid = 104 full;
    setuid = 105 full;
    setgid = 106 full;
    geteuid = 107 full;
    getegid = 108 full;
    setreuid = 113 full;
    setregid = 114 full;
    getgroups = 115 full;
    setgroups = 116 full;
    setresuid = 117 full;
    getresuid = 118 full;
    setresgid = 119 full;
    getresgid = 120 full;
    setfsuid = 122 full;
    setfsgid = 123 full;
    capget = 125 full;
    capset = 126 full;
    prctl = 157 partial "no seccomp filters, no PR_SET_MM, no speculation control";
    seccomp = 317 refused "EINVAL: no filters inside the sandbox";
}

fn getuid(task: &CurrentTask) -> Result<u32> {
    Ok(task.credentials().uid)
}

fn getgid(task: &CurrentTask) -> Result<u32> {
    Ok(task.credentials().gid)
}

fn geteuid(task: &CurrentTask) -> Result<u32> {
    Ok(task.credentials().euid)
}

fn getegid(task: &CurrentTask) -> Result<u32> {
    Ok(task.credentials().egid)
}

/// Takes a new identity: one that differs in effective ids is not dumpable (prctl(2)).
fn adopt(task: &CurrentTask, new: Credentials) -> Result<()> {
    let old = task.credentials();
    if old.euid != new.euid || old.egid != new.egid || old.fsuid != new.fsuid {
        task.thread_group().set_dumpable(0);
        task.details(|d| d.parent_death_signal = 0);
    }
    task.set_credentials(new);
    Ok(())
}

/// -1 leaves an id alone.
fn optional(id: u32) -> Option<u32> {
    (id != u32::MAX).then_some(id)
}

fn check_id(id: u32) -> Result<u32> {
    if id == u32::MAX { Err(Errno::EINVAL.into()) } else { Ok(id) }
}

fn setuid(task: &CurrentTask, uid: u32) -> Result<()> {
    let uid = check_id(uid)?;
    let creds = task.credentials();
    let change = if creds.has(Capabilities::SETUID) {
        IdChange { real: Some(uid), effective: Some(uid), saved: Some(uid) }
    } else if uid == creds.uid || uid == creds.suid {
        IdChange { effective: Some(uid), ..IdChange::default() }
    } else {
        return Err(Errno::EPERM.into());
    };
    adopt(task, creds.with_uids(change)?)
}

fn setgid(task: &CurrentTask, gid: u32) -> Result<()> {
    let gid = check_id(gid)?;
    let creds = task.credentials();
    let change = if creds.has(Capabilities::SETGID) {
        IdChange { real: Some(gid), effective: Some(gid), saved: Some(gid) }
    } else if gid == creds.gid || gid == creds.sgid {
        IdChange { effective: Some(gid), ..IdChange::default() }
    } else {
        return Err(Errno::EPERM.into());
    };
    adopt(task, creds.with_gids(change)?)
}

/// setreuid(2): the saved id follows the effective one where the real id was set or the effective one becomes another than the old real one.
fn reid(real: u32, effective: u32, old_real: u32, old_effective: u32) -> IdChange {
    let (real, effective) = (optional(real), optional(effective));
    let follows = real.is_some() || effective.is_some_and(|e| e != old_real);
    let saved = follows.then_some(effective.unwrap_or(old_effective));
    IdChange { real, effective, saved }
}

fn setreuid(task: &CurrentTask, real: u32, effective: u32) -> Result<()> {
    let creds = task.credentials();
    let privileged = creds.has(Capabilities::SETUID);
    if !privileged && optional(real).is_some_and(|r| r != creds.uid && r != creds.euid) {
        return Err(Errno::EPERM.into());
    }
    adopt(task, creds.with_uids(reid(real, effective, creds.uid, creds.euid))?)
}

fn setregid(task: &CurrentTask, real: u32, effective: u32) -> Result<()> {
    let creds = task.credentials();
    let privileged = creds.has(Capabilities::SETGID);
    if !privileged && optional(real).is_some_and(|r| r != creds.gid && r != creds.egid) {
        return Err(Errno::EPERM.into());
    }
    adopt(task, creds.with_gids(reid(real, effective, creds.gid, creds.egid))?)
}

fn setresuid(task: &CurrentTask, real: u32, effective: u32, saved: u32) -> Result<()> {
    let change =
        IdChange { real: optional(real), effective: optional(effective), saved: optional(saved) };
    adopt(task, task.credentials().with_uids(change)?)
}

fn setresgid(task: &CurrentTask, real: u32, effective: u32, saved: u32) -> Result<()> {
    let change =
        IdChange { real: optional(real), effective: optional(effective), saved: optional(saved) };
    adopt(task, task.credentials().with_gids(change)?)
}

fn getresuid(task: &CurrentTask, r: UserPtr<u32>, e: UserPtr<u32>, s: UserPtr<u32>) -> Result<()> {
    let creds = task.credentials();
    task.mm().write_obj(r, &creds.uid)?;
    task.mm().write_obj(e, &creds.euid)?;
    task.mm().write_obj(s, &creds.suid)
}

fn getresgid(task: &CurrentTask, r: UserPtr<u32>, e: UserPtr<u32>, s: UserPtr<u32>) -> Result<()> {
    let creds = task.credentials();
    task.mm().write_obj(r, &creds.gid)?;
    task.mm().write_obj(e, &creds.egid)?;
    task.mm().write_obj(s, &creds.sgid)
}

/// Answers the old id, whether or not it changed: the call has no error.
fn setfsuid(task: &CurrentTask, id: u32) -> Result<u32> {
    let old = task.credentials();
    if let Some(new) = optional(id).and_then(|id| old.with_fsuid(id)) {
        adopt(task, new)?;
    }
    Ok(old.fsuid)
}

fn setfsgid(task: &CurrentTask, id: u32) -> Result<u32> {
    let old = task.credentials();
    if let Some(new) = optional(id).and_then(|id| old.with_fsgid(id)) {
        adopt(task, new)?;
    }
    Ok(old.fsgid)
}

/// NGROUPS_MAX
const GROUPS_MAX: usize = 65_536;

fn getgroups(task: &CurrentTask, size: i32, list: UserPtr<u32>) -> Result<usize> {
    let groups = task.credentials().groups.clone();
    let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    if size == 0 {
        return Ok(groups.len());
    }
    if size < groups.len() {
        return Err(Errno::EINVAL.into());
    }
    task.mm().write_slice(list, &groups)?;
    Ok(groups.len())
}

fn setgroups(task: &CurrentTask, size: i32, list: UserPtr<u32>) -> Result<()> {
    let creds = task.credentials();
    if !creds.has(Capabilities::SETGID) {
        return Err(Errno::EPERM.into());
    }
    let size = usize::try_from(size).ok().filter(|n| *n <= GROUPS_MAX).ok_or(Errno::EINVAL)?;
    let slice = UserSlice::<u32>::new(list.addr().0, size as u64);
    let mut groups = task.mm().read_slice(slice, GROUPS_MAX)?;
    // Linux keeps them sorted, for its lookups, and shows them so.
    groups.sort_unstable();
    adopt(task, Credentials { groups: Arc::from(groups), ..(*creds).clone() })
}

/// How many elements of [`CapData`] a version has. Errors: EINVAL, after the header was told the version that is there.
fn cap_elements(task: &CurrentTask, header: UserPtr<CapHeader>) -> Result<(CapHeader, usize)> {
    let value = task.mm().read_obj(header)?;
    match value.version {
        CAPABILITY_VERSION_1 => Ok((value, 1)),
        CAPABILITY_VERSION_2 | CAPABILITY_VERSION_3 => Ok((value, 2)),
        _ => {
            let told = CapHeader { version: CAPABILITY_VERSION_3, ..value };
            task.mm().write_obj(header, &told)?;
            Err(Errno::EINVAL.into())
        }
    }
}

fn capget(task: &CurrentTask, header: UserPtr<CapHeader>, data: UserPtr<CapData>) -> Result<()> {
    let (head, elements) = match cap_elements(task, header) {
        // capget(2): with a null data pointer this is how the version is asked for.
        Err(error) if error.is(Errno::EINVAL) && data.is_null() => return Ok(()),
        other => other?,
    };
    let creds = match u32::try_from(head.pid) {
        Ok(0) => task.credentials(),
        Ok(tid) => task.pids().task(tid).ok_or(Errno::ESRCH)?.credentials(),
        Err(_) => return Err(Errno::EINVAL.into()),
    };
    let Some(data) = data.non_null() else { return Ok(()) };
    let part = |set: Capabilities, n: usize| (set.bits() >> (32 * n)) as u32;
    let values: Vec<CapData> = (0..elements)
        .map(|n| CapData {
            effective: part(creds.effective, n),
            permitted: part(creds.permitted, n),
            inheritable: part(creds.inheritable, n),
        })
        .collect();
    task.mm().write_slice(data, &values)
}

fn capset(task: &CurrentTask, header: UserPtr<CapHeader>, data: UserPtr<CapData>) -> Result<()> {
    let (head, elements) = cap_elements(task, header)?;
    if head.pid != 0 && u32::try_from(head.pid) != Ok(task.tid()) {
        return Err(Errno::EPERM.into());
    }
    let values =
        task.mm().read_slice(UserSlice::<CapData>::new(data.addr().0, elements as u64), 2)?;
    let join = |part: fn(&CapData) -> u32| {
        let bits = values.iter().enumerate().map(|(n, v)| u64::from(part(v)) << (32 * n));
        Capabilities::from_bits_truncate(bits.fold(0, |all, bits| all | bits))
    };
    let (effective, permitted) = (join(|v| v.effective), join(|v| v.permitted));
    let new =
        task.credentials().with_capabilities(effective, permitted, join(|v| v.inheritable))?;
    adopt(task, new)
}

/// SECBIT_* without the reserved ones.
const SECUREBITS_KNOWN: u64 = 0xff;
const SECBIT_KEEP_CAPS: u32 = 1 << 4;
const SECBIT_KEEP_CAPS_LOCKED: u32 = 1 << 5;
const SECBIT_NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;

// tidy: table
fn prctl(task: &CurrentTask, option: i32, a2: u64, a3: u64, a4: u64, a5: u64) -> Result<u64> {
    let zero = |words: &[u64]| -> Result<()> {
        if words.iter().all(|w| *w == 0) { Ok(()) } else { Err(Errno::EINVAL.into()) }
    };
    let creds = task.credentials();
    let group = task.thread_group();
    match option as u32 {
        PR_SET_PDEATHSIG => {
            if a2 > 64 {
                return Err(Errno::EINVAL.into());
            }
            task.details(|d| d.parent_death_signal = a2 as i32);
            Ok(0)
        }
        PR_GET_PDEATHSIG => {
            let signal = task.details(|d| d.parent_death_signal);
            task.mm().write_obj(UserPtr::new(a2), &signal).map(|()| 0)
        }
        PR_GET_DUMPABLE => Ok(group.dumpable().into()),
        PR_SET_DUMPABLE if a2 <= 1 => {
            group.set_dumpable(a2 as u32);
            Ok(0)
        }
        PR_GET_KEEPCAPS => Ok(u64::from(creds.securebits & SECBIT_KEEP_CAPS != 0)),
        PR_SET_KEEPCAPS => set_keepcaps(task, a2),
        PR_GET_TIMING => Ok(0),
        PR_SET_TIMING if a2 == 0 => Ok(0),
        PR_SET_NAME => set_name(task, a2),
        PR_GET_NAME => {
            let mut name = [0u8; 16];
            for (to, from) in name.iter_mut().zip(task.comm()) {
                *to = from;
            }
            task.mm().write(UserPtr::<u8>::new(a2).addr(), &name).map(|()| 0)
        }
        PR_GET_SECCOMP => Ok(0),
        PR_CAPBSET_READ => Ok(u64::from(creds.bounding.contains(capability(a2)?))),
        PR_CAPBSET_DROP => {
            if !creds.has(Capabilities::SETPCAP) {
                return Err(Errno::EPERM.into());
            }
            let bounding = creds.bounding - capability(a2)?;
            adopt(task, Credentials { bounding, ..(*creds).clone() }).map(|()| 0)
        }
        PR_GET_SECUREBITS => Ok(creds.securebits.into()),
        PR_SET_SECUREBITS => set_securebits(task, a2),
        PR_SET_TIMERSLACK => {
            task.details(|d| d.timer_slack_ns = if a2 == 0 { 50_000 } else { a2 });
            Ok(0)
        }
        PR_GET_TIMERSLACK => Ok(task.details(|d| d.timer_slack_ns)),
        PR_SET_CHILD_SUBREAPER => {
            group.set_subreaper(a2);
            Ok(0)
        }
        PR_GET_CHILD_SUBREAPER => {
            let value = i32::from(group.is_subreaper());
            task.mm().write_obj(UserPtr::new(a2), &value).map(|()| 0)
        }
        PR_SET_NO_NEW_PRIVS => {
            zero(&[a2 ^ 1, a3, a4, a5])?;
            adopt(task, Credentials { no_new_privs: true, ..(*creds).clone() }).map(|()| 0)
        }
        PR_GET_NO_NEW_PRIVS => {
            zero(&[a2, a3, a4, a5])?;
            Ok(creds.no_new_privs.into())
        }
        PR_GET_TSC => task.mm().write_obj(UserPtr::new(a2), &PR_TSC_ENABLE).map(|()| 0),
        // What a machine check does to the process is the host's to say: the default.
        PR_MCE_KILL_GET => {
            zero(&[a2, a3, a4, a5])?;
            Ok(PR_MCE_KILL_DEFAULT)
        }
        PR_GET_THP_DISABLE => {
            zero(&[a2, a3, a4, a5])?;
            Ok(0)
        }
        PR_CAP_AMBIENT => ambient(task, a2, a3),
        // Yama's exception for one tracer: nobody traces here anyway.
        PR_SET_PTRACER => Ok(0),
        other => {
            task.kernel().unsupported(&format!("prctl {other}"));
            Err(Errno::EINVAL.into())
        }
    }
}

fn capability(number: u64) -> Result<Capabilities> {
    let bit = u32::try_from(number).ok().and_then(|n| 1u64.checked_shl(n));
    bit.and_then(Capabilities::from_bits).ok_or(Errno::EINVAL.into())
}

fn set_name(task: &CurrentTask, addr: u64) -> Result<u64> {
    let mut name = Vec::new();
    for n in 0..15 {
        let mut byte = [0u8];
        task.mm().read(UserPtr::<u8>::new(addr).element(n)?.addr(), &mut byte)?;
        if byte[0] == 0 {
            break;
        }
        name.push(byte[0]);
    }
    task.set_comm(&name);
    Ok(0)
}

fn set_keepcaps(task: &CurrentTask, value: u64) -> Result<u64> {
    let creds = task.credentials();
    if value > 1 {
        return Err(Errno::EINVAL.into());
    }
    if creds.securebits & SECBIT_KEEP_CAPS_LOCKED != 0 {
        return Err(Errno::EPERM.into());
    }
    let mut new = (*creds).clone();
    match value {
        0 => new.securebits &= !SECBIT_KEEP_CAPS,
        _ => new.securebits |= SECBIT_KEEP_CAPS,
    }
    adopt(task, new).map(|()| 0)
}

fn set_securebits(task: &CurrentTask, bits: u64) -> Result<u64> {
    let creds = task.credentials();
    let old = u64::from(creds.securebits);
    // capabilities(7): a lock bit (the odd ones) fixes itself and its flag.
    let locked = (old & 0xaa) | ((old & 0xaa) >> 1);
    let fine = bits & !SECUREBITS_KNOWN == 0 && (old ^ bits) & locked == 0;
    if !fine || !creds.has(Capabilities::SETPCAP) {
        return Err(Errno::EPERM.into());
    }
    adopt(task, Credentials { securebits: bits as u32, ..(*creds).clone() }).map(|()| 0)
}

fn ambient(task: &CurrentTask, operation: u64, number: u64) -> Result<u64> {
    let creds = task.credentials();
    let mut new = (*creds).clone();
    match operation as u32 {
        PR_CAP_AMBIENT_CLEAR_ALL => new.ambient = Capabilities::empty(),
        PR_CAP_AMBIENT_IS_SET => return Ok(u64::from(creds.ambient.contains(capability(number)?))),
        PR_CAP_AMBIENT_LOWER => new.ambient -= capability(number)?,
        PR_CAP_AMBIENT_RAISE => {
            let cap = capability(number)?;
            let allowed = (creds.permitted & creds.inheritable).contains(cap)
                && creds.securebits & SECBIT_NO_CAP_AMBIENT_RAISE == 0;
            if !allowed {
                return Err(Errno::EPERM.into());
            }
            new.ambient |= cap;
        }
        _ => return Err(Errno::EINVAL.into()),
    }
    adopt(task, new).map(|()| 0)
}

fn seccomp(task: &CurrentTask, _operation: u32, _flags: u32, _args: u64) -> Result<()> {
    task.kernel().unsupported("seccomp filters");
    Err(Errno::EINVAL.into())
}
