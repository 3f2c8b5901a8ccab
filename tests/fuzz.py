#!/usr/bin/env python3
"""The fuzz targets of tests/fuzz.

    fuzz.py replay --cc 'COMPILER'           runs the committed inputs, and some at random; any compiler
    fuzz.py search [--seconds N] [NAME...]   lets clang's libFuzzer search for N seconds each (60), one for each processor
                                             at a time, under ASan and UBSan;
                                             ends with "N passed, N failed, N skipped". What was found is in build/fuzz
    fuzz.py keep NAME                        a smallest set of inputs of build/fuzz that reaches the same becomes the
                                             committed one
"""

import argparse
import concurrent.futures
import os
import re
import shutil
import sys
import time

from common import ROOT, Checks, Workplace, run, split

FOLDER = ROOT / 'tests' / 'fuzz'
CORPUS = FOLDER / 'corpus'
FOUND = ROOT / 'build' / 'fuzz'
# name: [source, defines]
TARGETS = {
    'operations': ['operations', []],
    'checked': ['operations', ['-DTENSORALLOC_CHECKED']],
    'shapes': ['shapes', []],
    'trace': ['trace', []],
    'snapshot': ['snapshot', []],
}
RANDOM_INPUTS = 500
SEARCH = '-g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined'.split()


def replay(cc):
    checks = Checks()
    with Workplace() as workplace:
        for name, (source, defines) in TARGETS.items():
            program = workplace / name
            if not checks.runs('%s is built' % name, [*cc, '-O1', '-DFUZZ_REPLAY', *defines, '-I', ROOT,
                                                      FOLDER / (source + '.c'), '-o', program, '-pthread']):
                continue
            inputs = sorted((CORPUS / source).glob('*'))
            checks.check(inputs, '%s has inputs' % name)
            checks.runs('%s: %d inputs, %d at random' % (name, len(inputs), RANDOM_INPUTS),
                        [program, *inputs, '--random', RANDOM_INPUTS, 1], timeout=300)
    checks.close()


def build(name):
    source, defines = TARGETS[name]
    FOUND.mkdir(parents=True, exist_ok=True)
    program = FOUND / ('fuzz-' + name)
    done = run(['clang', *SEARCH, *defines, '-I', ROOT, FOLDER / (source + '.c'), '-o', program, '-pthread'])
    if done.returncode != 0:
        print(done.stdout[-3000:])
        return None
    return program


def search_one(name, seconds):
    """One target: the line of the table, its verdict, what it said where that matters."""
    program = build(name)
    if program is None:
        return '%-12s not built' % name, 'skipped' if shutil.which('clang') is None else 'failed', ''
    corpus = FOUND / name
    corpus.mkdir(exist_ok=True)
    start = time.time()
    done = run([program, '-max_total_time=%d' % seconds, '-timeout=25', '-rss_limit_mb=2560', '-max_len=4096',
                '-close_fd_mask=1', '-print_final_stats=1', '-artifact_prefix=%s/found-%s-' % (FOUND, name), corpus,
                CORPUS / TARGETS[name][0]])
    executions = re.findall(r'stat::number_of_executed_units: (\d+)', done.stdout)
    covered = re.findall(r'cov: (\d+)', done.stdout)
    verdict = 'passed' if done.returncode == 0 else 'failed'
    row = '%-12s %8d %12s %8d %10s  %s' % (name, time.time() - start, executions[-1] if executions else '?',
                                          len(list(corpus.glob('*'))), covered[-1] if covered else '?', verdict)
    return row, verdict, '' if verdict == 'passed' else done.stdout[-6000:]


def search(names, seconds):
    counts = {'passed': 0, 'failed': 0, 'skipped': 0}
    print('%-12s %8s %12s %8s %10s  %s' % ('target', 'seconds', 'executions', 'inputs', 'coverage', 'verdict'))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for row, verdict, said in pool.map(lambda name: search_one(name, seconds), names):
            counts[verdict] += 1
            print('\n'.join([row] + ([said] if said else [])))
            sys.stdout.flush()
    print('%(passed)d passed, %(failed)d failed, %(skipped)d skipped' % counts)
    sys.exit(counts['failed'] != 0)


def keep(name):
    program = build(name)
    target = CORPUS / TARGETS[name][0]
    with Workplace() as workplace:
        done = run([program, '-merge=1', '-max_len=4096', '-close_fd_mask=1', workplace, target, FOUND / name])
        if done.returncode != 0:
            sys.exit(done.stdout[-3000:])
        kept = sorted(workplace.glob('*'))
        for old in target.glob('*'):
            old.unlink()
        for one in kept:
            shutil.copy(one, target / one.name)
        print('%s: %d inputs, %d bytes' % (name, len(kept), sum(one.stat().st_size for one in kept)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=['replay', 'search', 'keep'])
    parser.add_argument('names', nargs='*')
    parser.add_argument('--cc', default='cc')
    parser.add_argument('--seconds', type=int, default=60)
    options = parser.parse_intermixed_args()
    if options.what == 'replay':
        replay(split(options.cc))
    elif options.what == 'search':
        search(options.names or list(TARGETS), options.seconds)
    else:
        for name in options.names:
            keep(name)


if __name__ == '__main__':
    main()
