#!/usr/bin/env python3
"""Measures `ocihsm encrypt` and `decrypt` on an image of many layers, against three hashes of all of it at once.

usage: benches/encrypt.py [--runs N] [--layers N] [--mib N] [--jobs N ...] [--ocihsm FILE] [--dir DIR]

Three hashes is what encrypting takes: of the plain layer, of the encrypted one, and the MAC. The commands are run in turns,
so that a busy moment hits all of them; medians are shown, each as a ratio to the three hashes of the same turn. Peak
memory is that of a first run, which also warms the caches. Needs what benches/compare.py needs, and four times the
image's size in DIR (default: the temporary directory; /dev/shm leaves the disk out of it).
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from compare import CIPHERS, ROOT, Comparison, Run, machine, put, put_file, version


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="runs of each command (default 5)")
    parser.add_argument("--layers", type=int, default=10, help="layers of the image (default 10)")
    parser.add_argument("--mib", type=int, default=2048, help="size of all of them in MiB (default 2048)")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2, 4], help="values of --jobs (default 1 2 4)")
    parser.add_argument("--ocihsm", default=str(ROOT / "target/release/ocihsm"))
    parser.add_argument("--dir", help="where the image goes; /dev/shm leaves the disk out of it")
    args = parser.parse_args()
    if not os.access(args.ocihsm, os.X_OK):
        sys.exit(f"{args.ocihsm} is not there: cargo build --release")
    with tempfile.TemporaryDirectory(prefix="ocihsm-encrypt-", dir=args.dir) as work:
        Layers(args, Path(work)).run()


class Layers(Comparison):
    def __init__(self, args, work):
        self.args, self.work, self.ocihsm = args, work, os.path.abspath(args.ocihsm)
        self.token()
        self.image, self.files = self.make()

    def make(self):
        image = self.work / "image"
        layers = [put_file(image, (self.args.mib << 20) // self.args.layers) for _ in range(self.args.layers)]
        ids = [descriptor["digest"] for _, descriptor in layers]
        config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}}
        config = put(image, json.dumps(config).encode()) | {"mediaType": "application/vnd.oci.image.config.v1+json"}
        kind = "application/vnd.oci.image.manifest.v1+json"
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [it for _, it in layers]}
        manifest = put(image, json.dumps(manifest).encode()) | {"mediaType": kind}
        (image / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
        (image / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        return image, [str(path) for path, _ in layers]

    def run(self):
        print(f"{machine()}; ocihsm {version(self.ocihsm)}", flush=True)
        print(f"\n{self.args.layers} layers, {self.args.mib} MiB in all; medians of {self.args.runs} runs in turns\n")
        floor = "three hashes"
        once = f"cat {' '.join(self.files)} | openssl dgst -sha256"
        commands = {floor: Run([["sh", "-c", f"{' & '.join([once] * 3)} & wait"]])}
        for name in CIPHERS:
            for jobs in self.args.jobs:
                out = self.work / "out"
                command = [*self.encrypt_command(self.image, out, name), "--jobs", str(jobs)]
                commands[f"encrypt, {name.upper()}, --jobs {jobs}"] = Run([command], remove=out)
        encrypted, out = self.work / "encrypted", self.work / "out"
        Run([self.encrypt_command(self.image, encrypted, "ctr")]).once()
        for jobs in self.args.jobs:
            command = [self.ocihsm, "decrypt", str(encrypted), str(out), "--key", str(self.keys), "--jobs", str(jobs)]
            commands[f"decrypt, CTR, --jobs {jobs}"] = Run([command], env=self.decoding, remove=out)
        peaks = {name: run.peak() for name, run in commands.items()}
        samples = {name: [] for name in commands}
        for _ in range(self.args.runs):
            for name, run in commands.items():
                samples[name].append(run.once())
        print(f"| {'':24} | wall | cpu | peak | wall / {floor} |\n| --- | --- | --- | --- | --- |")
        for name, taken in samples.items():
            wall, cpu = (statistics.median(column) for column in zip(*taken))
            ratio = statistics.median(own / base for (own, _), (base, _) in zip(taken, samples[floor]))
            print(f"| {name:24} | {wall:.2f} s | {cpu:.2f} s | {peaks[name] / 1024:.1f} MiB | {ratio:.2f} |", flush=True)
        print(f"\nload at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
