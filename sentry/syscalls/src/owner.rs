//! The owner of an open file, who hears of it by signals, as fcntl(2) and ioctl(2) name it (fs/fcntl.c).

use sentry_abi::Errno;
use sentry_abi::fcntl::{F_OWNER_PGRP, F_OWNER_PID, F_OWNER_TID};
use sentry_abi::signal::Signal;
use sentry_kernel::Result;
use sentry_kernel::file::FileDescription;
use sentry_kernel::file::owner::OwnerId;
use sentry_kernel::task::CurrentTask;

/// F_SETOWN, SIOCSPGRP: a process, a negated process group, or nobody. Errors: ESRCH, EINVAL for the number without a positive one.
pub fn set_number(task: &CurrentTask, file: &FileDescription, number: i32) -> Result<()> {
    let (kind, id) = match number {
        i32::MIN => return Err(Errno::EINVAL.into()),
        group if group < 0 => (F_OWNER_PGRP, -group),
        process => (F_OWNER_PID, process),
    };
    set(task, file, kind, id)
}

/// F_SETOWN_EX: a kind and a number. Errors: EINVAL, ESRCH.
pub fn set(task: &CurrentTask, file: &FileDescription, kind: i32, id: i32) -> Result<()> {
    let number = u32::try_from(id).map_err(|_| Errno::ESRCH)?;
    let pids = task.pids();
    let (owner, exists) = match kind {
        F_OWNER_TID => (OwnerId::Task(number), pids.task(number).is_some()),
        F_OWNER_PID => (OwnerId::Process(number), pids.task(number).is_some()),
        F_OWNER_PGRP => (OwnerId::Group(number), pids.process_group(number).is_some()),
        _ => return Err(Errno::EINVAL.into()),
    };
    if number != 0 && !exists {
        return Err(Errno::ESRCH.into());
    }
    let by = task.credentials();
    file.edit_owner(task.container(), |known| {
        known.id = Some(owner).filter(|_| number != 0);
        (known.uid, known.euid) = (by.uid, by.euid);
    });
    Ok(())
}

/// F_SETSIG: 0 is SIGIO without a word. Errors: EINVAL.
pub fn set_signal(task: &CurrentTask, file: &FileDescription, number: u64) -> Result<()> {
    let signal = match number {
        0 => None,
        number => {
            let number = i32::try_from(number).map_err(|_| Errno::EINVAL)?;
            Some(Signal::new(number).map_err(|_| Errno::EINVAL)?)
        }
    };
    file.edit_owner(task.container(), |known| known.signal = signal);
    Ok(())
}

/// F_GETOWN_EX: a kind and a number; 0 where the owner is gone.
pub fn kind_and_number(task: &CurrentTask, file: &FileDescription) -> [i32; 2] {
    let pids = task.pids();
    let living = |there: bool, id: u32| if there { id as i32 } else { 0 };
    match file.owner().id {
        None => [F_OWNER_TID, 0],
        Some(OwnerId::Task(id)) => [F_OWNER_TID, living(pids.task(id).is_some(), id)],
        Some(OwnerId::Process(id)) => [F_OWNER_PID, living(pids.group(id).is_some(), id)],
        Some(OwnerId::Group(id)) => [F_OWNER_PGRP, living(pids.process_group(id).is_some(), id)],
    }
}

/// F_GETOWN, SIOCGPGRP: a process or task, or a negated process group.
pub fn number(task: &CurrentTask, file: &FileDescription) -> i32 {
    match kind_and_number(task, file) {
        [F_OWNER_PGRP, id] => -id,
        [_, id] => id,
    }
}
