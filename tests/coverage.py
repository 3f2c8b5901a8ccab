#!/usr/bin/env python3
"""Branch coverage of the header, by gcov: builds the tests with gcc -O0 --coverage in several configurations, runs them, and
tells what no configuration reached.

    coverage.py run [--quick TEST...]    builds, runs, prints a table of sections; ends with "N passed, N failed, N skipped".
                                         With --quick only these tests of the first configuration; with --at-once all
                                         configurations beside each other
    coverage.py list [SECTION...]        the branches not taken in the last run, section by section, with their source
    coverage.py update                   what the last run did not reach becomes tests/coverage.txt

How it counts. A branch is an edge of the machine code at -O0: `if (a && b)` has four. Every test program compiles the header
anew, so the counts of all are added; a branch is covered if any configuration covers it. Where configurations make different
code of one line, the one with the most branches counts. Functions that are always inlined are compiled as functions, so that
each stands once. Asserts are compiled out, and what TAI_NEVER marks (with its reason) is no branch: conditions that cannot
hold, in which the function is safe all the same.

A branch that is neither covered nor marked fails the run, unless tests/coverage.txt allows it: its function, the line of
source and how many branches of it. That file only ever gets shorter.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import re
import shutil
import sys
import time

import fuzz
import misuse
from common import HEADER, ROOT, Checks, run

BUILD = ROOT / 'build' / 'coverage'
ALLOWED = ROOT / 'tests' / 'coverage.txt'
DEFINES = ['-Dalways_inline=unused', '-DTAI_NEVER(x)=(0*(int)sizeof(!(x)))']
FLAGS = ['-O0', '-g0', '--coverage', *DEFINES]
NEVER_MAX = 40

# name: [defines, what meson runs: suites, or tests]
CONFIGURATIONS = {
    'default': ([], ['--suite', 'unit', '--suite', 'contract', '--suite', 'cuda']),
    'checked': (['-DTENSORALLOC_CHECKED'], ['core', 'check']),
    'malloc': (['-DTENSORALLOC_MALLOC_BACKEND'], ['contract', 'pool', 'oom', 'arena', 'dynamic', 'dynamic_faults']),
    'no threads': (['-DTENSORALLOC_NO_THREADS'], ['contract', 'pool', 'trace', 'snapshot', 'core', 'check']),
}

# They take long, and reach nothing that the others do not; or they measure nothing of this build. The explorer is not in
# any suite that is named: it puts the memory of programs back for each schedule, and gcov's counters with it.
LEFT_OUT = {'model', 'selftest', 'gpu-run', 'cuda_torch'}
ALSO = ['--suite', 'rules', 'cuda_faults']  # of the default configuration: left to the rules since it takes long

# Where threads have to meet in the right moment: what a run takes here differs from run to run, and does not fail it.
BY_CHANCE = {'tai_gate_enter_slow', 'tai_next32', 'tai_trace_put', 'tai_trace_get', 'tai_merge_fill', 'tai_merge_pick',
             'tai_pool_detach_slots', 'tai_pool_close_slots', 'tai_pool_shoot_piece', 'tai_snap_site', 'tai_walk_batch',
             'tai_slot_attach', 'tai_passing_receive'}
FUZZ_RANDOM_INPUTS = 200

# Programs that end at once, by _exit or abort, write their counts all the same.
AT_THE_END = '''
#include <stdlib.h>
extern void __gcov_dump(void);
extern void __real__exit(int) __attribute__((noreturn));
extern void __real_abort(void) __attribute__((noreturn));
void __wrap__exit(int status);
void __wrap_abort(void);
void __wrap__exit(int status) { __gcov_dump(); __real__exit(status); }
void __wrap_abort(void) { __gcov_dump(); __real_abort(); }
'''
WRAP = ['-Wl,--wrap=_exit', '-Wl,--wrap=abort', str(BUILD / 'at_the_end.o')]


class Lines:
    """The branches of each line of the header: {line: {number of branches: [times taken]}}, and lines that ran."""

    def __init__(self):
        self.branches = collections.defaultdict(dict)
        self.ran = {}
        self.functions = {}  # first line: (last line, name)

    def add(self, told, last):
        """One file of gcov's JSON, down to line last of the header."""
        for unit in told['files']:
            if os.path.basename(unit['file']) != HEADER.name:
                continue
            for function in unit['functions']:
                if function['start_line'] > last:
                    continue
                self.functions[function['start_line']] = (function['end_line'], function['demangled_name'].split('(')[0])
            for line in unit['lines']:
                number = line['line_number']
                if number > last:
                    break
                self.ran[number] = self.ran.get(number, 0) + line['count']
                taken = [branch['count'] for branch in line['branches'] if not branch['throw']]
                if taken:
                    before = self.branches[number].setdefault(len(taken), [0] * len(taken))
                    self.branches[number][len(taken)] = [a + b for a, b in zip(before, taken)]

    def taken(self):
        """{line: times taken}, of the configuration that makes the most branches of it."""
        return {line: shapes[max(shapes)] for line, shapes in self.branches.items()}

    def function_of(self):
        """{line: name}"""
        return {line: name for first, (last, name) in sorted(self.functions.items()) for line in range(first, last + 1)}


def sections(lines):
    """[(tag, first line, line behind the last)]"""
    found = [(m.group(1), i) for i, line in enumerate(lines, 1) for m in [re.match(r'  \[TA:([A-Z-]+)\]', line)] if m]
    return [(tag, first, after) for (tag, first), (_, after) in zip(found, found[1:] + [('', len(lines) + 1)])]


def build_end(checks):
    BUILD.mkdir(parents=True, exist_ok=True)
    source = BUILD / 'at_the_end.c'
    source.write_text(AT_THE_END)
    checks.runs('the end of programs is built', ['gcc', '-O1', '-fPIC', '-c', source, '-o', BUILD / 'at_the_end.o'])


def run_meson(checks, name, defines, what, also=()):
    """One configuration; its build stays, its counts begin anew."""
    place = BUILD / name.replace(' ', '-')
    for old in place.rglob('*.gcda'):
        old.unlink()
    if not (place / 'build.ninja').exists():
        words = [word.replace(',', '\\,') for word in FLAGS + defines]
        link = ['--coverage', *WRAP]
        if not checks.runs('%s: meson setup' % name, [
                'meson', 'setup', '-Doptimization=0', '-Dwarning_level=0', '-Ddebug=false', '-Db_lundef=false',
                '-Dc_args=' + repr(words), '-Dcpp_args=' + repr(words), '-Dc_link_args=' + repr(link),
                '-Dcpp_link_args=' + repr(link), place], cwd=ROOT, env=dict(os.environ, CC='gcc', CXX='g++')):
            return
    if what[0] == '--suite':
        listed = run(['meson', 'test', '-C', place, '--list', *what]).stdout.splitlines()
        what = sorted({line.split(' / ')[-1].strip() for line in listed if ' / ' in line} - LEFT_OUT)
    done = run(['meson', 'test', '-C', place, '--timeout-multiplier', '4', *what])
    tests = re.findall(r'^(Ok|Fail|Skipped|Timeout|Expected Fail|Unexpected Pass): +(\d+)', done.stdout, re.MULTILINE)
    failed = re.findall(r'^ *\d+/\d+ +(\S+|.*? \S+) +(?:FAIL|TIMEOUT|ERROR)\b.*$', done.stdout, re.MULTILINE)
    print('%-12s %s%s' % (name, ', '.join('%s %s' % (count, word.lower()) for word, count in tests if count != '0'),
                          ': ' + ' '.join(failed) if failed else ''))
    sys.stdout.flush()
    checks.check(done.returncode == 0, '%s: the tests pass' % name, done.stdout[-3000:])
    if also:
        done = run(['meson', 'test', '-C', place, '--timeout-multiplier', '4', *also])
        checks.check(done.returncode == 0, '%s: %s passes' % (name, also[-1]), done.stdout[-3000:])


def run_scripts(checks, pool):
    """The programs that tests/misuse.py and tests/fuzz.py build themselves."""
    place = BUILD / 'scripts'
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    cc = ['gcc', *FLAGS]

    def misuse_impl(item):
        name, flags = item
        return run([*cc, '-std=gnu99', *flags, '-I', ROOT, '-c', misuse.FOLDER / 'impl.c', '-o',
                    place / (name + '-impl.o')])

    def misuse_program(program):
        why = misuse.build(['gcc', *WRAP, '--coverage'], place, program)
        return [(program.name, False, why)] if why else misuse.judge(place, program, codes)

    def fuzz_target(item):
        name, (source, defines) = item
        built = run([*cc, *WRAP, '-DFUZZ_REPLAY', *defines, '-I', ROOT, fuzz.FOLDER / (source + '.c'), '-o', place / name,
                     '-pthread'])
        if built.returncode != 0:
            return built
        return run([place / name, *sorted((fuzz.CORPUS / source).glob('*')), '--random', FUZZ_RANDOM_INPUTS, 1], timeout=600)

    codes = misuse.result_codes()
    built = list(pool.map(misuse_impl, misuse.BUILDS.items()))
    checks.check(all(done.returncode == 0 for done in built), 'misuse: the implementations are built',
                 '\n'.join(done.stdout for done in built))
    targets = [pool.submit(fuzz_target, item) for item in fuzz.TARGETS.items()]
    programs = [misuse.Program(path) for path in sorted(misuse.FOLDER.glob('*.c')) if path.stem != 'impl']
    programs = [program for program in programs if not program.impl]  # the others need the driver
    wrong = [what + '\n' + why for verdicts in pool.map(misuse_program, programs) for what, holds, why in verdicts if not holds]
    print('misuse       %d programs' % len(programs))
    checks.check(not wrong, 'misuse: every program gets its verdict', '\n'.join(wrong))
    for name, done in zip(fuzz.TARGETS, targets):
        checks.check(done.result().returncode == 0, 'fuzz: %s replays' % name, done.result().stdout)
    print('fuzz         %d targets' % len(fuzz.TARGETS))
    sys.stdout.flush()


def gather(pool):
    """The counts of all programs, added. Programs in C++ count for the C++ part alone: calls there have one branch more."""
    lines = Lines()
    text = HEADER.read_text()
    public = text[:text.index('#endif /* TENSORALLOC_H */')].count('\n')
    files = [path for path in BUILD.rglob('*.gcda') if '/tests/driver/' not in str(path)]

    def ask(path):
        return run(['gcov', '--json-format', '--branch-probabilities', '--stdout', path.name], cwd=path.parent).stdout

    for path, text in zip(files, pool.map(ask, files)):
        for line in text.splitlines():
            if line.startswith('{'):
                lines.add(json.loads(line), public if path.stem.endswith('.cpp') else sys.maxsize)
    return lines


def measured(lines):
    """What the other commands need of a run, as JSON."""
    taken, function_of = lines.taken(), lines.function_of()
    return [{'line': line, 'ran': lines.ran[line], 'taken': taken.get(line, []), 'function': function_of.get(line, '')}
            for line in sorted(lines.ran)]


def key(source, line):
    return line['function'], ' '.join(source[line['line'] - 1].split())


def missing(source, counted):
    """{(function, source text): branches not taken}"""
    lacks = collections.Counter()
    for line in counted:
        lacks[key(source, line)] += line['taken'].count(0)
    return +lacks


def allowed():
    lacks = collections.Counter()
    for line in ALLOWED.read_text().splitlines() if ALLOWED.exists() else []:
        if line and not line.startswith('#'):
            count, function, text = line.split(' ', 2)
            lacks[function, text] = int(count)
    return lacks


def table(source, counted):
    """Prints lines and branches of each section; gives back what the whole header has: branches, taken."""
    print('\n%-16s %7s %7s %7s %9s %8s %7s %9s %6s' % ('section', 'lines', 'ran', '%', 'branches', 'taken', '%', 'not taken',
                                                       'never'))
    sums = [0] * 5

    def row(name, lines, ran, branches, taken, never):
        print('%-16s %7d %7d %7.2f %9d %8d %7.2f %9d %6d' % (name, lines, ran, 100 * ran / max(lines, 1), branches, taken,
                                                             100 * taken / max(branches, 1), branches - taken, never))

    for tag, first, after in sections(source):
        here = [line for line in counted if first <= line['line'] < after]
        never = sum(len(re.findall(r'\bTAI_NEVER\(', text)) for text in source[first - 1:after - 1]
                    if not text.lstrip().startswith('#'))
        figures = [len(here), sum(line['ran'] > 0 for line in here), sum(len(line['taken']) for line in here),
                   sum(len(line['taken']) - line['taken'].count(0) for line in here), never]
        if here:
            row(tag, *figures)
            sums = [a + b for a, b in zip(sums, figures)]
    row('all', *sums)
    return sums


def command_run(quick, at_once):
    checks = Checks()
    start = time.monotonic()
    source = HEADER.read_text().splitlines()
    build_end(checks)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        if quick:
            for old in BUILD.rglob('*.gcda'):
                old.unlink()
            run_meson(checks, 'default', [], quick)
        else:
            with concurrent.futures.ThreadPoolExecutor(len(CONFIGURATIONS) + 1 if at_once else 1) as jobs:
                waiting = [jobs.submit(run_scripts, checks, pool)]
                waiting += [jobs.submit(run_meson, checks, name, *about, ALSO if name == 'default' else ())
                            for name, about in CONFIGURATIONS.items()]
                for job in waiting:
                    job.result()
        counted = measured(gather(pool))
    (BUILD / 'measured.json').write_text(json.dumps({'source': source, 'lines': counted}))
    never = table(source, counted)[4]
    if not quick:
        lacks, may = missing(source, counted), allowed()
        new = collections.Counter({k: n for k, n in (lacks - may).items() if k[0] not in BY_CHANCE})
        gone = may - lacks
        checks.check(never <= NEVER_MAX, 'at most %d conditions are marked TAI_NEVER' % NEVER_MAX, str(never))
        checks.check(not new, '%d branches are neither taken, nor marked TAI_NEVER, nor in tests/coverage.txt'
                     % sum(new.values()), '\n'.join('%d %s %s' % (n, *k) for k, n in sorted(new.items())))
        print('%d branches not taken, %d of them allowed by %s; %d marked TAI_NEVER of at most %d'
              % (sum(lacks.values()), sum((lacks & may).values()), ALLOWED.name, never, NEVER_MAX))
        if gone:
            print('%d that it allows are taken now: coverage.py update' % sum(gone.values()))
    print('in %d seconds' % (time.monotonic() - start))
    print('%d passed, %d failed, 0 skipped' % (checks.count - checks.failed, checks.failed))
    sys.exit(checks.failed != 0)


def last_run():
    path = BUILD / 'measured.json'
    if not path.exists():
        sys.exit('nothing was measured yet: coverage.py run')
    told = json.loads(path.read_text())
    return told['source'], told['lines']


def command_list(tags):
    source, counted = last_run()
    if source != HEADER.read_text().splitlines():
        print('the header has changed since; these are the lines as they were')
    for tag, first, after in sections(source):
        if tags and tag not in tags:
            continue
        function = None
        for line in counted:
            if first <= line['line'] < after and 0 in line['taken']:
                if line['function'] != function:
                    function = line['function']
                    print('[TA:%s] %s' % (tag, function))
                print('%7d: %s   %s' % (line['line'], source[line['line'] - 1].strip(),
                                        ' '.join(str(n) if n else 'NOT' for n in line['taken'])))


def command_update():
    source, counted = last_run()
    lacks = missing(source, counted)
    ALLOWED.write_text('# Branches that no test is known to take yet: how many, function, line of source. Written by coverage.py update.\n'
                       + ''.join('%d %s %s\n' % (n, *k) for k, n in sorted(lacks.items())))
    print('%d branches in %d lines' % (sum(lacks.values()), len(lacks)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=['run', 'list', 'update'])
    parser.add_argument('names', nargs='*')
    parser.add_argument('--quick', nargs='+', metavar='TEST')
    parser.add_argument('--at-once', action='store_true')
    options = parser.parse_args()
    if options.what == 'run':
        command_run(options.quick, options.at_once)
    elif options.what == 'list':
        command_list([name.strip('[]').replace('TA:', '') for name in options.names])
    else:
        command_update()


if __name__ == '__main__':
    main()
