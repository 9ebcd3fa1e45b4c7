//! Services in pods under load, from outside by a port of the node and from another pod through the bridge: no request fails.
//!
//! `NETCELL_LOAD_SECONDS` is how long the load lasts.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::node::{Node, Pod, Wish};
use crate::harness::{run, text, wait_until};

/// What of the machine a pod of these tests has as its own, to be read: its programs and their libraries.
const BORROWED: [&str; 6] = ["/bin", "/usr", "/lib", "/lib64", "/sbin", "/etc"];

const NGINX: &str = "worker_processes 2; daemon off; error_log stderr; pid /tmp/pid; events {}
    http { access_log off; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u;
           scgi_temp_path /tmp/s; keepalive_requests 100; server { listen 80; listen [::]:80; root /work; } }";

/// A web application: what it answers depends on what it is asked.
const PYTHON: &str = r#"
import http.server, json, urllib.parse
class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlparse(self.path).query))
        body = json.dumps({"sum": int(asked["a"]) + int(asked["b"])}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(("0.0.0.0", 8000), App).serve_forever()
"#;

const POSTGRES: &str = "mkdir -p /tmp/data && chown postgres /tmp/data && cd /tmp/data && as='setpriv --reuid=postgres --regid=postgres --clear-groups'
    bin=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
    $as $bin/initdb --no-sync -A trust -D /tmp/data/db >/dev/null && echo 'host all all all trust' >>/tmp/data/db/pg_hba.conf &&
    exec $as $bin/postgres -D /tmp/data/db -c listen_addresses='*' -c unix_socket_directories=/tmp/data";

/// A program that serves, and one that asks.
struct Service {
    name: &'static str,
    port: u16,
    program: &'static str,
    /// Says whether it is ready, and makes it so. `$at` is its address, `$port` its port.
    prepare: &'static str,
    /// Asks it for `$seconds`.
    load: &'static str,
    /// Whether what the load said tells of requests that were answered, all of them.
    is_good: fn(&str) -> bool,
}

/// `wrk` tells of failed requests alone, in lines of their own.
fn is_good_of_wrk(said: &str) -> bool {
    let answered =
        said.lines().find_map(|line| line.split_once(" requests in ")).map(|found| found.0);
    let answered: u64 = answered.and_then(|count| count.trim().parse().ok()).unwrap_or(0);
    answered > 0 && !said.contains("Socket errors") && !said.contains("Non-2xx")
}

const SERVICES: [Service; 4] = [
    Service {
        name: "nginx",
        port: 80,
        program: "exec nginx -c /work/nginx.conf",
        prepare: "curl -sSf http://$at:$port/page",
        load: "wrk -t 2 -c 8 -d $seconds --timeout 30 http://$at:$port/page",
        is_good: is_good_of_wrk,
    },
    Service {
        name: "python",
        port: 8000,
        program: "exec python3 /work/app.py",
        prepare: "curl -sSf \"http://$at:$port/?a=3&b=4\" | grep '\"sum\": 7'",
        load: "wrk -t 1 -c 4 -d $seconds --timeout 30 \"http://$at:$port/?a=3&b=4\"",
        is_good: is_good_of_wrk,
    },
    Service {
        name: "redis",
        port: 6379,
        program: "cd /tmp && exec redis-server --save '' --protected-mode no --bind 0.0.0.0 ::",
        prepare: "redis-cli -h $at -p $port ping | grep PONG",
        // Without an end, and an error ends it: that it had to be stopped says that there was none.
        load: "timeout $seconds redis-benchmark -h $at -p $port -c 8 -q -l -t set,get,incr,lpush,lrange_100,mset; echo status $?",
        is_good: |said| said.contains("status 124") && !said.to_lowercase().contains("error"),
    },
    Service {
        name: "postgres",
        port: 5432,
        program: POSTGRES,
        prepare: "pgbench -h $at -p $port -U postgres -i -q postgres",
        load: "pgbench -h $at -p $port -U postgres -c 4 -j 2 -T $seconds postgres",
        is_good: |said| {
            let done = said.lines().find_map(|line| line.split_once("actually processed: "));
            let done: u64 = done.and_then(|found| found.1.trim().parse().ok()).unwrap_or(0);
            done > 0 && said.contains("number of failed transactions: 0 ")
        },
    },
];

/// What is mounted into every pod: the machine's programs, and a folder of the test.
fn mounts(work: &Path) -> Value {
    let borrowed = BORROWED
        .iter()
        .map(|path| json!({ "container_path": path, "host_path": path, "readonly": 1 }));
    let work = json!({ "container_path": "/work", "host_path": work, "readonly": 1 });
    json!({ "mounts": borrowed.chain([work]).collect::<Vec<_>>() })
}

const PATH: &str = "export PATH=/usr/sbin:/usr/bin:/bin LC_ALL=C;";

#[test]
fn services_in_pods_answer_every_request() {
    let seconds = std::env::var("NETCELL_LOAD_SECONDS").unwrap_or_else(|_| "3".into());
    let node = Node::new();
    let work = node.containerd.place("work");
    std::fs::create_dir(&work).expect("a folder");
    for (name, content) in
        [("nginx.conf", NGINX), ("app.py", PYTHON), ("page", &"netcell ".repeat(512))]
    {
        std::fs::write(work.join(name), content).expect("a file");
    }
    let mounts = mounts(&work);
    let start = |name: &str, port, program: &str| {
        let pod = Pod::new(&node, name, Wish { ports: (port, 20_000 + port), ..Wish::default() });
        let id = pod.start(name, &format!("{PATH} {program}"), &mounts);
        (pod, id)
    };
    let pods =
        SERVICES.each_ref().map(|service| start(service.name, service.port, service.program));
    let (asking, asker) = start("asker", 1, "exec sleep 100000");
    let script = |service: &Service, (at, port): (&str, u16), what| {
        format!("{PATH} at={at} port={port} seconds={seconds}; {what} 2>&1 # {}", service.name)
    };
    for (service, (pod, id)) in SERVICES.iter().zip(&pods) {
        let (address, _) = pod.addresses();
        wait_until(service.name, || {
            assert!(pod.is_running(id), "{}", pod.log(service.name));
            let (said, status) =
                asking.exec(&asker, &script(service, (&address, service.port), service.prepare));
            assert!(!said.contains("not found"), "{said}");
            status == 0
        });
    }
    let failed: Vec<String> = std::thread::scope(|scope| {
        let loads: Vec<_> = SERVICES
            .iter()
            .zip(&pods)
            .flat_map(|(service, (pod, _))| {
                let (address, _) = pod.addresses();
                let by_bridge = script(service, (&address, service.port), service.load);
                let by_port = script(service, ("192.0.2.1", 20_000 + service.port), service.load);
                let (asking, asker, node) = (&asking, &asker, &node);
                let inside =
                    scope.spawn(move || ("from a pod", service, asking.exec(asker, &by_bridge).0));
                let outside = scope.spawn(move || {
                    let mut command: Command = node.outside.command(&["sh", "-c", &by_port]);
                    ("from outside", service, text(&run(&mut command, b"")))
                });
                [inside, outside]
            })
            .collect();
        let ended = loads.into_iter().map(|load| load.join().expect("a load"));
        ended
            .filter_map(|(from, service, said)| {
                eprintln!("{} {from}:\n{said}", service.name);
                (!(service.is_good)(&said)).then(|| format!("{} {from}: {said}", service.name))
            })
            .collect()
    });
    let logs: Vec<String> =
        SERVICES.iter().zip(&pods).map(|(service, (pod, _))| pod.log(service.name)).collect();
    assert!(failed.is_empty(), "{}\n{}", failed.join("\n"), logs.join("\n"));
    pods.into_iter().for_each(|(pod, _)| pod.end());
    asking.end();
    node.assert_clean();
}
