//! What this machine and this process may use: processors, memory, descriptors.

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

/// The numbers of the processors that the calling thread may use; never empty.
pub fn allowed_cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    let cpus: Vec<usize> =
        (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu) == Ok(true)).collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// Lets the calling thread run on these processors only.
pub fn set_allowed_cpus(cpus: &[usize]) -> Result<(), Errno> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// The processor that the calling thread runs on now.
pub fn current_cpu() -> usize {
    nix::sched::sched_getcpu().unwrap_or(0)
}

/// Memory of the host in bytes: all of it, and what is free.
pub fn host_memory() -> Result<(u64, u64), Errno> {
    let info = nix::sys::sysinfo::sysinfo()?;
    Ok((info.ram_total(), info.ram_unused()))
}

/// Raises the number of descriptors that this process may have to what the host allows; returns it.
pub fn raise_descriptor_limit() -> Result<u64, Errno> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// Raises the size that a file of this process may have to what the host allows; returns it in bytes.
/// Growing a file beyond it would end the process with SIGXFSZ.
pub fn raise_file_size_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_FSIZE) else { return u64::MAX };
    match setrlimit(Resource::RLIMIT_FSIZE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_processor_and_memory() {
        assert!(allowed_cpus().contains(&current_cpu()));
        let (total, free) = host_memory().unwrap();
        assert!(total >= free && total > 0);
        assert!(raise_descriptor_limit().unwrap() >= 256);
    }
}
