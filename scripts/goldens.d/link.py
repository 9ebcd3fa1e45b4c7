#!/usr/bin/env python3
"""A link between two network namespaces that does to frames what it is told: loses, doubles or holds back the ones that are named.

    link.py NAMESPACE NAMESPACE [RULE...]

Each namespace gets a TAP device `eth0`; the first is the caller's. A line on standard output says that both are there. Rules:

    delay 20             every frame takes 20 ms
    drop caller data 3   the third segment with data that the caller sends is lost; `3-5` and `3,7` are several, `all` is every one
    twice called syn 1   the first SYN of the called arrives twice
    hold caller data 4 8 the fourth segment with data takes 8 ms longer
    behind caller data 4 2    it arrives after the two frames that the caller sends next
    unreachable caller syn 1  it is lost, and an ICMP error says that the host cannot be reached
    small 1200           what is larger (in bytes of IP) is lost, and an ICMP error says so

Kinds: syn, fin, rst, data, ack (nothing but an acknowledgment), any. Numbers count what was sent, also again.
"""
import fcntl
import heapq
import os
import select
import struct
import subprocess
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TAP_NO_PI = 0x0002 | 0x1000
SIDES = ("caller", "called")


def tap(namespace, number):
    """A TAP device as eth0 of a namespace."""
    name = f"gl{os.getpid()}{'ab'[number]}"
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP_NO_PI))
    mac = f"02:00:00:00:00:0{number + 1}"
    subprocess.run(["ip", "link", "set", name, "address", mac, "netns", namespace, "name", "eth0"], check=True)
    return device


def kinds(frame):
    """What a frame is."""
    ethertype = frame[12:14]
    if ethertype == b"\x08\x00" and frame[23] == 6 and not frame[20] & 0x1F and not frame[21]:
        start = 14 + (frame[14] & 15) * 4
        end = 14 + struct.unpack("!H", frame[16:18])[0]
    elif ethertype == b"\x86\xdd" and frame[20] == 6:
        start, end = 54, 54 + struct.unpack("!H", frame[18:20])[0]
    else:
        return ["any"] if ethertype in (b"\x08\x00", b"\x86\xdd") else []
    flags, data = frame[start + 13], end - start - (frame[start + 12] >> 4) * 4
    found = ["any"]
    found += ["syn"] if flags & 2 else []
    found += ["fin"] if flags & 1 else []
    found += ["rst"] if flags & 4 else []
    found += ["data"] if data > 0 else []
    found += ["ack"] if data == 0 and not flags & 7 else []
    return found


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1])) + (data[-1] << 8 if len(data) & 1 else 0)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def complaint(frame, mtu):
    """What a router would say to the sender of a frame: too large for an MTU, or (0) that there is no way."""
    ethernet, packet = frame[6:12] + frame[:6] + frame[12:14], frame[14:]
    if frame[12:14] == b"\x08\x00":
        kind = (3, 4) if mtu else (3, 1)
        message = struct.pack("!BBHHH", *kind, 0, 0, mtu) + packet[:548]
        message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(message), 0, 0, 64, 1, 0, bytes([10, 9, 0, 254]), packet[12:16])
        return ethernet + head[:10] + struct.pack("!H", checksum(head)) + head[12:] + message
    kind = (2, 0) if mtu else (1, 3)
    message = struct.pack("!BBHI", *kind, 0, mtu) + packet[:1000]
    source = bytes.fromhex("fd0900000000000000000000000000fe")
    pseudo = source + packet[8:24] + struct.pack("!II", len(message), 58)
    message = message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]
    return ethernet + struct.pack("!IHBB", 0x60000000, len(message), 58, 64) + source + packet[8:24] + message


class Rule:
    """One frame of a kind, or several, and what becomes of it."""

    def __init__(self, words):
        self.action, self.side, self.kind, numbers = words[:4]
        if self.action not in ("drop", "twice", "hold", "behind", "unreachable") or self.side not in SIDES:
            sys.exit(f"link.py: no rule: {' '.join(words)}")
        self.by = float(words[4]) / 1000 if self.action == "hold" else 0.0
        self.behind = int(words[4]) if self.action == "behind" else 0
        self.ranges = [[int(n) for n in part.split("-")] for part in numbers.split(",")] if numbers != "all" else [[1, 1 << 60]]
        self.seen = 0

    def takes(self, side, found):
        if side != self.side or self.kind not in found:
            return False
        self.seen += 1
        return any(ends[0] <= self.seen <= ends[-1] for ends in self.ranges)


def main():
    delay, small, rules = 0.0, 0, []
    for text in sys.argv[3:]:
        words = text.split()
        if words[0] == "delay":
            delay = float(words[1]) / 1000
        elif words[0] == "small":
            small = int(words[1])
        else:
            rules.append(Rule(words))
    devices = [tap(sys.argv[1 + number], number) for number in (0, 1)]
    try:
        # A link that is late is no link.
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    except PermissionError:
        pass
    print("ready", flush=True)
    waiting, number, held = [], 0, [[], []]
    while True:
        wait = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for device in select.select(devices, [], [], wait)[0]:
            side = devices.index(device)
            frame = os.read(device, 65600)
            found, at, copies, answer = kinds(frame), time.monotonic() + delay, 1, None
            for rule in rules:
                if rule.takes(SIDES[side], found):
                    copies = {"drop": 0, "twice": 2, "hold": copies, "behind": 0, "unreachable": 0}[rule.action]
                    if rule.behind:
                        held[side].append([rule.behind + 1, frame])
                    at += rule.by
                    answer = complaint(frame, 0) if rule.action == "unreachable" else None
            if small and found and len(frame) - 14 > small:
                copies, answer = 0, complaint(frame, small)
            if answer:
                number += 1
                heapq.heappush(waiting, (at, number, side, answer))
            passed = [frame] * copies
            for one in held[side] if found else []:
                one[0] -= 1
                passed += [one[1]] if one[0] == 0 else []
            for frame in passed:
                number += 1
                heapq.heappush(waiting, (at, number, 1 - side, frame))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, to, frame = heapq.heappop(waiting)
            try:
                os.write(devices[to], frame)
            except OSError:
                pass  # A device that is down loses its frames.


main()
