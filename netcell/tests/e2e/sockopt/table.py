#!/usr/bin/python3
"""Asks and sets every socket option of every kind of internet socket, in every state, and prints a line for each answer.

The same program runs on Linux and in the sandbox; the lines are compared. A line is
`KIND STATE OPTION CASE: ANSWER`, where an answer is an errno's name, or the length and bytes that getsockopt(2) gave.
"""
import ctypes, errno, os, socket, struct, sys

LIBC = ctypes.CDLL(None, use_errno=True)
LEVELS = {"SO": 1, "IP": 0, "TCP": 6, "UDP": 17, "IPV6": 41, "ICMPV6": 58, "RAW": 255}
NAMES = {
    "SO": """DEBUG=1 REUSEADDR=2 TYPE=3 ERROR=4 DONTROUTE=5 BROADCAST=6 SNDBUF=7 RCVBUF=8 KEEPALIVE=9 OOBINLINE=10 NO_CHECK=11
        PRIORITY=12 LINGER=13 BSDCOMPAT=14 REUSEPORT=15 PASSCRED=16 PEERCRED=17 RCVLOWAT=18 SNDLOWAT=19 RCVTIMEO_OLD=20 SNDTIMEO_OLD=21
        SECURITY_AUTHENTICATION=22 SECURITY_ENCRYPTION_TRANSPORT=23 SECURITY_ENCRYPTION_NETWORK=24 BINDTODEVICE=25 ATTACH_FILTER=26
        DETACH_FILTER=27 PEERNAME=28 TIMESTAMP_OLD=29 ACCEPTCONN=30 PEERSEC=31 SNDBUFFORCE=32 RCVBUFFORCE=33 PASSSEC=34
        TIMESTAMPNS_OLD=35 MARK=36 TIMESTAMPING_OLD=37 PROTOCOL=38 DOMAIN=39 RXQ_OVFL=40 WIFI_STATUS=41 PEEK_OFF=42 NOFCS=43
        LOCK_FILTER=44 SELECT_ERR_QUEUE=45 BUSY_POLL=46 MAX_PACING_RATE=47 BPF_EXTENSIONS=48 INCOMING_CPU=49 ATTACH_BPF=50
        ATTACH_REUSEPORT_CBPF=51 ATTACH_REUSEPORT_EBPF=52 CNX_ADVICE=53 UNUSED_54=54 MEMINFO=55 INCOMING_NAPI_ID=56 COOKIE=57
        UNUSED_58=58 PEERGROUPS=59 ZEROCOPY=60 TXTIME=61 BINDTOIFINDEX=62 TIMESTAMP_NEW=63 TIMESTAMPNS_NEW=64 TIMESTAMPING_NEW=65
        RCVTIMEO_NEW=66 SNDTIMEO_NEW=67 DETACH_REUSEPORT_BPF=68 PREFER_BUSY_POLL=69 BUSY_POLL_BUDGET=70 NETNS_COOKIE=71 BUF_LOCK=72
        RESERVE_MEM=73 TXREHASH=74 RCVMARK=75 PASSPIDFD=76 PEERPIDFD=77 DEVMEM_LINEAR=78 DEVMEM_DMABUF=79 DEVMEM_DONTNEED=80
        RCVPRIORITY=82 PASSRIGHTS=83 INQ=84 UNUSED_85=85 UNUSED_200=200""",
    "IP": """UNUSED_0=0 TOS=1 TTL=2 HDRINCL=3 OPTIONS=4 ROUTER_ALERT=5 RECVOPTS=6 RETOPTS=7 PKTINFO=8 PKTOPTIONS=9 MTU_DISCOVER=10 RECVERR=11
        RECVTTL=12 RECVTOS=13 MTU=14 FREEBIND=15 IPSEC_POLICY=16 XFRM_POLICY=17 PASSSEC=18 TRANSPARENT=19 RECVORIGDSTADDR=20
        MINTTL=21 NODEFRAG=22 CHECKSUM=23 BIND_ADDRESS_NO_PORT=24 RECVFRAGSIZE=25 RECVERR_RFC4884=26 UNUSED_27=27
        MULTICAST_IF=32 MULTICAST_TTL=33 MULTICAST_LOOP=34 ADD_MEMBERSHIP=35 DROP_MEMBERSHIP=36 UNBLOCK_SOURCE=37 BLOCK_SOURCE=38
        ADD_SOURCE_MEMBERSHIP=39 DROP_SOURCE_MEMBERSHIP=40 MSFILTER=41 MCAST_JOIN_GROUP=42 MCAST_BLOCK_SOURCE=43
        MCAST_UNBLOCK_SOURCE=44 MCAST_LEAVE_GROUP=45 MCAST_JOIN_SOURCE_GROUP=46 MCAST_LEAVE_SOURCE_GROUP=47 MCAST_MSFILTER=48
        MULTICAST_ALL=49 UNICAST_IF=50 LOCAL_PORT_RANGE=51 PROTOCOL=52 UNUSED_53=53""",
    "IPV6": """ADDRFORM=1 2292PKTINFO=2 2292HOPOPTS=3 2292DSTOPTS=4 2292RTHDR=5 2292PKTOPTIONS=6 CHECKSUM=7 2292HOPLIMIT=8 NEXTHOP=9
        AUTHHDR=10 FLOWINFO=11 UNICAST_HOPS=16 MULTICAST_IF=17 MULTICAST_HOPS=18 MULTICAST_LOOP=19 ADD_MEMBERSHIP=20
        DROP_MEMBERSHIP=21 ROUTER_ALERT=22 MTU_DISCOVER=23 MTU=24 RECVERR=25 V6ONLY=26 JOIN_ANYCAST=27 LEAVE_ANYCAST=28
        MULTICAST_ALL=29 ROUTER_ALERT_ISOLATE=30 RECVERR_RFC4884=31 FLOWLABEL_MGR=32 FLOWINFO_SEND=33 IPSEC_POLICY=34
        XFRM_POLICY=35 HDRINCL=36 MCAST_JOIN_GROUP=42 MCAST_BLOCK_SOURCE=43 MCAST_UNBLOCK_SOURCE=44 MCAST_LEAVE_GROUP=45
        MCAST_JOIN_SOURCE_GROUP=46 MCAST_LEAVE_SOURCE_GROUP=47 MCAST_MSFILTER=48 RECVPKTINFO=49 PKTINFO=50 RECVHOPLIMIT=51
        HOPLIMIT=52 RECVHOPOPTS=53 HOPOPTS=54 RTHDRDSTOPTS=55 RECVRTHDR=56 RTHDR=57 RECVDSTOPTS=58 DSTOPTS=59 RECVPATHMTU=60
        PATHMTU=61 DONTFRAG=62 USE_MIN_MTU=63 RECVTCLASS=66 TCLASS=67 AUTOFLOWLABEL=70 ADDR_PREFERENCES=72 MINHOPCOUNT=73
        RECVORIGDSTADDR=74 TRANSPARENT=75 UNICAST_IF=76 RECVFRAGSIZE=77 FREEBIND=78 UNUSED_79=79""",
    "TCP": """UNUSED_0=0 NODELAY=1 MAXSEG=2 CORK=3 KEEPIDLE=4 KEEPINTVL=5 KEEPCNT=6 SYNCNT=7 LINGER2=8 DEFER_ACCEPT=9 WINDOW_CLAMP=10 INFO=11
        QUICKACK=12 CONGESTION=13 MD5SIG=14 UNUSED_15=15 THIN_LINEAR_TIMEOUTS=16 THIN_DUPACK=17 USER_TIMEOUT=18 REPAIR=19
        REPAIR_QUEUE=20 QUEUE_SEQ=21 REPAIR_OPTIONS=22 FASTOPEN=23 TIMESTAMP=24 NOTSENT_LOWAT=25 CC_INFO=26 SAVE_SYN=27
        SAVED_SYN=28 REPAIR_WINDOW=29 FASTOPEN_CONNECT=30 ULP=31 MD5SIG_EXT=32 FASTOPEN_KEY=33 FASTOPEN_NO_COOKIE=34
        ZEROCOPY_RECEIVE=35 INQ=36 TX_DELAY=37 AO_ADD_KEY=38 AO_DEL_KEY=39 AO_INFO=40 AO_GET_KEYS=41 AO_REPAIR=42 IS_MPTCP=43
        RTO_MAX_MS=44 RTO_MIN_US=45 DELACK_MAX_US=46 UNUSED_47=47""",
    "UDP": "CORK=1 UNUSED_2=2 ENCAP=100 NO_CHECK6_TX=101 NO_CHECK6_RX=102 SEGMENT=103 GRO=104 UNUSED_105=105",
    "ICMPV6": "FILTER=1 UNUSED_2=2",
    "RAW": "ICMP_FILTER=1 UNUSED_2=2",
}
# What differs from run to run: only the length is compared.
MEASURED = {"SO_COOKIE", "SO_NETNS_COOKIE", "SO_INCOMING_CPU", "SO_MEMINFO", "TCP_INFO", "TCP_CC_INFO", "TCP_TIMESTAMP", "SO_PEERPIDFD",
            "SO_PEERNAME", "IP_PROTOCOL"}


def options(prefix):
    for word in NAMES[prefix].split():
        name, number = word.split("=")
        yield f"{prefix}_{name}", LEVELS[prefix], int(number)


def code():
    return errno.errorcode.get(ctypes.get_errno(), str(ctypes.get_errno()))


def put(fd, level, number, value):
    data = ctypes.create_string_buffer(bytes(value), max(len(value), 1))
    return "ok" if LIBC.setsockopt(fd, level, number, data, len(value)) == 0 else code()


def ask(fd, name, level, number, room):
    data = ctypes.create_string_buffer(max(room, 1))
    length = ctypes.c_int(room)
    if LIBC.getsockopt(fd, level, number, data, ctypes.byref(length)) != 0:
        return code()
    if name in MEASURED:
        return f"{length.value} bytes"
    return f"{length.value}:{data.raw[:max(0, min(length.value, room))].hex()}"


def int_(value):
    return struct.pack("i", value)


MREQ = socket.inet_aton("224.0.1.9") + socket.inet_aton("127.0.0.1")
MREQN = MREQ + int_(1)
SOURCE = socket.inet_aton("224.0.1.9") + socket.inet_aton("127.0.0.1") + socket.inet_aton("192.0.2.1")
GROUP6 = socket.inet_pton(socket.AF_INET6, "ff15::9")


def storage(family, address):
    head = struct.pack("Hxx", family) if family == socket.AF_INET else struct.pack("HxxI", family, 0)
    return (head + socket.inet_pton(family, address)).ljust(128, b"\0")


def group_request(family, *addresses):
    return struct.pack("Ixxxx", 1) + b"".join(storage(family, a) for a in addresses)


INTS = [0, 1, -1, 2, 3, 8, 64, 255, 256, 1300, 70_000, 1 << 30]
CASES = [(f"i{n}", int_(n)) for n in INTS] + [
    ("b1", b"\1"), ("b200", b"\xc8"), ("len0", b""), ("len2", b"\1\0"), ("len3", b"\1\0\0"), ("len8", int_(1) + int_(0)),
    ("time", struct.pack("qq", 1, 500_000)), ("edom", struct.pack("qq", 0, 1_000_000)), ("linger", int_(1) + int_(5)),
]
V4, V6 = socket.AF_INET, socket.AF_INET6
EXTRA = {
    "SO_BINDTODEVICE": [("lo", b"lo\0"), ("none", b"nosuch0\0"), ("long", b"a" * 30)],
    "SO_ATTACH_FILTER": [("null", struct.pack("HxxxxxxQ", 0, 0)), ("fault", struct.pack("HxxxxxxQ", 1, 0))],
    "SO_TXTIME": [("monotonic", struct.pack("iI", 1, 0)), ("flags", struct.pack("iI", 1, 8))],
    "SO_RCVTIMEO_OLD": [("negative", struct.pack("qq", -1, 0))],
    "SO_MAX_PACING_RATE": [("u64", struct.pack("Q", 5_000_000_000))],
    "SO_PEEK_OFF": [("i-2", int_(-2))],
    "TCP_CONGESTION": [(n, n.encode()) for n in ("cubic", "reno", "nosuch", "a_name_that_is_too_long")],
    "TCP_ULP": [("nosuch", b"nosuch")],
    "TCP_FASTOPEN_KEY": [("one", b"k" * 16), ("two", b"k" * 16 + b"m" * 16), ("odd", b"k" * 17)],
    "TCP_SYNCNT": [("i127", int_(127)), ("i128", int_(128))],
    "TCP_KEEPIDLE": [("i32767", int_(32767)), ("i32768", int_(32768))],
    "TCP_LINGER2": [("i60", int_(60)), ("i120", int_(120)), ("i121", int_(121))],
    "TCP_MAXSEG": [("i88", int_(88)), ("i87", int_(87)), ("i32767", int_(32767)), ("i32768", int_(32768))],
    "TCP_RTO_MAX_MS": [("i1000", int_(1000)), ("i999", int_(999)), ("i120000", int_(120000)), ("i120001", int_(120001))],
    "TCP_RTO_MIN_US": [("i5000", int_(5000)), ("i200000", int_(200000)), ("i200001", int_(200001))],
    "IP_OPTIONS": [("nops", b"\1\1\1\0"), ("rr", b"\x07\x07\x04\0\0\0\0\0"), ("bad", b"\x07\xff\x04\0"), ("long", b"\1" * 44)],
    "IP_LOCAL_PORT_RANGE": [("range", struct.pack("HH", 5000, 4000)), ("odd", struct.pack("HH", 6000, 5000))],
    "IP_UNICAST_IF": [("lo", struct.pack("!I", 1)), ("nine", struct.pack("!I", 9))],
    "IPV6_UNICAST_IF": [("lo", struct.pack("!I", 1)), ("nine", struct.pack("!I", 9))],
    "IP_MSFILTER": [("exclude", MREQ + struct.pack("II", 0, 0)), ("include", MREQ + struct.pack("II", 1, 0)),
                    ("mode", MREQ + struct.pack("II", 2, 0)), ("count", MREQ + struct.pack("II", 1, 9))],
    "IPV6_PKTINFO": [("any", bytes(16) + int_(0)), ("lo", bytes(16) + int_(1)), ("nine", bytes(16) + int_(9)),
                     ("foreign", socket.inet_pton(V6, "2001:db8::1") + int_(0))],
    "IPV6_TCLASS": [("i-2", int_(-2))],
    "IPV6_HOPOPTS": [("pad", b"\0\0\1\4\0\0\0\0"), ("bad", b"\0\1\1\4\0\0\0\0")],
    "IPV6_DSTOPTS": [("pad", b"\0\0\1\4\0\0\0\0"), ("bad", b"\0\1\1\4\0\0\0\0")],
    "IPV6_RTHDRDSTOPTS": [("pad", b"\0\0\1\4\0\0\0\0")],
    "IPV6_FLOWLABEL_MGR": [("get", bytes(16) + struct.pack("!I", 77) + struct.pack("BBHHHI", 0, 1, 1, 0, 0, 0))],
    "ICMPV6_FILTER": [("block", b"\xff" * 32), ("short", b"\xff" * 8)],
    "UDP_ENCAP": [("gtp", int_(4))],
}
for option in ("IP_ADD_MEMBERSHIP", "IP_DROP_MEMBERSHIP"):
    EXTRA[option] = [("mreq", MREQ), ("mreqn", MREQN), ("unicast", MREQ[4:] + MREQ[4:]), ("nine", MREQ[:4] + bytes(4) + int_(9))]
EXTRA["IP_MULTICAST_IF"] = [("address", MREQ[4:]), ("mreqn", bytes(8) + int_(1)), ("nine", bytes(8) + int_(9)), ("foreign", socket.inet_aton("192.0.2.7"))]
for option in ("IP_ADD_SOURCE_MEMBERSHIP", "IP_DROP_SOURCE_MEMBERSHIP", "IP_BLOCK_SOURCE", "IP_UNBLOCK_SOURCE"):
    EXTRA[option] = [("source", SOURCE)]
for prefix, family, group, source in (("IP", V4, "224.0.1.9", "192.0.2.1"), ("IPV6", V6, "ff15::9", "2001:db8::9")):
    for option in ("JOIN_GROUP", "LEAVE_GROUP"):
        EXTRA[f"{prefix}_MCAST_{option}"] = [("group", group_request(family, group)), ("unicast", group_request(family, source))]
    for option in ("BLOCK_SOURCE", "UNBLOCK_SOURCE", "JOIN_SOURCE_GROUP", "LEAVE_SOURCE_GROUP"):
        EXTRA[f"{prefix}_MCAST_{option}"] = [("source", group_request(family, group, source))]
for option in ("ADD_MEMBERSHIP", "DROP_MEMBERSHIP", "JOIN_ANYCAST", "LEAVE_ANYCAST"):
    EXTRA[f"IPV6_{option}"] = [("lo", GROUP6 + int_(1)), ("nine", GROUP6 + int_(9)), ("unicast", bytes(15) + b"\1" + int_(1))]

KINDS = {
    "tcp4": (V4, socket.SOCK_STREAM, 0), "tcp6": (V6, socket.SOCK_STREAM, 0),
    "udp4": (V4, socket.SOCK_DGRAM, 0), "udp6": (V6, socket.SOCK_DGRAM, 0),
    "ping4": (V4, socket.SOCK_DGRAM, 1), "ping6": (V6, socket.SOCK_DGRAM, 58),
    "raw4": (V4, socket.SOCK_RAW, 1), "raw6": (V6, socket.SOCK_RAW, 58),
}


def loopback(kind):
    return "127.0.0.1" if kind.endswith("4") else "::1"


def fresh(kind):
    return [socket.socket(*KINDS[kind])]


def bound(kind):
    sockets = fresh(kind)
    sockets[0].bind((loopback(kind), 0))
    return sockets


def listening(kind):
    sockets = bound(kind)
    sockets[0].listen(3)
    return sockets


def connected(kind):
    if not kind.startswith("tcp"):
        sockets = fresh(kind)
        sockets[0].connect((loopback(kind), 0 if kind.startswith("raw") else 9999))
        return sockets
    server = listening(kind)[0]
    client = socket.socket(*KINDS[kind])
    client.connect(server.getsockname())
    return [client, server.accept()[0], server]


def peer_closed(kind):
    client, peer, server = connected(kind)
    peer.close()
    client.recv(1)
    return [client, server]


STATES = {"fresh": fresh, "bound": bound, "connected": connected, "listening": listening, "peer_closed": peer_closed}


def prefixes(kind):
    yield from ("SO", "IP", "TCP", "UDP", "RAW", "ICMPV6", "IPV6")


def probe(out, kind, state, user):
    """All options of one kind of socket in one state."""
    label = "user" if user else state
    make = STATES[state]
    cases = CASES if state == "fresh" and not user else [(n, v) for n, v in CASES if n in ("i0", "i1", "i-1", "i64", "i1300")]
    for prefix in prefixes(kind):
        own = {"TCP": "tcp", "UDP": "udp", "IPV6": "6", "RAW": "raw", "ICMPV6": "raw"}.get(prefix, "")
        if own not in kind and (state != "fresh" or user):
            continue
        for name, level, number in options(prefix):
            sockets = make(kind)
            fd = sockets[0].fileno()
            for room in (4, 300) if state != "fresh" or user else (0, 1, 2, 3, 4, 8, 300):
                out(f"{kind} {label} {name} get{room}: {ask(fd, name, level, number, room)}")
            wrong = own not in kind
            chosen = [c for c in cases if c[0] in ("i1", "len0")] if wrong else cases + EXTRA.get(name, [])
            for case, value in chosen:
                if state == "fresh" and not wrong and not user:
                    for s in sockets:
                        s.close()
                    sockets = make(kind)
                    fd = sockets[0].fileno()
                answer = put(fd, level, number, value)
                after = ask(fd, name, level, number, 300)
                out(f"{kind} {label} {name} {case}: {answer} {after}")
            for s in sockets:
                s.close()


def wrong_levels(out, kind):
    sockets = fresh(kind)
    fd = sockets[0].fileno()
    for level in (2, 33, 132, 136, 255, 263, 270, 271, 284, 999, -1):
        out(f"{kind} fresh level{level} set: {put(fd, level, 1, int_(1))}")
        out(f"{kind} fresh level{level} get: {ask(fd, 'none', level, 1, 4)}")
    for s in sockets:
        s.close()


def as_user(out, kinds):
    """The same without rights, in a process that ends: nobody gets them back."""
    read, write = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        with os.fdopen(write, "w") as pipe:
            made = {k: [socket.socket(*KINDS[k]) for _ in range(400)] for k in kinds if k.startswith("raw")}
            STATES["fresh"] = lambda kind: [made[kind].pop()] if kind in made else fresh(kind)
            os.setgroups([])
            os.setresgid(1000, 1000, 1000)
            os.setresuid(1000, 1000, 1000)
            for kind in kinds:
                probe(lambda line: pipe.write(line + "\n"), kind, "fresh", True)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        for line in pipe:
            out(line.rstrip("\n"))
    assert os.waitpid(child, 0)[1] == 0, "the process without rights failed"


def main():
    # Where Linux leaves it to the distribution, both begin alike.
    for setting, wanted in ("tcp_congestion_control", "reno"), ("ping_group_range", "0 2147483647"):
        with open(f"/proc/sys/net/ipv4/{setting}", "w") as file:
            file.write(wanted)
    kinds = sys.argv[1:] or list(KINDS)
    out = lambda line: sys.stdout.write(line + "\n")
    for kind in kinds:
        wrong_levels(out, kind)
        probe(out, kind, "fresh", False)
        if not kind.startswith("raw"):
            probe(out, kind, "bound", False)
        probe(out, kind, "connected", False)
        if kind.startswith("tcp"):
            probe(out, kind, "listening", False)
            probe(out, kind, "peer_closed", False)
    as_user(out, kinds)


main()
