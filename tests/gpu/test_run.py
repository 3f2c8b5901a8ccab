#!/usr/bin/env python3
"""What tests/gpu/run.sh does without a GPU, and with the software driver in the place of one.

    test_run.py CC LIBRARY      LIBRARY: the software driver
"""
import atexit
import os
import shutil
import subprocess
import sys
import tempfile

RUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "run.sh")


def run(compiler, library, only, more):
    folder = tempfile.mkdtemp(prefix="gpu-run-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    env = dict(os.environ, CC=compiler, TAFAKE_LIBRARY=library, ONLY=only, JOBS="2", CFLAGS="-O0", **more)
    done = subprocess.run(["sh", RUN, folder], env=env, capture_output=True, text=True, timeout=400)
    return folder, done


def expect(what, done, is_so):
    if not is_so:
        sys.exit("FAILED: %s; status %d\n%s%s" % (what, done.returncode, done.stdout, done.stderr))
    print("ok:", what)


def content(folder, name):
    with open(os.path.join(folder, name)) as file:
        return file.read()


def main(compiler, library):
    folder, done = run(compiler, "/nowhere/libcuda.so.1", ".*", {})
    lines = done.stdout.splitlines()
    expect("no driver: skipped with one clear line", done,
           done.returncode == 77 and len(lines) == 1 and lines[0].startswith("skipped: no GPU here: ") and
           not done.stderr and not os.listdir(folder))
    _, done = run(compiler, library, ".*", {"TAFAKE_CONFIG": "devices=0"})
    expect("a driver without a device: skipped", done,
           done.returncode == 77 and done.stdout.startswith("skipped: no GPU here: the driver has no device"))
    _, done = run("no-such-compiler", library, ".*", {})
    expect("no compiler: skipped", done, done.returncode == 77 and "no C compiler" in done.stdout)

    folder, done = run(compiler, library, "conformance-memory|cuda_create", {})
    summary = content(folder, "summary.txt")
    expect("what it found is in the folder", done,
           done.returncode == 0 and "2 passed, 0 failed, 0 skipped, 0 not run" in summary and summary in done.stdout and
           "Software device 0; driver interface 13.0" in content(folder, "env.txt") and
           "P9 granularity: minimum" in content(folder, "probes.txt") and
           "conformance-memory.txt" in os.listdir(os.path.join(folder, "logs")))
    _, done = run(compiler, library, "cuda_create", {"TAFAKE_PLAIN": "1"})
    expect("what needs the side channel says that it is skipped", done,
           done.returncode == 0 and "0 passed, 0 failed, 1 skipped" in done.stdout)
    _, done = run(compiler, library, "graph_use|graph_faults|graph_driver|example_graph", {"TAFAKE_PLAIN": "1"})
    expect("so do most programs about graphs; the integration tests and the example run on any driver", done,
           done.returncode == 0 and "2 passed, 0 failed, 2 skipped, 0 not run" in done.stdout)
    _, done = run(compiler, library, "conformance-streams|cuda|cuda_ladder", {"TAFAKE_PLAIN": "1"})
    expect("and the cases of the others that need nothing of it run", done,
           done.returncode == 0 and "2 passed, 0 failed, 1 skipped, 0 not run" in done.stdout)
    _, done = run(compiler, library, "cuda_create", {"TAFAKE_CONFIG": "attr=102:0"})
    expect("a failing test is a failure", done, done.returncode == 1 and "FAILED with status" in done.stdout)
    _, done = run(compiler, library, "cuda_create", {"LIMIT": "1"})
    expect("what does not fit into the time is not run", done, "1 not run" in done.stdout)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
