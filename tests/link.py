#!/usr/bin/env python3
"""How objects with the header go together: declarations in many files, C with C++, private copies, what is exported.

    link.py --id gcc|clang --cc 'COMPILER' [--cxx 'COMPILER']
"""

import argparse
import re

from common import HEADER, ROOT, Checks, Workplace, run, split, symbols, warnings

SOURCES = ROOT / 'tests' / 'link'


class Linker:
    def __init__(self, checks, family, cc, cxx, workplace):
        self.checks = checks
        self.family = family
        self.compilers = {'c': split(cc), 'c++': split(cxx)}
        self.workplace = workplace

    def compile(self, name, source, language='c', flags=()):
        """The object of a source file."""
        target = self.workplace / (name + '.o')
        standard = '-std=c99' if language == 'c' else '-std=c++11'
        self.checks.runs('compile ' + name, [*self.compilers[language], '-x', language, standard, '-O1',
                                             *warnings(self.family, language), *flags, '-I', ROOT,
                                             '-c', SOURCES / source, '-o', target])
        return target

    def link(self, name, objects, language='c', flags=()):
        """Tries to link; the result and the path of the target."""
        target = self.workplace / name
        return run([*self.compilers[language], *flags, *objects, '-o', target, '-pthread']), target

    def links_and_runs(self, name, objects, language='c'):
        linked, program = self.link(name.replace(' ', '-'), objects, language)
        if self.checks.check(linked.returncode == 0, 'link ' + name, linked.stdout):
            self.checks.runs('run ' + name, [program], timeout=120)


def public_functions():
    """The functions that the header declares."""
    public = HEADER.read_text().split('#endif /* TENSORALLOC_H */')[0]
    return set(re.findall(r'^TENSORALLOC_DEF [^;(]*?(\w+)\(', public, re.MULTILINE))


def languages_mix(linker):
    """Two files with declarations and one with the implementation, in each mixture of languages there is."""
    languages = [language for language in ('c', 'c++') if linker.compilers[language]]
    objects = {(source, language): linker.compile('%s as %s' % (source, language), file, language, flags)
               for language in languages
               for source, file, flags in (('main', 'user.c', []), ('other', 'user.c', ['-DLINK_OTHER']),
                                           ('impl', 'impl.c', []))}
    for impl in languages:
        for main in languages:
            linker.links_and_runs('implementation in %s, program in %s' % (impl, main),
                                  [objects['main', main], objects['other', impl], objects['impl', impl]],
                                  'c++' if 'c++' in (impl, main) else 'c')


def copies(linker):
    """TENSORALLOC_STATIC in two files links; the implementation in two files without it does not."""
    names = ['copies.c', 'copy_a.c', 'copy_b.c']
    linker.links_and_runs('two private copies', [linker.compile(name, name) for name in names])
    twice = [linker.compile('first', 'impl.c'), linker.compile('second', 'impl.c'), linker.compile('main', 'user.c'),
             linker.compile('other', 'user.c', flags=['-DLINK_OTHER'])]
    linked, _ = linker.link('twice', twice)
    linker.checks.check(linked.returncode != 0 and re.search('multiple definition|duplicate symbol', linked.stdout),
                        'the implementation in two files is refused by the linker', linked.stdout)


def visible(path, flag):
    """Names that others can link to, less those that compilers and linkers add (_init, __x86.get_pc_thunk.bx)."""
    return {symbol for symbol in symbols(path, flag) if not symbol.startswith('_')}


def exports(linker):
    """Only the declared functions are visible, in objects and in libraries."""
    declared = public_functions()
    linker.checks.check(len(declared) > 50, 'the public functions are found in the header', str(len(declared)))
    for language in ('c', 'c++'):
        if linker.compilers[language]:
            seen = visible(linker.compile('object of ' + language, 'impl.c', language), '-g')
            linker.checks.check(seen == declared, '%s object exports what is declared' % language,
                                'only declared: %s\nonly exported: %s' % (declared - seen, seen - declared))
    api = '-DTENSORALLOC_API=__attribute__((visibility("default")))'
    for name, flags, wanted in (('library', [], declared), ('hidden', ['-fvisibility=hidden'], set()),
                                ('hidden with API', ['-fvisibility=hidden', api], declared),
                                ('static', ['-DTENSORALLOC_STATIC'], set())):
        built = linker.compile(name, 'impl.c', flags=['-fPIC', *flags])
        linked, library = linker.link('lib' + name.replace(' ', '-') + '.so', [built], flags=['-shared'])
        linker.checks.check(linked.returncode == 0, 'link the shared library, ' + name, linked.stdout)
        seen = visible(library, '-D')
        linker.checks.check(seen == wanted, 'shared library, %s: exports' % name, 'differ in %s' % (seen ^ wanted))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--id', required=True)
    parser.add_argument('--cc', required=True)
    parser.add_argument('--cxx', default='')
    options = parser.parse_args()
    checks = Checks()
    with Workplace() as workplace:
        linker = Linker(checks, options.id, options.cc, options.cxx, workplace)
        languages_mix(linker)
        copies(linker)
        exports(linker)
    checks.close()


if __name__ == '__main__':
    main()
