#!/usr/bin/env python3
"""The header in its configurations. Each is compiled with every warning an error, linked from two files (the
declarations in one, the implementation in the other), looked into with nm, and run.

    config.py --id gcc|clang --cc 'COMPILER' [--cxx 'COMPILER'] GROUP...
"""

import argparse
import itertools
import re

from common import ROOT, Checks, Workplace, run, split, symbols, warnings

C_STANDARDS = ['c99', 'c11', 'c17', 'c2x', 'gnu99', 'gnu11', 'gnu17', 'gnu2x']
CXX_STANDARDS = ['c++11', 'c++14', 'c++17', 'c++20', 'gnu++11', 'gnu++14', 'gnu++17', 'gnu++20']

# Every define of the header's options table, by itself ...
DEFINES = {
    'STATIC': ['TENSORALLOC_STATIC'],
    'API': ['TENSORALLOC_API=__attribute__((visibility("default")))'],
    'MALLOC_BACKEND': ['TENSORALLOC_MALLOC_BACKEND'],
    'NO_THREADS': ['TENSORALLOC_NO_THREADS'],
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
# ... and those that change the most in all pairs.
PAIRED = ['STATIC', 'MALLOC_BACKEND', 'NO_THREADS', 'DEBUG 3', 'CHECKED', 'ASSERT', 'MALLOC', 'atomics', 'LOCK']

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


def build(checks, compilers, workplace, name, standard, flags=(), defines=()):
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
        found = [kind for symbol, kind in symbols(objects[-1]).items() if re.search(r'(^|\d)ta_pool_create($|P)', symbol)]
        wanted = ['t'] if 'TENSORALLOC_STATIC' in defines else ['T']  # static ones may be mangled by C++ compilers
        checks.check(found == wanted, '%s: ta_pool_create is in the object' % name, 'nm says %s' % found)
    program = workplace / 'smoke'
    link_flags = [flag for flag in flags if not flag.startswith('-D')]
    if checks.runs('%s: link' % name, [*compiler, *link_flags, *objects, '-o', program, '-pthread']):
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


def defines(checks, compilers, workplace):
    for standard in ('c99', 'c++11'):
        if not compilers.knows(standard, workplace):
            continue
        code = {}
        for name, given in DEFINES.items():
            built = build(checks, compilers, workplace, '%s %s' % (standard, name), standard, [], given)
            code[name] = built.read_bytes() if built else None
        for one, other in DIFFERENT:
            if code[one] and code[other]:
                checks.check(code[one] != code[other], '%s %s changes the code of %s' % (standard, one, other))


def pairs(checks, compilers, workplace):
    for i, (one, other) in enumerate(itertools.combinations(PAIRED, 2)):
        given = DEFINES[one] + [define for define in DEFINES[other] if not define.startswith('TENSORALLOC_DEBUG')
                                or not any(d.startswith('TENSORALLOC_DEBUG') for d in DEFINES[one])]
        standard = 'c++11' if i % 2 and compilers.knows('c++11', workplace) else 'c99'
        build(checks, compilers, workplace, '%s %s + %s' % (standard, one, other), standard, [], given)


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
