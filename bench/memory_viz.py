#!/usr/bin/env python3
"""Turns a snapshot (ta_snapshot_write) into the pickle that PyTorch's viewer reads: https://pytorch.org/memory_viz

    memory_viz.py SNAPSHOT.json [-o FILE.pickle]      default: the same name with .pickle

The page runs in your browser and uploads nothing. Each run of committed memory becomes a segment, each block keeps its
size and state; a tag is shown as the only frame of the block's stack; graph pools are private pools. CUDA devices keep their numbers, the host and
other devices come behind them (what is which is printed). With events in the snapshot (ta_snapshot_desc.trace) the
viewer's timelines show them. Needs nothing but Python.
"""

import argparse
import json
import pathlib
import pickle
import sys

# What the viewer calls the states of blocks; holes are not in segments.
STATES = {'live': 'active_allocated', 'pending': 'active_pending_free', 'held': 'active_pending_free', 'free': 'inactive',
          'cached': 'inactive', 'busy': 'inactive', 'changed': 'inactive'}


class Streams:
    """Small numbers for streams: the viewer cannot calculate with more than 63 bits."""

    def __init__(self):
        self.numbers = {0: 0}

    def number(self, stream):
        stream = int(stream, 16) if isinstance(stream, str) else stream
        return self.numbers.setdefault(stream, len(self.numbers))


def device_numbers(allocators):
    """{(type, index): number} of all devices that occur."""
    seen = sorted({(a['device']['type'], a['device']['index']) for a in allocators if 'device' in a})
    numbers = {device: device[1] for device in seen if device[0] == 'cuda'}
    for device in seen:
        if device not in numbers:
            numbers[device] = max(numbers.values(), default=-1) + 1
    return numbers


def frames_of(tag, name, cache):
    """The stack of a block: its tag, in the place of a function, and its allocator, in the place of a file."""
    if tag is None:
        return cache.setdefault(None, [])
    return cache.setdefault((tag, name), [{'name': tag, 'filename': name, 'line': 0}])


def segments_of(allocator, device, pool_id, streams, cache):
    """Segments: runs of blocks without a hole between them."""
    name = allocator.get('name', allocator['kind'])
    for area in allocator.get('ranges', []):
        segment, found = None, []
        for block in area['blocks']:
            if block['state'] == 'hole':
                segment = None
                continue
            if segment is None:
                segment = {
                    'device': device, 'address': int(block['ptr'], 16), 'total_size': 0, 'allocated_size': 0,
                    'active_size': 0, 'requested_size': 0, 'stream': 0,
                    'segment_type': 'large' if area['heap'] == 'large' else 'small', 'segment_pool_id': pool_id,
                    'is_expandable': area['kind'] == 'range', 'frames': frames_of(None, name, cache), 'blocks': []}
                found.append(segment)
            state, size = STATES[block['state']], block['size_bytes']
            requested = block.get('requested_bytes', size if state == 'active_pending_free' else 0)
            segment['total_size'] += size
            segment['allocated_size'] += size if state == 'active_allocated' else 0
            segment['active_size'] += size if state != 'inactive' else 0
            segment['requested_size'] += requested
            segment['stream'] = segment['stream'] or streams.number(block.get('stream', '0x0'))
            segment['blocks'].append({'address': int(block['ptr'], 16), 'size': size, 'requested_size': requested,
                                      'state': state, 'frames': frames_of(block.get('tag'), name, cache)})
        yield from found


class Timeline:
    """The events of one device, such that they end at what the segments say."""

    def __init__(self):
        self.entries = []
        self.live = {}    # address: (size, stream, frames, category) of what was seen to be allocated
        self.freed = set()
        self.spans = []   # addresses that some block had
        self.time = 0

    def add(self, action, addr, size, stream, frames, category):
        self.entries.append({'action': action, 'addr': addr, 'size': size, 'stream': stream, 'time_us': self.time,
                             'frames': frames, 'category': category})

    def alloc(self, addr, size, stream, frames, category):
        if addr in self.live:  # its free was dropped
            self.free(addr, *self.live[addr])
        self.live[addr] = (size, stream, frames, category)
        self.freed.discard(addr)
        self.spans.append((addr, addr + max(size, 1)))
        self.add('alloc', addr, size, stream, frames, category)

    def free(self, addr, size, stream, frames, category):
        if addr in self.freed:  # its allocation was dropped
            return
        if addr in self.live:
            size, stream, frames, category = self.live.pop(addr)
        self.freed.add(addr)
        self.spans.append((addr, addr + max(size, 1)))
        self.add('free_requested', addr, size, stream, frames, category)
        self.add('free_completed', addr, size, stream, frames, category)

    def take(self, event, streams, cache, free_bytes):
        addr, size = int(event.get('ptr') or '0x0', 16), event.get('size_bytes', 0)
        name, tag = event.get('name') or '', event.get('tag')
        what = (addr, size, streams.number(event.get('stream', '0x0')), frames_of(tag, name, cache), tag or 'unknown')
        self.time = event.get('time_ns', 0) // 1000
        if event['kind'] == 'alloc':
            self.alloc(*what)
        elif event['kind'] == 'free':
            self.free(*what)
        elif event['kind'] == 'resize':
            self.free(*what)
            self.alloc(*what)
        elif event['kind'] == 'failure':
            self.add('oom', addr, *what[1:])
            self.entries[-1]['device_free'] = free_bytes or 0

    def end(self, segments):
        """What happened after the last event, or was dropped; and memory for blocks whose place has been given back."""
        now = {block['address']: (block, segment) for segment in segments for block in segment['blocks']
               if block['state'] == 'active_allocated'}
        for addr in [addr for addr in self.live if addr not in now]:
            self.free(addr, *self.live[addr])
        for addr in [addr for addr in now if addr in self.freed]:
            block, segment = now[addr]
            self.alloc(addr, block['requested_size'], segment['stream'], block['frames'],
                       block['frames'][0]['name'] if block['frames'] else 'unknown')
        if self.entries:  # the viewer fails when there are categories and none of them is unknown
            self.add('snapshot', 0, 0, 0, [], 'unknown')
        return uncovered(sorted(self.spans), sorted((s['address'], s['address'] + s['total_size']) for s in segments))


def uncovered(spans, covers):
    """The parts of the spans that no cover holds, joined. Both sorted."""
    joined, at = [], 0
    for begin, end in spans:
        while begin < end:
            while at < len(covers) and covers[at][1] <= begin:
                at += 1
            inside = at < len(covers) and covers[at][0] <= begin
            stop = min(end, covers[at][1] if inside else covers[at][0] if at < len(covers) else end)
            if not inside:
                if joined and joined[-1][1] >= begin:
                    joined[-1][1] = max(joined[-1][1], stop)
                else:
                    joined.append([begin, stop])
            begin = stop
    return joined


def convert(snapshot):
    """The dictionary that the viewer reads, and {device: number}."""
    if not isinstance(snapshot, dict) or snapshot.get('format') != 'tensoralloc-snapshot':
        raise ValueError('this is no snapshot of tensoralloc.h')
    if snapshot['version'] != 1:
        raise ValueError('version %s is not known here' % snapshot['version'])
    streams, cache = Streams(), {}
    numbers = device_numbers(snapshot['allocators'])
    free = {(b['device']['type'], b['device']['index']): b['free_bytes'] for b in snapshot['backends']}
    segments, of_name, graph_pools = [], {}, 0
    for allocator in snapshot['allocators']:
        device = (allocator['device']['type'], allocator['device']['index']) if 'device' in allocator else None
        of_name.setdefault(allocator.get('name'), device)
        graph_pools += 'graph_pool' in allocator
        pool_id = (0, graph_pools if 'graph_pool' in allocator else 0)  # the viewer's name for memory of graphs
        segments += segments_of(allocator, numbers.get(device, 0), pool_id, streams, cache)
    timelines = {number: Timeline() for number in numbers.values()}
    for event in snapshot.get('events', []):
        device = of_name.get(event.get('name')) or min(numbers, key=numbers.get, default=None)
        if device is not None:
            timelines[numbers[device]].take(event, streams, cache, free.get(device))
    for number, timeline in timelines.items():
        for begin, end in timeline.end([s for s in segments if s['device'] == number]):
            segments.append({
                'device': number, 'address': begin, 'total_size': end - begin, 'allocated_size': 0, 'active_size': 0,
                'requested_size': 0, 'stream': 0, 'segment_type': 'large', 'segment_pool_id': (0, 0),
                'is_expandable': True, 'frames': [],
                'blocks': [{'address': begin, 'size': end - begin, 'requested_size': 0, 'state': 'inactive', 'frames': []}]})
    segments.sort(key=lambda segment: (segment['device'], segment['address']))
    traces = [timelines[number].entries if number in timelines else []
              for number in range(max(timelines, default=-1) + 1)]
    return {'segments': segments, 'device_traces': traces, 'allocator_settings': {}, 'external_annotations': []}, numbers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('snapshot', type=pathlib.Path)
    parser.add_argument('-o', '--out', type=pathlib.Path)
    given = parser.parse_args()
    out = given.out or given.snapshot.with_suffix('.pickle')
    try:
        viewer, numbers = convert(json.loads(given.snapshot.read_text(encoding='utf-8')))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        sys.exit('memory_viz.py: %s: %s' % (given.snapshot, error if isinstance(error, (OSError, ValueError))
                                            else 'no valid snapshot: %r' % error))
    out.write_bytes(pickle.dumps(viewer, protocol=4))
    print('%s: %d segments, %d blocks, %d events' % (out, len(viewer['segments']),
                                                     sum(len(segment['blocks']) for segment in viewer['segments']),
                                                     sum(map(len, viewer['device_traces']))))
    for (kind, index), number in sorted(numbers.items(), key=lambda item: item[1]):
        print('device %d is %s %d' % (number, kind, index))


if __name__ == '__main__':
    main()
