//! Streams of CRI as kubectl uses them through a kubelet: exec, attach and port-forward over containerd's streaming server. What kubectl
//! sees of a pod of runc is what it must see of one of netcell.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Output, Stdio};

use serde_json::{Value, json};

use super::node::{Node, Pod, Wish};
use crate::harness::{Running, run, text, unique, wait_until};

/// A web server that only the pod's own loopback reaches, in each family.
const SERVER: &str =
    "mkdir /tmp/www; cd /tmp/www; head -c 3000000 /dev/urandom > large; echo page > small
    httpd -p 127.0.0.1:8080 -h /tmp/www; httpd -p '[::1]:8081' -h /tmp/www; exec sleep 100000";

/// What curl says of a connection that ends without an answer: (52) or (56), an end or a reset.
const UNANSWERED: &str = "curl: (5";

/// What kubectl speaks with, for one pod.
pub struct Server<'a> {
    node: &'a Node,
    port: u16,
    /// It ends with its input.
    _child: (Running, ChildStdin),
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/oci").join(name)
}

impl<'a> Server<'a> {
    /// For these pods, as `apiserver.py` takes them.
    pub fn new(node: &'a Node, pods: &Value) -> Self {
        use std::io::Write;
        let socket = node.containerd.place("socket");
        let words = ["/usr/bin/python3", "-B", &script("apiserver.py").to_string_lossy()]
            .map(str::to_owned);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = node.inside.command(&words);
        command.arg(socket).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = Running::new(command.spawn().expect("python3"));
        let mut input = child.stdin.take().expect("stdin");
        writeln!(input, "{pods}").expect("room");
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().expect("stdout"));
        output.read_line(&mut line).expect("a line");
        let port = line.trim().parse().unwrap_or_else(|_| panic!("no port: {line:?}"));
        Self { node, port, _child: (child, input) }
    }

    /// Words that call kubectl. It speaks SPDY, as the streaming server of containerd 1.6 does, also where it has something newer.
    fn words(&self, args: &[&str]) -> Vec<String> {
        let server = format!("http://127.0.0.1:{}", self.port);
        let home = format!("HOME={}", self.node.containerd.place("kubectl").display());
        let fixed = [
            "env",
            &home,
            "KUBECONFIG=/dev/null",
            "KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false",
            "KUBECTL_PORT_FORWARD_WEBSOCKETS=false",
            "kubectl",
            "--server",
            &server,
            "--namespace",
            "default",
        ];
        fixed.iter().chain(args).map(|word| (*word).to_owned()).collect()
    }

    fn command(&self, args: &[&str]) -> Command {
        let words = self.words(args);
        self.node.inside.command(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn kubectl(&self, args: &[&str], input: &[u8]) -> Output {
        run(&mut self.command(args), input)
    }

    /// kubectl on a terminal, through steps of `console.py`; gives what was shown last.
    fn on_terminal(&self, steps: &[&str], args: &[&str]) -> String {
        let words = self.words(args);
        let console = script("console.py");
        let mut all = vec!["/usr/bin/python3", console.to_str().expect("a path"), "-"];
        all.extend(steps);
        all.push("--");
        all.extend(words.iter().map(String::as_str));
        let output = run(&mut self.node.inside.command(&all), b"");
        assert!(output.status.success(), "{args:?}: {}", text(&output));
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        shown.trim().lines().next_back().unwrap_or_default().to_owned()
    }

    /// Forwards a port of the pod; gives the port on the node.
    pub fn forward(&self, pod: &str, port: u16) -> (u16, Running) {
        let said = self.node.containerd.place(&unique("forward"));
        let file = std::fs::File::create(&said).expect("a file");
        let mut command = self.command(&["port-forward", pod, &format!(":{port}")]);
        command.stdin(Stdio::null()).stderr(file.try_clone().expect("a file")).stdout(file);
        let child = Running::new(command.spawn().expect("kubectl"));
        let mut from = None;
        wait_until("kubectl to forward", || {
            let text = std::fs::read_to_string(&said).unwrap_or_default();
            // Forwarding from 127.0.0.1:41234 -> 8080
            let rest = text.split_once("Forwarding from 127.0.0.1:");
            from = rest.and_then(|(_, rest)| rest.split_once(' ')?.0.parse().ok());
            from.is_some()
        });
        (from.expect("a port"), child)
    }
}

/// What exec shows, each with what it is.
fn exec(server: &Server<'_>) -> Vec<(&'static str, String)> {
    let exec = |flags: &[&str], input: &[u8], program: &[&str]| {
        server.kubectl(&[&["exec"], flags, &["web", "-c", "server", "--"], program].concat(), input)
    };
    let streams = exec(&[], b"", &["sh", "-c", "echo out; echo err >&2; exit 9"]);
    // What kubectl says of the status differs by its version.
    let errors = String::from_utf8_lossy(&streams.stderr).lines().next().map(str::to_owned);
    let streams = (streams.status.code(), streams.stdout, errors);
    assert_eq!(streams, (Some(9), b"out\n".to_vec(), Some("err".to_owned())));
    let killed = exec(&[], b"", &["sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.status.code(), Some(137), "{}", text(&killed));
    let absent = exec(&[], b"", &["/none"]);
    assert!(String::from_utf8_lossy(&absent.stderr).contains("/none"), "{}", text(&absent));

    let data: Vec<u8> = (0..1_000_001_u32).map(|n| (n * 7 % 251) as u8).collect();
    let echoed = exec(&["-i"], &data, &["sh", "-c", "cat; exit 3"]);
    let same = echoed.stdout == data;
    assert!(same, "{} of {} bytes came back", echoed.stdout.len(), data.len());
    let unread = exec(&["-i"], &data, &["true"]);
    let none = exec(&[], &data, &["cat"]);
    vec![
        ("a program that is absent", format!("{:?}", absent.status.code())),
        ("a million bytes there and back", format!("{:?}", echoed.status.code())),
        ("input that nobody reads", format!("{:?} {:?}", unread.status.code(), unread.stdout)),
        ("input that was not asked for", format!("{:?} {:?}", none.status.code(), none.stdout)),
    ]
}

/// What exec shows on a terminal.
fn exec_on_terminal(server: &Server<'_>) -> Vec<(&'static str, String)> {
    let exec = |steps: &[&str], script: &str| {
        server.on_terminal(steps, &["exec", "-it", "web", "-c", "server", "--", "sh", "-c", script])
    };
    let sized = "trap 'changed=yes' WINCH
        until [ \"$(stty size)\" = '30 100' ]; do sleep 0.05; done; tty; echo first size
        until [ \"$changed\" ]; do sleep 0.05; done; until [ \"$(stty size)\" = '41 121' ]; do sleep 0.05; done
        echo second size; read line; echo \"read $line\"; exit 5";
    let asked = "trap 'echo interrupted; exit 4' INT; echo ready; while :; do sleep 0.05; done";
    let resized = exec(
        &[
            "size 30 100",
            "expect /dev/pts/",
            "expect first size",
            "size 41 121",
            "expect second size",
            "type words\\n",
            "expect read words",
            "hangup",
        ],
        sized,
    );
    assert_eq!(resized, "status 5");
    let interrupted = exec(&["expect ready", "type \\x03", "expect interrupted", "hangup"], asked);
    assert_eq!(interrupted, "status 4");
    vec![("sizes and input", resized), ("an interrupt", interrupted)]
}

/// What attach shows, of a container that reads once, one that reads for good, and a shell on a terminal.
fn attach(server: &Server<'_>, pod: &Pod<'_>) -> Vec<(&'static str, String)> {
    let attach = |container| ["attach", "-i", "web", "-c", container];
    let read = server.on_terminal(
        &[
            "type first\\n",
            "expect got first",
            "type second\\n",
            "expect got second",
            "type \\x03",
            "hangup",
        ],
        &attach("reader"),
    );
    let again = server.on_terminal(
        &["type third\\n", "expect got third", "type \\x03", "hangup"],
        &attach("reader"),
    );
    let once = server.kubectl(&attach("once"), b"all of it\n");
    assert_eq!(once.stdout, b"all of it\nthe end\n", "{}", text(&once));
    let shell = server.on_terminal(
        &[
            // Older ones of kubectl tell another size first.
            "type until [ \"$(stty size)\" = '24 80' ]; do sleep 0.05; done; echo si''zed\\n",
            "expect sized",
            "type echo $((6 * 7))\\n",
            "expect 42",
            "type exit 6\\n",
            "hangup",
        ],
        &["attach", "-it", "web", "-c", "shell"],
    );
    wait_until("logs", || pod.log("once").contains(" stdout F the end"));
    vec![("reading", read), ("reading again", again), ("a shell", shell)]
}

/// What port-forward reaches.
fn forward(server: &Server<'_>) -> Vec<(&'static str, String)> {
    let fetch = |port: u16, file: &str| {
        server.node.within(
            &server.node.inside,
            &format!("curl -sSm 60 http://127.0.0.1:{port}/{file} 2>&1"),
        )
    };
    let (port, first) = server.forward("web", 8080);
    assert_eq!(fetch(port, "small"), "page\n");
    let eight = format!(
        "for n in 1 2 3 4 5 6 7 8; do curl -sSm 60 http://127.0.0.1:{port}/large | sha256sum & done; wait"
    );
    let sums = server.node.within(&server.node.inside, &eight);
    let inside =
        server.kubectl(&["exec", "web", "-c", "server", "--", "sha256sum", "/tmp/www/large"], b"");
    let sum = String::from_utf8_lossy(&inside.stdout).split(' ').next().map(str::to_owned);
    let sum = sum.expect("a sum");
    assert_eq!(sums.lines().filter(|line| line.starts_with(&sum)).count(), 8, "{sum}: {sums}");
    let (second, other) = server.forward("web", 8081);
    // It is reached where the node's /etc/hosts has localhost in both families.
    let six = fetch(second, "small");
    let six = if six.starts_with(UNANSWERED) { "unanswered".into() } else { six };
    // Nobody listens there: the connection ends, and the ones beside it go on.
    let (nobody, third) = server.forward("web", 8099);
    let refused = fetch(nobody, "small");
    assert!(refused.starts_with(UNANSWERED), "{refused}");
    assert_eq!(fetch(port, "small"), "page\n");
    drop((first, other, third));
    vec![("the listener of the other family", six)]
}

/// All that kubectl shows of a pod on this runtime.
fn seen(node: &Node, runtime: &'static str) -> Vec<(&'static str, String)> {
    let pod = Pod::new(node, runtime, Wish { runtime, ..Wish::default() });
    let reader = "while read -r line; do echo \"got $line\"; done";
    let started = [
        ("server", SERVER, json!({})),
        ("reader", reader, json!({ "stdin": true })),
        ("once", "cat; echo the end", json!({ "stdin": true, "stdin_once": true })),
        ("shell", "exec sh", json!({ "stdin": true, "tty": true })),
    ]
    .map(|(name, script, changes)| {
        let id = pod.start(name, script, &changes);
        let has = |key: &str| changes[key] == true;
        json!({ "name": name, "id": id, "tty": has("tty"), "stdin": has("stdin") })
    });
    let server = Server::new(node, &json!({ "web": { "id": pod.id, "containers": started } }));
    wait_until("the servers", || {
        let id = started[0]["id"].as_str().expect("an id");
        pod.exec(id, "netstat -ltn").0.matches(":808").count() == 2
    });
    let mut seen = exec(&server);
    seen.extend(exec_on_terminal(&server));
    seen.extend(attach(&server, &pod));
    seen.extend(forward(&server));
    drop(server);
    pod.end();
    seen
}

#[test]
fn kubectl_sees_of_a_pod_what_it_sees_on_runc() {
    let node = Node::new();
    let expected = seen(&node, "runc");
    assert_eq!(seen(&node, "netcell"), expected);
    node.assert_clean();
}
