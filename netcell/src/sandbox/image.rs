//! What of the host a sandbox sees by default: system directories and the current directory, and neither secrets nor homes.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::Result;
use sentry::{Image, View, Volume, Writes};

use super::{current_directory, open_directory};

/// Directories of the host that are there, read-only.
const SYSTEM: &[&str] = &["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "opt", "etc"];

/// Names below /etc that are not there: passwords, keys, tokens.
const SECRETS: &[&str] = &[
    "etc/*shadow*",
    "etc/.pwd.lock",
    "etc/sudoers*",
    "etc/security/opasswd",
    "etc/ssh/ssh_host_*",
    "etc/ssl/private",
    "etc/*.keytab",
    "etc/ppp",
    "etc/ipsec*",
    "etc/swanctl",
    "etc/wireguard",
    "etc/openvpn",
    "etc/NetworkManager",
    "etc/wpa_supplicant",
    "etc/netplan",
    "etc/letsencrypt",
    "etc/kubernetes",
    "etc/rancher",
    "etc/docker",
    "etc/containerd",
    "etc/cni",
    "etc/mysql",
    "etc/postgresql",
    "etc/machine-id",
    "etc/exim4/passwd.client",
    "etc/apt/auth.conf*",
    "etc/cloud",
];

/// Names directly below the current directory that are not there.
const PRIVATE: &[&str] = &[
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".netrc",
    ".git-credentials",
    ".config/gcloud",
    ".pgpass",
];

/// Directories that programs expect, made in memory.
const EXPECTED: &[(&str, u32)] = &[
    ("/var/tmp", 0o1777),
    ("/var/log", 0o755),
    ("/var/lib", 0o755),
    ("/var/cache", 0o755),
    ("/run/lock", 0o1777),
    ("/home", 0o755),
    ("/root", 0o700),
    ("/mnt", 0o755),
    ("/srv", 0o755),
];

/// Places that a current directory may be in without being shown, since others' files lie in it.
const NOT_SHOWN: &[&str] = &[
    "/", "/root", "/home", "/var", "/run", "/tmp", "/proc", "/sys", "/dev", "/etc", "/usr", "/mnt",
    "/srv", "/media",
];

/// The root of a sandbox and where its program starts.
pub(super) struct Opened {
    pub(super) image: Image,
    pub(super) workdir: PathBuf,
    /// The current directory, with writes in memory.
    pub(super) working_directory: Option<Volume>,
}

/// Opens `--rootfs`, or what stands in for it.
pub(super) fn open(rootfs: Option<&Path>) -> Result<Opened> {
    match rootfs {
        Some(rootfs) => {
            let whole_host = rootfs == Path::new("/");
            let image = Image {
                directory: open_directory(rootfs)?,
                view: View::everything(),
                directories: Vec::new(),
            };
            let here = current_directory();
            let fresh = ["/tmp", "/proc", "/sys", "/dev"].iter().any(|top| here.starts_with(top));
            let workdir = if whole_host && !fresh { here } else { PathBuf::from("/") };
            Ok(Opened { image, workdir, working_directory: None })
        }
        None => system(&current_directory(), std::env::home_dir().as_deref()),
    }
}

fn system(here: &Path, home: Option<&Path>) -> Result<Opened> {
    let mut view = View::nothing();
    for directory in SYSTEM {
        view = view.show(directory);
    }
    for secret in SECRETS {
        view = view.hide(secret);
    }
    let directories = EXPECTED.iter().map(|(path, mode)| ((*path).to_owned(), *mode)).collect();
    let image = Image { directory: open_directory(Path::new("/"))?, view, directories };
    let seen_already =
        SYSTEM.iter().any(|directory| here.starts_with(Path::new("/").join(directory)));
    if seen_already {
        return Ok(Opened { image, workdir: here.to_owned(), working_directory: None });
    }
    if !is_shown(here, home) {
        return Ok(Opened { image, workdir: PathBuf::from("/"), working_directory: None });
    }
    let directory: OwnedFd = open_directory(here)?;
    let view = PRIVATE.iter().fold(View::everything(), |view, name| view.hide(name));
    let volume = Volume { directory, target: here.to_owned(), writes: Writes::InMemory, view };
    Ok(Opened { image, workdir: here.to_owned(), working_directory: Some(volume) })
}

/// True where the current directory is a project's: neither a home nor a place of the system.
fn is_shown(here: &Path, home: Option<&Path>) -> bool {
    let is_a_home = home == Some(here) || (here.parent() == Some(Path::new("/home")));
    let in_pseudo = ["/proc", "/sys", "/dev", "/run"].iter().any(|top| here.starts_with(top));
    !is_a_home && !in_pseudo && !NOT_SHOWN.iter().any(|place| here == Path::new(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_and_system_places_are_not_shown_as_a_current_directory() {
        let home = Some(Path::new("/home/u"));
        for hidden in
            ["/", "/root", "/home", "/home/u", "/home/other", "/tmp", "/run/user/0", "/proc/self"]
        {
            assert!(!is_shown(Path::new(hidden), home), "{hidden}");
        }
        for shown in ["/home/u/project", "/srv/build", "/tmp/x", "/work"] {
            assert!(is_shown(Path::new(shown), home), "{shown}");
        }
    }
}
