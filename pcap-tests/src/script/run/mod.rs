//! The runner: event after event of a script over a kernel.

mod packets;

use std::collections::VecDeque;
use std::time::Duration;

use super::calls::{
    self, Arguments, Descriptor, Descriptors, Effect, EpollChange, Prepared, Socket,
};
use super::code::{self, Code};
use super::flow::Flow;
use super::kernel::{Happening, Kernel, Outcome, Returned, SystemCall};
use super::syntax::{Action, Base, Call, Event, Expr, Script, Settings};
use super::{Failure, Note, Stop, Way, numbers, shell};

/// Packets that wait to be looked at.
const MAX_WAITING: usize = 100_000;
/// Conversations of one script.
const MAX_FLOWS: usize = 4096;

/// Who is told what happens.
pub type Watch<'a> = &'a mut (dyn FnMut(Note<'_>) + Send);

/// Runs a script to its end. Errors: the first thing that the kernel did otherwise, or a line that cannot be run.
pub fn run(script: &Script, kernel: &mut dyn Kernel, watch: Watch<'_>) -> Result<(), Stop> {
    let mut runner = Runner {
        settings: &script.settings,
        kernel,
        watch,
        flows: Vec::new(),
        current: 0,
        packets: VecDeque::new(),
        descriptors: Descriptors::default(),
        pending: None,
        before: Duration::ZERO,
        bound: script.settings.bind_port,
        codes: Vec::new(),
    };
    let played = script.events.iter().try_for_each(|event| runner.play(event));
    played.and_then(|()| runner.finish()).map_err(|stop| stop.of(script))
}

/// A call that blocks.
struct Pending<'a> {
    line: usize,
    call: &'a Call,
    prepared: Prepared,
    end: Duration,
}

struct Runner<'a> {
    settings: &'a Settings,
    kernel: &'a mut dyn Kernel,
    watch: Watch<'a>,
    flows: Vec<Flow>,
    current: usize,
    /// What the kernel sent and no line has spoken of.
    packets: VecDeque<(Duration, Vec<u8>)>,
    descriptors: Descriptors,
    pending: Option<Pending<'a>>,
    /// The time of the event before.
    before: Duration,
    /// The port that was bound last.
    bound: u16,
    codes: Vec<Code>,
}

fn seconds(time: Duration) -> String {
    format!("{:.6}", time.as_secs_f64())
}

impl<'a> Runner<'a> {
    fn play(&mut self, event: &'a Event) -> Result<(), Stop> {
        let base = match event.when.base {
            Base::Start => Duration::ZERO,
            Base::Before => self.before,
            Base::Any => self.kernel.now(),
        };
        let at = base + event.when.from;
        if let Action::Outbound(expected) = &event.action {
            let until = event.when.until.map(|until| base + until);
            return self.outbound(event, expected, (at, until));
        }
        self.wait(event.line, at)?;
        // A packet may be what ends a call; another call may not begin before.
        let over = match &event.action {
            Action::Call(_) => at,
            _ => at.saturating_sub(self.tolerance()),
        };
        self.await_call(event.line, over)?;
        self.before = at;
        self.kernel.settle(at);
        match &event.action {
            Action::Call(call) => self.call(event.line, call, event.when.end.map(|end| base + end)),
            Action::Inbound(packet) => self.inbound(event.line, packet),
            Action::Shell(text) => self.shell(event.line, text),
            Action::Code(text) => self.code(event.line, text),
            Action::Outbound(_) => Ok(()),
        }
    }

    /// Lets time pass, and keeps what happens.
    fn wait(&mut self, line: usize, until: Duration) -> Result<(), Stop> {
        while self.happens(line, until)? {}
        Ok(())
    }

    /// Waits for one thing to happen; whether one did.
    fn happens(&mut self, line: usize, until: Duration) -> Result<bool, Stop> {
        match self.kernel.run(until).map_err(|error| Stop::refused(line, error))? {
            Happening::Time => return Ok(false),
            Happening::Sent(at, bytes) => self.keep(line, at, bytes)?,
            Happening::Returned(returned) => self.returned(&returned)?,
        }
        Ok(true)
    }

    fn keep(&mut self, line: usize, at: Duration, bytes: Vec<u8>) -> Result<(), Stop> {
        (self.watch)(Note::Packet(at, Way::Out, &bytes));
        if self.packets.len() == MAX_WAITING {
            let why = format!("{MAX_WAITING} packets wait of which no line speaks");
            return Err(Stop::Refused { line, why });
        }
        self.packets.push_back((at, bytes));
        Ok(())
    }

    /// A call that was to return by now may take as long as times may be off.
    fn await_call(&mut self, line: usize, at: Duration) -> Result<(), Stop> {
        let tolerance = self.tolerance();
        while let Some(pending) = self.pending.as_ref().filter(|pending| pending.end <= at) {
            let (of, end) = (pending.line, pending.end);
            if !self.happens(line, end + tolerance)? {
                let came = format!("it still blocks at {}", seconds(self.kernel.now()));
                return fail(of, "the time at which the call returns", seconds(end), came, None);
            }
        }
        Ok(())
    }

    /// How far times may be off: as the script says, and what this kernel's clock adds.
    fn tolerance(&self) -> Duration {
        self.settings.tolerance + self.kernel.slack()
    }

    /// The blocking call returned.
    fn returned(&mut self, returned: &Returned) -> Result<(), Stop> {
        let Some(pending) = self.pending.take() else { return Ok(()) };
        let (at, end) = (returned.at, pending.end);
        self.check(pending.line, pending.call, &pending.prepared, returned)?;
        let tolerance = self.tolerance();
        if at + tolerance < end || at > end + tolerance {
            return fail(
                pending.line,
                "the time at which the call returns",
                seconds(end),
                seconds(at),
                None,
            );
        }
        Ok(())
    }

    fn call(&mut self, line: usize, call: &'a Call, end: Option<Duration>) -> Result<(), Stop> {
        let refused = |why: String| Stop::Refused { line, why };
        let arguments = Arguments { call, settings: self.settings, descriptors: &self.descriptors };
        if let Some(change) = arguments.epoll() {
            let change = change.map_err(refused)?;
            return self.epoll(line, call, change);
        }
        let prepared = arguments.prepare().map_err(refused)?;
        if self.pending.is_some() {
            return Err(refused("another call is under way".into()));
        }
        self.descriptors.own_bytes |=
            call.arguments.iter().any(has_text) && matches!(prepared.effect, Effect::Written);
        self.note(line, &prepared.call)?;
        let begun = self.kernel.call(prepared.call.clone());
        begun.map_err(|error| Stop::refused(line, error))?;
        if let Some(end) = end {
            self.pending = Some(Pending { line, call, prepared, end });
            return Ok(());
        }
        let limit = self.kernel.now() + self.kernel.patience();
        loop {
            match self.kernel.run(limit).map_err(|error| Stop::refused(line, error))? {
                Happening::Sent(at, bytes) => self.keep(line, at, bytes)?,
                Happening::Returned(returned) => {
                    return self.check(line, call, &prepared, &returned);
                }
                Happening::Time => {
                    let came = "the call blocks (a call that shall block has the time of its end: +0...0.2)";
                    return fail(
                        line,
                        &call.name,
                        "a call that returns at once".into(),
                        came.into(),
                        None,
                    );
                }
            }
        }
    }

    /// What a call says of the conversations to come.
    fn note(&mut self, line: usize, call: &SystemCall) -> Result<(), Stop> {
        match call {
            SystemCall::Bind(_, address) if address.port() != 0 => self.bound = address.port(),
            SystemCall::Connect(_, address) | SystemCall::Send(_, _, _, Some(address)) => {
                let port = address.port();
                let known = self.flows.get(self.current).is_some_and(|flow| flow.remote == port);
                if matches!(call, SystemCall::Connect(..)) || !known {
                    self.add_flow(line, Flow::new(None, port))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn add_flow(&mut self, line: usize, flow: Flow) -> Result<(), Stop> {
        if self.flows.len() == MAX_FLOWS {
            return Err(Stop::Refused {
                line,
                why: format!("more than {MAX_FLOWS} conversations"),
            });
        }
        self.current = self.flows.len();
        self.flows.push(flow);
        Ok(())
    }

    /// Compares what a call returned, and keeps what it means.
    fn check(
        &mut self,
        line: usize,
        call: &Call,
        prepared: &Prepared,
        returned: &Returned,
    ) -> Result<(), Stop> {
        let value = match (prepared.effect, returned.result) {
            (Effect::Waited(most), Outcome::Value(ready)) => Outcome::Value(ready.min(most as i64)),
            (_, result) => result,
        };
        let came = match value {
            // The script has its own number for a socket.
            Outcome::Value(_) if matches!(prepared.effect, Effect::NewSocket(_)) => {
                "a socket".into()
            }
            Outcome::Value(value) => value.to_string(),
            Outcome::Errno(errno) => numbers::error_text(errno),
        };
        let told = format!("{}(…) = {came}", call.name);
        (self.watch)(Note::Line(returned.at, &told));
        if let (Effect::NewSocket(kind), Outcome::Value(handle)) = (prepared.effect, value) {
            return self.open(line, call, kind, handle);
        }
        let (wanted, errno) = wanted_of(line, call)?;
        let same = match (value, wanted, errno) {
            (Outcome::Value(value), wanted, None) => wanted.is_none_or(|wanted| wanted == value),
            (Outcome::Errno(found), wanted, errno) => {
                wanted.is_none_or(|wanted| wanted == -1) && errno.is_none_or(|errno| errno == found)
            }
            (Outcome::Value(_), _, Some(_)) => false,
        };
        if !same {
            let expected = match errno {
                Some(errno) => numbers::error_text(errno),
                None => wanted.map_or("success".into(), |wanted| wanted.to_string()),
            };
            return fail(line, &format!("what {} returns", call.name), expected, came, None);
        }
        let Outcome::Value(value) = value else { return Ok(()) };
        let differs = match prepared.effect {
            Effect::Waited(most) => {
                let list = self.descriptors.epoll(prepared.fd).map(|list| list.clone());
                calls::compare_waited(call, &list.unwrap_or_default(), most, returned)
            }
            _ => calls::compare(call, prepared, returned),
        };
        match prepared.effect {
            Effect::Closed => self.descriptors.remove(prepared.fd),
            Effect::Written => {
                if let Some(socket) = self.descriptors.socket_mut(prepared.fd) {
                    socket.written += u64::try_from(value).unwrap_or(0);
                }
            }
            _ => {}
        }
        match differs {
            Ok(()) => Ok(()),
            Err((expected, came)) => {
                fail(line, &format!("what {} gives", call.name), expected, came, None)
            }
        }
    }

    /// A call gave a socket: the script's number stands for it from now on.
    fn open(&mut self, line: usize, call: &Call, kind: i32, handle: i64) -> Result<(), Stop> {
        let number = call.result.as_ref().and_then(calls::value);
        let number = match (number, &call.errno) {
            (Some(number), None) if number >= 0 => number,
            _ => {
                let expected =
                    call.errno.clone().unwrap_or_else(|| "the number of a descriptor".into());
                return fail(
                    line,
                    &format!("what {} returns", call.name),
                    expected,
                    "a socket".into(),
                    None,
                );
            }
        };
        let handle = usize::try_from(handle).unwrap_or_default();
        let socket = Socket { handle, kind, written: 0 };
        let put = self.descriptors.put(number, Descriptor::Socket(socket));
        put.map_err(|why| Stop::Refused { line, why })
    }

    fn epoll(
        &mut self,
        line: usize,
        call: &Call,
        (fd, change): (i64, EpollChange),
    ) -> Result<(), Stop> {
        let refused = |why: String| Stop::Refused { line, why };
        let wanted = call.result.as_ref().and_then(calls::value);
        let errno = match change {
            EpollChange::Create => {
                let number = wanted.filter(|number| *number >= 0);
                let number = number
                    .ok_or_else(|| refused("the number of a descriptor is missing".into()))?;
                return self
                    .descriptors
                    .put(number, Descriptor::Epoll(Vec::new()))
                    .map_err(refused);
            }
            EpollChange::Close => {
                self.descriptors.remove(fd);
                None
            }
            EpollChange::Set(of, ..) | EpollChange::Delete(of)
                if self.descriptors.socket(of).is_none() =>
            {
                return Err(refused(format!("{of} is no socket of this script")));
            }
            EpollChange::Set(of, events, data) => {
                let list = self.descriptors.epoll(fd);
                let list =
                    list.ok_or_else(|| refused(format!("{fd} is no descriptor of epoll")))?;
                let adds = call.arguments.get(1).and_then(calls::value)
                    == Some(i64::from(nix::libc::EPOLL_CTL_ADD));
                match (list.iter_mut().find(|entry| entry.0 == of), adds) {
                    (None, true) => {
                        list.push((of, events, data));
                        None
                    }
                    (Some(entry), false) => {
                        *entry = (of, events, data);
                        None
                    }
                    (Some(_), true) => Some(nix::libc::EEXIST),
                    (None, false) => Some(nix::libc::ENOENT),
                }
            }
            EpollChange::Delete(of) => {
                let list = self.descriptors.epoll(fd);
                let list =
                    list.ok_or_else(|| refused(format!("{fd} is no descriptor of epoll")))?;
                let before = list.len();
                list.retain(|entry| entry.0 != of);
                (list.len() == before).then_some(nix::libc::ENOENT)
            }
        };
        let came = errno.map_or("0".to_owned(), numbers::error_text);
        let same = match (errno, call.errno.as_deref()) {
            (None, None) => wanted.is_none_or(|wanted| wanted == 0),
            (Some(found), Some(name)) => numbers::errno(name) == Some(found),
            _ => false,
        };
        if same {
            return Ok(());
        }
        let expected = call.errno.clone().unwrap_or_else(|| "0".into());
        fail(line, &format!("what {} returns", call.name), expected, came, None)
    }

    fn shell(&mut self, line: usize, text: &str) -> Result<(), Stop> {
        let settings = shell::settings(text).map_err(|why| Stop::Refused { line, why })?;
        for (path, value) in settings {
            let set = self.kernel.sysctl(&path, &value);
            set.map_err(|error| Stop::refused(line, error))?;
        }
        Ok(())
    }

    fn code(&mut self, line: usize, text: &str) -> Result<(), Stop> {
        let variables = match self.descriptors.last_stream() {
            Some(socket) => {
                self.kernel.tcp_info(socket).map_err(|error| Stop::refused(line, error))?
            }
            None => Vec::new(),
        };
        self.codes.push(Code { line, text: text.to_owned(), variables });
        Ok(())
    }

    /// The script is at its end: a call that blocks must return, and Python has its say.
    fn finish(mut self) -> Result<(), Stop> {
        if let Some(pending) = &self.pending {
            let (line, end) = (pending.line, pending.end);
            self.await_call(line, end)?;
        }
        code::run(&self.codes)
    }
}

fn fail<T>(
    line: usize,
    what: &str,
    expected: String,
    came: String,
    rule: Option<&'static str>,
) -> Result<T, Stop> {
    let (what, about) = (what.to_owned(), String::new());
    Err(Stop::Failed(Box::new(Failure { line, what, expected, came, rule, about })))
}

/// The value that a call is to return, and the number of its error.
fn wanted_of(line: usize, call: &Call) -> Result<(Option<i64>, Option<i32>), Stop> {
    let refused = |why: String| Stop::Refused { line, why };
    let wanted = call.result.as_ref().map(|expr| {
        calls::value(expr).ok_or_else(|| refused("what it returns is no number".into()))
    });
    let errno = call.errno.as_deref().map(|name| {
        numbers::errno(name).ok_or_else(|| refused(format!("{name} is no error of Linux")))
    });
    Ok((wanted.transpose()?, errno.transpose()?))
}

fn has_text(expr: &Expr) -> bool {
    match expr {
        Expr::Text(_) => true,
        Expr::List(list) | Expr::Function(_, list) => list.iter().any(has_text),
        Expr::Struct(members) => members.iter().any(|(_, expr)| has_text(expr)),
        _ => false,
    }
}
