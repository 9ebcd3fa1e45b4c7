//! Who is told by a signal that an open file became ready or that urgent data came (fcntl(2) F_SETOWN, F_SETSIG, O_ASYNC; SIGIO and
//! SIGURG of signal(7)). A notice waits in the file's queues; what it hears there, with their locks held, the timer thread makes signals of.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use sentry_abi::signal::{SI_KERNEL, SigInfo, Signal};

use crate::cred::Credentials;
use crate::sync::{Mutex, Rank};
use crate::task::{Container, PidNamespace, Task};
use crate::time::{Instant, TimerTarget};
use crate::wait::{Events, Sharing, WaitKey, WaitQueue, Wake};

/// How many events wait to become signals; more are told as the last of them.
const MAX_WAITING: usize = 64;

/// Whom F_SETOWN names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OwnerId {
    /// F_OWNER_TID: one task.
    Task(u32),
    /// F_OWNER_PID: a process.
    Process(u32),
    /// F_OWNER_PGRP: a process group.
    Group(u32),
}

/// Linux's struct fown_struct.
#[derive(Clone, Copy, Default, Debug)]
pub struct Owner {
    /// Whom; nobody at first.
    pub id: Option<OwnerId>,
    /// The user who named the owner.
    pub uid: u32,
    /// The effective one.
    pub euid: u32,
    /// F_SETSIG; `None` for SIGIO without a word.
    pub signal: Option<Signal>,
}

impl Owner {
    /// Whether it may be signalled by who named it (sigio_perm).
    fn reaches(&self, target: &Credentials) -> bool {
        let own = [self.euid, self.uid];
        self.euid == 0 || own.iter().any(|id| *id == target.suid || *id == target.uid)
    }
}

/// What happened (the POLL_* codes of sigaction(2), and the bits of poll(2) that si_band has).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Band {
    In = 1,
    Out = 2,
    Error = 4,
    Urgent = 5,
    HangUp = 6,
}

impl Band {
    fn bits(self) -> i64 {
        let events = match self {
            Band::In => Events::IN | Events::RDNORM,
            Band::Out => Events::OUT | Events::WRNORM | Events::WRBAND,
            Band::Error => Events::ERR,
            Band::Urgent => Events::PRI | Events::RDBAND,
            Band::HangUp => Events::HUP | Events::ERR,
        };
        i64::from(events.bits())
    }
}

#[derive(Default)]
struct State {
    owner: Owner,
    /// The descriptor by which O_ASYNC was set; `None` while it is off.
    asynchronous: Option<i32>,
    /// Something found no room, or waits to be connected: room is news (SOCKWQ_ASYNC_NOSPACE).
    short: bool,
    waiting: VecDeque<Band>,
    armed: bool,
    places: Option<(WaitKey, Option<WaitKey>)>,
}

/// What it is that signals; they tell of their ends in other words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Of {
    /// A socket.
    Socket,
    /// An end of a pipe.
    Pipe,
}

/// The notice of one open file.
pub struct Notice {
    of: Of,
    container: Weak<Container>,
    me: Weak<Notice>,
    state: Mutex<State>,
}

/// What waits in the queue of urgent data.
struct OfUrgent(Weak<Notice>);

impl Wake for OfUrgent {
    fn wake(&self, _: Events) {
        if let Some(notice) = self.0.upgrade() {
            // What is urgent came as data does.
            notice.note(&[Band::In, Band::Urgent]);
        }
    }
}

impl Wake for Notice {
    fn wake(&self, events: Events) {
        let room = {
            let mut state = self.state.lock();
            if state.asynchronous.is_none() {
                return;
            }
            events.contains(Events::OUT) && std::mem::take(&mut state.short)
        };
        let (failed, ended) = (events.contains(Events::ERR), events.contains(Events::HUP));
        let rows = match self.of {
            // pipe_release: the other end went away as if it had written, or read.
            Of::Pipe => [
                (Band::Out, room || failed),
                (Band::In, ended || events.contains(Events::IN)),
                (Band::Error, false),
                (Band::HangUp, false),
            ],
            Of::Socket => [
                (Band::Out, room && !failed),
                (Band::In, events.contains(Events::IN) && !failed && !ended),
                (Band::Error, failed),
                (Band::HangUp, ended && !failed),
            ],
        };
        let bands: Vec<Band> = rows.iter().filter(|(_, met)| *met).map(|(band, _)| *band).collect();
        self.note(&bands);
    }
}

impl Notice {
    pub(super) fn new(container: &Arc<Container>, of: Of) -> Arc<Notice> {
        Arc::new_cyclic(|me| Notice {
            of,
            container: Arc::downgrade(container),
            me: me.clone(),
            state: Mutex::new(Rank::LEAF, State::default()),
        })
    }

    pub(super) fn owner(&self) -> Owner {
        self.state.lock().owner
    }

    pub(super) fn edit_owner(&self, edit: impl FnOnce(&mut Owner)) {
        edit(&mut self.state.lock().owner);
    }

    pub(super) fn set_asynchronous(&self, fd: Option<i32>) {
        self.state.lock().asynchronous = fd;
    }

    /// Something found no room.
    pub(super) fn is_short(&self) {
        self.state.lock().short = true;
    }

    /// Waits in a file's queues, once.
    pub(super) fn join(&self, ready: &WaitQueue, urgent: Option<&WaitQueue>) {
        let Some(me) = self.me.upgrade() else { return };
        if self.state.lock().places.is_some() {
            return;
        }
        let of_urgent = Arc::new(OfUrgent(self.me.clone()));
        let places = (
            ready.add(Events::EVERY, Sharing::All, me),
            urgent.map(|queue| queue.add(Events::EVERY, Sharing::All, of_urgent)),
        );
        let before = self.state.lock().places.replace(places);
        // Two threads may have come here at once.
        if let Some(before) = before {
            leave(before, ready, urgent);
        }
    }

    /// Leaves them.
    pub(super) fn leave(&self, ready: &WaitQueue, urgent: Option<&WaitQueue>) {
        let places = self.state.lock().places.take();
        if let Some(places) = places {
            leave(places, ready, urgent);
        }
    }

    /// Lets the timer thread tell: the locks that signals need are not to be taken here.
    fn note(&self, bands: &[Band]) {
        let (Some(container), Some(me)) = (self.container.upgrade(), self.me.upgrade()) else {
            return;
        };
        let arm = {
            let mut state = self.state.lock();
            for band in bands {
                if state.waiting.len() >= MAX_WAITING {
                    state.waiting.pop_back();
                }
                state.waiting.push_back(*band);
            }
            !state.waiting.is_empty() && !std::mem::replace(&mut state.armed, true)
        };
        if arm {
            container.kernel().timers().arm(Instant(0), me);
        }
    }
}

fn leave(
    (ready_key, urgent_key): (WaitKey, Option<WaitKey>),
    ready: &WaitQueue,
    urgent: Option<&WaitQueue>,
) {
    ready.remove(ready_key);
    if let (Some(queue), Some(key)) = (urgent, urgent_key) {
        queue.remove(key);
    }
}

impl TimerTarget for Notice {
    fn expired(&self, _: Instant) -> Option<Instant> {
        let (owner, fd, bands) = {
            let mut state = self.state.lock();
            state.armed = false;
            (state.owner, state.asynchronous, std::mem::take(&mut state.waiting))
        };
        let container = self.container.upgrade()?;
        for band in bands {
            // "SIGURG has its own default signalling mechanism": the owner hears of urgent data also without O_ASYNC, and with a
            // signal of its own by that, too.
            if band == Band::Urgent {
                send(container.pids(), &owner, Signal::SIGURG, plain(Signal::SIGURG));
            }
            let Some(fd) = fd else { continue };
            match owner.signal {
                Some(signal) => {
                    let info = SigInfo::poll(signal, band as i32, band.bits(), fd);
                    send(container.pids(), &owner, signal, info);
                }
                None if band == Band::Urgent => {}
                None => send(container.pids(), &owner, Signal::SIGIO, plain(Signal::SIGIO)),
            }
        }
        None
    }
}

fn plain(signal: Signal) -> SigInfo {
    SigInfo::new(signal, SI_KERNEL)
}

/// Signals all that an owner means (send_sigio). Where the queue of a signal with a number is full, SIGIO says so.
fn send(pids: &PidNamespace, owner: &Owner, signal: Signal, info: SigInfo) {
    let permits = |task: &Arc<Task>| owner.reaches(&task.credentials());
    match owner.id {
        None => {}
        Some(OwnerId::Task(id)) => {
            if let Some(task) = pids.task(id).filter(permits)
                && task.send_signal(signal, info).is_err()
            {
                let _ = task.send_signal(Signal::SIGIO, plain(Signal::SIGIO));
            }
        }
        Some(OwnerId::Process(_) | OwnerId::Group(_)) => {
            let groups = match owner.id {
                Some(OwnerId::Group(id)) => pids.members_of(id),
                Some(OwnerId::Process(id)) => pids.group(id).into_iter().collect(),
                _ => Vec::new(),
            };
            for group in groups {
                let permitted = pids.task(group.pid()).is_none_or(|task| permits(&task));
                if permitted && group.send_signal(signal, info).is_err() {
                    let _ = group.send_signal(Signal::SIGIO, plain(Signal::SIGIO));
                }
            }
        }
    }
}
