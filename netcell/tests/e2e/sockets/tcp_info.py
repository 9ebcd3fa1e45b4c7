"""TCP_INFO after a quiet exchange: what does not hang on time. Prints the same on Linux."""

WORDS = "rto ato snd_mss rcv_mss unacked sacked lost retrans fackets last_data_sent last_ack_sent last_data_recv last_ack_recv pmtu rcv_ssthresh rtt rttvar snd_ssthresh snd_cwnd advmss reordering rcv_rtt rcv_space total_retrans".split()


def info(sock):
    raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 300)
    told = dict(zip("state ca_state retransmits probes backoff options wscale flags".split(), raw[:8]))
    told.update(zip(WORDS, struct.unpack_from("<24I", raw, 8)))
    longs = struct.unpack_from("<4Q", raw, 104)
    told.update(zip("pacing_rate max_pacing_rate bytes_acked bytes_received".split(), longs))
    told.update(zip("segs_out segs_in notsent_bytes min_rtt data_segs_in data_segs_out".split(), struct.unpack_from("<6I", raw, 136)))
    told.update(zip("delivery_rate busy_time rwnd_limited sndbuf_limited".split(), struct.unpack_from("<4Q", raw, 160)))
    told.update(zip("delivered delivered_ce".split(), struct.unpack_from("<2I", raw, 192)))
    told.update(zip("bytes_sent bytes_retrans".split(), struct.unpack_from("<2Q", raw, 200)))
    told.update(zip("dsack_dups reord_seen rcv_ooopack snd_wnd rcv_wnd rehash".split(), struct.unpack_from("<6I", raw, 216)))
    told.update(zip("total_rto total_rto_recoveries".split(), struct.unpack_from("<2H", raw, 240)))
    told.update(zip(["total_rto_time"], struct.unpack_from("<I", raw, 244)))
    return told


STEADY = "state ca_state retransmits probes backoff options ato unacked sacked lost retrans fackets last_ack_sent reordering total_retrans max_pacing_rate bytes_acked bytes_received notsent_bytes rwnd_limited sndbuf_limited delivered delivered_ce bytes_sent bytes_retrans dsack_dups reord_seen rcv_ooopack rehash total_rto total_rto_recoveries total_rto_time".split()


def show(label, sock):
    told = info(sock)
    print(label, *(f"{name}={told[name]}" for name in STEADY))
    print(label, "times", told["rto"] >= 200000, told["min_rtt"] <= told["rtt"])


def settle():
    """Waits until both ends have nothing under way."""
    while any(info(s)[what] for s in (client, server) for what in ("unacked", "notsent_bytes")):
        select.select([], [], [], 0.001)


listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(1)
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
settle()
show("idle client", client)
show("idle server", server)
client.send(b"x" * 1000)
server.recv(2000)
settle()
show("sender", client)
show("receiver", server)
server.send(b"y" * 300)
client.recv(2000)
settle()
show("answered client", client)
show("answered server", server)
server.shutdown(socket.SHUT_WR)
settle()
show("after its end", server)
show("after the peer's end", client)
