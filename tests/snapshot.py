#!/usr/bin/env python3
"""Snapshots as other programs see them: Python's JSON reader, the schema, and the pickle that memory_viz reads.

    snapshot.py PROGRAM [--graphs] [--schema]      PROGRAM: test_snapshot; --graphs: test_graph_seen

--schema checks only the schema, with the package jsonschema; without it that is skipped (status 77).
"""

import argparse
import importlib.util
import json
import pickle
import pickletools
import sys

from common import ROOT, Checks, Workplace, run

SCHEMA = ROOT / 'tests' / 'snapshot.schema.json'
SCRIPT = ROOT / 'bench' / 'memory_viz.py'
DOCUMENTS = ['all', 'empty', 'nasty', 'disposed', 'traced']
GRAPH_DOCUMENTS = ['graphs']

# The texts of test_snapshot.c.
NASTY = [
    b'', b'plain', b'quote"', b'back\\slash', b'"', b'\\', b'\n', b'tab\tnewline\nreturn\rbell\a\x01\x1f\x7f',
    b'</script>', b'\xc3\xa9t\xc3\xa9', b'\xf0\x9f\x98\x80', b'\xe2\x80\xa8', b'\xff', b'\xfe\xfe\xff\xff', b'\x80',
    b'\xc3', b'a\xc3', b'\xe2\x82', b'\xe2\x82z', b'\xf0\x9f\x98', b'\xf0\x9f\x98z', b'\xc0\x80', b'\xe0\x80\x80',
    b'\xf0\x80\x80\x80', b'\xed\xa0\x80\xed\xb0\x80', b'\xf4\x90\x80\x80', b'\xf5\x80\x80\x80',
    b'\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41', b'%s%n%d', b'{"a":1}', b'\xef\xbf\xbd']

# What the viewer's reader of pickles knows, less what it calls untested.
OPCODES = {'APPENDS', 'BINGET', 'BININT', 'BININT1', 'BININT2', 'EMPTY_DICT', 'EMPTY_LIST', 'FRAME', 'LONG1', 'LONG_BINGET',
           'MARK', 'MEMOIZE', 'PROTO', 'SETITEMS', 'SETITEM', 'SHORT_BINUNICODE', 'STOP', 'TUPLE2', 'APPEND', 'NEWFALSE',
           'BINPUT', 'BINUNICODE', 'EMPTY_TUPLE', 'NEWTRUE', 'NONE', 'BINFLOAT', 'TUPLE', 'TUPLE1', 'TUPLE3'}
SEGMENT = {'device': int, 'address': int, 'total_size': int, 'allocated_size': int, 'active_size': int,
           'requested_size': int, 'stream': int, 'segment_type': str, 'frames': list, 'blocks': list}
BLOCK = {'size': int, 'requested_size': int, 'state': str, 'frames': list}
ENTRY = {'action': str, 'addr': int, 'size': int, 'stream': int, 'time_us': int, 'frames': list, 'category': str}


def has(thing, members):
    return all(isinstance(thing.get(name), kind) for name, kind in members.items())


def tiles(begin, size, blocks, name, length):
    for block in blocks:
        if block[name] != begin:
            return False
        begin, size = begin + block[length], size - block[length]
    return size == 0


def check_document(checks, name, document):
    for allocator in document['allocators']:
        for area in allocator.get('ranges', []):
            blocks = [dict(block, at=int(block['ptr'], 16)) for block in area['blocks']]
            checks.check(tiles(int(area['ptr'], 16), area['size_bytes'], blocks, 'at', 'size_bytes'),
                         '%s: blocks tile their range' % name, json.dumps(area)[:300])


def check_tags(checks, document):
    """Every text comes out as Python would replace what is wrong in it."""
    tags = {block['requested_bytes']: block.get('tag') for area in document['allocators'][0]['ranges']
            for block in area['blocks'] if block['state'] == 'live'}
    for i, text in enumerate(NASTY):
        wanted = text.decode('utf-8', 'replace')
        checks.check(tags.get(100 + 256 * i) == wanted, 'tag %d' % i, '%r and %r' % (tags.get(100 + 256 * i), wanted))


def check_segments(checks, name, viewer):
    for segment in viewer['segments']:
        blocks = segment['blocks']
        whole = has(segment, SEGMENT) and bool(blocks) and all(has(block, BLOCK) for block in blocks)
        if not checks.check(whole, name + ': members of segments and blocks', repr(segment)[:300]):
            continue
        checks.check(tiles(segment['address'], segment['total_size'], blocks, 'address', 'size'),
                     name + ': blocks tile their segment')
        active = [block for block in blocks if block['state'] != 'inactive']
        live = [block for block in active if block['state'] == 'active_allocated']
        checks.check(sum(b['size'] for b in live) == segment['allocated_size'] and
                     sum(b['size'] for b in active) == segment['active_size'] and
                     sum(b['requested_size'] for b in active) == segment['requested_size'], name + ': sums of segments')
        checks.check(all(b['state'] in ('active_allocated', 'active_pending_free', 'inactive') and
                         0 <= b['requested_size'] <= b['size'] for b in blocks), name + ': states and sizes')
        checks.check(all(has(f, {'name': str, 'filename': str, 'line': int}) for b in blocks for f in b['frames']),
                     name + ': frames')
        checks.check(0 <= segment['device'] < len(viewer['device_traces']), name + ': a trace for each device')


def check_history(checks, name, viewer, device):
    """Goes back from the end as the viewer does: every event finds what it undoes, every block has a segment."""
    entries = viewer['device_traces'][device]
    segments = [s for s in viewer['segments'] if s['device'] == device]
    live = {block['address']: block['size'] for s in segments for block in s['blocks'] if block['state'] != 'inactive'}
    wrong = []
    categories = {entry['category'] for entry in entries}
    checks.check(not categories or 'unknown' in categories, name + ': a category is unknown')
    for i, entry in reversed(list(enumerate(entries))):
        addr = entry['addr']
        if not has(entry, ENTRY) or (entry['action'] == 'oom' and not isinstance(entry.get('device_free'), int)):
            wrong.append('%d: members' % i)
        elif entry['action'] == 'alloc':
            if live.pop(addr, None) is None:
                wrong.append('%d: not live after its allocation' % i)
        elif entry['action'] == 'free_completed':
            if addr in live:
                wrong.append('%d: live after its free' % i)
            if not any(s['address'] <= addr < s['address'] + s['total_size'] for s in segments):
                wrong.append('%d: in no segment' % i)
            live[addr] = entry['size']
        elif entry['action'] == 'free_requested' and addr not in live:
            wrong.append('%d: not live before its free' % i)
    checks.check(not wrong, '%s: the trace of device %d fits the segments' % (name, device), '\n'.join(wrong[:10]))


def check_viewer(checks, name, path):
    data = path.read_bytes()
    unknown = {opcode.name for opcode, argument, _ in pickletools.genops(data)
               if opcode.name not in OPCODES or (opcode.name == 'LONG1' and not -2 ** 63 <= argument < 2 ** 63)}
    checks.check(not unknown and data[:1] == b'\x80' and 2 <= data[1] <= 4, name + ': opcodes', str(unknown))
    viewer = pickle.loads(data)
    check_segments(checks, name, viewer)
    for device in range(len(viewer['device_traces'])):
        check_history(checks, name, viewer, device)
    return viewer


def convert(checks, name, source, target):
    checks.runs(name + ': converted', [sys.executable, SCRIPT, source, '-o', target])
    return check_viewer(checks, name, target)


def check_totals(checks, document, viewer):
    """Nothing is lost on the way: bytes and blocks."""
    allocators = document['allocators']
    live = sum(a['totals']['live_bytes'] for a in allocators)
    committed = sum(area['committed_bytes'] for a in allocators for area in a['ranges'])
    checks.check(live == sum(s['allocated_size'] for s in viewer['segments']), 'live bytes')
    checks.check(committed == sum(s['total_size'] for s in viewer['segments']), 'committed bytes')
    tags = {f['name'] for s in viewer['segments'] for b in s['blocks'] for f in b['frames']}
    checks.check({'weights', 'kv cache', 'kv', 'direct'} <= tags, 'tags are frames', str(tags))
    states = {b['state'] for s in viewer['segments'] for b in s['blocks']}
    checks.check(states == {'active_allocated', 'active_pending_free', 'inactive'}, 'all states occur', str(states))


def check_events(checks, viewer):
    actions = [entry['action'] for entry in viewer['device_traces'][0]]
    # 20 blocks; one of them is resized: freed and allocated again; 7 are freed
    checks.check([actions.count(a) for a in ('alloc', 'free_requested', 'free_completed', 'oom')] == [21, 8, 8, 1],
                 'traced: every event', str(actions))
    checks.check({entry['category'] for entry in viewer['device_traces'][0]} == {'even', 'unknown'}, 'traced: categories')


def check_graphs(checks, document, viewer):
    """Graph pools are pools of their own, and what they hold is neither free nor in use."""
    pools = [a for a in document['allocators'] if 'graph_pool' in a]
    ids = {a['id'] for a in document['allocators']}
    checks.check(len(pools) >= 3 and all(a['graph_pool']['beside'] in ids for a in pools), 'graph pools stand beside pools')
    seen = {s['segment_pool_id'] for s in viewer['segments']}
    checks.check(seen == {(0, i) for i in range(len(pools) + 1)}, 'the viewer tells their segments apart', str(seen))
    held = {b['ptr']: b for a in document['allocators'] for area in a['ranges'] for b in area['blocks'] if 'held_by' in b}
    holds = {h['ptr'] for a in pools for h in a['graph_pool']['holds']}
    checks.check(held and set(held) == holds, 'what is held is a block', '%s and %s' % (sorted(held), sorted(holds)))
    waiting = sum(b['size_bytes'] for a in document['allocators'] for area in a['ranges'] for b in area['blocks']
                  if b['state'] in ('held', 'pending'))
    checks.check(waiting == sum(s['active_size'] - s['allocated_size'] for s in viewer['segments']), 'held and pending bytes')


def event(kind, ptr=0, size=0, tag=None, time=0, **more):
    return dict({'kind': kind, 'ptr': hex(ptr), 'size_bytes': size, 'capacity_bytes': size, 'stream': '0x0', 'tag': tag,
                 'name': 'pool', 'time_ns': time, 'thread': 1}, **more)


# Events that do not fit what is there: dropped ones, freed memory, places that were given back.
HISTORIES = {
    'nothing': [],
    'alloc': [event('alloc', 0x1000, 100, 'a')],
    'alloc and free': [event('alloc', 0x2000, 100), event('free', 0x2000, 100)],
    'free only': [event('free', 0x2000, 100)],
    'free of what lives': [event('free', 0x1000, 100)],
    'free was dropped': [event('alloc', 0x2000, 100), event('alloc', 0x2000, 200), event('alloc', 0x3000, 100)],
    'alloc was dropped': [event('free', 0x2000, 50), event('free', 0x2000, 50)],
    'given back': [event('alloc', 0x900000, 100, 'gone'), event('alloc', 0x900040, 5000), event('free', 0x900000, 100)],
    'resized': [event('alloc', 0x1000, 50), event('resize', 0x1000, 100, 'a'), event('resize', 0x1000, 100, 'a')],
    'failure': [event('failure', 0, 10 ** 12, 'too much'), event('grow', 0, 4096), event('step'), event('limit', 0, 1)],
    'all tagged': [event('alloc', 0x1000, 100, 'a', 1), event('free', 0x1000, 100, 'a', 2), event('alloc', 0x1000, 100, 'a', 3)],
    'of nobody': [event('alloc', 0x1000, 100, name='another')],
    'across the end': [event('alloc', 0x4f00, 0x1000), event('free', 0x4f00, 0x1000)],
}


def histories(checks, workplace):
    blocks = [('live', 0x1000, 0x1000), ('free', 0x2000, 0x3000), ('hole', 0x5000, 0x1000)]
    area = {'ptr': '0x1000', 'size_bytes': 0x5000, 'kind': 'range', 'heap': 'large', 'committed_bytes': 0x4000,
            'blocks': [dict({'state': state, 'ptr': hex(ptr), 'size_bytes': size},
                            **({'requested_bytes': 100, 'generation': 1, 'tag': 'a'} if state == 'live' else {}))
                       for state, ptr, size in blocks]}
    pool = {'kind': 'pool', 'name': 'pool', 'device': {'type': 'host', 'index': 0}, 'ranges': [area]}
    for name, events in HISTORIES.items():
        source = workplace / 'history.json'
        source.write_text(json.dumps({'format': 'tensoralloc-snapshot', 'version': 1, 'allocators': [pool],
                                      'backends': [], 'budgets': [], 'events': events}))
        viewer = convert(checks, name, source, workplace / 'history.pickle')
        if name == 'alloc and free':
            actions = [entry['action'] for entry in viewer['device_traces'][0]]
            checks.check(actions == ['alloc', 'free_requested', 'free_completed', 'snapshot'], name, str(actions))
        if name == 'failure':
            checks.check([e['size'] for e in viewer['device_traces'][0] if e['action'] == 'oom'] == [10 ** 12], name)


def refuses(checks, workplace):
    for name, text in {'empty': '', 'no JSON': '{', 'no snapshot': '{}', 'a list': '[]', 'no UTF-8': None,
                       'another version': '{"format":"tensoralloc-snapshot","version":2}',
                       'cut': '{"format":"tensoralloc-snapshot","version":1}'}.items():
        path = workplace / 'bad.json'
        path.write_bytes(b'\xff' if text is None else text.encode())
        done = run([sys.executable, SCRIPT, path])
        checks.check(done.returncode == 1 and len(done.stdout.splitlines()) == 1 and 'bad.json' in done.stdout,
                     'refused: ' + name, done.stdout)
    done = run([sys.executable, SCRIPT, workplace / 'absent.json'])
    checks.check(done.returncode == 1 and 'absent.json' in done.stdout, 'refused: absent', done.stdout)


def check_schema(checks, documents, first):
    import jsonschema
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    validator = jsonschema.Draft7Validator(schema)
    for name, document in documents.items():
        errors = ['/'.join(map(str, e.absolute_path)) + ': ' + e.message[:200] for e in validator.iter_errors(document)]
        checks.check(not errors, name + ': as the schema says', '\n'.join(errors[:10]))
    for path, value in (('version', 2), ('more', 1), ('allocators', [{'kind': 5}]), ('time_ns', -1), ('backends', None)):
        wrong = dict(documents[first], **{path: value})
        checks.check(not validator.is_valid(wrong), 'the schema refuses a wrong ' + path)
    for state, member in (('live', 'requested_bytes'), ('held', 'held_by'), ('held', 'waits_for'), ('pending', 'waits_for')):
        wrong = json.loads(json.dumps(documents[first]))
        blocks = [b for a in wrong['allocators'] for area in a['ranges'] for b in area['blocks'] if b['state'] == state]
        for block in blocks:
            del block[member]
        checks.check(validator.is_valid(wrong) != bool(blocks), 'the schema refuses %s blocks without %s' % (state, member))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('program')
    parser.add_argument('--schema', action='store_true')
    parser.add_argument('--graphs', action='store_true')
    given = parser.parse_args()
    if given.schema and importlib.util.find_spec('jsonschema') is None:
        print('skipped: the package jsonschema is missing (python3-jsonschema)')
        sys.exit(77)
    checks = Checks()
    with Workplace() as workplace:
        names = GRAPH_DOCUMENTS if given.graphs else DOCUMENTS
        checks.runs('documents are written', [given.program, '--write', workplace])
        documents = {name: json.loads((workplace / (name + '.json')).read_bytes().decode('utf-8')) for name in names}
        if given.schema:
            check_schema(checks, documents, names[0])
        else:
            for name, document in documents.items():
                check_document(checks, name, document)
                viewer = convert(checks, name, workplace / (name + '.json'), workplace / (name + '.pickle'))
                if name == 'all':
                    check_totals(checks, document, viewer)
                if name == 'traced':
                    check_events(checks, viewer)
                if name == 'graphs':
                    check_graphs(checks, document, viewer)
            if not given.graphs:
                check_tags(checks, documents['nasty'])
                histories(checks, workplace)
                refuses(checks, workplace)
    checks.close()


if __name__ == '__main__':
    main()
