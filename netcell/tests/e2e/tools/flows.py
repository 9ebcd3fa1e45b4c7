"""Rules by what tells packets apart, and what sockets of every kind get under each: towards 10.9.0.1 and fd09::1, port 8080."""
import errno, os, socket, subprocess
open('/proc/sys/net/ipv4/ping_group_range', 'w').write('0 2147483647')
def ip(command): subprocess.run(['ip', *command.split()], check=True)
def name(error): return errno.errorcode.get(error, error)
def attempt(what):
    try: what(); return 'goes'
    except OSError as e: return name(e.errno) or type(e).__name__
def with_socket(kind, family, use, options=(), port=None, protocol=0):
    with socket.socket(family, kind, protocol) as s:
        s.settimeout(3)
        for level, option, value in options: s.setsockopt(level, option, value)
        # Nothing of a connection shall be left for the next from its port.
        if kind == socket.SOCK_STREAM: s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
        if port: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('', port))
        return attempt(lambda: use(s))
def everything(title, options=(), family=socket.AF_INET, peer='10.9.0.1'):
    rows = []
    for port in (None, 777):
        rows.append(('tcp', port, with_socket(socket.SOCK_STREAM, family, lambda s: s.connect((peer, 8080)), options, port)))
        rows.append(('udp', port, with_socket(socket.SOCK_DGRAM, family, lambda s: s.sendto(b'x', (peer, 8081)), options, port)))
        rows.append(('udp connected', port, with_socket(socket.SOCK_DGRAM, family, lambda s: s.connect((peer, 8082)), options, port)))
    echo = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    body = (b'\x08' if family == socket.AF_INET else b'\x80') + bytes(7)
    rows.append(('ping', 0, with_socket(socket.SOCK_DGRAM, family, lambda s: s.sendto(body, (peer, 0)), options, None, echo)))
    rows.append(('raw', 0, with_socket(socket.SOCK_RAW, family, lambda s: s.sendto(body, (peer, 0)), options, None, 99)))
    print(title, rows, flush=True)
MARK = [(socket.SOL_SOCKET, socket.SO_MARK, 5)]
TOS = [(socket.IPPROTO_IP, socket.IP_TOS, 0x10)]
DEVICE = [(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'eth0')]
for rule in ('ipproto tcp dport 8080', 'ipproto udp', 'dport 8081-8082', 'ipproto udp sport 777', 'sport 777', 'ipproto icmp', 'ipproto 99',
             'sport 32768-60999 ipproto tcp', 'from 10.9.0.2', 'iif lo dport 8082 ipproto udp'):
    ip('rule add %s prohibit prio 10' % rule)
    everything(rule)
    for get in ('', 'ipproto tcp dport 8080', 'ipproto udp dport 8081', 'ipproto udp sport 777 dport 1', 'ipproto icmp'):
        done = subprocess.run(['ip', 'route', 'get', '10.9.0.1', *get.split()], capture_output=True, text=True)
        print('  get', get, done.returncode, done.stdout.split('\n')[0].strip(), done.stderr.strip())
    ip('rule del %s prohibit prio 10' % rule)
for rule, options in (('fwmark 5', MARK), ('fwmark 4/0xfe', MARK), ('tos 0x10', TOS), ('oif eth0', DEVICE), ('not fwmark 5', MARK)):
    ip('rule add %s prohibit prio 10' % rule)
    everything(rule, options); everything('without ' + rule)
    ip('rule del %s prohibit prio 10' % rule)
ip('rule add uidrange 1000-1999 prohibit prio 10')
ip('-6 rule add uidrange 1000-1999 unreachable prio 10')
everything('user 0')
def opened_by(uid):
    os.seteuid(uid); s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); os.seteuid(0); return s
for uid in (1500, 2500):
    with opened_by(uid) as s: print('user', uid, attempt(lambda: s.sendto(b'x', ('10.9.0.1', 8081))))
ip('rule del uidrange 1000-1999 prohibit prio 10')
for rule in ('ipproto tcp dport 8080', 'ipproto udp dport 8081', 'sport 777', 'fwmark 5'):
    ip('-6 rule add %s prohibit prio 10' % rule)
    everything('six ' + rule, MARK if 'mark' in rule else (), socket.AF_INET6, 'fd09::1')
    ip('-6 rule del %s prohibit prio 10' % rule)
# What answers: a listener's SYN-ACK is asked about, too.
ip('rule add ipproto tcp sport 9000 prohibit prio 10')
listener = socket.socket(); listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); listener.bind(('', 9000)); listener.listen()
client = socket.socket(); client.settimeout(1)
print('over loopback', attempt(lambda: client.connect(('127.0.0.1', 9000))))
