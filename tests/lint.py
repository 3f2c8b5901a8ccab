#!/usr/bin/env python3
"""The rules of the file that a compiler does not know: order, names, lengths, documentation, what lies where.
Prints every place that breaks one.

    lint.py rules
    lint.py budgets --cc 'COMPILER'      size and compile time of the header
"""

import argparse
import re
import resource
import shutil

from common import HEADER, ROOT, Checks, Workplace, run, split

TOP_LEVEL = {'tensoralloc.h', 'tests', 'bench', 'meson.build', 'README.md', 'LICENSE'}
FORBIDDEN = ['TO' + 'DO', 'FIX' + 'ME', 'X' * 3, r'\.\./' + 'shared', '/wo' + 'rk/']

COLUMNS_MAX = 120
FUNCTION_LINES_MAX = 70
CONDITIONALS_PER_1000_LINES = 12
CORE = ('BUDGET', 'SNAPSHOT')  # from, to: no conditionals but these
OUTSIDE_CORE = ('CUDA-IMPL', 'GRAPH-IMPL', 'TORCH')  # compiled whole or not at all
CORE_CONDITIONALS = {'TAI_THREAD_INDEX', 'TENSORALLOC_NO_THREADS', 'TENSORALLOC_CHECKED', 'TAI_CHECKED', 'TENSORALLOC_DEBUG'}
NEVER_MAX = 40  # conditions that cannot hold
FOREIGN_MACROS = {'WIN32_LEAN_AND_MEAN', 'CLOCK_MONOTONIC'}  # of the system, set where it hides them

TEXT_BYTES_MAX = 139 * 1024  # of everything for the host; one translation unit keeps what it does not call
COMPILE_SECONDS = 4   # the budgets; a test fails at twice as much, since machines differ and are noisy
INCLUDE_SECONDS = 0.06


class Header:
    """The header in pieces."""

    def __init__(self):
        self.text = HEADER.read_text()
        self.lines = self.text.splitlines()
        self.bare = re.sub(r'/\*.*?\*/', lambda c: re.sub(r'[^\n]', ' ', c.group()), self.text,
                           flags=re.DOTALL).splitlines()  # comments blanked
        self.guard_end = self.lines.index('#endif /* TENSORALLOC_H */')
        self.sections = [(m.group(1), i) for i, line in enumerate(self.lines)
                         for m in [re.match(r'  \[TA:([A-Z-]+)\]', line)] if m]

    def public_functions(self):
        """(name, line index) of each declaration."""
        for i, line in enumerate(self.lines[:self.guard_end]):
            found = re.match(r'TENSORALLOC_DEF [^;(]*?(\w+)\(', line)
            if found:
                yield found.group(1), i

    def functions(self):
        """(name, is static, first line, last line) of each definition."""
        for i, line in enumerate(self.bare):
            if line.rstrip() != '{':
                continue
            first = i - 1
            while first > 0 and re.match(r'\s', self.bare[first]):  # a signature of several lines
                first -= 1
            signature = ' '.join(self.bare[first:i])
            name = re.search(r'(\w+)\(', re.sub(r'__attribute__\(\(.*?\)\)', '', signature))
            if name:
                last = next(j for j in range(i, len(self.bare)) if self.bare[j].startswith('}'))
                yield name.group(1), bool(re.match(r'static\b|TAI_INLINE\b', signature)), first, last

    def conditionals(self):
        """(line index, text) of the directives that choose code."""
        for i, line in enumerate(self.bare):
            if re.match(r'\s*#\s*(if|ifdef|ifndef|elif)\b', line):
                yield i, line.strip()

    def span(self, first, last):
        """Line indices of the sections first to last."""
        tags = [tag for tag, _ in self.sections]
        after = tags.index(last) + 1
        end = self.sections[after][1] if after < len(tags) else len(self.lines)
        return self.sections[tags.index(first)][1], end


def report(checks, what, places):
    """One check for one rule; places are those that break it."""
    checks.check(not places, '%s (%d places)' % (what, len(places)) if places else what,
                 '\n'.join(str(place) for place in places))


def at(index, text=''):
    return 'tensoralloc.h:%d: %s' % (index + 1, text.strip())


def order(checks, header):
    contents = header.text[:header.text.index('QUICK START')]
    listed = re.findall(r'\[TA:([A-Z-]+)\]', contents)
    found = [tag for tag, _ in header.sections]
    checks.check(listed == found, 'sections stand as the contents list says', 'listed %s\nfound  %s' % (listed, found))
    for tag, i in header.sections:
        banner = header.lines[i - 1]
        checks.check(re.match(r'/\*[=-]{20,}', banner), 'section %s has a banner' % tag, at(i, banner))
    for tag, i in header.sections:
        if i > header.guard_end and tag not in ('CHECKS', 'MATH', 'MANUAL'):
            end = next(j for j in range(i, len(header.lines)) if '*/' in header.lines[j])
            banner = '\n'.join(header.lines[i:end])
            checks.check('Uses:' in banner and 'Invariants:' in banner, 'section %s says Uses: and Invariants:' % tag, at(i))


def functions(checks, header):
    defined = [function[0] for function in header.functions()]
    checks.check(len(defined) > 100, 'functions are found', str(len(defined)))
    declared = list(header.public_functions())
    checks.check(len(declared) > 50, 'public functions are found', str(len(declared)))
    report(checks, 'a public function is declared once, and defined',
           [name for name, _ in declared if name not in defined or [n for n, _ in declared].count(name) != 1])
    undocumented = []
    for name, i in declared:
        above = i - 1  # the paragraph down to here starts with a comment
        while header.lines[above].strip():
            above -= 1
        if not any(line.startswith('/*') for line in header.lines[above:i]):
            undocumented.append(at(i, name))
    report(checks, 'a public function has a comment above its declaration', undocumented)
    report(checks, 'functions have at most %d lines' % FUNCTION_LINES_MAX,
           [at(first, '%s: %d' % (name, last - first + 1)) for name, _, first, last in header.functions()
            if last - first + 1 > FUNCTION_LINES_MAX])
    report(checks, 'private functions are not declared before they are defined',
           [at(i, line) for i, line in enumerate(header.bare)
            if re.match(r'(static|TAI_INLINE)\b[^={]*\)\s*;', line) and i > header.guard_end])


def names(checks, header):
    report(checks, 'private functions are tai_*, and only they are static',
           [at(first, name) for name, static, first, _ in header.functions()
            if static != name.startswith('tai_') or not static and not name.startswith('ta_')])
    types = []
    for i, line in enumerate(header.bare[header.guard_end:], header.guard_end):
        found = re.match(r'(?:typedef )?(?:struct|union|enum) (\w+)', line) or re.match(r'\} (\w+);', line)
        if found and not found.group(1).startswith('tai_') and not found.group(1).startswith('ta_'):
            types.append(at(i, line))
    report(checks, 'private types are tai_*', types)
    macros = []
    for i, line in enumerate(header.bare):
        found = re.match(r'\s*#\s*define (\w+)', line)
        allowed = r'TENSORALLOC_|TAI_|tai_' if i > header.guard_end else r'TENSORALLOC_|TA_'
        if found and not re.match(allowed, found.group(1)) and found.group(1) not in FOREIGN_MACROS:
            macros.append(at(i, line))
    report(checks, 'macros are TENSORALLOC_*, public ones also TA_*, private ones TAI_* or tai_*', macros)


def options(checks, header):
    table = header.text[header.text.index('OPTIONS ('):header.text.index('WORDS (')]
    asked = set(re.findall(r'\bTENSORALLOC_\w+', '\n'.join(text for _, text in header.conditionals())))
    atomics = set(re.findall(r'#\s*define (TENSORALLOC_(?:LOAD|STORE|EXCHANGE|ADD|CAS|COMPILER)\w*)', header.text))
    asked -= atomics | {'TENSORALLOC_H', 'TENSORALLOC_IMPLEMENTATION_ONCE'}
    told = set(re.findall(r'TENSORALLOC_\w+', table)) | {'TENSORALLOC' + tail for tail in re.findall(r'[ ,](_LOCK\w+)', table)}
    report(checks, 'the options that the code asks for are in the options table', sorted(asked - told))
    used = '\n'.join(line for line in header.bare if not re.match(r'\s*#\s*define', line) or 'TAI_' in line)
    report(checks, 'each atomic is used', sorted(name for name in atomics if name not in used))


def layout(checks, header):
    report(checks, 'lines have at most %d columns' % COLUMNS_MAX,
           [at(i, '%d columns' % len(line)) for i, line in enumerate(header.lines) if len(line) > COLUMNS_MAX])
    report(checks, 'no tabs, no spaces at the end of a line, no two empty lines',
           [at(i) for i, line in enumerate(header.lines)
            if '\t' in line or line != line.rstrip() or (not line and i and not header.lines[i - 1])])
    conditionals = list(header.conditionals())
    per_1000 = 1000 * len(conditionals) / len(header.lines)
    checks.check(per_1000 <= CONDITIONALS_PER_1000_LINES, 'at most %d conditional directives per 1,000 lines'
                 % CONDITIONALS_PER_1000_LINES, '%.1f (%d in all)' % (per_1000, len(conditionals)))
    first, end = header.span(*CORE)
    outside = [header.span(tag, tag) for tag in OUTSIDE_CORE]
    report(checks, 'the core has no conditionals but %s' % ', '.join(sorted(CORE_CONDITIONALS)),
           [at(i, text) for i, text in conditionals if first <= i < end
            and not any(begin <= i < stop for begin, stop in outside)
            and not set(re.findall(r'\b[A-Z]\w+\b', text)) <= CORE_CONDITIONALS])


def private_macros(checks, header):
    defined = set(re.findall(r'^\s*#\s*define ((?:TAI|tai)_\w+)', header.text, re.MULTILINE))
    undefined = set(re.findall(r'^\s*#\s*undef ((?:TAI|tai)_\w+)', header.text, re.MULTILINE))
    report(checks, 'private macros are undefined again', sorted(defined - undefined))


def never(checks, header):
    places = [(i, line) for i, line in enumerate(header.bare) if re.search(r'\bTAI_NEVER\(', line)
              and not re.match(r'\s*#', line)]
    report(checks, 'what is marked TAI_NEVER says why, on its line or on the one before',
           [at(i, line) for i, line in places if '/*' not in header.lines[i] and '*/' not in header.lines[i - 1]])
    checks.check(len(places) <= NEVER_MAX, 'at most %d places are marked TAI_NEVER' % NEVER_MAX, str(len(places)))


def repository(checks, header):
    listed = run(['git', '-C', ROOT, 'ls-files', '-co', '--exclude-standard']) if shutil.which('git') else None
    if listed and listed.returncode == 0 and (ROOT / '.git').exists():
        files = [line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]
    else:  # an unpacked archive
        files = [str(path.relative_to(ROOT)) for path in ROOT.rglob('*') if path.is_file()]
        files = [name for name in files if not re.match(r'build/|\.git/', name) and '__pycache__' not in name]
    checks.check('tensoralloc.h' in files, 'the files of the repository are found', str(len(files)))
    entries = {name.split('/')[0] for name in files}
    report(checks, 'the top level holds only what was agreed',
           sorted(entry for entry in entries - TOP_LEVEL if not entry.startswith('.')) + sorted(TOP_LEVEL - entries))
    words = []
    for name in files:
        if not name.endswith('.trace'):
            for i, line in enumerate((ROOT / name).read_text(errors='replace').splitlines(), 1):
                if re.search('|'.join(r'(?<!\w)%s(?!\w)' % word if word.isalpha() else word for word in FORBIDDEN), line):
                    words.append('%s:%d: %s' % (name, i, line.strip()))
    report(checks, 'no forbidden words', words)
    build = (ROOT / 'meson.build').read_text()
    others = (ROOT / 'tests/platforms.sh').read_text()
    report(checks, 'every test and bench is in meson.build, or in tests/platforms.sh',
           [name for name in files if re.match(r'tests/test_\w+\.c$|bench/\w+\.c$', name)
            and not re.search(r"'%s'" % re.sub(r'.*/(test_)?|\.c$', '', name), build)
            and not re.search(r'\b%s\b' % re.sub(r'.*/(test_)?|\.c$', '', name), others)])


def versions(checks, header):
    version = '.'.join(re.search(r'#define TENSORALLOC_VERSION_%s (\d+)' % part, header.text).group(1)
                       for part in ('MAJOR', 'MINOR', 'PATCH'))
    checks.check(header.lines[0].startswith('/* tensoralloc.h %s - ' % version), 'line 1 has the version', header.lines[0])
    build = (ROOT / 'meson.build').read_text()
    checks.check("version: '%s'" % version in build, 'meson.build has the version of the header', version)
    words = ' '.join(header.text.split())
    for licence in re.findall(r'^(Permission is hereby.*?|Anyone is free to copy.*?)\.\n\n', (ROOT / 'LICENSE').read_text(),
                              re.DOTALL | re.MULTILINE):
        checks.check(' '.join(licence.split()) in words, 'the header ends with the licence: %s ...' % licence[:30])
    checks.check('MIT OR Unlicense' in header.lines[0], 'line 1 names the licences', header.lines[0])


def best_of_3(command, checks, what):
    """The least time that a command takes, in seconds of the processor: others may be busy too."""
    times = []
    for _ in range(3):
        start = resource.getrusage(resource.RUSAGE_CHILDREN)
        checks.runs(what, command)
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(end.ru_utime - start.ru_utime + end.ru_stime - start.ru_stime)
    return min(times)


def budgets(checks, compiler):
    with Workplace() as workplace:
        whole, declared, empty = workplace / 'whole.c', workplace / 'declared.c', workplace / 'empty.c'
        whole.write_text('#define TENSORALLOC_IMPLEMENTATION\n#include "tensoralloc.h"\n')
        declared.write_text('#include "tensoralloc.h"\nint nothing;\n')
        empty.write_text('#include <stddef.h>\n#include <stdint.h>\nint nothing;\n')
        compile_ = [*compiler, '-std=c99', '-O2', '-I', ROOT, '-c', '-o', workplace / 'o']
        including = best_of_3([*compile_, declared], checks, 'declarations compile')
        including -= min(including, best_of_3([*compile_, empty], checks, 'nothing compiles'))
        compiling = best_of_3([*compile_, whole], checks, 'the implementation compiles')
        sizes = run(['size', '-A', workplace / 'o']).stdout
        text = sum(int(size) for size in re.findall(r'^\.text\S*\s+(\d+)', sizes, re.MULTILINE))
        machine = run([*compiler, '-dumpmachine']).stdout.strip()
        print('%s: .text %d bytes of %d, compiled in %.2f s of %d, included in %.0f ms of %.0f'
              % (machine, text, TEXT_BYTES_MAX, compiling, COMPILE_SECONDS, 1000 * including, 1000 * INCLUDE_SECONDS))
        checks.check(text > 0, 'size is read', sizes)
        if machine.startswith('x86_64'):
            checks.check(text <= TEXT_BYTES_MAX, '.text at -O2 is within its budget', str(text))
        checks.check(compiling <= 2 * COMPILE_SECONDS, 'the implementation compiles in time', str(compiling))
        checks.check(including <= 2 * INCLUDE_SECONDS, 'the declarations are included in time', str(including))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('what', choices=['rules', 'budgets'])
    parser.add_argument('--cc', default='cc')
    given = parser.parse_args()
    checks = Checks()
    if given.what == 'budgets':
        budgets(checks, split(given.cc))
    else:
        header = Header()
        for rule in (order, functions, names, options, layout, private_macros, never, repository, versions):
            rule(checks, header)
    checks.close()


if __name__ == '__main__':
    main()
