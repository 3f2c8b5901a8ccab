"""What the test scripts share: running commands, counting checks, warning flags."""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

os.environ.pop('MALLOC_PERTURB_', None)  # Meson sets it for the programs that it tests; compilers take twice as long

ROOT = pathlib.Path(__file__).resolve().parent.parent
HEADER = ROOT / 'tensoralloc.h'

# Every one of these is silent on the header, in both of its parts.
WARNINGS = '''-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Wcast-align -Wundef -Wvla
              -Wformat=2 -Wswitch-enum -Wdouble-promotion'''.split()
WARNINGS_C = ['-Wstrict-prototypes', '-Wmissing-prototypes']

# clang is asked for everything it knows, less what contradicts C99, C++11 or the sense of this library:
CLANG_EXCEPT = '''
    padded                          layouts are drawn and measured; padding differs between 32 and 64 bits
    used-but-marked-unused          inline and STATIC functions are marked so that files may leave some unused
    unknown-warning-option          older compilers do not know all of this list
    declaration-after-statement     is C99
    unsafe-buffer-usage             pointer arithmetic is what an allocator does
    weak-vtables                    the C++ part is in a header, and the implementation may be compiled as C
    switch-default                  contradicts covered-switch-default, which is kept
    string-conversion               an assert that always fails says why: !"text"
    old-style-cast                  C++: the one cast that C has
    zero-as-null-pointer-constant   C++: the one null that C has
    c++98-compat                    C++11 is the oldest one supported
    c++98-compat-pedantic           the same
    pre-c11-compat                  only where the user asks for C11
    pre-c23-compat                  only where the user asks for C23
'''
CLANG_WARNINGS = ['-Weverything'] + ['-Wno-' + line.split()[0] for line in CLANG_EXCEPT.strip().splitlines()]


def warnings(compiler_id, language):
    """The full list, as errors."""
    if compiler_id == 'clang':
        return CLANG_WARNINGS + ['-Werror']
    return WARNINGS + (WARNINGS_C if language == 'c' else []) + ['-Werror']


def run(command, **options):
    """Runs a command (a list of anything that has a str) and gives back its status and its output, all in one."""
    return subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, universal_newlines=True, errors='replace', **options)


def symbols(path, *flags):
    """{name: type letter} of the symbols defined in an object or library, as nm shows them."""
    lines = run(['nm', '--defined-only', *flags, path]).stdout.splitlines()
    return {line.split()[-1]: line.split()[-2] for line in lines if len(line.split()) >= 2}


def split(command):
    """A compiler as Meson names it, e.g. 'ccache gcc -m32'; [] if there is none."""
    return shlex.split(command or '')


class Checks:
    """Counts checks, prints those that fail, and fails as a whole when one does or when there was none."""

    def __init__(self):
        self.count = 0
        self.failed = 0

    def check(self, holds, what, why=''):
        self.count += 1
        if not holds:
            self.failed += 1
            print('FAILED: ' + what)
            if why:
                print('    ' + why.strip()[:4000].replace('\n', '\n    '))
        return bool(holds)

    def runs(self, what, command, **options):
        """A command that must succeed."""
        done = run(command, **options)
        shown = ' '.join(str(word) for word in command)
        return self.check(done.returncode == 0, what, '%s\nstatus %d\n%s' % (shown, done.returncode, done.stdout))

    def close(self):
        print('%d checks, %d failed' % (self.count, self.failed))
        sys.exit(1 if self.failed or self.count == 0 else 0)


class Workplace:
    """A directory that goes away at the end of a with block."""

    def __enter__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix='tensoralloc-'))
        return self.path

    def __exit__(self, *unused):
        shutil.rmtree(self.path, ignore_errors=True)
