#!/usr/bin/env python3
"""Holds what hits cost to numbers: instructions of a pair of alloc and free, counted by valgrind's callgrind in the rows of
bench/cuda.c --host. Time is not asked: it differs from run to run, these numbers do not.

    cost.py --cc CC --driver LIBRARY     LIBRARY: the software driver of tests/driver, as built

- the host pool's hit: no more than HOST below. Who makes it longer says so here, and why; who makes it shorter, too.
- a hit of a pool with order: at most 1.5 times that, whichever way captures are looked for
- an allocation in a capture, with enough memory reserved: at most twice a hit of the same pool outside of it

Skips (77) without valgrind, and where another instruction set is compiled for.
"""

import argparse
import os
import pathlib
import platform
import re
import shutil
import sys

from common import ROOT, Checks, Workplace, run, split

# Instructions of a pair, the loop around it included (10), by compiler and major version. Others are held to the ratios.
HOST = {
    ('gcc', '12'): {'small': 94.6, 'large': 435.0},
    ('clang', '14'): {'small': 101.6, 'large': 439.6},
}
ORDER_MAX = 1.5
CAPTURE_MAX = 2.0

SIZES = {'small': '4 KiB', 'large': '1 MiB'}
ORDERED = {'strict': 'strict', 'scopes': 'scopes only', 'stream': 'a stream', 'two_streams': 'two streams in turn'}
CAPTURED = {'capture': 'in a capture', 'two_captured': 'in a capture of two streams'}


def skip(why):
    print('skipped: ' + why)
    sys.exit(77)


def compiler(cc):
    """('gcc' or 'clang', major version)"""
    text = run(cc + ['--version']).stdout
    found = re.search(r'\b(\d+)\.\d+\.\d+', text)
    return 'clang' if 'clang' in text else 'gcc', found.group(1) if found else '?'


def pairs_of(text):
    found = re.search(r'pairs of alloc and free, (\d+) for each row', text)
    return int(found.group(1)) if found else 0


def counts(profile):
    """{row: instructions}: of each function rows_NAME and all that it calls."""
    found = {}
    for line in run(['callgrind_annotate', '--inclusive=yes', '--threshold=100', profile]).stdout.splitlines():
        match = re.match(r'\s*([\d,]+)\s.*:rows_(\w+)', line)
        if match:  # once for each file whose lines are in it: the largest is the whole
            count = int(match.group(1).replace(',', ''))
            found[match.group(2)] = max(count, found.get(match.group(2), 0))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--cc', required=True)
    parser.add_argument('--driver', required=True)
    options = parser.parse_args()
    cc = split(options.cc)
    if shutil.which('valgrind') is None or shutil.which('callgrind_annotate') is None:
        skip('there is no valgrind')
    if platform.machine() != 'x86_64' or '-m32' in cc:
        skip('the numbers are those of x86-64')
    checks = Checks()
    environment = dict(os.environ, TAFAKE_LIBRARY=str(pathlib.Path(options.driver).resolve()))
    with Workplace() as work:
        program, profile = work / 'cuda', work / 'profile'
        if not checks.runs('the bench compiles', cc + ['-O2', '-DNDEBUG', '-g', '-I', ROOT, '-o', program,
                                                       ROOT / 'bench/cuda.c', '-lpthread', '-ldl']):
            checks.close()
        done = run(['valgrind', '--tool=callgrind', '--callgrind-out-file=%s' % profile, '--toggle-collect=rows_*',
                    program, '--host'], env=environment)
        pairs = pairs_of(done.stdout)
        if not checks.check(done.returncode == 0 and pairs != 0, 'the bench runs under callgrind', done.stdout):
            checks.close()
        instructions = {row: count / pairs for row, count in counts(profile).items()}
    known = HOST.get(compiler(cc), {})
    for size, bytes_text in SIZES.items():
        host = instructions[size + '_host']
        print('%s: host pool %.1f instructions a pair' % (bytes_text, host))
        if size in known:
            checks.check(host <= known[size], 'the hit of a host pool is longer than %.1f' % known[size])
        for row, what in ORDERED.items():
            ratio = instructions['%s_%s' % (size, row)] / host
            print('    with order, %s: %.1f, %.2f of it' % (what, instructions['%s_%s' % (size, row)], ratio))
            checks.check(ratio <= ORDER_MAX, 'with order, %s: more than %.1f of the host pool' % (what, ORDER_MAX))
        eager = instructions[size + '_stream']
        for row, what in CAPTURED.items():
            ratio = instructions['%s_%s' % (size, row)] / eager
            print('    %s: %.1f, %.2f of a hit on a stream' % (what, instructions['%s_%s' % (size, row)], ratio))
            checks.check(ratio <= CAPTURE_MAX, '%s: more than %.1f hits' % (what, CAPTURE_MAX))
    checks.close()


if __name__ == '__main__':
    main()
