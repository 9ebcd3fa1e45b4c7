//! Running the same thing on the host and in a sandbox, and network namespaces that remove themselves.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The command under test.
pub const NETCELL: &str = env!("CARGO_BIN_EXE_netcell");
/// The search path that a sandbox has, for the host's side of a comparison.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// No program of these tests runs longer than this, however slow the machine; it is there to end a hang.
const LIMIT: Duration = Duration::from_secs(600);

/// A program of another of our packages, which lies beside the command.
pub fn beside(program: &str, package: &str) -> PathBuf {
    let path = Path::new(NETCELL).with_file_name(program);
    assert!(path.exists(), "{} is missing: cargo build -p {package}", path.display());
    path
}

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// A name that no other test of this or another run uses.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}{}x{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed))
}

/// A folder that goes away.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A fresh empty folder below /tmp.
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(unique("netcell-e2e-"));
        std::fs::create_dir(&path).expect("a scratch folder");
        Self(path)
    }

    /// A fresh empty folder that a sandbox of the host's tree sees too: not below /tmp, which is its own.
    pub fn of_image() -> Self {
        let path = Path::new("/var/tmp").join(unique("netcell-e2e-"));
        std::fs::create_dir(&path).expect("a scratch folder");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it, as text.
    pub fn file(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process that is ended where the test fails before it is done with it.
pub struct Running(Option<Child>);

impl Running {
    /// Watches over a child.
    pub fn new(child: Child) -> Self {
        Self(Some(child))
    }

    /// The child, to be waited for.
    pub fn release(mut self) -> Child {
        self.0.take().expect("a child that was not released")
    }
}

impl std::ops::Deref for Running {
    type Target = Child;
    fn deref(&self) -> &Child {
        self.0.as_ref().expect("a child that was not released")
    }
}

impl std::ops::DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        self.0.as_mut().expect("a child that was not released")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits for a child, kills it where it hangs.
pub fn finish(mut child: Child) -> Output {
    let mut stdout = child.stdout.take();
    let mut stderr = child.stderr.take();
    let out = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.as_mut().map(|s| s.read_to_end(&mut bytes));
        bytes
    });
    let err = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.as_mut().map(|s| s.read_to_end(&mut bytes));
        bytes
    });
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait") {
            break status;
        }
        if start.elapsed() > LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            panic!("a program hung: {}", String::from_utf8_lossy(&err.join().unwrap_or_default()));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Output { status, stdout: out.join().expect("stdout"), stderr: err.join().expect("stderr") }
}

/// Runs a command with input, to its end.
pub fn run(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    let mut stdin = child.stdin.take().expect("stdin");
    std::thread::scope(|scope| {
        // While the output is read: a program may answer before it has read all. It may also end before that.
        scope.spawn(move || stdin.write_all(input));
        finish(child)
    })
}

/// The flag for the platform that the tests run on: the environment's `NETCELL_PLATFORM`, or the default.
pub fn platform() -> Vec<String> {
    let named = std::env::var("NETCELL_PLATFORM");
    named.into_iter().flat_map(|name| ["--platform".to_owned(), name]).collect()
}

/// `netcell run FLAGS -- PROGRAM` with nothing of this process's environment that matters.
pub fn netcell(flags: &[&str], program: &[&str]) -> Command {
    let mut command = Command::new(NETCELL);
    command.arg("run").args(platform()).args(flags);
    command.arg("--").args(program).current_dir("/tmp");
    command
}

/// The same program on the host, in a folder of its own, with the environment that a sandbox gives.
pub fn host(program: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(program[0]);
    command
        .args(&program[1..])
        .current_dir(folder)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", folder);
    command
}

/// What a program gave, for a comparison.
#[derive(PartialEq, Eq)]
pub struct Given {
    status: Option<i32>,
    stdout: Vec<u8>,
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {:?}, output:\n{}", self.status, String::from_utf8_lossy(&self.stdout))
    }
}

impl Given {
    /// Exit status and standard output of a finished program.
    pub fn of(output: &Output) -> Self {
        Self { status: output.status.code(), stdout: output.stdout.clone() }
    }
}

/// Runs a shell script with bash on the host, where it must succeed, and in a sandbox, and compares output and status.
pub fn same_as_host(flags: &[&str], script: &str) {
    same_program_as_host(flags, &["/bin/bash", "-c", script]);
}

/// The same for any program.
pub fn same_program_as_host(flags: &[&str], program: &[&str]) {
    let folder = Scratch::new();
    let on_host = run(&mut host(program, folder.path()), b"");
    let errors = String::from_utf8_lossy(&on_host.stderr);
    assert_eq!(on_host.status.code(), Some(0), "the host itself fails: {errors}");
    let mut all = vec!["--workdir", "/tmp", "--env", "HOME=/tmp"];
    all.extend(flags);
    let inside = run(&mut netcell(&all, program), b"");
    let errors = String::from_utf8_lossy(&inside.stderr);
    assert_eq!(Given::of(&inside), Given::of(&on_host), "the sandbox's standard error:\n{errors}");
}

/// Runs in a sandbox and expects success; gives standard output.
pub fn inside(flags: &[&str], script: &str) -> String {
    succeeds(&mut netcell(flags, &["/bin/bash", "-c", script]))
}

/// Runs a command and expects success; gives standard output.
pub fn succeeds(command: &mut Command) -> String {
    let output = run(command, b"");
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All that a command gave, for a person.
pub fn text(output: &Output) -> String {
    format!(
        "{:?}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A network namespace of the host, removed with its processes at the end.
pub struct Namespace {
    name: String,
    servers: Vec<Child>,
}

impl Namespace {
    /// A namespace with loopback up.
    pub fn new() -> Self {
        let name = unique("nc");
        let namespace = Self { name, servers: Vec::new() };
        sh(&format!("ip netns add {0} && ip -n {0} link set lo up", namespace.name));
        namespace
    }

    /// Its name below /run/netns.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command in it.
    pub fn command(&self, program: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).args(program).current_dir("/tmp");
        command
    }

    /// `netcell run` in it, on a TAP device with both families; the host's side is 10.9.0.1 and fd09::1.
    pub fn netcell(&self, flags: &[&str], program: &[&str]) -> Command {
        let platform = platform();
        let mut all = vec![NETCELL, "run"];
        all.extend(platform.iter().map(String::as_str));
        all.extend(TAP);
        all.extend(flags);
        all.push("--");
        all.extend(program);
        self.command(&all)
    }

    /// Starts a server that ends with the namespace.
    pub fn serve(&mut self, program: &[&str]) {
        let child = self
            .command(program)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {program:?}: {e}"));
        self.servers.push(child);
    }

    /// Waits until somebody listens on a TCP port in it.
    pub fn wait_for_listener(&self, port: u16) {
        let probe = format!("ss -Hltn 'sport = :{port}' | grep -q .");
        wait_until(&format!("a listener on port {port}"), || {
            self.command(&["sh", "-c", &probe]).status().is_ok_and(|s| s.success())
        });
    }
}

/// The flags that every networked sandbox of these tests has.
pub const TAP: &[&str] = &[
    "--net",
    "tap:nc0",
    "--ip",
    "10.9.0.2/24",
    "--ip",
    "fd09::2/64",
    "--gateway",
    "10.9.0.1",
    "--gateway",
    "fd09::1",
    "--dns",
    "10.9.0.1",
];

impl Drop for Namespace {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Waits for a condition of another process; panics when it does not come.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A shell command of the test itself that must succeed.
pub fn sh(script: &str) -> String {
    let output = Command::new("bash").args(["-ec", script]).output().expect("bash");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
