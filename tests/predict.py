#!/usr/bin/env python3
"""The bench of the predictor: streams are read as they are, bad files are refused with the line that is wrong while the
others run, and the output has the columns and rows that it should. On streams held out, of which no setting knows, the
predictor keeps to its rates, and wastes little more than what could be had there, which the bench measures as well.

    predict.py PROGRAM
"""

import sys
import subprocess

from common import Checks, Workplace

COLUMNS = ('workload,stream,policy,waste_percent,resizes_per_1000,copied_per_used,recommit_per_used,'
           'peak_capacity_over_peak_used,declared_max_exceeded')
POLICIES = ['exact', 'max', 'pow2', 'spec_static', 'spec_learned', 'predictive_heap', 'predictive_range']
GROWING = ['predictive_growth_l1', 'predictive_growth_l16', 'predictive_growth_l64']
NAMES = 'TIMESTAMP,ContextTokens,GeneratedTokens\n'
ROW = '2023-11-16 18:15:46.6805900,374,44\n'

GOOD = {  # name: (text, workloads)
    'sizes.txt': ('4\n141\n5\n', ['W4']),
    'blanks.txt': ('\n  4 \r\n\n\t0007\n\n', ['W4']),
    'no newline': ('4\n5', ['W4']),
    'zeros': ('0\n5\n0\n', ['W4']),
    'only.zeros.txt': ('0\n0\n', []),
    'largest': ('1000000000\n1\n', ['W4']),
    'azure.csv': (NAMES + ROW + ROW, ['W1', 'W2', 'W3']),
    'unnamed.csv': (ROW, ['W1', 'W2', 'W3']),
    'azure2024.csv': (NAMES + '2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10T00:00:01Z, 2, 0\n',
                      ['W1', 'W2', 'W3']),
    'no context.csv': (NAMES + '2023-11-16 18:15:46,0,3\n', ['W2']),
    'comma,in "name"': ('7\n', ['W4']),
}

BAD = {  # name: (text, line, a part of the message); line 0: of the file as a whole
    'empty': ('', 0, 'no sizes'),
    'blank lines': ('\n\n \n', 0, 'no sizes'),
    'only names': (NAMES, 0, 'no sizes'),
    'word first': ('size\n4\n5\n', 1, 'neither'),
    'word later': ('4\nfive\n', 2, 'neither'),
    'negative': ('4\n-5\n', 2, 'neither'),
    'fraction': ('4.5\n', 1, 'neither'),
    'two sizes': ('4\n5 6\n', 2, 'neither'),
    'hexadecimal': ('0x10\n', 1, 'neither'),
    'too large': ('1000000001\n', 1, 'neither'),
    'far too large': ('99999999999999999999999999\n', 1, 'neither'),
    'two names': ('a,b\n1\n', 1, 'neither'),
    'four names': ('a,b,c,d\n1\n', 1, 'neither'),
    'an empty name': ('a,,c\n1\n', 1, 'neither'),
    'names twice': (NAMES + NAMES + ROW, 2, 'neither'),
    'names later': (ROW + NAMES, 2, 'neither'),
    'sizes under names': (NAMES + '5\n', 2, 'mix'),
    'size among columns': (ROW + '5\n', 2, 'mix'),
    'columns among sizes': ('5\n\n' + ROW, 3, 'mix'),
    'two columns': (NAMES + '2023-11-16 18:15:46.68,374\n', 2, 'neither'),
    'four columns': ('2023-11-16 18:15:46.68,374,44,1\n', 1, 'neither'),
    'negative context': ('2023-11-16 18:15:46.68,-374,44\n', 1, 'neither'),
    'month': ('2023-13-16 18:15:46.68,374,44\n', 1, 'neither'),
    'hour': ('2023-11-16 24:15:46.68,374,44\n', 1, 'neither'),
    'no time': ('2023-11-16,374,44\n', 1, 'neither'),
    'a long line': ('4\n' + '5' * 600 + '\n', 2, 'too long'),
    'zero byte': ('4\n5\0 6\n', 2, 'not text'),
}


HELD_OUT = 16000  # uses of each stream
FRONTIER = ['fixed_heap', 'fixed_heap_same', 'fixed_range', 'fixed_range_same', 'clairvoyant_range']
DRAWN = ['lognormal_narrow', 'lognormal', 'lognormal_wide', 'lognormal_large', 'lognormal_long', 'exponential',
         'uniform', 'log_uniform', 'pareto', 'bimodal', 'bimodal_near', 'bimodal_rare', 'spikes', 'image_sizes',
         'batches', 'constant']
TIMED = ['alternating', 'random_walk', 'sawtooth_50', 'sawtooth_500', 'days', 'regimes', 'regimes_short',
         'switch_once', 'drift']


def run(program, *arguments):
    return subprocess.run([program, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          stdin=subprocess.DEVNULL, universal_newlines=True)


def rows_of(workloads, stream):
    return [(workload, stream, policy) for workload in workloads
            for policy in POLICIES + (GROWING if workload == 'W2' else [])]


def check_good(checks, program, path, name, workloads):
    done = run(program, '--csv', path)
    lines = done.stdout.splitlines()
    rows = [line.split(',') for line in lines[1:]]
    stream = name.replace(',', '_').replace('"', '_')
    checks.check(done.returncode == 0 and lines[:1] == [COLUMNS], name, done.stderr)
    checks.check([tuple(row[:3]) for row in rows] == rows_of(workloads, stream), name + ': rows', done.stdout)
    checks.check(all(len(row) == 9 and float(row[3]) >= 0 and row[8] == '0' for row in rows), name + ': cells')
    checks.check('predict: ' not in done.stderr, name + ': complaints', done.stderr)


def check_bad(checks, program, path, name, line, part, good):
    done = run(program, '--csv', path, good)
    where = 'predict: %s:%s ' % (path, '%d:' % line if line else '')
    complaints = [text for text in done.stderr.splitlines() if text.startswith('predict: ')]
    checks.check(done.returncode == 1 and len(complaints) == 1 and complaints[0].startswith(where) and
                 part in complaints[0], name, done.stderr)
    streams = {row.split(',')[1] for row in done.stdout.splitlines()[1:]}
    checks.check(streams == {good.name}, name + ': the other file runs', done.stdout)


def check_switch(checks, program, place):
    """Two streams, one after the other; what it costs to decide stands beside the columns, not among them."""
    paths = [place / 'first.txt', place / 'second.txt']
    for path, scale in zip(paths, (1000, 10)):
        path.write_text(''.join('%d\n' % (scale * (1 + i * i % 97)) for i in range(1000)))
    done = run(program, *paths)
    checks.check(done.returncode == 0, 'two streams', done.stderr)
    heads = [line for line in done.stdout.splitlines() if line.startswith('W1: after 1000 uses of ')]
    checks.check(len(heads) == 2 and 'first.txt come those of second.txt' in heads[0] and
                 'second.txt come those of first.txt' in heads[1], 'switches, both ways', done.stdout)
    figures = [line.split()[-1] for line in done.stdout.splitlines() if len(line.split()) == 9]
    normal = [float(figure) for figure in figures if figure.replace('.', '').isdigit()]
    checks.check(len(normal) == 2 * len(POLICIES) - 2, 'a figure for all policies but exact', done.stdout)
    ranges = [float(line.split()[-1]) for line in done.stdout.splitlines()
              if line.startswith('predictive_') and len(line.split()) == 9]
    checks.check(len(ranges) == 4 and max(ranges) <= 1.25, 'the predictor is back to normal', str(ranges))
    checks.check(done.stdout.count('(medians)') == 4 and done.stderr == '', 'costs', done.stderr)
    done = run(program, '--csv', *paths)
    checks.check(done.stdout.count('(medians)') == 0 and done.stderr.count('(medians)') == 4, 'costs with --csv')
    checks.check(len(done.stdout.splitlines()) == 1 + 2 * len(POLICIES), 'columns alone', done.stdout)


def check_held_out_stream(checks, stream, rows):
    """rows: {policy: (waste, changes in 1000, recommitted per used)}."""
    largest = 1 + rows['max'][0] / 100  # over the mean
    waste, _, recommit = rows['predictive_range']
    heap_waste, changes, _ = rows['predictive_heap']
    checks.check(list(rows) == POLICIES + FRONTIER, stream + ': rows', str(list(rows)))
    # What is rare and very large is known to come again only when it has: three of the largest are granted.
    limit = 0.11 + 3 * largest / HELD_OUT
    checks.check(recommit <= limit, stream + ': recommitted', '%.4f, limit %.4f' % (recommit, limit))
    checks.check(changes <= 112, stream + ': changes', '%.2f in 1000' % changes)
    # Independent draws: the best fixed level, chosen with the whole stream in hand, is the best that there is. The
    # rate allowed is used up: where sizes lie close together, too.
    factor = 1.0 if stream in TIMED else 1.1 if largest <= 32 else 1.4
    bound = factor * rows['fixed_range'][0] + 5
    checks.check(waste <= bound, stream + ': waste of a range', '%.1f %%, bound %.1f' % (waste, bound))
    bound = (1.15 if stream in TIMED else 1.05) * rows['fixed_heap_same'][0] + 3
    checks.check(heap_waste <= bound, stream + ': waste of a block', '%.1f %%, bound %.1f' % (heap_waste, bound))
    checks.check(rows['clairvoyant_range'][0] <= rows['fixed_range'][0] + 0.01 and
                 (recommit > 0.11 or rows['clairvoyant_range'][0] <= waste + 0.01), stream + ': who knows the future')
    checks.check(rows['fixed_heap_same'][1] == changes and abs(rows['fixed_range_same'][2] - recommit) < 1e-4,
                 stream + ': compared at the same rate')


def shuffled(sizes):
    """As the bench does it."""
    state, sizes = 88172645463325252, list(sizes)
    for i in range(len(sizes), 1, -1):
        state ^= state << 13 & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 7
        state ^= state << 17 & 0xFFFFFFFFFFFFFFFF
        k = (state >> 11) % i
        sizes[i - 1], sizes[k] = sizes[k], sizes[i - 1]
    return sizes


def least_waste(sizes, rate):
    """In percent, one unit of memory at a time: over each gap between two uses it is kept, or given back."""
    gaps = []
    for height in range(1, max(sizes) + 1):
        uses = [i for i, size in enumerate(sizes) if size >= height]
        gaps += [later - use - 1 for use, later in zip(uses, uses[1:])]
    left, waste = rate * sum(sizes), 0
    for gap in sorted(gaps, reverse=True):
        given = min(1, left)
        left -= given
        waste += (1 - given) * gap
    return 100 * waste / sum(sizes)


def check_clairvoyant(checks, program, place):
    """Who knows the future wastes as little as can be wasted, and no more."""
    path = place / 'few.txt'
    sizes = [1 + i * i % 97 * (1 + i % 5) // 4 for i in range(600)]
    path.write_text(''.join('%d\n' % size for size in sizes))
    rows = [line.split(',') for line in run(program, '--csv', '--held-out', 1000, path).stdout.splitlines()]
    waste = [float(row[3]) for row in rows if row[1:3] == ['shuffled_few.txt', 'clairvoyant_range']]
    least = least_waste(shuffled(sizes), 0.11)
    checks.check(len(waste) == 1 and abs(waste[0] - least) <= 0.01, 'the least waste', '%s, %.3f' % (waste, least))


def check_held_out(checks, program, place):
    path = place / 'rising.txt'
    path.write_text(''.join('%d\n' % (1 + i // 8 * (1 + i * i % 97) // 100) for i in range(HELD_OUT)))
    done = run(program, '--csv', '--held-out', HELD_OUT, path)
    streams = {}
    for row in done.stdout.splitlines()[1:]:
        cells = row.split(',')
        checks.check(cells[0] == 'W1' and cells[8] == '0', 'held out: cells', row)
        streams.setdefault(cells[1], {})[cells[2]] = (float(cells[3]), float(cells[4]), float(cells[6]))
    checks.check(done.returncode == 0 and done.stderr == '', 'held out', done.stderr)
    expected = sorted(DRAWN + TIMED + ['shuffled_rising.txt'])
    checks.check(sorted(streams) == expected, 'streams held out', str(list(streams)))
    for stream, rows in streams.items():
        check_held_out_stream(checks, stream, rows)
    first, again = (run(program, '--held-out', 1000, path).stdout for _ in range(2))
    checks.check(first == again and first.count('clairvoyant_range') == len(streams), 'the same every time', first)
    for bad in ('0', '999', '-5', '1e5', '1000001', 'x', ''):
        checks.check(run(program, '--held-out', bad).returncode == 2, 'a count of "%s"' % bad)


def main():
    program = sys.argv[1]
    checks = Checks()
    with Workplace() as place:
        for name, (text, workloads) in GOOD.items():
            (place / name).write_bytes(text.encode())
            check_good(checks, program, place / name, name, workloads)
        for name, (text, line, part) in BAD.items():
            (place / 'bad').mkdir(exist_ok=True)
            (place / 'bad' / name).write_bytes(text.encode())
            check_bad(checks, program, place / 'bad' / name, name, line, part, place / 'sizes.txt')
        check_bad(checks, program, place / 'none', 'no such file', 0, 'No such file', place / 'sizes.txt')
        check_bad(checks, program, place, 'a directory', 0, 'directory', place / 'sizes.txt')
        check_switch(checks, program, place)
        check_clairvoyant(checks, program, place)
        check_held_out(checks, program, place)
        checks.check(run(program, '--unknown').returncode == 2, 'an unknown option')
    checks.close()


if __name__ == '__main__':
    main()
