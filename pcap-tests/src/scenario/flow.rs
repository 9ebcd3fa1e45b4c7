//! A flow of a scenario: what its programs do, and what is measured of it.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use netstack::ip::Family;
use netstack::sim::{HostId, Sim};
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{How, Readiness, RecvError, RecvFlags, SendError, SendFlags, TcpOption};
use netstack::time::Instant;
use netstack::transport::tcp::congestion;

use super::FlowOutcome;
use super::plan::Flow;
use super::units::{Bound, Count, Quantity, Rate, Share, Span};
use super::world::World;

/// The port of the first flow; each has its own.
const FIRST_PORT: u16 = 5001;
/// Bytes after which the data repeats: a prime, so that no segment size hides a byte in the wrong place.
const PERIOD: usize = 65_521;
/// How often a program that reads at a rate looks again.
const READ_EVERY: Duration = Duration::from_millis(5);

/// The data of every stream, twice over: any part of it lies in one piece.
static DATA: LazyLock<Vec<u8>> = LazyLock::new(|| {
    (0..2 * PERIOD)
        .map(|at| {
            let at = at % PERIOD;
            (at ^ at >> 8 ^ 0x5a) as u8
        })
        .collect()
});

/// The data from an offset on.
fn data(offset: u64) -> &'static [u8] {
    let at = (offset % PERIOD as u64) as usize;
    &DATA[at..at + PERIOD]
}

/// What was measured of a flow.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Connections that ended well.
    pub connections: u32,
    /// From the first connect to the last end; None where it did not come.
    pub time: Option<Duration>,
    /// Payload that arrived, both ways.
    pub bytes: u64,
    /// Payload that was sent, and of that what was sent again.
    pub sent: u64,
    /// Likewise.
    pub sent_again: u64,
    /// Retransmission timeouts of both ends.
    pub timeouts: u64,
    /// The longest time in which a receiving program waited and nothing came.
    pub pause: Duration,
    /// The smoothed round trip at the end of the last connection.
    pub rtt: Option<Duration>,
}

impl Measured {
    /// Bits of payload a second.
    pub fn goodput(&self) -> Option<f64> {
        let seconds = self.time?.as_secs_f64();
        (seconds > 0.0).then(|| self.bytes as f64 * 8.0 / seconds)
    }

    /// Of the payload that was sent, what was sent again.
    pub fn retransmitted(&self) -> f64 {
        if self.sent == 0 { 0.0 } else { self.sent_again as f64 / self.sent as f64 }
    }

    /// Something came to a program, or nothing.
    fn note(&mut self, now: Instant, heard: &mut Instant, came: bool) {
        if came {
            self.pause = self.pause.max(now.since(*heard));
            *heard = now;
        }
    }
}

/// One direction of a connection.
#[derive(Default)]
struct Way {
    wanted: u64,
    sent: u64,
    received: u64,
    shut: bool,
    ended: bool,
}

/// A connection under way.
struct Pair {
    client: TcpSocket,
    server: Option<TcpSocket>,
    request: Way,
    answer: Way,
    began: Instant,
    heard: Instant,
}

/// A flow under way.
pub(super) struct Running<'a> {
    plan: &'a Flow,
    name: String,
    from: HostId,
    target: SocketAddr,
    listener: TcpSocket,
    begins: Instant,
    pair: Option<Pair>,
    measured: Measured,
    over: bool,
    failure: Option<String>,
    room: Vec<u8>,
}

impl<'a> Running<'a> {
    /// Its server listens. Errors: what is wrong with it.
    pub(super) fn new(
        world: &World,
        plan: &'a Flow,
        number: usize,
        start: Instant,
    ) -> Result<Running<'a>, String> {
        let name = plan.name.clone().unwrap_or_else(|| format!("{} -> {}", plan.from, plan.to));
        let wrong = |error: &dyn std::fmt::Display| format!("flow {name}: {error}");
        let address = world.address_of(&plan.to, &plan.from, plan.version);
        let target = SocketAddr::new(address, FIRST_PORT + number as u16);
        let listener = world.sim.stack(world.id(&plan.to)).tcp_socket(Family::of(address));
        if let Some(control) = &plan.congestion {
            let known = congestion::known(control.as_bytes());
            let known = known.ok_or_else(|| {
                format!(
                    "flow {name}: congestion control {control} is not known; known: {}",
                    congestion::AVAILABLE.join(", ")
                )
            })?;
            let option = TcpOption::Congestion(known);
            listener.set_option(world.sim.now(), option).map_err(|error| wrong(&error))?;
        }
        listener.bind(target).map_err(|error| wrong(&error))?;
        listener.listen(128).map_err(|error| wrong(&error))?;
        Ok(Running {
            plan,
            from: world.id(&plan.from),
            target,
            listener,
            begins: start + plan.start.0,
            pair: None,
            measured: Measured::default(),
            over: false,
            failure: None,
            room: vec![0; PERIOD],
            name,
        })
    }

    /// Whether nothing more comes of it.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// It ends here, not well.
    pub(super) fn fail(&mut self, why: &str) {
        if !self.over {
            self.over = true;
            self.failure = Some(why.to_owned());
        }
    }

    /// When it has something to do though nothing comes.
    pub(super) fn wakes_at(&self, now: Instant) -> Option<Instant> {
        match &self.pair {
            _ if self.over => None,
            Some(_) => self.plan.read.map(|_| now + READ_EVERY),
            None => Some(self.begins).filter(|at| *at > now),
        }
    }

    /// Does what can be done now.
    pub(super) fn work(&mut self, sim: &Sim) {
        let now = sim.now();
        if self.over || now < self.begins {
            return;
        }
        let worked = match self.pair.take() {
            Some(pair) => self.exchange(now, pair),
            None => self.connect(sim),
        };
        if let Err(why) = worked {
            self.fail(&why);
        }
    }

    fn connect(&mut self, sim: &Sim) -> Result<(), String> {
        let now = sim.now();
        let client = sim.stack(self.from).tcp_socket(Family::of(self.target.ip()));
        if let Some(known) =
            self.plan.congestion.as_ref().and_then(|name| congestion::known(name.as_bytes()))
        {
            let set = client.set_option(now, TcpOption::Congestion(known));
            set.map_err(|error| error.to_string())?;
        }
        client.connect(now, self.target).map_err(|error| format!("connect: {error}"))?;
        self.pair = Some(Pair {
            client,
            server: None,
            request: Way { wanted: self.plan.bytes.0, ..Way::default() },
            answer: Way { wanted: self.plan.answer.0, ..Way::default() },
            began: now,
            heard: now,
        });
        Ok(())
    }

    fn exchange(&mut self, now: Instant, mut pair: Pair) -> Result<(), String> {
        if pair.server.is_none() {
            pair.server = self.listener.accept(now).ok();
        }
        pair.request.send(now, &pair.client)?;
        if let Some(server) = &pair.server {
            let most = self.plan.read.map_or(u64::MAX, |rate| {
                (rate.0 / 8.0 * now.since(pair.began).as_secs_f64()) as u64
            });
            self.measured.note(
                now,
                &mut pair.heard,
                pair.request.receive(now, server, (most, &mut self.room))?,
            );
            if pair.request.ended {
                pair.answer.send(now, server)?;
            }
        } else if let Some(error) = pair.client.take_error() {
            return Err(format!("connect: {error}"));
        }
        if pair.request.ended {
            let heard = pair.answer.receive(now, &pair.client, (u64::MAX, &mut self.room))?;
            self.measured.note(now, &mut pair.heard, heard);
        }
        match pair.answer.ended {
            true => self.end(now, pair),
            false => self.pair = Some(pair),
        }
        Ok(())
    }

    /// The connection has ended well.
    fn end(&mut self, now: Instant, pair: Pair) {
        for socket in [Some(&pair.client), pair.server.as_ref()].into_iter().flatten() {
            if let Some(info) = socket.info() {
                self.measured.sent += info.counters.bytes_sent;
                self.measured.sent_again += info.counters.bytes_retransmitted;
                self.measured.timeouts += u64::from(info.counters.timeouts);
            }
            socket.close(now);
        }
        self.measured.bytes += pair.request.received + pair.answer.received;
        self.measured.connections += 1;
        self.measured.rtt = pair.client.info().map(|info| info.rtt);
        if self.measured.connections == self.plan.times {
            self.measured.time = Some(now.since(self.begins));
            self.over = true;
        }
    }

    /// What came of what was expected.
    pub(super) fn judge(self, now: Instant) -> FlowOutcome {
        let (expect, measured) = (&self.plan.expect, &self.measured);
        let mut complaints = Vec::new();
        let ended_well = measured.time.is_some();
        if expect.fails == ended_well {
            complaints.push(match (&self.failure, ended_well) {
                (_, true) => "it ended well, which was not expected".to_owned(),
                (Some(failure), _) => failure.clone(),
                (None, _) if now < self.begins => "it did not begin before the limit".to_owned(),
                (None, _) => self.stuck(now),
            });
        }
        let told =
            |what: &str, bound: String, value: String| format!("{what} {value}, expected {bound}");
        let mut hold = |what: &str, broken: Option<(String, String)>| {
            complaints.extend(broken.map(|(bound, value)| told(what, bound, value)));
        };
        hold("time", broken(expect.time, measured.time.map(Span)));
        hold("goodput", broken(expect.goodput, measured.goodput().map(Rate)));
        hold("retransmitted", broken(expect.retransmitted, Some(Share(measured.retransmitted()))));
        hold("timeouts", broken(expect.timeouts, Some(Count(measured.timeouts as f64))));
        hold("pause", broken(expect.pause, Some(Span(measured.pause))));
        hold("rtt", broken(expect.rtt, measured.rtt.map(Span)));
        FlowOutcome { name: self.name, measured: self.measured, complaints }
    }

    /// Where it stood when time was up.
    fn stuck(&self, now: Instant) -> String {
        let Some(pair) = &self.pair else { return "it did not end before the limit".into() };
        let of = |way: &Way| format!("{} of {} bytes", way.received, way.wanted);
        let silent = Span(now.since(pair.heard)).show();
        format!(
            "connection {} of {} did not end before the limit: the server got {}, the client {}; nothing came for {silent}",
            self.measured.connections + 1,
            self.plan.times,
            of(&pair.request),
            of(&pair.answer),
        )
    }
}

/// A bound that a value is not within; a value that is missing is none.
fn broken<Q: Quantity>(bound: Option<Bound<Q>>, value: Option<Q>) -> Option<(String, String)> {
    let (bound, value) = (bound?, value?);
    (!bound.holds(value)).then(|| (bound.to_string(), value.show()))
}

impl Way {
    /// Sends what fits, and the end.
    fn send(&mut self, now: Instant, socket: &TcpSocket) -> Result<(), String> {
        while !self.shut && socket.readiness().contains(Readiness::OUT) {
            let left = (self.wanted - self.sent).min(PERIOD as u64) as usize;
            if left == 0 {
                socket.shutdown(now, How::Write).map_err(|error| format!("shutdown: {error}"))?;
                self.shut = true;
                break;
            }
            match socket.send(now, &mut &data(self.sent)[..left], SendFlags::empty()) {
                Ok(n) => self.sent += n as u64,
                Err(SendError::WouldBlock) => break,
                Err(error) => return Err(format!("send: {error}")),
            }
        }
        Ok(())
    }

    /// Receives what there is, `most` bytes altogether; tells whether anything came.
    fn receive(
        &mut self,
        now: Instant,
        socket: &TcpSocket,
        (most, room): (u64, &mut [u8]),
    ) -> Result<bool, String> {
        let mut came = false;
        while !self.ended && socket.readiness().contains(Readiness::IN) {
            let may = most.saturating_sub(self.received).min(room.len() as u64) as usize;
            if may == 0 {
                // A program that reads slowly is not one that waits.
                return Ok(true);
            }
            match socket.recv(now, &mut &mut room[..may], RecvFlags::empty()) {
                Ok(0) if self.received == self.wanted => self.ended = true,
                Ok(0) => {
                    return Err(format!(
                        "the stream ended after {} of {} bytes",
                        self.received, self.wanted
                    ));
                }
                Ok(n) if room[..n] != data(self.received)[..n] => {
                    return Err(format!(
                        "other bytes came than were sent, near byte {}",
                        self.received
                    ));
                }
                Ok(n) => self.received += n as u64,
                Err(RecvError::WouldBlock) => break,
                Err(error) => return Err(format!("receive: {error}")),
            }
            came = true;
        }
        Ok(came)
    }
}
