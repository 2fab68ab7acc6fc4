#!/usr/bin/env python3
"""Measures whole processes on one layer, side by side, and prints a table of ratios.

usage: benches/compare.py [--runs N] [--mib N] [--ocihsm FILE] [--peer FILE] [--dir DIR]

The floors are `openssl` (HMAC-SHA-256 of the same file; or the three hashes that encrypting takes, at once), `cat`, and for
a small layer a bare probe of the HSM's module (benches/module.rs, built here); the peer is imgcrypt's `ctd-decoder`,
from PATH, from the cache of integration/peers, or as given. The commands of a table are run in turns, so that a busy
moment hits all of them; medians are shown, and each as a ratio to the floor that it is held against. Peak memory is
that of a first run, which also warms the caches. Needs softhsm2-util, openssl and /usr/bin/time (Debian: softhsm2
openssl time), and four times the layer's size in DIR (default: the temporary directory).
"""

import argparse
import base64
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
POLICY = "{module-directories: [/usr/lib/softhsm/], allowed-module-paths: [/usr/lib/softhsm/]}"
MODULE, PIN = "/usr/lib/softhsm/libsofthsm2.so", "1234"
TAR = "application/vnd.oci.image.layer.v1.tar"
CIPHERS = {"ctr": "aes-256-ctr-hmac-sha256", "gcm": "aes-256-gcm"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="runs of each command (default 7; five times as many for 1 MiB)")
    parser.add_argument("--mib", type=int, default=1024, help="size of the large layer in MiB (default 1024)")
    parser.add_argument("--ocihsm", default=str(ROOT / "target/release/ocihsm"))
    parser.add_argument("--peer", help="the ctd-decoder to compare with")
    parser.add_argument("--dir", help="where the layers go; /dev/shm leaves the disk out of it")
    args = parser.parse_args()
    if not os.access(args.ocihsm, os.X_OK):
        sys.exit(f"{args.ocihsm} is not there: cargo build --release")
    with tempfile.TemporaryDirectory(prefix="ocihsm-compare-", dir=args.dir) as work:
        Comparison(args, Path(work)).run()


class Comparison:
    def __init__(self, args, work):
        self.args, self.work, self.ocihsm = args, work, os.path.abspath(args.ocihsm)
        self.peer = find_peer(args.peer)
        self.probe = build_probe()
        self.token()
        self.large = self.layers(args.mib << 20)
        self.small = self.layers(1 << 20)

    def run(self):
        print(f"{machine()}; ocihsm {version(self.ocihsm)}, peer {self.peer or 'not found'}", flush=True)
        size, runs = f"{self.args.mib} MiB layer", self.args.runs
        ctr, gcm = (self.large[name] for name in CIPHERS)
        openssl = ["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{'ab' * 32}", str(ctr["blob"])]

        self.table(f"{size}, file in, /dev/null out", runs, "openssl HMAC", {
            "openssl HMAC": Run([openssl]),
            "cat": Run([["cat"]], ctr["blob"]),
            "ocihsm decode, CTR": self.decode(ctr),
            "ocihsm decode, GCM": self.decode(gcm),
            "ctd-decoder": self.peer_decode(ctr),
        })
        self.table(f"{size}, cat, decoder, cat in pipes", runs, "cat, cat, cat", {
            "cat, cat, cat": Run([["cat", str(ctr["blob"])], ["cat"], ["cat"]]),
            "ocihsm decode, CTR": self.decode(ctr, pipes=True),
            "ocihsm decode, GCM": self.decode(gcm, pipes=True),
            "ctd-decoder": self.peer_decode(ctr, pipes=True),
        })
        ctr, gcm = (self.small[name] for name in CIPHERS)
        probe = [self.probe, MODULE, PIN, str(ctr["wrapped"])]
        self.table("1 MiB layer, RSA-2048 in SoftHSM, start to end", runs * 5, "bare probe", {
            "bare probe": Run([probe], env=self.softhsm),
            "ocihsm --version": Run([[self.ocihsm, "--version"]]),
            "ocihsm decode, CTR": self.decode(ctr),
            "ocihsm decode, GCM": self.decode(gcm),
            "ctd-decoder": self.peer_decode(ctr),
        })
        plain, copy = self.large["plain"], self.work / "copy"
        hashes = " & ".join([f"openssl dgst -sha256 {plain}"] * 3)
        self.table(f"{size}, image to image", runs, "three hashes", {
            "three hashes": Run([["sh", "-c", f"{hashes} & wait"]]),
            "openssl HMAC": Run([openssl]),
            "cp, sync": Run([["sh", "-c", f"cp {plain} {copy} && sync {copy}"]], remove=copy),
            **{f"ocihsm encrypt, {name.upper()}": self.encrypt(self.large, name) for name in CIPHERS},
            **{f"ocihsm decrypt, {name.upper()}": self.decrypt(self.large, name) for name in CIPHERS},
        })
        self.small_layers()

    def table(self, title, runs, floor, commands):
        commands = {name: run for name, run in commands.items() if run}
        samples = {name: [] for name in commands}
        peaks = {name: run.peak() for name, run in commands.items()}
        for _ in range(runs):
            for name, run in commands.items():
                samples[name].append(run.once())
        floor = floor if floor in commands else next(iter(commands))
        rows = {name: [statistics.median(column) for column in zip(*values)] for name, values in samples.items()}
        print(f"\n{title}; medians of {runs} runs in turns\n")
        print(f"| {'':20} | wall | cpu | peak | wall / {floor} |")
        print("| --- | --- | --- | --- | --- |")
        for name, (wall, cpu) in rows.items():
            unit = (lambda seconds: f"{seconds * 1000:.1f} ms") if rows[floor][0] < 0.1 else (lambda seconds: f"{seconds:.2f} s")
            print(f"| {name:20} | {unit(wall)} | {unit(cpu)} | {peaks[name] / 1024:.1f} MiB | {wall / rows[floor][0]:.2f} |", flush=True)

    def small_layers(self):
        """An image of thirty small layers in a real containerd: integration/examples/small_layers.rs."""
        if os.geteuid() != 0:
            return print("\nskipped: thirty small layers: needs root, for containerd")
        command = ["cargo", "run", "--quiet", "--package", "integration", "--example", "small_layers", str(self.args.runs)]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "OCIHSM_BIN": self.ocihsm}, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            return print("\nskipped: thirty small layers: see above; they need containerd 2.x and the peer (integration/peers)")
        version, *rows = (line.split() for line in done.stdout.splitlines())
        print(f"\nImport of 30 small layers by {' '.join(version)}; medians of {self.args.runs} runs in turns\n")
        print("| | wall | wall / plain |\n| --- | --- | --- |")
        for name, seconds in rows:
            print(f"| {name} | {seconds} s | {float(seconds) / float(rows[0][1]):.2f} |", flush=True)

    # -- what is measured

    def decode(self, layer, pipes=False):
        command = [self.ocihsm, "decode", "--descriptor", str(layer["descriptor"]), "--decryption-keys-path", str(self.keys)]
        return self.decoder(command, layer, pipes)

    def peer_decode(self, layer, pipes=False):
        if not self.peer:
            return None
        return self.decoder([self.peer], layer, pipes, payload=layer["payload"])

    def decoder(self, command, layer, pipes, payload=None):
        settings = {"env": self.decoding, "payload": payload}
        if pipes:
            return Run([["cat", str(layer["blob"])], command, ["cat"]], middle=1, **settings)
        return Run([command], layer["blob"], **settings)

    def encrypt(self, layers, name):
        out = self.work / "encrypted"
        return Run([self.encrypt_command(layers["image"], out, name)], remove=out)

    def decrypt(self, layers, name):
        out = self.work / "decrypted"
        return Run([[self.ocihsm, "decrypt", str(layers[name]["image"]), str(out), "--key", str(self.keys)]], env=self.decoding, remove=out)

    def encrypt_command(self, image, out, name):
        # SHA-1, since the peer cannot open what is under SHA-256 with SoftHSM.
        command = [self.ocihsm, "encrypt", str(image), str(out), "--recipient", f"pkcs11:{self.public}"]
        return [*command, "--oaep-hash", "sha1", "--cipher", CIPHERS[name]]

    # -- what is needed for it

    def token(self):
        tokens, configuration = self.work / "tokens", self.work / "softhsm2.conf"
        private, self.public, self.keys = self.work / "key.pem", self.work / "public.pem", self.work / "keys"
        tokens.mkdir()
        self.keys.mkdir()
        configuration.write_text(f"directories.tokendir = {tokens}\nlog.level = ERROR\n")
        quiet(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", private])
        quiet(["openssl", "pkey", "-in", private, "-pubout", "-out", self.public])
        self.softhsm = {"SOFTHSM2_CONF": str(configuration)}
        quiet(["softhsm2-util", "--init-token", "--free", "--label", "bench", "--pin", PIN, "--so-pin", "5678"], self.softhsm)
        quiet(["softhsm2-util", "--import", private, "--token", "bench", "--label", "layers", "--id", "01", "--pin", PIN], self.softhsm)
        uri = f"pkcs11:token=bench;object=layers;type=private?pin-value={PIN}&module-name=softhsm2"
        (self.keys / "key.yaml").write_text(f'pkcs11:\n  uri: "{uri}"\nmodule:\n  env:\n    SOFTHSM2_CONF: {configuration}\n')
        self.policy = self.work / "ocicrypt.conf"
        self.policy.write_text(f"pkcs11: {POLICY}\n")
        # Locks are kept here and not where those of the machine's own decoder are.
        runtime = self.work / "run"
        runtime.mkdir(mode=0o700)
        self.decoding = {"OCICRYPT_CONFIG": str(self.policy), "OCIHSM_RUNTIME_DIR": str(runtime)}
        self.client_policy = self.work / "client-policy.yaml"
        self.client_policy.write_text(POLICY)

    def layers(self, size):
        """An image with one layer of random bytes, and the same under each cipher."""
        image = self.work / f"image-{size}"
        plain, descriptor = put_file(image, size)
        config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [descriptor["digest"]]}}
        config = put(image, json.dumps(config).encode()) | {"mediaType": "application/vnd.oci.image.config.v1+json"}
        kind = "application/vnd.oci.image.manifest.v1+json"
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [descriptor]}
        manifest = put(image, json.dumps(manifest).encode()) | {"mediaType": kind}
        manifest["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
        (image / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
        (image / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        layers = {"image": image, "plain": plain}
        for name in CIPHERS:
            out = self.work / f"{name}-{size}"
            quiet(self.encrypt_command(image, out, name))
            layers[name] = self.encrypted_layer(out)
        return layers

    def encrypted_layer(self, image):
        manifest = load(blob(image, load(image / "index.json")["manifests"][0]["digest"]))
        descriptor = manifest["layers"][0]
        paths = {"image": image, "blob": blob(image, descriptor["digest"])}
        packet = json.loads(base64.b64decode(descriptor["annotations"]["org.opencontainers.image.enc.keys.pkcs11"]))
        wrapped = base64.b64decode(packet["recipients"][0]["blob"])
        files = {"descriptor": json.dumps(descriptor).encode(), "payload": self.payload(descriptor), "wrapped": wrapped}
        for name, content in files.items():
            paths[name] = Path(f"{image}.{name}")
            paths[name].write_bytes(content)
        return paths

    def payload(self, descriptor):
        """What a client of containerd sends on file descriptor 3: a protobuf `Any` that holds JSON."""
        # The peer takes PKCS#11 keys from here alone.
        keys = {"pkcs11-yamls": self.keys / "key.yaml", "pkcs11-config": self.client_policy}
        keys = {name: [base64.b64encode(path.read_bytes()).decode()] for name, path in keys.items()}
        kind = b"io.containerd.ocicrypt.v1.Payload"
        value = json.dumps({"DecryptConfig": {"Parameters": keys}, "Descriptor": descriptor}).encode()
        length, rest = b"", len(value)
        while rest > 127:
            length, rest = length + bytes([rest & 127 | 128]), rest >> 7
        return b"\x0a" + bytes([len(kind)]) + kind + b"\x12" + length + bytes([rest]) + value


class Run:
    """A pipeline of commands, each given as a list. The last one's output goes to /dev/null."""

    def __init__(self, commands, stdin=None, env=None, payload=None, middle=0, remove=None):
        self.commands, self.stdin, self.payload, self.remove = commands, stdin, payload, remove
        self.env = {**os.environ, **(env or {})}
        self.middle = middle  # the command whose memory is told

    def once(self):
        """Runs it; returns wall seconds, and cpu seconds of all commands."""
        took = self.spawn(self.commands)
        self.clean()
        return took

    def peak(self):
        """Runs it; returns the peak memory in KiB of one of the commands."""
        # A child of ours would be charged with our own memory, which it had at its start.
        with tempfile.NamedTemporaryFile("r") as file:
            commands = list(self.commands)
            commands[self.middle] = ["/usr/bin/time", "-q", "-f", "%M", "-o", file.name, *commands[self.middle]]
            self.spawn(commands)
            self.clean()
            return int(file.read())

    def clean(self):
        if self.remove:
            shutil.rmtree(self.remove) if self.remove.is_dir() else self.remove.unlink()

    def spawn(self, commands):
        start = time.perf_counter()
        children, source = [], os.open(self.stdin or os.devnull, os.O_RDONLY)
        payload = os.open(self.payload, os.O_RDONLY) if self.payload else None
        for number, command in enumerate(commands):
            last = number + 1 == len(commands)
            next_source, sink = (None, os.open(os.devnull, os.O_WRONLY)) if last else os.pipe()
            actions = [(os.POSIX_SPAWN_DUP2, source, 0), (os.POSIX_SPAWN_DUP2, sink, 1)]
            if payload is not None and number == self.middle:
                actions.append((os.POSIX_SPAWN_DUP2, payload, 3))
            children.append((command, os.posix_spawnp(command[0], command, self.env, file_actions=actions)))
            os.close(source)
            os.close(sink)
            source = next_source
        cpu = 0
        for command, child in children:
            _, status, usage = os.wait4(child, 0)
            cpu += usage.ru_utime + usage.ru_stime
            if status != 0:
                sys.exit(f"failed: {' '.join(map(str, command))}")
        wall = time.perf_counter() - start
        if payload is not None:
            os.close(payload)
        return wall, cpu


def find_peer(given):
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    built = cache / "ocihsm-peers/trixie/usr/local/bin/ctd-decoder"
    return given or shutil.which("ctd-decoder") or (str(built) if os.access(built, os.X_OK) else None)


def build_probe():
    """benches/module.rs, as an executable file."""
    print("building the probe of the module, which may take some minutes", file=sys.stderr)
    command = ["cargo", "bench", "--quiet", "--bench", "module", "--no-run", "--message-format", "json"]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return next(file for file in (json.loads(line).get("executable") for line in lines) if file)


def put_file(image, size):
    blobs = image / "blobs/sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    hash, partial = hashlib.sha256(), image / "partial"
    with open(partial, "wb") as file:
        for at in range(0, size, 1 << 20):
            chunk = os.urandom(min(1 << 20, size - at))
            hash.update(chunk)
            file.write(chunk)
    path = partial.rename(blobs / hash.hexdigest())
    return path, {"mediaType": TAR, "digest": f"sha256:{path.name}", "size": size}


def put(image, content):
    digest = hashlib.sha256(content).hexdigest()
    (image / "blobs/sha256" / digest).write_bytes(content)
    return {"digest": f"sha256:{digest}", "size": len(content)}


def blob(image, digest):
    return image / "blobs" / digest.replace(":", "/")


def load(path):
    return json.loads(path.read_bytes())


def quiet(command, env=None):
    done = subprocess.run(command, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"failed: {' '.join(map(str, command))}\n{done.stderr}")


def version(program):
    return subprocess.run([program, "-V"], capture_output=True, text=True).stdout.split()[-1]


def machine():
    with open("/proc/cpuinfo") as info:
        model = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), "unknown processor")
    kernel, cores = os.uname().release, len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, Linux {kernel}, load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
