//! Resource limits of a thread group (getrlimit(2)).

use sentry_abi::Errno;
use sentry_abi::resource::{RLIM_INFINITY, RLIM_NLIMITS, Resource, Rlimit};

use crate::error::Result;

/// The sixteen limits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits([Rlimit; RLIM_NLIMITS]);

impl Default for Limits {
    /// What a login on Linux gets, with NPROC and SIGPENDING bounded for code that nobody has read.
    fn default() -> Self {
        let unlimited = Rlimit { cur: RLIM_INFINITY, max: RLIM_INFINITY };
        let mut limits = Self([unlimited; RLIM_NLIMITS]);
        let mut set =
            |resource: Resource, cur, max| limits.0[resource as usize] = Rlimit { cur, max };
        set(Resource::Stack, 8 << 20, RLIM_INFINITY);
        set(Resource::Core, 0, RLIM_INFINITY);
        set(Resource::Nproc, 16_384, 16_384);
        set(Resource::Nofile, 1024, 1 << 20);
        set(Resource::Memlock, 8 << 20, 8 << 20);
        set(Resource::Sigpending, 16_384, 16_384);
        set(Resource::Msgqueue, 819_200, 819_200);
        set(Resource::Nice, 0, 0);
        set(Resource::Rtprio, 0, 0);
        limits
    }
}

impl Limits {
    /// Soft and hard limit of a resource.
    pub fn limit(&self, resource: Resource) -> Rlimit {
        self.0[resource as usize]
    }

    /// The soft limit.
    pub fn soft(&self, resource: Resource) -> u64 {
        self.limit(resource).cur
    }

    /// Sets a limit. Errors: EINVAL where soft exceeds hard; EPERM to raise the hard one without CAP_SYS_RESOURCE.
    pub fn set(&mut self, resource: Resource, new: Rlimit, privilege: Privilege) -> Result<()> {
        let old = self.limit(resource);
        if new.cur > new.max {
            return Err(Errno::EINVAL.into());
        }
        if new.max > old.max && privilege == Privilege::None {
            return Err(Errno::EPERM.into());
        }
        // fs.nr_open: descriptors are never more than this, whatever the privilege.
        if resource == Resource::Nofile && new.max > 1 << 20 {
            return Err(Errno::EPERM.into());
        }
        self.0[resource as usize] = new;
        Ok(())
    }
}

/// Whether a caller holds the capability that an operation asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Privilege {
    /// It does.
    Held,
    /// It does not.
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hard_limit_is_lowered_by_all_and_raised_by_the_privileged() {
        let mut limits = Limits::default();
        let stack = Rlimit { cur: 1 << 20, max: 1 << 20 };
        assert!(limits.set(Resource::Stack, stack, Privilege::None).is_ok());
        let more = Rlimit { cur: 1 << 20, max: 2 << 20 };
        assert!(limits.set(Resource::Stack, more, Privilege::None).is_err());
        assert!(limits.set(Resource::Stack, more, Privilege::Held).is_ok());
        let turned = Rlimit { cur: 2, max: 1 };
        assert!(limits.set(Resource::Stack, turned, Privilege::Held).is_err());
    }
}
