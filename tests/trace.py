#!/usr/bin/env python3
"""What a ta_trace writes is what others read: the text by bench/replay and bench/timeline, the JSON by a JSON reader,
as the counters that Chrome's trace viewer and Perfetto know.

    trace.py WRITER REPLAY TIMELINE
"""

import argparse
import json
import re

from common import Checks, Workplace, run

STEPS, BLOCKS = 6, 64
TAGS = ['forward', '"quoted", \\ and \x01\x1f\x7f', 'line\nfeed\ttab', 'broken \ufffd\ufffd(\ufffd', '\u20ac', '',
        '[{]}']


def text(checks, options, path, picture):
    lines = path.read_bytes().decode('utf-8', errors='replace').split('\n')
    resized = sum(1 for i in range(BLOCKS) if i % 5 == 0) * STEPS
    events = [line.split('#')[0].split() for line in lines]
    allocs = [event for event in events if event and event[0] == 'a']
    frees = [event for event in events if event and event[0] == 'f']
    checks.check(len(allocs) == STEPS * BLOCKS + resized, 'every allocation and resize is an a', str(len(allocs)))
    checks.check(sorted(e[1] for e in allocs) == sorted(e[1] for e in frees), 'each id is freed once')
    checks.check(sum(1 for event in events if event == ['s']) == STEPS, 'every step is an s')
    checks.check(sum(1 for event in allocs if len(event) == 4 and int(event[3]) > 64) > STEPS * 10,
                 'alignments are kept')
    checks.check(sum(1 for line in lines if ' tag forward/inside' in line) > STEPS, 'tags are kept')
    checks.check(not any(line.startswith('# dropped') or re.match('#.* free of ', line) for line in lines),
                 'nothing was dropped')
    checks.check(sum(1 for line in lines if re.match(r'# \d+ ns thread 1 the "pool" failure of \d+: the limit', line))
                 == STEPS, 'failures say why')
    checks.runs('replay reads the text', [options.replay, '--smoke', path])
    checks.runs('timeline reads the text', [options.timeline, path, '-o', picture])
    checks.check(picture.exists() and '</svg>' in picture.read_text(), 'and draws it')


def chrome(checks, path):
    raw = path.read_bytes()
    try:
        document = json.loads(raw.decode('utf-8'))
    except ValueError as error:
        checks.check(False, 'the document is JSON, in UTF-8', str(error))
        return
    events = document['traceEvents']
    checks.check(document['otherData'] == {'dropped': 0}, 'nothing was dropped')
    checks.check(all(set(e) >= {'name', 'ph', 'ts', 'pid', 'tid', 'args'} for e in events), 'events have their keys')
    checks.check({e['ph'] for e in events} == {'C', 'i'}, 'counters and instants')
    times = [e['ts'] for e in events]
    checks.check(times == sorted(times) and times[-1] > times[0], 'time goes on')
    pool = [e['args'] for e in events if e['ph'] == 'C' and e['name'] == 'the "pool"']
    checks.check(all(type(a['live']) is int and type(a['reserved']) is int for a in pool), 'counters are numbers')
    checks.check(all(0 <= a['live'] <= a['reserved'] for a in pool), 'live is within reserved')
    checks.check(max(a['live'] for a in pool) > 1 << 19, 'counters count')
    checks.check(pool[-1] == {'live': 0, 'reserved': 0}, 'everything was given back', str(pool[-1]))
    checks.check(sum(1 for e in events if e['name'] == 'step' and e['ph'] == 'i') == STEPS, 'steps are instants')
    failures = [e for e in events if e['name'].startswith('failure: ')]
    checks.check(sum(1 for e in failures if e['args']['size'] == 1 << 40) >= STEPS, 'failures have their size')
    tags = {e['name'] for e in events if e['name'].startswith('tag ')}
    for tag in TAGS:
        checks.check('tag ' + tag + '/inside' in tags, 'tag %r' % tag, str(tags))
    last = {e['name']: e['args']['live'] for e in events if e['name'] in tags}
    checks.check(set(last.values()) == {0}, 'tags end with nothing live', str(last))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('writer')
    parser.add_argument('replay')
    parser.add_argument('timeline')
    options = parser.parse_args()
    checks = Checks()
    with Workplace() as workplace:
        recorded, document = workplace / 'recorded.trace', workplace / 'recorded.json'
        written = run([options.writer, recorded, document])
        if checks.check(written.returncode == 0, 'the program writes both', written.stdout):
            text(checks, options, recorded, workplace / 'picture.svg')
            chrome(checks, document)
    checks.close()


main()
