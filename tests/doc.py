#!/usr/bin/env python3
"""Every example in the documentation is compiled and run.

In the header's comments: what is indented under a heading QUICK START or EXAMPLE..., and statements in a line of text
after a colon. In README.md: what is fenced as ```c, and the compiler commands fenced as ```sh. An example without main
becomes its body; one that uses a pool or an arena that it does not make is given one.

    doc.py --cc 'COMPILER'
"""

import argparse
import re
import shutil

from common import HEADER, ROOT, Checks, Workplace, run, split

# Names that an example may use without making them: (declaration, making, unmaking).
GIVEN = {
    'pool': ('ta_pool *pool', 'ta_pool *pool = NULL; if (ta_pool_create(NULL, &pool) != TA_OK) { return 1; }',
             'if (ta_pool_destroy(pool) != TA_OK) { return 1; }'),
    'arena': ('ta_arena *arena', 'ta_arena *arena = NULL; if (ta_arena_create(NULL, &arena) != TA_OK) { return 1; }',
              'if (ta_arena_destroy(arena) != TA_OK) { return 1; }'),
}
STATEMENT = re.compile(r'\b(ta_\w+|TA_\w+_NEW)\(.*\)\s*;')


def is_code(paragraph):
    """Between the code of an example there may be paragraphs of text."""
    return re.search(r'^\s*#|[;{}]\s*(//.*|/\*.*\*/\s*)?$', paragraph, re.MULTILINE)


def header_examples():
    """(name, code) of the examples in the header's comments; a name None marks code that is in none of them."""
    text = HEADER.read_text()
    for comment in re.finditer(r'/\*.*?\*/', text, re.DOTALL):
        first_line = text.count('\n', 0, comment.start()) + 1
        lines = comment.group()[:-2].splitlines()
        code, heading, depth = [], None, 0
        for number, line in enumerate(lines + [''], first_line):
            indent = len(line) - len(line.lstrip())
            if heading and (not line.strip() or indent > depth) and number < first_line + len(lines):
                code.append(line[depth:])
                continue
            if heading:
                yield heading, '\n\n'.join(filter(is_code, re.split(r'\n\s*\n', '\n'.join(code))))
                code, heading = [], None
            if re.match(r'\s*(QUICK START|EXAMPLE\b.*)$', line):
                heading, depth = 'header line %d: %s' % (number, line.strip()), indent
                continue
            inline = re.search(r': ([^:]*;)\s*$', line)
            if inline and STATEMENT.search(inline.group(1)):
                yield 'header line %d' % number, inline.group(1)
            elif STATEMENT.search(line):
                yield None, 'header line %d: %s' % (number, line.strip())


def readme_blocks(language):
    """(name, text) of the blocks of README.md in a language."""
    text = (ROOT / 'README.md').read_text()
    for block in re.finditer(r'^```%s\n(.*?)^```' % language, text, re.DOTALL | re.MULTILINE):
        yield 'README line %d' % (text.count('\n', 0, block.start()) + 1), block.group(1)


def program(code):
    """A whole program from an example."""
    top, body, function = ['#include <stdio.h>', '#include <string.h>'], [], False
    if not re.search(r'^\s*#\s*define TENSORALLOC_IMPLEMENTATION', code, re.MULTILINE):
        top.append('#define TENSORALLOC_IMPLEMENTATION')
        top.append('#include "tensoralloc.h"')
    if re.search(r'^\s*int main\(', code, re.MULTILINE):
        return '\n'.join(top[2:] + [code])
    margin = min((len(line) - len(line.lstrip()) for line in code.splitlines() if line.strip()), default=0)
    for line in code.splitlines():
        line = line[margin:]
        if line.lstrip().startswith('#'):
            top.append(line)
        elif function or re.match(r'(static|typedef|struct|enum|void|int|ta_result)\b[^;=]*[({]\s*$|static\b.*[{)]$', line):
            top.append(line)
            function = not re.match(r'}', line)
        else:
            body.append('    ' + line)
    before, after = [], []
    for name, (declaration, make, unmake) in GIVEN.items():
        if re.search(r'\b%s\b' % name, code) and declaration not in code:
            before.append('    ' + make)
            after.append('    ' + unmake)
    return '\n'.join(top + ['', 'int main(void)', '{'] + before + body + after + ['    return 0;', '}', ''])


def try_c(checks, compiler, workplace, name, code):
    """Compiles and runs an example; example lines may leave their variables unused."""
    source, target = workplace / 'example.c', workplace / 'example'
    source.write_text(program(code))
    if checks.runs(name + ': compile', [*compiler, '-std=c99', '-Wall', '-Wextra', '-Wno-unused-variable',
                                        '-Wno-unused-but-set-variable', '-Werror', '-O0', '-I', ROOT, source,
                                        '-o', target, '-pthread', '-lm']):
        checks.runs(name + ': run', [target], cwd=workplace, timeout=120)


def try_sh(checks, workplace, name, text):
    """Runs the compiler commands of a shell block as they stand, in a copy of the sources, and with --smoke what they
    built. Of other commands, the files that they name must exist."""
    copy = workplace / 'copy'
    if not copy.exists():
        copy.mkdir()
        shutil.copy(HEADER, copy)
        shutil.copytree(ROOT / 'bench', copy / 'bench')
    for line in text.replace('\\\n', ' ').splitlines():
        for command in re.split(r'&&|;', line.split('#')[0]):
            words = command.split()
            if not words:
                continue
            if words[0] in ('mkdir', 'cc', 'gcc', 'clang'):
                checks.runs('%s: %s' % (name, command.strip()), ['sh', '-c', command], cwd=copy)
            elif (copy / words[0]).exists():  # built by a command before
                checks.runs('%s: %s --smoke' % (name, command.strip()), ['sh', '-c', command + ' --smoke'],
                            cwd=copy, timeout=240)
            else:
                for word in words:
                    if re.match(r'(tests|bench|\.ci)/[\w./-]+$', word):
                        checks.check((ROOT / word).exists(), '%s: %s exists' % (name, word))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--cc', required=True)
    compiler = split(parser.parse_args().cc)
    checks = Checks()
    with Workplace() as workplace:
        found = list(header_examples())
        for name, code in found:
            if name is None:
                checks.check(False, 'code in a comment that is in no EXAMPLE, so that nothing tests it', code)
            else:
                try_c(checks, compiler, workplace, name, code)
        checks.check(any(name and 'QUICK START' in name for name, _ in found), 'the header has a QUICK START')
        if checks.check((ROOT / 'README.md').exists(), 'README.md exists'):
            readme_c, readme_sh = list(readme_blocks('c')), list(readme_blocks('sh'))
            checks.check(readme_c and readme_sh, 'README.md has examples in ```c and commands in ```sh')
            for name, code in readme_c:
                try_c(checks, compiler, workplace, name, code)
            for name, text in readme_sh:
                try_sh(checks, workplace, name, text)
        print('examples: %d in the header' % sum(name is not None for name, _ in found))
    checks.close()


if __name__ == '__main__':
    main()
