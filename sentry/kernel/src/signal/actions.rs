//! Signal actions: what a program asked for, and the defaults of signal(7).

use std::sync::Arc;

use sentry_abi::signal::{NSIG, SIG_DFL, SIG_IGN, SigAction, SigSet, Signal};

use crate::sync::{Mutex, Rank};

/// What happens without a handler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DefaultAction {
    /// Nothing.
    Ignore,
    /// The thread group ends (also where Linux would write a core: none is written here).
    Terminate,
    /// The thread group stops.
    Stop,
    /// The thread group goes on.
    Continue,
}

/// The default of a signal.
pub const fn default_action(signal: Signal) -> DefaultAction {
    match signal {
        Signal::SIGCHLD | Signal::SIGURG | Signal::SIGWINCH => DefaultAction::Ignore,
        Signal::SIGSTOP | Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU => {
            DefaultAction::Stop
        }
        Signal::SIGCONT => DefaultAction::Continue,
        _ => DefaultAction::Terminate,
    }
}

/// The actions of a thread group; shared by CLONE_SIGHAND.
pub struct SignalHandlers {
    actions: Mutex<[SigAction; NSIG as usize]>,
}

impl Default for SignalHandlers {
    fn default() -> Self {
        let none = SigAction { handler: SIG_DFL, flags: 0, restorer: 0, mask: SigSet::EMPTY };
        Self { actions: Mutex::new(Rank::LEAF, [none; NSIG as usize]) }
    }
}

impl SignalHandlers {
    /// A copy of its own (fork).
    pub fn fork(&self) -> Arc<Self> {
        Arc::new(Self { actions: Mutex::new(Rank::LEAF, *self.actions.lock()) })
    }

    /// A copy with handlers back at their default and ignored signals still ignored (execve(2)); CLONE_CLEAR_SIGHAND likewise.
    pub fn fork_for_exec(&self) -> Arc<Self> {
        let mut actions = *self.actions.lock();
        for action in &mut actions {
            let handler = if action.handler == SIG_IGN { SIG_IGN } else { SIG_DFL };
            *action = SigAction { handler, ..SigAction::default() };
        }
        Arc::new(Self { actions: Mutex::new(Rank::LEAF, actions) })
    }

    /// The action of a signal.
    pub fn action(&self, signal: Signal) -> SigAction {
        self.actions.lock()[signal.index()]
    }

    /// Sets an action; returns the old one.
    pub fn set_action(&self, signal: Signal, action: SigAction) -> SigAction {
        std::mem::replace(&mut self.actions.lock()[signal.index()], action)
    }

    /// True where the signal would do nothing.
    pub fn ignores(&self, signal: Signal) -> bool {
        match self.action(signal).handler {
            SIG_IGN => true,
            SIG_DFL => matches!(default_action(signal), DefaultAction::Ignore),
            _ => false,
        }
    }

    /// The signals with a handler, and those ignored: SigCgt and SigIgn of /proc/PID/status.
    pub fn caught_and_ignored(&self) -> (SigSet, SigSet) {
        let (mut caught, mut ignored) = (SigSet::EMPTY, SigSet::EMPTY);
        let actions = *self.actions.lock();
        for signal in SigSet::ALL.iter() {
            match actions[signal.index()].handler {
                SIG_DFL => {}
                SIG_IGN => ignored.insert(signal),
                _ => caught.insert(signal),
            }
        }
        (caught, ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exec_keeps_ignored_signals_ignored_and_drops_handlers() {
        let handlers = SignalHandlers::default();
        let at = |handler| SigAction { handler, flags: 4, restorer: 1, mask: SigSet::ALL };
        handlers.set_action(Signal::SIGINT, at(SIG_IGN));
        handlers.set_action(Signal::SIGTERM, at(0x1000));
        assert!(handlers.ignores(Signal::SIGINT) && !handlers.ignores(Signal::SIGTERM));
        let after = handlers.fork_for_exec();
        assert_eq!(
            after.action(Signal::SIGINT),
            SigAction { handler: SIG_IGN, ..Default::default() }
        );
        assert_eq!(after.action(Signal::SIGTERM), SigAction::default());
        assert!(after.ignores(Signal::SIGCHLD), "ignored by default");
    }
}
