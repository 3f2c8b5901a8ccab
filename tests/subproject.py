#!/usr/bin/env python3
"""The project as others use it: as a Meson subproject, and installed, with its pkg-config file.

    subproject.py --cc 'COMPILER'
"""

import argparse
import os
import re
import shutil
import sys

from common import HEADER, ROOT, Checks, Workplace, run, split

MESON = [shutil.which('meson')] if shutil.which('meson') else [sys.executable, '-m', 'mesonbuild.mesonmain']

MAIN_C = '''#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

int main(void)
{
    ta_pool *pool;
    if (ta_pool_create(NULL, &pool) != TA_OK || ta_pool_alloc(pool, 1000, NULL) == NULL) {
        return 1;
    }
    return ta_pool_destroy(pool) == TA_OK ? 0 : 1;
}
'''
MESON_BUILD = '''project('user', 'c')
%s
test('main', executable('main', 'main.c', dependencies: tensoralloc))
'''
WAYS = {
    'by its variable': "tensoralloc = subproject('tensoralloc').get_variable('tensoralloc_dep')",
    'by its name': "tensoralloc = dependency('tensoralloc', version: '>=0.1', fallback: 'tensoralloc')",
    'by both': "tensoralloc = dependency('tensoralloc', fallback: ['tensoralloc', 'tensoralloc_dep'])",
}


def as_subproject(checks, workplace, environment, way, line):
    user = workplace / 'user'
    (user / 'subprojects' / 'tensoralloc').mkdir(parents=True)
    for name in ('tensoralloc.h', 'meson.build'):  # a subproject needs nothing else
        shutil.copy(ROOT / name, user / 'subprojects' / 'tensoralloc')
    (user / 'main.c').write_text(MAIN_C)
    (user / 'meson.build').write_text(MESON_BUILD % line)
    if checks.runs(way + ': setup', [*MESON, 'setup', user / 'build', user], env=environment):
        tested = run([*MESON, 'test', '-C', user / 'build'], env=environment)
        checks.check(tested.returncode == 0 and re.search(r'^Ok:\s+1\s*$', tested.stdout, re.MULTILINE),
                     way + ': builds and runs, and brings no tests of its own', tested.stdout)
    shutil.rmtree(user)


def pkg_config(checks, directory):
    """Flags to compile with, from the file itself: pkg-config may not be here."""
    found = list(directory.rglob('tensoralloc.pc'))
    if not checks.check(len(found) == 1, 'one pkg-config file is installed', str(found)):
        return [], ''
    variables, fields = {}, {}
    for line in found[0].read_text().splitlines():
        line = re.sub(r'\$\{(\w+)\}', lambda v: variables[v.group(1)], line)
        name = re.match(r'(\w+)(=|: )(.*)', line)
        if name:
            (variables if name.group(2) == '=' else fields)[name.group(1)] = name.group(3)
    if shutil.which('pkg-config'):
        environment = {**os.environ, 'PKG_CONFIG_PATH': str(found[0].parent)}
        shown = run(['pkg-config', '--cflags', '--libs', 'tensoralloc'], env=environment)
        checks.check(shown.returncode == 0, 'pkg-config reads the file', shown.stdout)
    return split(fields.get('Cflags', '')) + split(fields.get('Libs', '')), fields.get('Version', '')


def installed(checks, workplace, environment, compiler):
    build, prefix = workplace / 'build', workplace / 'prefix'
    if not checks.runs('setup to install', [*MESON, 'setup', '--prefix', prefix, build, ROOT], env=environment):
        return
    checks.runs('install', [*MESON, 'install', '-C', build, '--no-rebuild'], env=environment)
    checks.runs('install to a destdir', [*MESON, 'install', '-C', build, '--no-rebuild', '--destdir', workplace / 'dest'],
                env=environment)
    header = prefix / 'include' / 'tensoralloc.h'
    checks.check(header.exists() and header.read_bytes() == HEADER.read_bytes(), 'the header is in include/')
    checks.check((workplace / 'dest' / str(header)[1:]).exists(), 'the header is in the destdir')
    flags, version = pkg_config(checks, prefix)
    checks.check("version: '%s'" % version in (ROOT / 'meson.build').read_text(), 'the version is ' + version)
    (workplace / 'main.c').write_text(MAIN_C)
    if checks.runs('compile with the flags of the pkg-config file',
                   [*compiler, workplace / 'main.c', *flags, '-o', workplace / 'main']):
        checks.runs('run', [workplace / 'main'])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--cc', required=True)
    given = parser.parse_args()
    environment = {**os.environ, 'CC': given.cc}
    environment.pop('DESTDIR', None)
    checks = Checks()
    with Workplace() as workplace:
        for way, line in WAYS.items():
            as_subproject(checks, workplace, environment, way, line)
        installed(checks, workplace, environment, split(given.cc))
    checks.close()


if __name__ == '__main__':
    main()
