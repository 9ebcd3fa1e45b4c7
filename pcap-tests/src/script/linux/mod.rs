//! Linux as the kernel of a script: a network namespace with a TAP device, and a program in it that makes the calls. In real time, and
//! it needs root. What a script says of Linux is seen here first.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use netstack::ip::IpCidr;
use serde::Deserialize;
use serde_json::{Value, json};

use super::kernel::{
    Handle, Happening, Kernel, KernelError, Nonblocking, Outcome, Returned, SystemCall,
};
use super::syntax::Settings;
use crate::namespace::{self, Namespace, clock, host, theirs};

const DEVICE: &str = "script0";
/// How far times may be off on a machine that does other things, too.
const SLACK: Duration = Duration::from_millis(12);
const PROGRAM: &str = include_str!("program.py");

/// A namespace of Linux with a program in it. The thread that makes it moves into the namespace for good.
pub struct Linux {
    namespace: Namespace,
    program: Child,
    calls: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// The clock at the beginning of the script.
    start: Duration,
}

/// What the program writes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    value: Option<i64>,
    errno: Option<i32>,
    data: String,
    address: Option<(String, u16)>,
    events: Vec<i16>,
    members: Vec<(String, i64)>,
    at: u64,
}

impl Linux {
    /// Moves this thread into a new network namespace with the addresses of a script. Errors: missing rights, tools or the tun module.
    pub fn new(settings: &Settings) -> Result<Linux, KernelError> {
        let prefix = if settings.local.is_ipv4() { 16 } else { 64 };
        let addresses = [IpCidr::new(settings.local, prefix)];
        let mut namespace = Namespace::enter(DEVICE, &addresses, settings.mtu)?;
        let remote = settings.remote;
        let mac = theirs();
        namespace::ip(&format!("neigh add {remote} lladdr {mac} dev {DEVICE} nud permanent"))?;
        let family = if remote.is_ipv4() { "-4" } else { "-6" };
        namespace::ip(&format!("{family} route add default dev {DEVICE}"))?;
        let mut program = Command::new("python3")
            .args(["-I", "-c", PROGRAM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(host("python3"))?;
        let (Some(calls), Some(answers)) = (program.stdin.take(), program.stdout.take()) else {
            return Err(KernelError::Refused("python3 has no standard input and output".into()));
        };
        namespace.warm_up(settings.remote, settings.local)?;
        let answers = BufReader::new(answers);
        let mut linux = Linux { namespace, program, calls, answers, start: Duration::ZERO };
        // It says that it is there.
        linux.answer()?;
        linux.start = clock();
        Ok(linux)
    }

    fn answer(&mut self) -> Result<Answer, KernelError> {
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(host("the program"))?;
        let answer = serde_json::from_str(&line);
        answer.map_err(|error| {
            KernelError::Refused(format!("the program answered {line:?}: {error}"))
        })
    }

    fn ask(&mut self, call: &Value) -> Result<(), KernelError> {
        writeln!(self.calls, "{call}")
            .and_then(|()| self.calls.flush())
            .map_err(host("the program"))
    }

    fn returned(&mut self) -> Result<Returned, KernelError> {
        let answer = self.answer()?;
        let result = match (answer.errno, answer.value) {
            (Some(errno), _) => Outcome::Errno(errno),
            (None, value) => Outcome::Value(value.unwrap_or_default()),
        };
        let address = answer.address.as_ref().and_then(|(ip, port)| {
            let ip: IpAddr = ip.parse().ok()?;
            Some(SocketAddr::new(ip, *port))
        });
        Ok(Returned {
            at: Duration::from_nanos(answer.at).saturating_sub(self.start),
            result,
            data: unhex(&answer.data),
            address,
            events: answer.events,
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
    text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// A call as the program reads it.
fn told(call: &SystemCall) -> Value {
    let place = |to: &SocketAddr| json!([to.ip().to_string(), to.port()]);
    match call {
        SystemCall::Socket(family, kind, protocol) => json!(["socket", family, kind, protocol]),
        SystemCall::Bind(of, to) => json!(["bind", of, place(to)]),
        SystemCall::Listen(of, backlog) => json!(["listen", of, backlog]),
        SystemCall::Accept(of, flags) => json!(["accept", of, flags]),
        SystemCall::Connect(of, to) => json!(["connect", of, place(to)]),
        SystemCall::Receive(of, len, flags) => json!(["receive", of, len, flags]),
        SystemCall::Send(of, bytes, flags, to) => {
            json!(["send", of, hex(bytes), flags, to.as_ref().map(place)])
        }
        SystemCall::Shutdown(of, how) => json!(["shutdown", of, how]),
        SystemCall::Close(of) => json!(["close", of]),
        SystemCall::SetOption(of, level, name, value) => {
            json!(["set_option", of, level, name, hex(value)])
        }
        SystemCall::GetOption(of, level, name, room) => json!(["option", of, level, name, room]),
        SystemCall::SetNonblocking(of, on) => json!(["nonblocking", of, *on == Nonblocking::On]),
        SystemCall::GetFlags(of) => json!(["flags", of]),
        SystemCall::Ioctl(of, request) => json!(["ioctl", of, request]),
        SystemCall::Poll(list, timeout) => {
            json!(["poll", list, timeout.map(|timeout| timeout.as_millis() as u64)])
        }
    }
}

impl Kernel for Linux {
    fn now(&mut self) -> Duration {
        clock() - self.start
    }

    fn run(&mut self, limit: Duration) -> Result<Happening, KernelError> {
        loop {
            let left = limit.saturating_sub(self.now());
            let ready = self.namespace.wait(left, Some(self.answers.get_ref().as_fd()))?;
            if ready.frame {
                if let Some(packet) = self.namespace.sent()? {
                    return Ok(Happening::Sent(self.now(), packet));
                }
            } else if ready.other {
                return Ok(Happening::Returned(self.returned()?));
            } else if self.now() >= limit {
                return Ok(Happening::Time);
            }
        }
    }

    fn arrive(&mut self, packet: &[u8]) -> Result<(), KernelError> {
        self.namespace.arrive(packet)
    }

    fn call(&mut self, call: SystemCall) -> Result<(), KernelError> {
        self.ask(&told(&call))
    }

    fn sysctl(&mut self, path: &str, value: &str) -> Result<(), KernelError> {
        namespace::sysctl(path, value)
    }

    fn tcp_info(&mut self, socket: Handle) -> Result<Vec<(String, i64)>, KernelError> {
        self.ask(&json!(["tcp_info", socket]))?;
        Ok(self.answer()?.members)
    }

    fn settle(&mut self, at: Duration) {
        let late = self.now().saturating_sub(at);
        self.start += late;
    }

    fn slack(&self) -> Duration {
        SLACK
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(2)
    }
}

impl Drop for Linux {
    fn drop(&mut self) {
        // A program that is gone already needs no end.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
