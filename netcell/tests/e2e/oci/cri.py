#!/usr/bin/env python3
"""A client of the container runtime interface (CRI v1): cri.py SOCKET METHOD REQUEST…, all requests at the same time; requests and
printed answers, a line each in the same order, are JSON. The first that fails is told on standard error.

Messages have the fields that the tests need, each with its number and type: a type's name, [type] where it is repeated, {} for a map of
strings."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

MESSAGES = {
    "Empty": {},
    "Id": {"id": (1, "str")},
    "Value": {"value": (1, "int")},
    "KeyValue": {"key": (1, "str"), "value": (2, "str")},
    "Image": {"image": (1, "str")},
    "Metadata": {"name": (1, "str"), "uid": (2, "str"), "namespace": (3, "str"), "attempt": (4, "int")},
    "ContainerMetadata": {"name": (1, "str"), "attempt": (2, "int")},
    "DNS": {"servers": (1, ["str"]), "searches": (2, ["str"]), "options": (3, ["str"])},
    "Port": {"protocol": (1, "int"), "container_port": (2, "int"), "host_port": (3, "int"), "host_ip": (4, "str")},
    "Namespaces": {"network": (1, "int"), "pid": (2, "int"), "ipc": (3, "int"), "target_id": (4, "str")},
    "SandboxSecurity": {"namespace_options": (1, "Namespaces")},
    "SandboxLinux": {"cgroup_parent": (1, "str"), "security_context": (2, "SandboxSecurity"), "sysctls": (3, {})},
    "Sandbox": {
        "metadata": (1, "Metadata"), "hostname": (2, "str"), "log_directory": (3, "str"), "dns_config": (4, "DNS"),
        "port_mappings": (5, ["Port"]), "labels": (6, {}), "annotations": (7, {}), "linux": (8, "SandboxLinux"),
    },
    "Resources": {
        "cpu_period": (1, "int"), "cpu_quota": (2, "int"), "cpu_shares": (3, "int"),
        "memory_limit_in_bytes": (4, "int"), "oom_score_adj": (5, "int"),
    },
    "Security": {"namespace_options": (3, "Namespaces"), "run_as_user": (5, "Value"), "readonly_rootfs": (7, "int")},
    "ContainerLinux": {"resources": (1, "Resources"), "security_context": (2, "Security")},
    "Mount": {"container_path": (1, "str"), "host_path": (2, "str"), "readonly": (3, "int")},
    "Container": {
        "metadata": (1, "ContainerMetadata"), "image": (2, "Image"), "command": (3, ["str"]), "args": (4, ["str"]),
        "working_dir": (5, "str"), "envs": (6, ["KeyValue"]), "mounts": (7, ["Mount"]), "labels": (9, {}),
        "annotations": (10, {}), "log_path": (11, "str"), "stdin": (12, "int"), "stdin_once": (13, "int"),
        "tty": (14, "int"), "linux": (15, "ContainerLinux"),
    },
    "RunPod": {"config": (1, "Sandbox"), "runtime_handler": (2, "str")},
    "Create": {"pod": (1, "str"), "config": (2, "Container"), "sandbox_config": (3, "Sandbox")},
    "Stop": {"id": (1, "str"), "timeout": (2, "int")},
    "Status": {"id": (1, "str"), "verbose": (2, "int")},
    "IP": {"ip": (1, "str")},
    "PodNetwork": {"ip": (1, "str"), "additional_ips": (2, ["IP"])},
    "PodState": {"id": (1, "str"), "metadata": (2, "Metadata"), "state": (3, "int"), "network": (5, "PodNetwork")},
    "PodStatus": {"status": (1, "PodState")},
    "ContainerState": {
        "id": (1, "str"), "state": (3, "int"), "exit_code": (7, "int"), "reason": (10, "str"), "message": (11, "str"),
    },
    "ContainerStatus": {"status": (1, "ContainerState")},
    "ExecSync": {"id": (1, "str"), "cmd": (2, ["str"]), "timeout": (3, "int")},
    "Output": {"stdout": (1, "str"), "stderr": (2, "str"), "exit_code": (3, "int")},
    "Update": {"id": (1, "str"), "linux": (2, "Resources")},
    "Cpu": {"timestamp": (1, "int"), "usage_core_nano_seconds": (2, "Value")},
    "Memory": {"timestamp": (1, "int"), "working_set_bytes": (2, "Value"), "usage_bytes": (4, "Value")},
    "Stats": {"cpu": (2, "Cpu"), "memory": (3, "Memory")},
    "StatsAnswer": {"stats": (1, "Stats")},
    "Condition": {"type": (1, "str"), "status": (2, "int"), "reason": (3, "str"), "message": (4, "str")},
    "Conditions": {"conditions": (1, ["Condition"])},
    "RuntimeStatus": {"status": (1, "Conditions")},
    "Exec": {
        "id": (1, "str"), "cmd": (2, ["str"]), "tty": (3, "int"), "stdin": (4, "int"), "stdout": (5, "int"),
        "stderr": (6, "int"),
    },
    "Attach": {"id": (1, "str"), "stdin": (2, "int"), "tty": (3, "int"), "stdout": (4, "int"), "stderr": (5, "int")},
    "PortForward": {"id": (1, "str"), "port": (2, ["int"])},
    "Url": {"url": (1, "str")},
}

METHODS = {
    "Status": ("Empty", "RuntimeStatus"),
    "RunPodSandbox": ("RunPod", "Id"),
    "PodSandboxStatus": ("Status", "PodStatus"),
    "StopPodSandbox": ("Id", "Empty"),
    "RemovePodSandbox": ("Id", "Empty"),
    "CreateContainer": ("Create", "Id"),
    "StartContainer": ("Id", "Empty"),
    "ContainerStatus": ("Status", "ContainerStatus"),
    "StopContainer": ("Stop", "Empty"),
    "RemoveContainer": ("Id", "Empty"),
    "ExecSync": ("ExecSync", "Output"),
    "Exec": ("Exec", "Url"),
    "Attach": ("Attach", "Url"),
    "PortForward": ("PortForward", "Url"),
    "UpdateContainerResources": ("Update", "Empty"),
    "ContainerStats": ("Id", "StatsAnswer"),
}


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def one(number, kind, value):
    """A field on the wire."""
    if kind == "int":
        return varint(number << 3) + varint(int(value))
    data = value.encode() if kind == "str" else encode(kind, value)
    return varint(number << 3 | 2) + varint(len(data)) + data


def encode(message, values):
    out = b""
    for name, value in values.items():
        number, kind = MESSAGES[message][name]
        if isinstance(kind, dict):
            out += b"".join(one(number, "KeyValue", {"key": k, "value": v}) for k, v in value.items())
        elif isinstance(kind, list):
            out += b"".join(one(number, kind[0], each) for each in value)
        else:
            out += one(number, kind, value)
    return out


def take(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def decode(message, data):
    fields = {number: (name, kind) for name, (number, kind) in MESSAGES[message].items()}
    values, at = {}, 0
    while at < len(data):
        key, at = take(data, at)
        if key & 7 == 0:
            value, at = take(data, at)
            value -= (value >> 63) << 64
        elif key & 7 == 2:
            length, at = take(data, at)
            value, at = data[at : at + length], at + length
        else:
            sys.exit(f"{message}: wire type {key & 7}")
        if key >> 3 not in fields:
            continue
        name, kind = fields[key >> 3]
        repeated = isinstance(kind, list)
        kind = kind[0] if repeated else kind
        if kind == "str":
            value = value.decode(errors="replace")
        elif kind != "int":
            value = decode(kind, value)
        if repeated:
            values.setdefault(name, []).append(value)
        else:
            values[name] = value
    return values


def ask(socket, method, request):
    """Calls a method, with dictionaries for messages. Errors: RuntimeError with what the runtime said."""
    asked, answered = METHODS[method]
    service = "runtime.v1.RuntimeService"
    with grpc.insecure_channel(f"unix://{socket}") as channel:
        call = channel.unary_unary(f"/{service}/{method}")
        try:
            answer = call(encode(asked, request), timeout=300, wait_for_ready=True)
        except grpc.RpcError as error:
            raise RuntimeError(f"{method}: {error.code().name}: {error.details()}") from None
    return decode(answered, answer)


def ask_all(socket, method, requests):
    """Calls a method with all requests at the same time; gives the answers in their order. Errors: the first one's."""
    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(lambda request: ask(socket, method, request), requests))


def main():
    socket, method, *requests = sys.argv[1:]
    try:
        for answer in ask_all(socket, method, [json.loads(request) for request in requests]):
            print(json.dumps(answer))
    except RuntimeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
