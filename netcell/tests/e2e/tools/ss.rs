//! `ss`, and what others read of sockets in /proc/net, over sockets of every kind that a program holds on loopback.

use super::{on_loopback, same};

/// A program that holds sockets and runs commands: what they print with the numbers of sockets and processes taken out.
const HOLDER: &str = r#"
import re, socket, subprocess, sys, os, time
os.closerange(3, 256)
keep = []
def tcp(family, host, port):
    s = socket.socket(family, socket.SOCK_STREAM); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, port)); keep.append(s); return s
listener = tcp(socket.AF_INET, '127.0.0.1', 7001); listener.listen(5)
six = tcp(socket.AF_INET6, '::', 7006); six.listen(9)
client = tcp(socket.AF_INET, '127.0.0.1', 7002); client.connect(('127.0.0.1', 7001))
server, _ = listener.accept(); keep.append(server)
waiting = tcp(socket.AF_INET, '127.0.0.1', 7004); waiting.connect(('127.0.0.1', 7001))
mapped = tcp(socket.AF_INET, '127.0.0.1', 7005); mapped.connect(('127.0.0.1', 7006))
server.send(b'x' * 100)
half = tcp(socket.AF_INET, '127.0.0.1', 7007); half.connect(('127.0.0.1', 7001)); other, _ = listener.accept()
other2, _ = listener.accept()
for o in (other, other2):
    if o.getpeername()[1] == 7004: waiting_server = o
    else: half_server = o
half.shutdown(socket.SHUT_WR); keep += [other, other2]; half_server.recv(1)
while not any(r.split()[1].endswith(':1B5F') and r.split()[3] == '05' for r in open('/proc/net/tcp')): time.sleep(0.01)
alive = tcp(socket.AF_INET, '127.0.0.1', 7008); alive.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
alive.connect(('127.0.0.1', 7001)); alive_server, _ = listener.accept()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(('127.0.0.1', 7010))
udp6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); udp6.bind(('::1', 7011)); udp6.connect(('::1', 7012))
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 99)
local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM); local.bind('\0holder'); local.listen(3)
peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM); peer.connect('\0holder')
gram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); gram.bind('\0gram')
inodes = {}
def number(m):
    return 'I%d' % inodes.setdefault(m.group(0), len(inodes))
def show(command):
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    out = done.stdout + done.stderr
    out = re.sub(r'pid=\d+', 'pid=P', out)
    out = re.sub(r'ino:\d+', 'ino:I', out)
    out = re.sub(r'sk:[0-9a-f]+', 'sk:S', out)
    out = re.sub(r'cgroup:\S+', '', out)
    out = re.sub(r'timer:\((\w+),[^,]*,', r'timer:(\1,T,', out)
    lines = [' '.join(l.split()) for l in out.splitlines() if 'cgroup2' not in l]
    print('==', command, done.returncode); print('\n'.join(sorted(lines)), flush=True)
"#;

#[track_caller]
fn compare(commands: &str) {
    // The same congestion control at both ends, whatever the machine's is.
    let script = format!(
        "sysctl -qw net.ipv4.tcp_congestion_control=reno; cat > /tmp/holder.$$.py <<'END'\n{HOLDER}\n{commands}\nEND\n/usr/bin/python3 /tmp/holder.$$.py; rm -f /tmp/holder.$$.py"
    );
    let (on_host, inside) = on_loopback(&script);
    same(&on_host, &inside);
}

#[test]
fn ss_lists_sockets_of_every_family_as_on_linux() {
    compare(
        "show('ss -Htan'); show('ss -Htln'); show('ss -Huan'); show('ss -Hwan'); show('ss -Htanp'); show('ss -H4tan'); show('ss -H6tan')
show('ss -Hxl | grep holder | sed \"s/[0-9][0-9]*/N/g\"'); show('ss -Hxa | grep gram | sed \"s/[0-9][0-9]*/N/g\"'); show('ss -Htane | sed \"s/uid:0//\"'); show('ss -Htano')",
    );
}

#[test]
fn ss_filters_by_its_expressions() {
    compare(
        "show('ss -Htan sport = :7001'); show('ss -Htan \"( sport = :7001 or dport = :7001 ) and dst 127.0.0.0/8\"')
show('ss -Htan state established'); show('ss -Htan state listening sport gt :7001'); show('ss -Htan src 10.0.0.0/8'); show('ss -Htan \"not ( sport = :7001 )\"')
show('ss -Htan \"sport >= :7004 and sport <= :7006\"'); show('ss -Htan dst [::ffff:127.0.0.1]'); show('ss -Htan state fin-wait-2 state close-wait'); show('ss -Htan sport = :x7')",
    );
}

#[test]
fn ss_tells_what_connections_and_listeners_did() {
    // Times, rates, what memory a kernel spends, and the segment sizes of loopback, where Linux takes half a window at most.
    compare(
        r#"gone = re.compile(r' (rto|rtt|mss|minrtt|ato|send|pacing_rate|delivery_rate|lastsnd|lastrcv|lastack|busy|wscale|snd_wnd)[: ][0-9.,/a-zA-Z]*|(?<=[a-z])[0-9]+(?=[,)])|ino:I|sk:S')
def told(command):
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    lines = [' '.join(gone.sub('', l).split()) for l in (re.sub(r'pid=\d+', 'pid=P', re.sub(r'ino:\d+|sk:[0-9a-f]+|cgroup:\S+', '', l)) for l in done.stdout.splitlines() + done.stderr.splitlines())]
    # That of a connection which only closed counts as set by the path, or by the program, as the congestion control has it.
    print('==', command); print('\n'.join(sorted(l.replace(' app_limited', '') for l in lines if 'cgroup2' not in l)), flush=True)
told('ss -tinOH'); told('ss -tlinOH'); told('ss -tinpmO'); told('ss -HtanemO'); told('ss -Huam'); told('ss -tin6OH')"#,
    );
}

#[test]
fn ss_sums_up_and_lists_local_sockets() {
    compare(
        r#"def plain(command):
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    out = re.sub(r'pid=\d+', 'pid=P', done.stdout + done.stderr)
    # Numbers of inodes; and what counts the sockets of the whole machine, and those of its kernel.
    out = re.sub(r'\b\d{2,}\b(?! *$)(?=.*\*)|(?<=\* )\d+', 'I', out) if 'ss -x' in command else out
    out = re.sub(r'Total: \d+|orphaned \d+|closed \d+|TCP: *\d+', '', out)
    print('==', command); print('\n'.join(' '.join(l.split()) for l in out.splitlines()), flush=True)
plain('ss -s'); plain('ss -xlH | sort'); plain('ss -xlpH | sort'); plain('ss -xaH | grep -v "@gram" | wc -l')
print(sorted(' '.join(r.split()[1:6]) for r in open('/proc/net/unix').read().splitlines()[1:]))"#,
    );
}

#[test]
fn ss_ends_sockets() {
    compare(
        "half.close(); show('ss -HtKn dport = :7002'); show('ss -Htan sport = :7002')
try:
    client.recv(1000); client.recv(1)
except OSError as e: print(e)
try: server.recv(1)
except OSError as e: print(e)
show('ss -HtKn state listening sport = :7001')
try: listener.accept()
except OSError as e: print(e)
show('ss -HuKn sport = :7010')
print(udp.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))",
    );
}

#[test]
fn proc_net_lists_the_same_sockets() {
    // Addresses, states, queues, timers and owners; what follows the inode is of the moment.
    compare(
        "for table in ('tcp', 'tcp6', 'udp', 'udp6', 'raw', 'raw6', 'icmp', 'icmp6'):
    rows = open('/proc/net/' + table).read().splitlines()
    print(table, rows[0].split())
    for row in sorted(' '.join(r.split()[1:4] + r.split()[7:9]) for r in rows[1:]): print(row)
mine = {os.fstat(s.fileno()).st_ino for s in [listener, server, client, udp, raw]}
seen = {int(r.split()[9]) for t in ('tcp', 'udp', 'raw') for r in open('/proc/net/' + t).read().splitlines()[1:]}
print(mine <= seen)
names = [r.split()[4:6] + r.split()[7:] for r in open('/proc/net/unix').read().splitlines()[1:] if 'holder' in r or 'gram' in r]
print(sorted(map(str, names)))
print(open('/proc/net/unix').readline().split(), open('/proc/net/netlink').readline().split())",
    );
}

#[test]
fn netstat_lists_the_same_sockets() {
    compare(
        "show('netstat -tan'); show('netstat -uan'); show('netstat -wan'); show('netstat -tlnp | sed s,[0-9]*/,P/,')",
    );
}
