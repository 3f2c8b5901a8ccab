#!/usr/bin/env python3
"""The header in its configurations. Each is compiled with every warning an error, linked from two files (the
declarations in one, the implementation in the other), looked into with nm, and run.

    config.py --id gcc|clang --cc 'COMPILER' [--cxx 'COMPILER'] GROUP...
"""

import argparse
import itertools
import re

from common import HEADER, ROOT, Checks, Workplace, run, split, symbols, warnings

C_STANDARDS = ['c99', 'c11', 'c17', 'c2x', 'gnu99', 'gnu11', 'gnu17', 'gnu2x']
CXX_STANDARDS = ['c++11', 'c++14', 'c++17', 'c++20', 'gnu++11', 'gnu++14', 'gnu++17', 'gnu++20']

# Every define of the header's options table, by itself ...
DEFINES = {
    'STATIC': ['TENSORALLOC_STATIC'],
    'API': ['TENSORALLOC_API=__attribute__((visibility("default")))'],
    'MALLOC_BACKEND': ['TENSORALLOC_MALLOC_BACKEND'],
    'NO_THREADS': ['TENSORALLOC_NO_THREADS'],
    'VALGRIND': ['TENSORALLOC_VALGRIND'],
    'CPP': ['TENSORALLOC_CPP'],
    'DEBUG 0': ['TENSORALLOC_DEBUG=0'],
    'DEBUG 1': ['TENSORALLOC_DEBUG=1'],
    'DEBUG 2': ['TENSORALLOC_DEBUG=2'],
    'DEBUG 3': ['TENSORALLOC_DEBUG=3'],
    'CHECKED': ['TENSORALLOC_CHECKED'],
    'ASSERT': ['TENSORALLOC_DEBUG=2', 'CONFIG_HOOK_ASSERT'],
    'ASSERT, no DEBUG': ['CONFIG_HOOK_ASSERT'],
    'LOG': ['CONFIG_HOOK_LOG'],
    'MALLOC': ['CONFIG_HOOK_MALLOC'],
    'atomics': ['CONFIG_HOOK_ATOMICS'],
    'LOCK': ['CONFIG_HOOK_LOCK'],
    'THREAD_LOCAL': ['CONFIG_HOOK_THREAD_LOCAL'],
    'CLOCK_NS': ['CONFIG_HOOK_CLOCK'],
}
# ... and all of them together: one level of each factor, so that every two levels of two factors meet in some build.
# What is first is the default. Every option of the header's table stands here; a test compares.
def hook(name):
    return [[], ['CONFIG_HOOK_' + name]]


FACTORS = {
    'standard': ['c99', 'c++11', 'c11', 'c++17'],
    'STATIC API': [[], ['TENSORALLOC_STATIC'], DEFINES['API']],
    'CUDA TORCH CUDA_LINK': [[], ['TENSORALLOC_CUDA'], ['TENSORALLOC_TORCH'],
                             ['TENSORALLOC_CUDA', 'TENSORALLOC_CUDA_LINK', 'CONFIG_NO_DRIVER']],
    'MALLOC_BACKEND': [[], ['TENSORALLOC_MALLOC_BACKEND']],
    'NO_THREADS': [[], ['TENSORALLOC_NO_THREADS']],
    'VALGRIND': [[]],
    'CPP': [[], ['TENSORALLOC_CPP']],
    'DEBUG': [[], ['TENSORALLOC_DEBUG=1'], ['TENSORALLOC_DEBUG=2'], ['TENSORALLOC_DEBUG=3']],
    'CHECKED': [[], ['TENSORALLOC_CHECKED'], ['TENSORALLOC_CHECKED=2']],
    'TRAP': hook('TRAP'),
    'ASSERT': hook('ASSERT'),
    'LOG': hook('LOG'),
    'MALLOC FREE': hook('MALLOC'),
    'LOAD_RELAXED': hook('ATOMICS'),
    'LOCK_TYPE LOCK_INIT LOCK_ACQUIRE LOCK_RELEASE': hook('LOCK'),
    'THREAD_LOCAL': hook('THREAD_LOCAL'),
    'CLOCK_NS': hook('CLOCK'),
    'WALL_CLOCK_NS': hook('WALL_CLOCK'),
}
UNPAIRED = {'IMPLEMENTATION'}  # there is nothing without it

# Defines whose object code must differ from that of another configuration: an option that changes nothing is broken.
DIFFERENT = [('MALLOC_BACKEND', 'DEBUG 0'), ('NO_THREADS', 'DEBUG 0'), ('CHECKED', 'DEBUG 0'), ('DEBUG 1', 'DEBUG 0'),
             ('DEBUG 2', 'DEBUG 1'), ('DEBUG 3', 'DEBUG 2')]

LEVELS = [['-O1'], ['-O2'], ['-O3'], ['-Os'], ['-O2', '-flto'], ['-O1', '-fPIC', '-fvisibility=hidden'],
          ['-O2', '-DNDEBUG', '-DTENSORALLOC_DEBUG=3']]

SYSTEM_FIRST = [['c99'], ['c99', '-D_POSIX_C_SOURCE=199309L'], ['c11'], ['gnu11'], ['c++11']]


class Compilers:
    def __init__(self, family, cc, cxx):
        self.family = family
        self.of = {'c': split(cc), 'c++': split(cxx)}

    def knows(self, standard, workplace):
        """Whether there is a compiler for it; C2x and C++20 are newer than some."""
        language = 'c++' if '++' in standard else 'c'
        if not self.of[language]:
            return False
        empty = workplace / 'empty.c'
        empty.write_text('typedef int empty;\n')
        return run([*self.of[language], '-x', language, '-std=' + standard, '-fsyntax-only', empty]).returncode == 0


def build(checks, compilers, workplace, name, standard, flags=(), defines=(), link=()):
    """One configuration; the path of the object with the implementation, or None."""
    language = 'c++' if '++' in standard else 'c'
    compiler = compilers.of[language]
    compile_ = [*compiler, '-x', language, '-std=' + standard, *warnings(compilers.family, language), *flags,
                *['-D' + define for define in defines], '-I', ROOT, '-c']
    sources = ['smoke.c'] if 'TENSORALLOC_STATIC' in defines else ['smoke.c', 'impl.c']
    objects = []
    for source in sources:
        objects.append(workplace / (source + '.o'))
        if not checks.runs('%s: compile %s' % (name, source),
                           [*compile_, ROOT / 'tests' / 'config' / source, '-o', objects[-1]]):
            return None
    if '-flto' not in flags:
        found = [kind for symbol, kind in symbols(objects[-1]).items() if kind in 'tT' and re.search(r'(^|\d)ta_pool_create($|P)', symbol)]
        wanted = ['t'] if 'TENSORALLOC_STATIC' in defines else ['T']  # static ones may be mangled by C++ compilers
        checks.check(found == wanted, '%s: ta_pool_create is in the object' % name, 'nm says %s' % found)
    program = workplace / 'smoke'
    link_flags = [flag for flag in flags if not flag.startswith('-D')]
    if checks.runs('%s: link' % name, [*compiler, *link_flags, *link, *objects, '-o', program, '-pthread']):
        checks.runs('%s: run' % name, [program], timeout=120)
    return objects[-1]


def standards(checks, compilers, workplace):
    for standard in C_STANDARDS + CXX_STANDARDS:
        if compilers.knows(standard, workplace):
            build(checks, compilers, workplace, standard, standard)
    for standard, *flags in SYSTEM_FIRST:
        if compilers.knows(standard, workplace):
            build(checks, compilers, workplace, ' '.join([standard, *flags, 'after system headers']), standard, flags,
                  ['CONFIG_SYSTEM_FIRST'])


def has_valgrind(compilers, workplace):
    probe = workplace / 'probe.c'
    probe.write_text('#include <valgrind/memcheck.h>\n')
    return run([*(compilers.of['c'] or compilers.of['c++']), '-fsyntax-only', probe]).returncode == 0


def defines(checks, compilers, workplace):
    code = {} # in C; that each goes with C++ too is among the pairs
    for name, given in DEFINES.items():
        if name == 'VALGRIND' and not has_valgrind(compilers, workplace):
            print('skipped: TENSORALLOC_VALGRIND, for valgrind/memcheck.h is not here')
            continue
        built = build(checks, compilers, workplace, 'c99 ' + name, 'c99', [], given)
        code[name] = built.read_bytes() if built else None
    for one, other in DIFFERENT:
        if code[one] and code[other]:
            checks.check(code[one] != code[other], '%s changes the code of %s' % (one, other))


def options_of_the_header():
    """The names in its table, without their prefix."""
    table = HEADER.read_text().split('OPTIONS (all')[1].split('\n\n')[0]
    rows = [line.split(' impl ')[0].split(' all ')[0] for line in table.splitlines() if line.startswith('     TENSORALLOC_')]
    return {re.sub(r'\(.*', '', word).replace('TENSORALLOC_', '').strip('_') for row in rows
            for word in re.findall(r'TENSORALLOC_\w+|\b_[A-Z_]+', row)}


def covering(sizes):
    """Rows of one level for each factor, such that every two levels of two factors meet in one; greedily, always the
    same ones."""
    left = {(a, x, b, y) for a, b in itertools.combinations(range(len(sizes)), 2)
            for x in range(sizes[a]) for y in range(sizes[b])}
    rows = []
    while left:
        first = min(left)
        row = {first[0]: first[1], first[2]: first[3]}
        for factor in sorted(set(range(len(sizes))) - set(row), key=lambda f: -sizes[f]):
            def met(level):
                return sum((min((factor, level), one) + max((factor, level), one)) in left for one in row.items())
            row[factor] = max(range(sizes[factor]), key=lambda level: (met(level), -level))
        rows.append([row[factor] for factor in range(len(sizes))])
        left -= {(a, rows[-1][a], b, rows[-1][b]) for a, b in itertools.combinations(range(len(sizes)), 2)}
    return rows


def pairs(checks, compilers, workplace):
    options, named = options_of_the_header(), {name for factor in FACTORS for name in factor.split()} - {'standard'}
    checks.check(options == named | UNPAIRED, 'the factors are the options of the header',
                 'only in the header: %s; only here: %s' % (options - named - UNPAIRED, named - options))
    factors = dict(FACTORS)
    factors['standard'] = [one for one in FACTORS['standard'] if compilers.knows(one, workplace)]
    levels_of = list(factors.values())
    rows = covering([len(one) for one in levels_of])
    met = {(a, row[a], b, row[b]) for row in rows for a, b in itertools.combinations(range(len(row)), 2)}
    wanted = sum(len(a) * len(b) for a, b in itertools.combinations(levels_of, 2))
    checks.check(len(met) == wanted, 'every two levels meet', '%d of %d' % (len(met), wanted))
    for i, row in enumerate(rows):
        chosen = [one[level] for one, level in zip(levels_of, row)]
        given = [define for some in chosen[1:] for define in some]
        lazy = ['-Wl,--unresolved-symbols=ignore-all'] if 'TENSORALLOC_CUDA_LINK' in given else []
        build(checks, compilers, workplace, 'row %d: %s %s' % (i, chosen[0], ' '.join(given)), chosen[0], [], given, lazy)
    print('%d builds cover all %d pairs of levels of %d options' % (len(rows), wanted, len(rows[0])))


def levels(checks, compilers, workplace):
    for flags in LEVELS:
        build(checks, compilers, workplace, 'c99 ' + ' '.join(flags), 'c99', flags)


GROUPS = {'standards': standards, 'defines': defines, 'pairs': pairs, 'levels': levels}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--id', required=True)
    parser.add_argument('--cc', required=True)
    parser.add_argument('--cxx', default='')
    parser.add_argument('groups', nargs='+', choices=GROUPS)
    options = parser.parse_args()
    checks = Checks()
    with Workplace() as workplace:
        for group in options.groups:
            GROUPS[group](checks, Compilers(options.id, options.cc, options.cxx), workplace)
    checks.close()


if __name__ == '__main__':
    main()
