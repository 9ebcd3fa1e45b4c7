//! sys: the few files of /sys that programs look at (nproc, Python's multiprocessing, the JVM), filled into an empty tree.

use std::sync::Arc;

use sentry_kernel::error::Result;
use sentry_kernel::vfs::Inode;

use crate::tree;

/// Fills an empty tree for a machine with `cpus` processors.
pub fn populate(root: &Arc<dyn Inode>, cpus: usize) -> Result<()> {
    let cpus = cpus.max(1);
    let last = cpus - 1;
    let range = if last == 0 { "0\n".to_owned() } else { format!("0-{last}\n") };
    for name in ["online", "possible", "present"] {
        tree::file(root, &format!("devices/system/cpu/{name}"), range.as_bytes())?;
    }
    tree::file(root, "devices/system/cpu/offline", b"\n")?;
    tree::file(root, "devices/system/cpu/isolated", b"\n")?;
    tree::file(root, "devices/system/cpu/kernel_max", b"8191\n")?;
    for cpu in 0..cpus {
        let topology = format!("devices/system/cpu/cpu{cpu}/topology");
        let rows = [
            ("physical_package_id", "0\n".to_owned()),
            ("core_id", format!("{cpu}\n")),
            ("thread_siblings_list", format!("{cpu}\n")),
            ("core_siblings_list", range.clone()),
        ];
        for (name, content) in rows {
            tree::file(root, &format!("{topology}/{name}"), content.as_bytes())?;
        }
    }
    tree::file(root, "devices/system/node/online", b"0\n")?;
    tree::file(root, "devices/system/node/possible", b"0\n")?;
    tree::file(root, "devices/system/node/node0/cpulist", range.as_bytes())?;
    // What libnuma reads: it warns where the map is missing.
    let mask = cpu_mask(cpus);
    tree::file(root, "devices/system/node/node0/cpumap", mask.as_bytes())?;
    let huge = "kernel/mm/transparent_hugepage";
    tree::file(root, &format!("{huge}/enabled"), b"always [madvise] never\n")?;
    tree::file(
        root,
        &format!("{huge}/shmem_enabled"),
        b"always within_size advise [never] deny force\n",
    )?;
    tree::file(root, &format!("{huge}/hpage_pmd_size"), b"2097152\n")?;
    for empty in ["fs/cgroup", "class/net", "block", "bus", "dev", "firmware", "module", "power"] {
        tree::directory(root, empty, 0o755)?;
    }
    Ok(())
}

/// The first `cpus` processors as a mask of /sys: groups of 32 bits in hexadecimal, the highest first.
fn cpu_mask(cpus: usize) -> String {
    let groups = cpus.div_ceil(32);
    let group = |i: usize| match cpus - i * 32 {
        left @ 0..32 => format!("{:08x}", (1u32 << left) - 1),
        _ => "ffffffff".to_owned(),
    };
    (0..groups).rev().map(group).collect::<Vec<_>>().join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use super::cpu_mask;

    #[test]
    fn masks_are_groups_of_32_bits() {
        assert_eq!(cpu_mask(2), "00000003\n");
        assert_eq!(cpu_mask(32), "ffffffff\n");
        assert_eq!(cpu_mask(40), "000000ff,ffffffff\n");
    }
}
