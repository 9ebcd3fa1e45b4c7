//! A filter of system calls over the kernel's table, for all programs of a container: what seccomp(2) does on Linux with a profile of the
//! runtime specification. It guards programs from each other's mistakes as there; the host is not reached by a call in any case.

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_abi::signal::{SigInfo, Signal};
use sentry_kernel::error::Result;
use sentry_kernel::kernel::{SyscallTable, TraceEvent};
use sentry_kernel::log::Level;
use sentry_kernel::task::{CurrentTask, WaitStatus};

/// `si_code` of a SIGSYS that a filter sends (SYS_SECCOMP).
const SYS_SECCOMP: i32 = 1;
/// Numbers of calls are below this.
const NUMBERS: u64 = 1024;

/// What becomes of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// It is done.
    Allow,
    /// It is done, and its name goes to the log, where that takes so much.
    Log,
    /// It fails.
    Fail(Errno),
    /// It fails with ENOSYS, as with SECCOMP_RET_TRACE where nobody traces.
    Trace,
    /// SIGSYS.
    Trap,
    /// The task ends, and with the last one its process, as by SIGSYS.
    KillTask,
    /// The process ends as by SIGSYS.
    KillProcess,
}

/// How an argument is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// It differs from the value.
    NotEqual,
    /// It is less.
    Less,
    /// It is less or equal.
    LessOrEqual,
    /// It is equal.
    Equal,
    /// It is greater or equal.
    GreaterOrEqual,
    /// It is greater.
    Greater,
    /// What is left of it under this mask is equal.
    MaskedEqual(u64),
}

/// A condition on an argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub index: usize,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what.
    pub value: u64,
}

impl Condition {
    fn holds(&self, args: &[u64; 6]) -> bool {
        let Some(arg) = args.get(self.index).copied() else { return false };
        match self.comparison {
            Comparison::NotEqual => arg != self.value,
            Comparison::Less => arg < self.value,
            Comparison::LessOrEqual => arg <= self.value,
            Comparison::Equal => arg == self.value,
            Comparison::GreaterOrEqual => arg >= self.value,
            Comparison::Greater => arg > self.value,
            Comparison::MaskedEqual(mask) => arg & mask == self.value,
        }
    }
}

/// What becomes of some calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Names of the calls; those that the kernel does not know are passed over.
    pub names: Vec<String>,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// What becomes of them.
    pub action: Action,
}

/// A profile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// What becomes of calls that no rule is for.
    pub default: Action,
    /// The rules; one without conditions goes before those with some, as libseccomp has it.
    pub rules: Vec<Rule>,
}

/// A table behind a profile.
pub(crate) struct Filtered {
    inner: Arc<dyn SyscallTable>,
    default: Action,
    /// Conditions and actions by number.
    rules: Vec<Vec<(Vec<Condition>, Action)>>,
}

impl Filtered {
    pub(crate) fn new(inner: Arc<dyn SyscallTable>, profile: Profile) -> Arc<Self> {
        let rules = (0..NUMBERS)
            .map(|number| {
                let Some(name) = inner.name(number) else { return Vec::new() };
                let mut own: Vec<_> = profile
                    .rules
                    .iter()
                    .filter(|rule| rule.names.iter().any(|known| known == name))
                    .map(|rule| (rule.conditions.clone(), rule.action))
                    .collect();
                own.sort_by_key(|(conditions, _)| !conditions.is_empty());
                own
            })
            .collect();
        Arc::new(Self { inner, default: profile.default, rules })
    }

    fn action(&self, number: u64, args: &[u64; 6]) -> Action {
        // A call that is not there answers ENOSYS, whatever the profile says: programs try another way then.
        if self.inner.name(number).is_none() {
            return Action::Allow;
        }
        let rules = usize::try_from(number).ok().and_then(|number| self.rules.get(number));
        let mut rules = rules.into_iter().flatten();
        let found = rules.find(|(conditions, _)| conditions.iter().all(|c| c.holds(args)));
        found.map_or(self.default, |(_, action)| *action)
    }
}

impl SyscallTable for Filtered {
    fn dispatch(&self, task: &mut CurrentTask, number: u64, args: &[u64; 6]) -> Result<u64> {
        let ended = WaitStatus::Signaled(Signal::SIGSYS);
        match self.action(number, args) {
            Action::Allow => self.inner.dispatch(task, number, args),
            Action::Log => {
                let name = self.name(number).unwrap_or("a call");
                let pid = task.pid();
                task.kernel().log().write(Level::Info, format_args!("seccomp: {name} by {pid}"));
                self.inner.dispatch(task, number, args)
            }
            Action::Fail(errno) => Err(errno.into()),
            Action::Trace => Err(Errno::ENOSYS.into()),
            Action::Trap => {
                task.task().force_signal(
                    Signal::SIGSYS,
                    SigInfo::fault(Signal::SIGSYS, SYS_SECCOMP, task.instruction_pointer().0),
                );
                Err(Errno::ENOSYS.into())
            }
            // Without other tasks this is the end of the process, too.
            Action::KillTask if task.thread_group().tasks().len() > 1 => {
                task.task().request_exit(0);
                Err(Errno::EINTR.into())
            }
            Action::KillTask | Action::KillProcess => {
                task.thread_group().begin_exit(ended);
                Err(Errno::EINTR.into())
            }
        }
    }

    fn name(&self, number: u64) -> Option<&'static str> {
        self.inner.name(number)
    }

    fn trace_event(&self, task: &CurrentTask, event: TraceEvent) {
        self.inner.trace_event(task, event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two calls, which are never done.
    struct Two;

    impl SyscallTable for Two {
        fn dispatch(&self, _: &mut CurrentTask, _: u64, _: &[u64; 6]) -> Result<u64> {
            Ok(0)
        }

        fn name(&self, number: u64) -> Option<&'static str> {
            ["read", "clone"].get(number as usize).copied()
        }
    }

    #[test]
    fn rules_are_found_by_name_and_conditions_and_the_rest_is_the_default() {
        let masked = Condition { index: 0, comparison: Comparison::MaskedEqual(0xf0), value: 0 };
        let rule = |name: &str, conditions: &[Condition], action| Rule {
            names: vec![name.to_owned(), "from-the-future".to_owned()],
            conditions: conditions.to_vec(),
            action,
        };
        let profile = Profile {
            default: Action::Fail(Errno::EPERM),
            rules: vec![rule("clone", &[masked], Action::Allow)],
        };
        let filter = Filtered::new(Arc::new(Two), profile.clone());
        assert_eq!(filter.action(0, &[0; 6]), Action::Fail(Errno::EPERM));
        assert_eq!(filter.action(1, &[0x0f, 0, 0, 0, 0, 0]), Action::Allow);
        assert_eq!(filter.action(1, &[0x10, 0, 0, 0, 0, 0]), Action::Fail(Errno::EPERM));
        assert_eq!(filter.action(2, &[0; 6]), Action::Allow, "the table answers ENOSYS");
        assert_eq!(filter.action(u64::MAX, &[0; 6]), Action::Allow);
        let with_default = Profile {
            rules: [profile.rules.clone(), vec![rule("clone", &[], Action::Trap)]].concat(),
            ..profile
        };
        let filter = Filtered::new(Arc::new(Two), with_default);
        assert_eq!(filter.action(1, &[0x0f, 0, 0, 0, 0, 0]), Action::Trap);
    }

    #[test]
    fn arguments_are_compared_as_numbers_without_a_sign() {
        let holds = |comparison, value, arg| {
            let mut args = [0; 6];
            args[5] = arg;
            Condition { index: 5, comparison, value }.holds(&args)
        };
        assert!(holds(Comparison::Greater, 1, u64::MAX));
        assert!(!holds(Comparison::Less, 1, u64::MAX));
        assert!(holds(Comparison::LessOrEqual, 2, 2) && holds(Comparison::GreaterOrEqual, 2, 2));
        assert!(holds(Comparison::NotEqual, 2, 3) && !holds(Comparison::Equal, 2, 3));
        let outside = Condition { index: 6, comparison: Comparison::Equal, value: 0 };
        assert!(!outside.holds(&[0; 6]));
    }
}
