#!/usr/bin/env python3
"""Makes the profile anew that `deploy/build` lays a release out by: what sidecars under load have run, and how often.

    profile.py DIR [--var grpc=PATH]        after rivals.py DIR and outrider.py DIR OUTRIDER

Builds the sidecar with counters in it (six minutes on two cores), puts the loads of the benchmark on pairs of it, and
merges what the counters say into deploy/outrider.profdata. To be done after a change on a request's way, or of the compiler:
functions that have changed since are built as if there were no profile.

Needs `llvm-profdata`: of the toolchain (`rustup component add llvm-tools`), or Debian's `llvm-19` and newer.
"""
import argparse
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import bench

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROFILE = ROOT / "deploy/outrider.profdata"
# One connection, as many as wait for each other now and then, and as many as always do.
CONNECTIONS = (1, 16, 64)
SECONDS = 2
# An instrumented sidecar writes megabytes as it ends.
END_SECONDS = 30


def merger():
    """Path of `llvm-profdata`: the toolchain's own, which always fits, before those of the system."""
    libraries = subprocess.check_output(["rustc", "--print", "target-libdir"], text=True).strip()
    own = pathlib.Path(libraries).parent / "bin/llvm-profdata"
    names = [str(own), *(f"llvm-profdata-{version}" for version in range(30, 18, -1))]
    found = next(filter(None, map(shutil.which, names)), None)
    return found or sys.exit("llvm-profdata is missing: rustup component add llvm-tools, or apt-get install llvm-19")


def built():
    """The instrumented sidecar. Both packages are named by the script, so that it has the features that a release has."""
    build = [ROOT / "deploy/build", "--quiet", "--bin", "outrider-sidecar"]
    at = subprocess.check_output(build, text=True, env=dict(os.environ, INSTRUMENTED="yes"))
    return pathlib.Path(at.strip()) / "outrider-sidecar"


def load(args, spec, fill, names, logs):
    """Runs one mesh under the loads of `names`, which share its processes, and ends it so that it writes its counters."""
    setups = [{**s, "post": fill(s["post"])} if "post" in s else s for s in spec["setups"] if s["name"] in names]
    running = []
    try:
        bench.start(setups[0]["procs"], fill, args.dir, f"{logs}/{names[0]}", 20, running)
        for setup in setups:
            bench.ready(setup, running, time.monotonic(), 20, args.h2load)
            for connections in CONNECTIONS:
                got = {"wrk": bench.wrk, "h2load": bench.h2load}[setup.get("tool", "wrk")](args, setup, connections, SECONDS)
                print(f"{setup['name']}, {connections} connections: {got['rps']:.0f}/s, {got['bad']} bad", file=sys.stderr)
    finally:
        for process in reversed(running):
            process.p.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.p.wait(END_SECONDS)
            process.stop()


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("dir", type=pathlib.Path)
    parse.add_argument("--var", action="append", default=[], metavar="NAME=VALUE", help="as bench.py takes it")
    parse.add_argument("--wrk", default="wrk")
    parse.add_argument("--h2load", default="h2load")
    args = parse.parse_args()
    merge = merger()
    bench.all_descriptors()
    spec = json.loads((args.dir / "setups.json").read_text())
    raw = pathlib.Path(tempfile.mkdtemp(prefix="outrider-profile-"))
    began = time.monotonic()
    sidecar = built()
    print(f"built in {time.monotonic() - began:.0f} s", file=sys.stderr)
    # Each process writes a file of its own.
    os.environ["LLVM_PROFILE_FILE"] = f"{raw}/%p.profraw"
    fill = bench.filler(spec, [*args.var, f"sidecar={sidecar}"], args.dir)
    shared = []
    try:
        bench.start(spec["shared"], fill, args.dir, f"{raw}/shared", 20, shared)
        mesh = ["outrider-mesh", "outrider-mesh-grpc", "outrider-mesh-large", "outrider-mesh-upload"]
        load(args, spec, fill, mesh, raw)
        load(args, spec, fill, ["outrider-on-post"], raw)
    finally:
        for process in shared:
            process.stop()
    written = [path for path in raw.glob("*.profraw") if path.stat().st_size]
    if len(written) != 4:
        sys.exit(f"4 sidecars ran, and {len(written)} have written what they did: {raw}")
    # Sparse: what never ran is left out, and built as if there were no profile.
    subprocess.check_call([merge, "merge", "--sparse", "-o", PROFILE, *written])
    shutil.rmtree(raw)
    print(f"{PROFILE}: {PROFILE.stat().st_size >> 10} KiB")


if __name__ == "__main__":
    main()
