#!/usr/bin/env python3
"""The table of figures in README.md: what stands behind the header, counted and measured by the scripts, not typed.

    figures.py update    writes the table: what can be counted is counted, what has to be measured is taken from the last runs
                         under build/ (.ci/run, or single stages of it); a row without a run keeps what it says
    figures.py --check   whether what can be counted is what the table says, and every row is there
"""

import glob
import json
import re
import sys

import config
import fuzz
import misuse
import mutate
from common import HEADER, ROOT, Checks

README = ROOT / 'README.md'
BEGIN, END = '<!-- figures: written by tests/figures.py -->', '<!-- figures end -->'


def text(path):
    return (ROOT / path).read_text()


def rounded(number, step):
    """Down, so that the table does not change with every commit."""
    return number // step * step


def cases(path):
    return re.findall(r'\bTEST_CASE(?:_THREADS)?\((\w+)\)', text(path).replace('define TEST_CASE', ''))


def sources():
    return sorted(str(path.relative_to(ROOT)) for folder in ('tests', 'tests/driver', 'tests/conformance')
                  for path in (ROOT / folder).glob('*.c'))


# ---- counted: from what is committed
def count_tests():
    programs = [path for path in sources() if cases(path)]
    return 'over %d cases in over %d programs' % (rounded(sum(len(set(cases(path))) for path in programs), 100),
                                                  rounded(len(programs), 10))


def count_configurations():
    rows = config.covering([len(levels) for levels in config.FACTORS.values()])
    levels = [len(one) for one in config.FACTORS.values()]
    pairs = sum(a * b for i, a in enumerate(levels) for b in levels[i + 1:])
    return '%d builds for all %d pairs of levels of %d options; %d standards' % (
        len(rows), pairs, len(levels), len(config.C_STANDARDS + config.CXX_STANDARDS))


def count_platforms():
    found = re.search(r'for platform in ([\w ]+);', text('.ci/run'))
    return 'x86-64 Linux, 32 bits; %s' % ', '.join(found.group(1).split()) if found else ''


def count_misuse():
    programs = [misuse.Program(path) for path in misuse.FOLDER.glob('*.c') if path.stem != 'impl']
    return '%d programs with one bug each, %d of them on a device' % (len(programs), sum(p.impl != '' for p in programs))


def count_fuzzing():
    inputs = [path for path in fuzz.CORPUS.rglob('*') if path.is_file()]
    return '%d targets, %d committed inputs' % (len(fuzz.TARGETS), len(inputs))


def count_branches():
    never = len(re.findall(r'\bTAI_NEVER\(', text('tensoralloc.h'))) - len(
        re.findall(r'define TAI_NEVER\(', text('tensoralloc.h')))
    return '%d conditions marked unreachable' % never


def count_mutants():
    known = mutate.known_survivors()
    return 'over %d possible mutants; survivors listed with reasons: %d equivalent, %d open' % (
        rounded(sum(1 for _ in mutate.Source().mutants(None)), 1000),
        *[sum(kind == one for one, _ in known.values()) for kind in ('equivalent', 'open')])


def count_seeds():
    chosen = [name for path in sources() for name in cases(path)
              if path == 'tests/test_model.c' or re.search('random|churn|programs_', name)]
    default = re.search(r'TEST_SEED_DEFAULT (\d+)', text('tests/test.h')).group(1)
    return 'over %d, each from a seed (%s, or `--seed N`)' % (rounded(len(chosen), 10), default)


# ---- measured: from the last runs; None without one
def test_logs(build):
    for name in glob.glob(str(ROOT / 'build' / build / 'meson-logs' / 'testlog*.json')):
        for line in open(name, errors='replace'):
            yield json.loads(line)


def measure_checks():
    checks = [int(number) for log in test_logs('tests') for number in re.findall(r'ok, (\d+) checks', log.get('stdout', ''))]
    return '%.1f million in one run of `tests/run.sh`' % (sum(checks) / 1e6) if checks else None


def stages():
    """{stage: (seconds, passed)} of the last .ci/run."""
    table = ROOT / 'build' / 'ci-table.txt'
    found = [re.match(r'(\S.*?) +(\d+|-) +(\d+) +(\d+) +(\d+)', line)
             for line in (table.read_text().splitlines() if table.exists() else [])]
    return {row.group(1): (int(row.group(2).replace('-', '0')), int(row.group(3))) for row in found if row}


def measure_runs():
    rows = stages().values()
    return '%d test runs in %d stages of `.ci/run`, %d minutes' % (
        sum(row[1] for row in rows), len(rows), sum(row[0] for row in rows) // 60) if rows else None


def measure_fuzzing():
    rows = stages()
    return '%d s of search' % rows['fuzzing'][0] if 'fuzzing' in rows else None


def measure_branches():
    path = ROOT / 'build' / 'coverage' / 'measured.json'
    if not path.exists():
        return None
    counted = json.loads(path.read_text())
    if counted['source'] != HEADER.read_text().splitlines():
        print('coverage: the header has changed since it was measured')
    taken = [n for line in counted['lines'] for n in line['taken']]
    lines = counted['lines']
    return '%.1f %% of %d branches, %.1f %% of %d lines' % (
        100 * (len(taken) - taken.count(0)) / max(1, len(taken)), len(taken),
        100 * sum(line['ran'] > 0 for line in lines) / max(1, len(lines)), len(lines))


def measure_mutants():
    runs = [re.search(r'(\d+) mutants: (\d+) killed, (\d+) survived, (\d+) equivalent', line)
            for line in (mutate.HISTORY.read_text().splitlines() if mutate.HISTORY.exists() else [])]
    sums = [sum(int(run.group(i)) for run in runs if run) for i in range(1, 5)]
    if sums[0] == 0:
        return None
    return '%.0f %% of %d sampled mutants that are not equivalent killed' % (100 * sums[1] / (sums[1] + sums[2]),
                                                                              sums[1] + sums[2])


ROWS = [  # what, counted, measured
    ('tests', count_tests, None),
    ('checks', None, measure_checks),
    ('runs', None, measure_runs),
    ('configurations', count_configurations, None),
    ('platforms', count_platforms, None),
    ('misuse corpus', count_misuse, None),
    ('fuzzing', count_fuzzing, measure_fuzzing),
    ('branch coverage', count_branches, measure_branches),
    ('mutation', count_mutants, measure_mutants),
    ('simulations', count_seeds, None),
]


def table_of(readme):
    """{row: [counted, measured]} of the README."""
    if BEGIN not in readme or END not in readme:
        return {}
    lines = readme.split(BEGIN)[1].split(END)[0].strip().splitlines()[2:]
    return {cells[0]: cells[1:] for cells in ([cell.strip() for cell in line.strip('|').split('|')] for line in lines)}


def update(readme):
    old = table_of(readme)
    if BEGIN not in readme or END not in readme:
        sys.exit('README.md has no place for the table:\n%s\n%s' % (BEGIN, END))
    lines = ['| | counted | measured |', '|---|---|---|']
    for what, counted, measured in ROWS:
        before = old.get(what, ['', ''])
        value = measured() if measured else ''
        lines.append('| %s | %s | %s |' % (what, counted() if counted else '', before[1] if value is None else value))
    return readme.split(BEGIN)[0] + BEGIN + '\n' + '\n'.join(lines) + '\n' + END + readme.split(END)[1]


def check(checks, readme):
    there = table_of(readme)
    checks.check(list(there) == [row[0] for row in ROWS], 'the README has the table of figures', str(list(there)))
    for what, counted, measured in ROWS:
        cells = there.get(what, ['', ''])
        if counted:
            now = counted()
            checks.check(cells[0] == now, 'README: %s' % what, 'it says "%s", counted is "%s": figures.py update' % (
                cells[0], now))
    marks = count_branches().split()[0]
    checks.check(int(marks) <= 40, 'at most 40 conditions are marked unreachable', marks)


def main():
    readme = README.read_text()
    if sys.argv[1:] == ['update']:
        README.write_text(update(readme))
    elif sys.argv[1:] == ['--check']:
        checks = Checks()
        check(checks, readme)
        checks.close()
    else:
        sys.exit(__doc__)


if __name__ == '__main__':
    main()
