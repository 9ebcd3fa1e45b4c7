//! The runner: event after event of a script over a kernel.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use super::calls::{
    self, Arguments, Descriptor, Descriptors, Effect, EpollChange, Prepared, Socket,
};
use super::code::{self, Code};
use super::flow::{self, Flow};
use super::kernel::{Happening, Kernel, KernelError, Outcome, Returned, SystemCall};
use super::syntax::{
    About, Action, Base, Body, Call, EcnMark, Event, Expr, Icmp, Packet, Script, Settings, Tcp, Udp,
};
use super::verify;
use super::wire::{self, Header, Segment, Sent, SentBody};
use super::{Failure, Note, Stop, Way, numbers, parser, shell};
use crate::packet::{ACK, PSH};

/// How long a packet may take that may come at any time.
const ANY_TIME: Duration = Duration::from_secs(300);
/// Packets that wait to be looked at.
const MAX_WAITING: usize = 100_000;
/// Conversations of one script.
const MAX_FLOWS: usize = 4096;
/// The port of the first caller.
const FIRST_CALLER: u16 = 40_000;
/// The time to live of what arrives, where the script does not say.
const TTL: u8 = 255;

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
    for event in &script.events {
        runner.play(event)?;
    }
    runner.finish()
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
        self.before = at;
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

    /// The blocking call returned.
    fn returned(&mut self, returned: &Returned) -> Result<(), Stop> {
        let Some(pending) = self.pending.take() else { return Ok(()) };
        let (at, end) = (returned.at, pending.end);
        self.check(pending.line, pending.call, &pending.prepared, returned)?;
        let tolerance = self.settings.tolerance;
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
            Outcome::Value(value) => value.to_string(),
            Outcome::Errno(errno) => numbers::error_text(errno),
        };
        let told = format!("{}(…) = {came}", call.name);
        (self.watch)(Note::Line(returned.at, &told));
        if let (Effect::NewSocket(kind), Outcome::Value(handle)) = (prepared.effect, value) {
            return self.open(line, call, kind, handle);
        }
        let wanted = call.result.as_ref().map(|expr| {
            let wanted = calls::value(expr);
            wanted.ok_or(Stop::Refused { line, why: "what it returns is no number".into() })
        });
        let wanted = wanted.transpose()?;
        let errno = call.errno.as_deref().map(|name| {
            let number = numbers::errno(name);
            number
                .ok_or_else(|| Stop::Refused { line, why: format!("{name} is no error of Linux") })
        });
        let errno = errno.transpose()?;
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
        while let Some(pending) = &self.pending {
            let (line, end) = (pending.line, pending.end);
            if !self.happens(line, end + self.settings.tolerance)? {
                let came = format!("it still blocks at {}", seconds(self.kernel.now()));
                return fail(line, "the time at which the call returns", seconds(end), came, None);
            }
        }
        code::run(&self.codes)
    }
}

/// The packets.
impl Runner<'_> {
    /// The conversation of a packet of the other side (from, to), which is made where there is none.
    fn flow_of_inbound(
        &mut self,
        line: usize,
        ports: Option<(u16, u16)>,
    ) -> Result<&mut Flow, Stop> {
        let known = match ports {
            Some((remote, local)) => {
                let fits =
                    |flow: &Flow| flow.remote == remote && flow.local.is_none_or(|p| p == local);
                self.flows.iter().position(fits)
            }
            None => (!self.flows.is_empty()).then_some(self.current),
        };
        match known {
            Some(known) => self.current = known,
            None => {
                let caller = FIRST_CALLER.saturating_add(self.flows.len() as u16);
                let (remote, local) = ports.unwrap_or((caller, self.bound));
                self.add_flow(line, Flow::new(Some(local), remote))?;
            }
        }
        if let (Some((_, local)), flow) = (ports, &mut self.flows[self.current]) {
            flow.local = Some(local);
        }
        Ok(&mut self.flows[self.current])
    }

    fn inbound(&mut self, line: usize, packet: &Packet) -> Result<(), Stop> {
        let (local, remote) = (self.settings.local, self.settings.remote);
        let header = Header {
            from: remote,
            to: local,
            tos: packet.mark.map_or(0, EcnMark::bits),
            ttl: packet.ttl.unwrap_or(TTL),
        };
        let bytes = match &packet.body {
            Body::Tcp(tcp) => {
                let flow = self.flow_of_inbound(line, tcp.ports)?;
                flow.arrives(tcp);
                segment_bytes(header, flow, tcp)
            }
            Body::Udp(udp) => {
                let flow = self.flow_of_inbound(line, udp.ports)?;
                let payload = flow::payload(0, udp.len as usize);
                wire::udp(header, flow.remote, flow.local.unwrap_or(0), &payload)
            }
            Body::Icmp(icmp) => {
                let flow = self.flow_of_inbound(line, None)?;
                let quoted = quoted(Header { from: local, to: remote, ..header }, flow, icmp.about);
                wire::icmp(header, icmp.kind, icmp.mtu.unwrap_or(0), &quoted)
            }
        };
        (self.watch)(Note::Packet(self.kernel.now(), Way::In, &bytes));
        self.kernel.arrive(&bytes).map_err(|error: KernelError| Stop::refused(line, error))
    }

    /// The next packet of the kernel that scripts speak of.
    fn next_packet(
        &mut self,
        line: usize,
        limit: Duration,
    ) -> Result<Option<(Duration, Sent)>, Stop> {
        loop {
            while let Some((at, bytes)) = self.packets.pop_front() {
                match wire::read(&bytes) {
                    Ok(Some(sent)) => return Ok(Some((at, sent))),
                    Ok(None) => {}
                    Err(came) => {
                        return fail(line, "the packet", "one that is right".into(), came, None);
                    }
                }
            }
            if !self.happens(line, limit)? {
                return Ok(None);
            }
        }
    }

    fn outbound(
        &mut self,
        event: &Event,
        expected: &Packet,
        (at, until): (Duration, Option<Duration>),
    ) -> Result<(), Stop> {
        let (line, tolerance) = (event.line, self.settings.tolerance);
        let limit = match event.when.base {
            Base::Any => self.kernel.now() + ANY_TIME,
            _ => until.unwrap_or(at) + tolerance,
        };
        let Some((came_at, sent)) = self.next_packet(line, limit)? else {
            let came = format!("nothing until {}", seconds(limit));
            let rule = verify::timing_rule(expected);
            return fail(line, "a packet is missing", format!("> {expected}"), came, rule);
        };
        let sent = self.whole_train(line, expected, sent, limit)?;
        let found = self.to_script(line, expected, &sent, came_at)?;
        let told = format!("> {found}");
        (self.watch)(Note::Line(came_at, &told));
        if let Some(difference) = verify::compare(expected, &found) {
            let what = format!("{} of a packet sent at {}", difference.what, seconds(came_at));
            return fail(line, &what, format!("> {expected}"), told, difference.rule);
        }
        self.check_stamps_and_bytes(line, expected, &sent)?;
        let is_any = event.when.base == Base::Any;
        if !is_any && (came_at + tolerance < at || came_at > limit) {
            let expected_at = match until {
                Some(until) => format!("{} to {}", seconds(at), seconds(until)),
                None => seconds(at),
            };
            let what = format!("the time of > {expected}");
            return fail(line, &what, expected_at, seconds(came_at), verify::timing_rule(expected));
        }
        self.before = if is_any || until.is_some() { came_at } else { at };
        Ok(())
    }

    /// A line may stand for several segments that follow each other, as a device sees them that cuts them itself.
    fn whole_train(
        &mut self,
        line: usize,
        expected: &Packet,
        mut sent: Sent,
        limit: Duration,
    ) -> Result<Sent, Stop> {
        let Body::Tcp(wanted) = &expected.body else { return Ok(sent) };
        while let SentBody::Tcp(first) = &mut sent.body {
            let len = first.payload.len();
            if len == 0 || len >= wanted.len as usize {
                break;
            }
            // The next one belongs to it, or stays where it is.
            if self.packets.is_empty() && !self.happens(line, limit)? {
                break;
            }
            let Some((_, bytes)) = self.packets.front() else { continue };
            let next = match wire::read(bytes) {
                Ok(Some(Sent { body: SentBody::Tcp(next), .. })) => next,
                _ => break,
            };
            let follows = next.seq == first.seq.wrapping_add(len as u32)
                && (next.from, next.to) == (first.from, first.to)
                && (len + next.payload.len()) <= wanted.len as usize
                && !next.payload.is_empty();
            if !follows {
                break;
            }
            self.packets.pop_front();
            first.payload.extend(next.payload);
            first.flags |= next.flags & PSH;
        }
        Ok(sent)
    }

    /// A packet of the kernel in the script's notation.
    fn to_script(
        &mut self,
        line: usize,
        expected: &Packet,
        sent: &Sent,
        at: Duration,
    ) -> Result<Packet, Stop> {
        let body = match (&sent.body, &expected.body) {
            (SentBody::Tcp(tcp), wanted) => {
                let wanted = match wanted {
                    Body::Tcp(wanted) => Some(wanted),
                    _ => None,
                };
                let shown = wanted.is_some_and(|wanted| wanted.ports.is_some());
                let ports =
                    self.select(line, wanted.and_then(|tcp| tcp.ports), (tcp.from, tcp.to))?;
                let found = self.flows[self.current].to_script_tcp(tcp, wanted, at);
                Body::Tcp(Tcp { ports: ports.or(shown.then_some((tcp.from, tcp.to))), ..found })
            }
            (SentBody::Udp(from, to, len), wanted) => {
                let wanted = match wanted {
                    Body::Udp(wanted) => wanted.ports,
                    _ => None,
                };
                let ports = self.select(line, wanted, (*from, *to))?;
                Body::Udp(Udp { ports: ports.or(wanted.map(|_| (*from, *to))), len: *len })
            }
            (SentBody::Icmp(kind, word, about), wanted) => {
                let v6 = sent.ip.src.is_ipv6();
                let name = parser::icmp_name(*kind, v6).unwrap_or(("of another kind", ""));
                let told = match wanted {
                    Body::Icmp(Icmp { mtu, .. }) => *mtu,
                    _ => None,
                };
                let about = about_of(about);
                Body::Icmp(Icmp { name, kind: *kind, mtu: told.map(|_| *word), about })
            }
        };
        Ok(Packet {
            mark: Some(EcnMark::of(sent.ip.tos)).filter(|_| expected.mark.is_some()),
            ttl: expected.ttl.map(|_| sent.ip.ttl),
            body,
        })
    }

    /// Chooses the conversation of a packet of the kernel. Gives its ports where it is not the one of which the line speaks.
    fn select(
        &mut self,
        line: usize,
        wanted: Option<(u16, u16)>,
        (local, remote): (u16, u16),
    ) -> Result<Option<(u16, u16)>, Stop> {
        let fits =
            |flow: &Flow| flow.remote == remote && flow.local.is_none_or(|port| port == local);
        let is_current = self.flows.get(self.current).is_some_and(fits);
        let found = if is_current { Some(self.current) } else { self.flows.iter().position(fits) };
        let is_new = found.is_none();
        let nothing_known = self.flows.is_empty();
        match found {
            Some(found) if wanted.is_some() => self.current = found,
            Some(_) if is_current => {}
            Some(_) => return Ok(Some((local, remote))),
            None => self.add_flow(line, Flow::new(Some(local), remote))?,
        }
        self.flows[self.current].local = Some(local);
        Ok((is_new && !nothing_known && wanted.is_none()).then_some((local, remote)))
    }

    /// The kernel's timestamps go with its clock, and its bytes are those that programs wrote.
    fn check_stamps_and_bytes(
        &self,
        line: usize,
        expected: &Packet,
        sent: &Sent,
    ) -> Result<(), Stop> {
        let (Body::Tcp(wanted), SentBody::Tcp(tcp)) = (&expected.body, &sent.body) else {
            return Ok(());
        };
        let flow = &self.flows[self.current];
        if let (Some(tick), Some(val)) = (self.settings.tick, stamp_of(wanted)) {
            let error = flow.stamp_error(val);
            let most = self.settings.tolerance.as_nanos() / tick.as_nanos().max(1);
            if u128::from(error.unsigned_abs()) > most {
                let came = format!("val {}", val.wrapping_add(error as u32));
                let rule = Some("RFC 7323 section 4.1: the timestamp clock");
                return fail(line, "the timestamp", format!("val {val}"), came, rule);
            }
        }
        let wrong = flow.wrong_byte(tcp).filter(|_| !self.descriptors.own_bytes);
        match wrong {
            Some(at) => fail(
                line,
                "the payload",
                "the bytes that the program wrote".into(),
                format!("another byte at {at} of the stream"),
                Some("RFC 9293 section 3.4: every byte has its sequence number"),
            ),
            None => Ok(()),
        }
    }
}

fn fail<T>(
    line: usize,
    what: &str,
    expected: String,
    came: String,
    rule: Option<&'static str>,
) -> Result<T, Stop> {
    Err(Stop::Failed(Box::new(Failure { line, what: what.to_owned(), expected, came, rule })))
}

fn has_text(expr: &Expr) -> bool {
    match expr {
        Expr::Text(_) => true,
        Expr::List(list) | Expr::Function(_, list) => list.iter().any(has_text),
        Expr::Struct(members) => members.iter().any(|(_, expr)| has_text(expr)),
        _ => false,
    }
}

fn stamp_of(tcp: &Tcp) -> Option<u32> {
    use super::syntax::TcpOption;
    tcp.options.iter().flatten().find_map(|option| match option {
        TcpOption::Timestamps { val, .. } => Some(*val),
        _ => None,
    })
}

/// A segment of the other side as a packet.
fn segment_bytes(header: Header, flow: &Flow, tcp: &Tcp) -> Vec<u8> {
    let options = flow.options_to_kernel(tcp.options.as_deref().unwrap_or_default());
    let options = wire::options(&options);
    let first = u64::from(tcp.seq.wrapping_sub(u32::from(tcp.flags & crate::packet::SYN == 0)));
    let payload = flow::payload(first, tcp.len as usize);
    let segment = Segment {
        from: flow.remote,
        to: flow.local.unwrap_or(0),
        seq: tcp.seq,
        ack: tcp.ack.map_or(0, |ack| flow.to_kernel(ack)),
        flags: tcp.flags,
        window: tcp.window.unwrap_or(0),
        urgent: tcp.urgent.unwrap_or(0),
        options: &options,
        payload: &payload,
    };
    wire::tcp(header, segment)
}

/// The beginning of a packet of ours, as an ICMP error gives it back: the IP header and the first bytes of what it carries.
fn quoted(header: Header, flow: &Flow, about: About) -> Vec<u8> {
    let (from, to) = (flow.local.unwrap_or(0), flow.remote);
    let ip_len = if matches!(header.from, IpAddr::V4(_)) { 20 } else { 40 };
    let (mut bytes, kept) = match about {
        About::Tcp(seq, len) => {
            let payload = vec![0; len as usize];
            let seq = flow.to_kernel(seq);
            let segment =
                Segment { from, to, seq, flags: ACK, payload: &payload, ..Segment::default() };
            (wire::tcp(header, segment), 20)
        }
        About::Udp(len) => (wire::udp(header, from, to, &vec![0; len as usize]), 8),
    };
    bytes.truncate(ip_len + kept);
    bytes
}

/// What an ICMP error of the kernel is about: a packet of the other side.
fn about_of(quoted: &[u8]) -> About {
    let found = crate::packet::quoted(quoted);
    let Some((ip, ..)) = found else { return About::Udp(0) };
    let start = if ip.src.is_ipv4() { usize::from(quoted[0] & 15) * 4 } else { 40 };
    match (ip.protocol, quoted.get(start + 4..start + 8), quoted.get(start + 12)) {
        (17, ..) => About::Udp(ip.payload_len.saturating_sub(8)),
        (_, Some(&[a, b, c, d]), offset) => {
            let header = offset.map_or(20, |byte| u32::from(byte >> 4) * 4);
            About::Tcp(u32::from_be_bytes([a, b, c, d]), ip.payload_len.saturating_sub(header))
        }
        _ => About::Udp(0),
    }
}
