#!/usr/bin/env python3
"""The timeline tool: what it draws is well-formed, bounded and says what the trace says; bad files and options are
refused with the line that is wrong.

    timeline.py PROGRAM [--seed N] [--rounds N]
"""

import argparse
import os
import pathlib
import random
import re
import signal
import xml.etree.ElementTree

from common import ROOT, Checks, Workplace, run

BYTES_MAX = 2000000
TRACES = ROOT / 'bench' / 'traces'

GOOD = {
    'one': 'a 1 100\n',
    'again': 'a 1 100\nf 1\na 1 200 4096\nf 1\ns\n',
    'comments': '# head\n\n  a 7 64 # first\r\n\ts\r\nf 7\n# end\n',
    'wide': 'a 0 1\na 1 1073741824\nf 0\n',
    'only steps after': 'a 0 1\ns\ns\ns\n',
    'head keeps its word': '# 3 events: 1 allocations, 1 frees, 1 step ends\na 0 1\nf 0\ns\n',
}

# name: (text, line, a part of the message)
BAD = {
    'empty': ('', 1, 'no events'),
    'only comments': ('# a 1 2\n\n# b\n', 3, 'no events'),
    'only steps': ('s\ns\n', 2, 'no events'),
    'unknown event': ('a 1 2\nx 1\n', 2, 'unknown event'),
    'glued event': ('a1 2\n', 1, 'unknown event'),
    'no id': ('a\n', 1, 'ID is missing'),
    'no size': ('a 1 2\na 5\n', 2, 'SIZE is missing'),
    'size is a word': ('a 1 two\n', 1, 'SIZE is not a number'),
    'size is negative': ('a 1 -2\n', 1, 'SIZE is not a number'),
    'size is a fraction': ('a 1 2.5\n', 1, 'SIZE is not a number'),
    'size is zero': ('a 1 0\n', 1, 'SIZE is 0'),
    'size is huge': ('a 1 99999999999999999999999999\n', 1, 'SIZE is above'),
    'id is huge': ('a 99999999999999999999 8\n', 1, 'ID is above'),
    'alignment': ('a 1 2 48\n', 1, 'power of two'),
    'alignment is zero': ('a 1 2 0\n', 1, 'power of two'),
    'too much': ('a 1 2 64 5\n', 1, 'text behind'),
    'free of nothing': ('a 1 2\nf 2\n', 2, 'not live'),
    'free twice': ('a 1 2\nf 1\nf 1\n', 3, 'not live'),
    'live already': ('# x\na 1 2\na 1 2\n', 3, 'live since line 2'),
    'step with a number': ('a 1 2\ns 3\n', 2, 'text behind'),
    'cut in a line': ('a 1 2\nf 1\na 2 40', 3, 'cut off'),
    'cut in a comment': ('a 1 2\n# no e', 2, 'cut off'),
    'cut between lines': ('# 3 events: 2 allocations, 1 frees, 0 step ends\na 1 2\nf 1\n', 3, 'cut off'),
    'cut before the events': ('# 3 events: 2 allocations, 1 frees, 0 step ends\n', 1, 'no events'),
    'zero byte': ('a 1 2\nf\0 1\n', 2, 'not text'),
    'zero byte at the end': ('a 1 2\nf 1\n\0\n', 3, 'not text'),
}


def parse(checks, name, path):
    """The words of a picture; None if it is no picture."""
    size = path.stat().st_size
    checks.check(0 < size <= BYTES_MAX, '%s: at most %d bytes' % (name, BYTES_MAX), str(size))
    try:
        root = xml.etree.ElementTree.parse(path).getroot()
    except xml.etree.ElementTree.ParseError as error:
        checks.check(False, name + ': well-formed', str(error))
        return None
    width, height = float(root.get('width')), float(root.get('height'))
    outside, words = [], []
    for text in root.iter('{http://www.w3.org/2000/svg}text'):
        words.append(''.join(text.itertext()))
        if not (0 <= float(text.get('x')) <= width and 0 < float(text.get('y')) <= height):
            outside.append(words[-1])
    checks.check(not outside, name + ': words lie in the picture', str(outside))
    numbers = [path.get('d') for path in root.iter('{http://www.w3.org/2000/svg}path')]
    checks.check(not any('n' in d for d in numbers), name + ': no inf, no nan')
    return words


def draw(checks, program, name, trace, target, *options):
    if checks.runs(name, [program, trace, '-o', target, *options], timeout=120):
        return parse(checks, name, target) or []
    return []


def refuses(checks, name, command, *parts, status=2):
    done = run(command, timeout=120)
    checks.check(done.returncode == status, '%s: status %d' % (name, status), '%d: %s' % (done.returncode, done.stdout))
    for part in parts:
        checks.check(part in done.stdout, '%s: says "%s"' % (name, part), done.stdout)
    checks.check(len(done.stdout.splitlines()) == 1, name + ': in one line', done.stdout)


def good_files(checks, program, workplace):
    target = workplace / 'out.svg'
    for name, text in GOOD.items():
        path = workplace / 'good.trace'
        path.write_bytes(text.encode())
        for allocator in ('pool', 'spec', 'malloc', 'p2'):
            draw(checks, program, '%s on %s' % (name, allocator), path, target, '--allocator', allocator)
    for name, shown in (('<&>"\'.trace', '<&>"\'.trace'), ('größe.trace', 'größe.trace'), ('x' * 200, 'x' * 80 + '...')):
        path = workplace / name
        path.write_text('a 1 2\n')
        words = draw(checks, program, 'file ' + name[:20], path, target)
        checks.check(any(shown in word for word in words), 'file %s: is in the title' % name[:20], str(words[:1]))
    path = os.fsencode(workplace) + b'/\xff\xc0\x01.trace'
    with open(path, 'wb') as file:
        file.write(b'a 1 2\n')
    draw(checks, program, 'a name that is no UTF-8', os.fsdecode(path), target)


def cut_off(checks, program, workplace):
    """What leaves the panel of fragmentation is marked, and by how much it does; sizes that are all the same are said once."""
    source, target = workplace / 'cut.trace', workplace / 'cut.svg'
    for name, text, size, cut in (('little in the beginning', ''.join('a %d 1001\n' % i for i in range(300)), '1001 B', True),
                                  ('much at once', 'a 1 4194304\n', '4 MiB', False)):
        source.write_text(text)
        draw(checks, program, name, source, target)
        written = target.read_text()
        said = re.search(r'peak live so far; above ([0-9.]+), up to ([0-9.]+), where the top is red', written)
        checks.check((said is not None) == cut and ('stroke="#c00000"' in written) == cut, name + ': the mark', str(said))
        checks.check(not cut or float(said.group(2)) > float(said.group(1)) >= 1, name + ': how much', str(said))
        checks.check('blocks of %s<' % size in written, name + ': one size')


def recordings(checks, program, workplace):
    target = workplace / 'out.svg'
    with open(program, 'rb') as file:
        small = file.read(5)[4:] == b'\1'  # 32 bits: not every recording fits
    for path in sorted(TRACES.glob('*.trace')):
        if small and 'varlen' in path.name:
            continue
        words = draw(checks, program, path.name, path, target)
        text = path.read_text()
        allocs, frees = (len(re.findall('^%s ' % letter, text, re.MULTILINE)) for letter in 'af')
        expected = '%s events: %s allocations, %s frees' % tuple(format(n, ',') for n in (allocs + frees, allocs, frees))
        checks.check(any(expected in word for word in words), '%s: title counts %s' % (path.name, expected), str(words[:3]))
        live, sizes, peak = 0, {}, 0
        for kind, block, *size in (line.split() for line in text.splitlines() if line[:1] in ('a', 'f')):
            if kind == 'a':
                sizes[block] = int(size[0])
            live += sizes[block] if kind == 'a' else -sizes[block]
            peak = max(peak, live)
        shown = [word for word in words if re.match(r'peak live \d', word)]
        found = re.match(r'peak live ([\d.]+) (\w+)', shown[0]) if shown else None
        unit = {'B': 0, 'KiB': 10, 'MiB': 20, 'GiB': 30}
        checks.check(found and abs(float(found.group(1)) * 2 ** unit[found.group(2)] - peak) <= 0.006 * peak,
                     '%s: peak live is %d' % (path.name, peak), str(shown))
    path = TRACES / 'treelstm_train.trace'
    words = draw(checks, program, 'steps 2..3', path, target, '--steps', '2..3', '--width', '640', '--colour', 'life')
    checks.check('2' in words and '3' in words and '4' not in words, 'steps 2..3 has their numbers', str(words))
    for steps, part in (('8..9', '8 steps'), ('3..2', 'number'), ('0', 'number'), ('2-3', '--steps'), ('2..3x', '--steps')):
        refuses(checks, 'steps ' + steps, [program, path, '-o', target, '--steps', steps], part)


def bad_files(checks, program, workplace):
    path, target = workplace / 'bad.trace', workplace / 'bad.svg'
    for name, (text, line, part) in BAD.items():
        path.write_bytes(text.encode())
        refuses(checks, name, [program, path, '-o', target], '%s:%d: ' % (path, line), part)
    checks.check(not target.exists(), 'what is refused leaves no picture')
    path.write_text('a 1 2\n')
    refuses(checks, 'missing file', [program, workplace / 'none.trace', '-o', target], 'none.trace: No such file')
    refuses(checks, 'directory', [program, workplace, '-o', target], 'Is a directory')
    refuses(checks, 'output in a missing directory', [program, path, '-o', workplace / 'no' / 'x.svg'], 'No such file')
    refuses(checks, 'output is a directory', [program, path, '-o', workplace], 'Is a directory')
    if pathlib.Path('/dev/full').exists():
        refuses(checks, 'full disk', [program, path, '-o', '/dev/full'], 'No space left')
    for words in (['--width', '5'], ['--width', '700x'], ['--width'], ['--allocator', 'x'], ['--allocator'], ['-o'],
                  ['--colour', 'red'], ['--steps'], ['--what'], ['other.trace']):
        refuses(checks, 'options %s' % words, [program, path, *words])
    refuses(checks, 'no trace', [program], 'which trace')
    path.write_text(''.join('a %d %d\n' % (i, 2 ** 30) for i in range(2 ** 20)))  # a PiB; addresses end at 128 TiB
    done = run([program, path, '-o', target, '--allocator', 'p2'], timeout=120)
    checks.check(done.returncode == 1 and re.search(r'bad.trace:\d+: no 1073741824 bytes', done.stdout),
                 'an allocation that fails is told with its line', done.stdout)


def fuzz(checks, program, workplace, seed, rounds):
    """Whatever the bytes: a picture, or one line that says where."""
    draw_from = random.Random(seed)
    lines = (TRACES / 'bert_serve_varlen.trace').read_bytes().splitlines(keepends=True)
    lines = [line for line in lines if not line.startswith(b'#')][:400]  # whose head would refuse all of them
    path, target = workplace / 'fuzz.trace', workplace / 'fuzz.svg'
    refused = 0
    for number in range(rounds):
        text = bytearray(b''.join(lines[:draw_from.randrange(1, len(lines))]))
        for _ in range(draw_from.choice((0, 1, 1, 2, 20))):
            at = draw_from.randrange(len(text))
            what = draw_from.randrange(4)
            if what == 0:
                text[at] = draw_from.randrange(256)
            elif what == 1:
                text[at:at] = draw_from.choice((b'\n', b' ', b's\n', b'9' * 30, b'-', b'#', b'\0', b'a 1 1\n'))
            elif what == 2:
                del text[at:at + draw_from.randrange(1, 30)]
            else:
                del text[at + 1:]
            text = text or bytearray(b'\n')
        path.write_bytes(bytes(text))
        name = 'fuzz round %d of seed %d' % (number, seed)
        done = run([program, path, '-o', target], timeout=120)
        if done.returncode == 0:
            parse(checks, name, target)
        else:
            refused += 1
            where = re.match(r'(.*):(\d+): \S', done.stdout)
            checks.check(done.returncode in (1, 2) and where and where.group(1) == str(path)
                         and 1 <= int(where.group(2)) <= text.count(b'\n') + 1, name + ': refused with a line',
                         '%d: %s' % (done.returncode, done.stdout))
    checks.check(0 < refused < rounds, 'some mutations are refused, some drawn', '%d of %d' % (refused, rounds))
    print('fuzz: seed %d, %d of %d files refused' % (seed, refused, rounds))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('program')
    parser.add_argument('--seed', type=int, default=random.SystemRandom().randrange(10 ** 6))
    parser.add_argument('--rounds', type=int, default=150)
    given = parser.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    checks = Checks()
    with Workplace() as workplace:
        good_files(checks, given.program, workplace)
        cut_off(checks, given.program, workplace)
        recordings(checks, given.program, workplace)
        bad_files(checks, given.program, workplace)
        fuzz(checks, given.program, workplace, given.seed, given.rounds)
    checks.close()


if __name__ == '__main__':
    main()
