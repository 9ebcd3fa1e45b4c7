//! Names of the machine (uname(2), sethostname(2)).

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_abi::utsname::{NEW_UTS_LEN, NewUtsname};

use crate::error::Result;
use crate::sync::{Mutex, Rank};

/// The kernel release that programs see: features up to it are probed for by glibc and the like.
pub const RELEASE: &str = "6.12.0-netcell";
/// The version line of uname.
pub const VERSION: &str = "#1 SMP PREEMPT_DYNAMIC netcell";

/// Host and domain name.
pub struct Uts {
    number: u32,
    names: Mutex<(Vec<u8>, Vec<u8>)>,
}

impl Uts {
    /// A namespace of this number ([`crate::namespaces`]) with this host name, cut to 64 bytes.
    pub fn new(number: u32, hostname: &str) -> Arc<Self> {
        let mut name = hostname.as_bytes().to_vec();
        name.truncate(NEW_UTS_LEN);
        let names = Mutex::new(Rank::LEAF, (name, b"(none)".to_vec()));
        Arc::new(Self { number, names })
    }

    /// What /proc/PID/ns shows.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The host name.
    pub fn hostname(&self) -> Vec<u8> {
        self.names.lock().0.clone()
    }

    /// The NIS domain name.
    pub fn domainname(&self) -> Vec<u8> {
        self.names.lock().1.clone()
    }

    /// Sets the host name. Errors: EINVAL for more than 64 bytes.
    pub fn set_hostname(&self, name: &[u8]) -> Result<()> {
        if name.len() > NEW_UTS_LEN {
            return Err(Errno::EINVAL.into());
        }
        self.names.lock().0 = name.to_vec();
        Ok(())
    }

    /// Sets the domain name. Errors: EINVAL for more than 64 bytes.
    pub fn set_domainname(&self, name: &[u8]) -> Result<()> {
        if name.len() > NEW_UTS_LEN {
            return Err(Errno::EINVAL.into());
        }
        self.names.lock().1 = name.to_vec();
        Ok(())
    }

    /// What uname(2) tells.
    pub fn utsname(&self) -> NewUtsname {
        let (host, domain) = self.names.lock().clone();
        let mut uts = NewUtsname { fields: [[0; NEW_UTS_LEN + 1]; 6] };
        let values: [&[u8]; 6] =
            [b"Linux", &host, RELEASE.as_bytes(), VERSION.as_bytes(), b"x86_64", &domain];
        for (field, value) in uts.fields.iter_mut().zip(values) {
            for (to, from) in field.iter_mut().take(NEW_UTS_LEN).zip(value) {
                *to = *from;
            }
        }
        uts
    }
}
