"""Pods for scripts/bench: a containerd of its own with its CRI plugin, in a network namespace, whose runtimes are netcell and runc."""
import json, os, shutil, subprocess, sys, time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TESTS = f"{ROOT}/netcell/tests/e2e/oci"
sys.path.insert(0, TESTS)
sys.dont_write_bytecode = True

CONFIG = """
version = 2
root = "{0}/root"
state = "{0}/state"
[grpc]
address = "{0}/socket"
"""
NETWORK = {"cniVersion": "1.0.0", "name": "podnet", "plugins": [
    {"type": "bridge", "bridge": "cni0", "isGateway": True,
     "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}


class Node:
    """A containerd as long as the block runs. `target` has the binaries, `root` is the root directory of the image."""

    def __init__(self, work, namespace, target, root):
        self.work, self.namespace, self.target, self.root = f"{work}/node", namespace, target, root
        self.group = f"/ncbench{os.getpid()}"

    def __enter__(self):
        import cri
        self.ask = lambda method, request: cri.ask(f"{self.work}/socket", method, request)
        self.ask_all = lambda method, requests: cri.ask_all(f"{self.work}/socket", method, requests)
        os.makedirs(f"{self.work}/cni")
        NETWORK["plugins"][0]["ipam"]["dataDir"] = f"{self.work}/ipam"
        with open(f"{TESTS}/cri.toml") as file:
            config = (CONFIG + file.read()).format(self.work, "/usr/lib/cni")
        for name, text in (("config.toml", config), ("cni/10-podnet.conflist", json.dumps(NETWORK)),
                           ("shim.toml", f'runtime = "{self.target}/netcell"\nroot = "{self.work}/netcell"\n')):
            with open(f"{self.work}/{name}", "w") as file:
                file.write(text)
        environment = os.environ | {"PATH": f"{self.target}:{os.environ['PATH']}"}
        words = ["nsenter", f"--net=/run/netns/{self.namespace}", "containerd", "--config", f"{self.work}/config.toml"]
        with open(f"{self.work}/log", "w") as log:
            self.daemon = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.ctr("version", tries=200)
            self.ctr("image", "import", self.image())
            self.until(lambda: all(one.get("status") for one in self.ask("Status", {})["status"]["conditions"]))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.daemon.terminate()
        self.daemon.wait()
        mounts = [line.split()[1] for line in open("/proc/mounts") if f" {self.work}/" in line]
        for mount in reversed(mounts):
            subprocess.run(["umount", "--lazy", mount], check=False)
        subprocess.run(["sh", "-c", f"find /sys/fs/cgroup -depth -type d -path '*{self.group}*' -exec rmdir {{}} + 2>/dev/null"], check=False)

    @staticmethod
    def until(condition):
        for _ in range(1200):
            if condition():
                return
            time.sleep(0.05)
        raise ValueError("a pod's node does not come up")

    def ctr(self, *words, tries=1):
        command = ["ctr", "--address", f"{self.work}/socket", "--namespace", "k8s.io", *words]
        for attempt in range(tries):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0:
                return
            time.sleep(0.05)
        raise ValueError(f"{command}: {done.stderr}")

    def image(self):
        """The root directory as an archive that containerd imports."""
        folder = f"{self.work}/image"
        os.mkdir(folder)
        layer = f"{folder}/layer.tar"
        subprocess.run(["tar", "-C", self.root, "-cf", layer, "."], check=True)
        total = subprocess.run(["sha256sum", layer], check=True, capture_output=True, text=True).stdout.split()[0]
        config = {"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"], "Cmd": ["sleep", "1000000"]},
                  "rootfs": {"type": "layers", "diff_ids": [f"sha256:{total}"]}}
        manifest = [{"Config": "config.json", "RepoTags": ["box:latest"], "Layers": ["layer.tar"]}]
        for name, value in (("config.json", config), ("manifest.json", manifest)):
            with open(f"{folder}/{name}", "w") as file:
                json.dump(value, file)
        subprocess.run(["tar", "-C", folder, "-cf", f"{self.work}/image.tar", "."], check=True)
        shutil.rmtree(folder)
        return f"{self.work}/image.tar"

    def pods(self, runtime, count):
        """Runs so many pods' sandboxes at a time; gives their ids, and how long it took until all were ready, in ms."""
        requests = []
        for number in range(count):
            name = f"{runtime}-{number}"
            config = {"metadata": {"name": name, "uid": name, "namespace": "bench"}, "hostname": name, "log_directory": f"{self.work}/logs",
                      "linux": {"cgroup_parent": self.group, "security_context": {"namespace_options": {"pid": 1}}}}
            requests.append({"config": config, "runtime_handler": runtime})
        start = time.perf_counter()
        ids = [answer["id"] for answer in self.ask_all("RunPodSandbox", requests)]
        return ids, (time.perf_counter() - start) * 1e3

    def end(self, ids):
        for method in ("StopPodSandbox", "RemovePodSandbox"):
            self.ask_all(method, [{"id": one} for one in ids])
        if left := [one for one in self.left(ids) if one]:
            raise ValueError(f"pods leave {left}")

    def left(self, ids):
        """What is still there of pods, when shims had their time to end."""
        for _ in range(200):
            left = [line for line in open("/proc/mounts") if any(one in line for one in ids)]
            left += [str(pid) for one in ids for pid in self.processes(one)]
            if not left:
                break
            time.sleep(0.05)
        return left

    @staticmethod
    def processes(word):
        """Processes with this among their words."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if word.encode() in open(f"/proc/{pid}/cmdline", "rb").read():
                    found.append(int(pid))
            except OSError:  # it has just ended
                pass
        return found

    def shim(self, pod):
        return next(pid for pid in self.processes(pod) if b"shim" in open(f"/proc/{pid}/cmdline", "rb").read())
