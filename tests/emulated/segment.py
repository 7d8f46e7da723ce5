"""Emulated machines on one segment, which this process is the switch of, and a client on it.

Each machine's network card is a stream to here. The client asks who has the VIP every 50 ms, each
time under another address of its own, so that an answer says which question it belongs to.
"""

import os
import selectors
import socket
import struct
import subprocess
import time
from pathlib import Path

CROSS = Path(os.environ.get("EDGEVIP_CROSS", "target/cross"))
MACHINES = {
    "arm64": ("qemu-system-aarch64", "virt,gic-version=2", "cortex-a72", "ttyAMA0"),
    "armhf": ("qemu-system-arm", "virt,highmem=off", "cortex-a15", "ttyAMA0"),
}
ASK_EVERY = 0.05
CLIENT_MAC = bytes.fromhex("020000000064")


class Failed(Exception):
    """What was to be seen and was not."""


def say(text):
    print(f"{time.monotonic() - START:7.2f} s  {text}", flush=True)


START = time.monotonic()


class Machine:
    """One qemu: its console, and its plug in the switch."""

    def __init__(self, segment, name, number, arch, initramfs, words="", kernel=None, card=None):
        self.name, self.segment, self.log = name, segment, ""
        self.mac = bytes((0x52, 0x54, 0, 0, 0, number))
        program, machine, cpu, console = MACHINES[arch]
        self.qemu = subprocess.Popen(
            [program, "-M", machine, "-cpu", cpu, "-m", "256", "-smp", "1"]
            + ["-accel", "tcg,tb-size=64", "-nodefaults", "-display", "none", "-no-reboot"]
            + ["-serial", "stdio", "-initrd", initramfs]
            + ["-kernel", kernel or CROSS / "kit" / arch / "kernel"]
            + (["-drive", f"if=none,id=card,format=raw,file={card}"] if card else [])
            + (["-device", "virtio-blk-device,drive=card"] if card else [])
            + ["-netdev", f"socket,id=net,connect=127.0.0.1:{segment.port}"]
            + ["-device", f"virtio-net-device,netdev=net,mac={self.mac.hex(':')}"]
            + ["-append", f"console={console} quiet panic=-1 edgevip.name={name} {words}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        os.set_blocking(self.qemu.stdout.fileno(), False)
        segment.machines.append(self)
        segment.selector.register(self.qemu.stdout, selectors.EVENT_READ, self.heard)

    def heard(self, stream):
        text = stream.read() or b""
        if not text:
            self.segment.selector.unregister(stream)
        self.log += text.decode(errors="replace").replace("\r", "")

    def type(self, command):
        """Types a line at its console."""
        self.qemu.stdin.write(command.encode() + b"\n")
        self.qemu.stdin.flush()

    def ask(self, command, within=60):
        """What a command prints."""
        mark = f"={len(self.log)}="
        # The console repeats what is typed, which must not look like the answer.
        self.type(f"echo '<''{mark}'; {command}; echo '>''{mark}'")
        self.segment.until(lambda: f">{mark}" in self.log, within, f"{self.name} to end {command}")
        return self.log.split(f"<{mark}\n")[-1].split(f">{mark}")[0]

    def kill(self):
        self.qemu.kill()
        self.qemu.wait()
        self.segment.machines.remove(self)


class Segment:
    """The switch, and the client."""

    def __init__(self, vip):
        self.selector = selectors.DefaultSelector()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.selector.register(self.listener, selectors.EVENT_READ, self.plug)
        self.machines, self.plugs = [], {}
        self.vip = socket.inet_aton(vip)
        self.asked, self.ask_at = 0, time.monotonic()
        self.answers = []  # (when, question, MAC)
        self.claims = []  # (when, MAC): said without being asked

    def plug(self, listener):
        stream, _ = listener.accept()
        stream.setblocking(False)
        self.plugs[stream] = b""
        self.selector.register(stream, selectors.EVENT_READ, self.receive)

    def receive(self, stream):
        try:
            more = stream.recv(1 << 16)
        except ConnectionError:
            more = b""
        if not more:
            self.selector.unregister(stream)
            del self.plugs[stream]
            return
        rest = self.plugs[stream] + more
        while len(rest) >= 4 and len(rest) >= 4 + struct.unpack("!I", rest[:4])[0]:
            length = 4 + struct.unpack("!I", rest[:4])[0]
            frame, rest = rest[4:length], rest[length:]
            self.look(frame)
            self.send(frame, stream)
        self.plugs[stream] = rest

    def send(self, frame, besides=None):
        for plug in [it for it in self.plugs if it is not besides]:
            try:
                plug.send(struct.pack("!I", len(frame)) + frame)
            except (BlockingIOError, ConnectionError):
                pass

    def look(self, frame):
        """Takes down what is said about the VIP."""
        if frame[12:14] != b"\x08\x06" or frame[28:32] != self.vip:
            return
        mac, target = frame[22:28], frame[38:42]
        if target == self.vip:
            self.claims.append((time.monotonic(), mac))
        elif frame[20:22] == b"\x00\x02":
            self.answers.append((time.monotonic(), target, mac))

    def ask(self):
        self.asked += 1
        source = bytes((10, 77, 1 + self.asked // 250 % 250, 1 + self.asked % 250))
        arp = b"\x00\x01\x08\x00\x06\x04\x00\x01" + CLIENT_MAC + source + bytes(6) + self.vip
        self.send(b"\xff" * 6 + CLIENT_MAC + b"\x08\x06" + arp + bytes(18))

    def run(self, seconds):
        """Lets time pass."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            if now >= self.ask_at:
                self.ask()
                self.ask_at = now + ASK_EVERY
            for key, _ in self.selector.select(min(end, self.ask_at) - now):
                key.data(key.fileobj)

    def until(self, true, within, what):
        """Lets time pass until something is true."""
        end = time.monotonic() + within
        while not true():
            if time.monotonic() > end:
                raise Failed(f"waited {within} s for {what}")
            for it in self.machines:
                if it.qemu.poll() is not None:
                    raise Failed(f"{it.name} went off, while waiting for {what}")
            self.run(0.02)

    def holder(self, without=None, within=120, since=None):
        """Waits for an answer, of another machine than one."""
        since = time.monotonic() if since is None else since
        old = without.mac if without else None
        found = lambda: [it for it in self.answers if it[0] >= since and it[2] != old]
        self.until(found, within, "somebody else to answer" if without else "an answer")
        at, _, mac = found()[0]
        return next(it for it in self.machines if it.mac == mac), at

    def both(self):
        """Questions that two machines answered."""
        by = {}
        for _, question, mac in self.answers:
            by.setdefault(question, set()).add(mac)
        return [it for it, macs in by.items() if len(macs) > 1]


def initramfs(arch, files, folder):
    """The kit's initramfs with more files behind it: text, or a path to copy; returns its path."""
    subprocess.run(["tests/emulated/kit", arch], check=True)
    root = folder / f"{arch}.files"
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content.read_bytes())
        file.chmod(0o600 if name.endswith("key") else 0o755)
    names = subprocess.run(["find", "."], cwd=root, check=True, capture_output=True).stdout
    more = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet", "-R", "0:0"], cwd=root, check=True,
                          input=names, capture_output=True).stdout
    kit = (CROSS / "kit" / arch / "initramfs").read_bytes()
    # The kernel looks for the next archive at a multiple of four.
    (folder / arch).write_bytes(kit + bytes(-len(kit) % 4) + more)
    return folder / arch
