#!/usr/bin/env python3
"""Programs with one bug each (tests/misuse/*.c), one process for each, on a checked build, on one with a trap, and on a
release build. What each must answer stands in its first comment; see tests/misuse/misuse.h.

    misuse.py --cc 'COMPILER' [--driver LIBRARY] [--list] [PART OF A NAME...]

Programs with device memory (tests/misuse/device.h) run on the software driver, and are left out without one.
"""

import argparse
import concurrent.futures
import os
import re
import signal

from common import ROOT, WARNINGS, Checks, Workplace, run, split, symbols

FOLDER = ROOT / 'tests' / 'misuse'
BUILDS = {  # those with device memory: with DEVICE, too
    'checked': ['-DTENSORALLOC_CHECKED'],
    'trap': ['-DTENSORALLOC_CHECKED', '-DMISUSE_TRAP'],
    'release': ['-DNDEBUG'],
}
DEVICE = {
    'checked': ['-DTENSORALLOC_CHECKED=2', '-DTENSORALLOC_CUDA'],
    'trap': ['-DTENSORALLOC_CHECKED=2', '-DMISUSE_TRAP', '-DTENSORALLOC_CUDA'],
    'release': ['-DNDEBUG', '-DTENSORALLOC_CUDA'],
}
PROGRAMS_MIN = 40


class Program:
    def __init__(self, path):
        self.name = path.stem
        self.path = path
        comment = path.read_text().split('*/')[0]
        told = dict(re.findall(r'^\s*(checked|release|says|also): (.*?)\s*$', comment, re.MULTILINE))
        self.expected = told.get('checked')
        self.released = told.get('release')
        self.says = told.get('says', '')
        self.also = told.get('also')
        self.impl = 'device-' if '#include "device.h"' in path.read_text() else ''


def result_codes():
    """{name: number} of the results, in the order of the header's list."""
    text = (ROOT / 'tensoralloc.h').read_text()
    return {name: i for i, name in enumerate(re.findall(r'^    X\((TA_\w+), "', text, re.MULTILINE))}


def build(cc, workplace, program):
    """The program linked with each implementation; what went wrong, or ''."""
    done = run([*cc, '-std=gnu99', *WARNINGS, '-Wno-unused-function', '-Werror', '-I', ROOT, '-I', ROOT / 'tests', '-c',
               program.path, '-o', workplace / (program.name + '.o')])
    for name in BUILDS if done.returncode == 0 else []:
        done = run([*cc, workplace / (program.name + '.o'), workplace / (program.impl + name + '-impl.o'), '-o',
                    workplace / (program.name + '-' + name), '-pthread', *(['-ldl'] if program.impl else [])])
        if done.returncode != 0:
            break
    return '' if done.returncode == 0 else done.stdout


def judge(workplace, program, codes, environment=None):
    """[(what, holds, why)] of one program."""
    verdicts = []

    def verdict(what, holds, done):
        verdicts.append(('%s: %s' % (program.name, what), holds, 'status %d\n%s' % (done.returncode, done.stdout)))

    for name in BUILDS:
        if name == 'release' and program.released == 'undefined':
            continue
        done = run([workplace / (program.name + '-' + name)], timeout=120, env=environment)
        answers = re.findall(r'^answer (\w+)$', done.stdout, re.MULTILINE)
        reports = re.findall(r'^report (\d+) (.*)$', done.stdout, re.MULTILINE)
        if name == 'trap':
            verdict('the trap ends it', done.returncode == -signal.SIGABRT and not answers, done)
        else:
            wanted = program.expected if name == 'checked' else program.released
            verdict('answers %s in a %s build' % (wanted, name), done.returncode == 0 and answers == [wanted], done)
        if name == 'release':
            verdict('nothing is corrupt in a release build', 'sound' in done.stdout.split(), done)
        else:
            told = [text for code, text in reports if int(code) == codes[program.expected] and program.says in text]
            if name == 'trap' and program.also:  # which may come first
                told += [text for code, text in reports if int(code) == codes[program.also]]
            verdict('the log is told in a %s build' % name, told != [], done)
        if name == 'checked':
            verdict('nothing else is told', {int(code) for code, _ in reports} <= {codes[program.expected],
                                                                                 codes.get(program.also)}, done)
    return verdicts


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--cc', required=True)
    parser.add_argument('--driver', default='')
    parser.add_argument('--list', action='store_true')
    parser.add_argument('parts', nargs='*')
    options = parser.parse_args()
    cc = split(options.cc)
    checks = Checks()
    programs = [Program(path) for path in sorted(FOLDER.glob('*.c')) if path.stem != 'impl']
    if options.list:
        for program in programs:
            print('%-36s %-24s %s' % (program.name, program.expected, program.released))
        return
    checks.check(len(programs) >= PROGRAMS_MIN, 'there are %d programs' % PROGRAMS_MIN, str(len(programs)))
    codes = result_codes()
    if not options.driver:
        print('skipped: %d programs with device memory, without the software driver' % sum(p.impl != '' for p in programs))
        programs = [p for p in programs if not p.impl]
    environment = dict(os.environ, TAFAKE_LIBRARY=options.driver, LD_LIBRARY_PATH=os.path.dirname(options.driver))
    programs = [p for p in programs if not options.parts or any(part in p.name for part in options.parts)]
    with Workplace() as workplace, concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        builds = dict(BUILDS, **{'device-' + name: flags for name, flags in DEVICE.items()} if options.driver else {})
        jobs = [pool.submit(checks.runs, 'the %s implementation is built' % name,
                            [*cc, '-std=gnu99', '-O1', *WARNINGS, '-Werror', *flags, '-I', ROOT, '-c', FOLDER / 'impl.c', '-o',
                             workplace / (name + '-impl.o')]) for name, flags in builds.items()]
        if not all(job.result() for job in jobs):
            checks.close()
        of_checks = [name for name in symbols(workplace / 'release-impl.o') if re.search('misuse_[^c]|_guard_|_red_|_graves', name)]
        checks.check(not of_checks, 'a release build has nothing of the checks', ' '.join(of_checks))
        of_checks = [name for name in symbols(workplace / 'checked-impl.o') if name == 'tai_misuse']
        checks.check(of_checks, 'a checked build has them')
        for program in programs:
            known = program.expected in codes and (program.released in codes or program.released == 'undefined')
            checks.check(known, '%s says what it expects' % program.name, '%s, %s' % (program.expected, program.released))
        built = list(pool.map(lambda program: build(cc, workplace, program), programs))
        for program, why in zip(programs, built):
            checks.check(not why, '%s is built' % program.name, why)
        ready = [program for program, why in zip(programs, built) if not why and program.expected in codes]
        for verdicts in pool.map(lambda program: judge(workplace, program, codes, environment), ready):
            for what, holds, why in verdicts:
                checks.check(holds, what, why)
    print('%d programs with one bug each' % len(programs))
    checks.close()


if __name__ == '__main__':
    main()
