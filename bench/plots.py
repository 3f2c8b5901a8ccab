#!/usr/bin/env python3
"""Draws the benches' CSV files as SVG for the README.

    plots.py [--out DIR] [--all] [FILE.csv ...]      default: every CSV file in bench/results, into the same directory

What a file is, its columns tell: those of replay (all files together: replay_time.svg, replay_memory.svg), of micro
(micro.svg), threads (threads.svg), predict (predict.svg) and growth (growth.svg), each with --csv. Other files are
skipped, and named. --all draws every row of replay, else the four that a reader compares.

The files of predict and growth in bench/results are made anew, where the streams lie and nothing else runs, with

    (sed 1q ROOT/bench/results/predict.csv && predict --csv azure2023_code_first_half.csv azure2023_conv.csv \\
        wikitext2_valid_words_per_line.txt) > predict.csv
    growth --csv > growth.csv
    growth --svg growth_demo.svg

Needs matplotlib: apt-get install python3-matplotlib, or python3 -m venv build/venv && build/venv/bin/pip install
matplotlib and build/venv/bin/python bench/plots.py
"""

import argparse
import csv
import pathlib
import sys

try:
    import matplotlib
    matplotlib.use('svg')
    from matplotlib import pyplot, ticker
except ImportError:
    sys.exit('plots.py: matplotlib is missing. On Debian: apt-get install python3-matplotlib. Elsewhere:\n'
             '    python3 -m venv build/venv && build/venv/bin/pip install matplotlib\n'
             '    build/venv/bin/python bench/plots.py')

RESULTS = pathlib.Path(__file__).resolve().parent / 'results'
INK, FAINT, LINE = '#1a1a1a', '#5a5a5a', '#d8d8d8'

# One ink and one mark each, everywhere; told apart by shape as well as by colour.
STYLES = {
    'ta_pool': ('#0072b2', 'o'), 'ta_pool_sized': ('#56b4e9', 'o'), 'ta_pool_spec': ('#56b4e9', 'v'),
    'ta_pool_st': ('#009e73', '^'), 'ta_pool_traced': ('#cc79a7', 'P'), 'malloc': ('#d55e00', 's'),
    'p2': ('#777777', 'D'), 'p2_tls': ('#777777', 'D'),
    'p2_spin': ('#b08a00', 'd'), 'exact': ('#b08a00', '^'), 'null': ('#bbbbbb', 'x'),
    'cold': ('#56b4e9', 'o'), 'warm': ('#0072b2', 'o'), 'waste': ('#0072b2', 'o'),
}
OTHERS = [('#44aa99', 'P'), ('#cc79a7', 'X'), ('#882255', 'v'), ('#332288', '<')]
MEANING = {'p2': 'p2 (free stack per power of two)', 'exact': 'exact (free stack per size)'}

pyplot.rcParams.update({
    'font.family': 'sans-serif', 'font.sans-serif': ['Helvetica', 'Arial', 'Liberation Sans', 'DejaVu Sans'],
    'font.size': 9.5, 'svg.fonttype': 'none', 'svg.hashsalt': 'tensoralloc', 'text.color': INK, 'axes.labelcolor': INK,
    'xtick.color': INK, 'ytick.color': INK, 'axes.edgecolor': '#888888', 'axes.linewidth': .8,
    'axes.spines.top': False, 'axes.spines.right': False,
})
matplotlib.set_loglevel('error')  # of the fonts above it may find only the last


def style(name):
    """(colour, marker) of a series; an unknown one keeps what it got first."""
    if name not in STYLES:
        STYLES[name] = OTHERS[(len(STYLES) - 15) % len(OTHERS)]
    return STYLES[name]


def read(path):
    """The rows of a CSV file as dictionaries; lines that begin with # are comments."""
    with open(path, newline='', encoding='utf-8', errors='replace') as file:
        return list(csv.DictReader(line for line in file if not line.startswith('#')))


def number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def size_text(size):
    for unit in ('B', 'KiB', 'MiB', 'GiB'):
        if size < 1024 or unit == 'GiB':
            return '%g %s' % (size, unit)
        size /= 1024


def plain(value, _=None):
    return '{:,.0f}'.format(value) if value >= 10 else '%g' % value


def save(figure, path):
    figure.savefig(path, format='svg', metadata={'Date': None, 'Creator': None}, facecolor='white')
    pyplot.close(figure)
    print('%s: %d KiB' % (path, path.stat().st_size // 1024))


def head(figure, title, subtitle, names, top):
    """Title, explanation and legend above the plots, on lines of their own. top: inches from there to the plots."""
    height = figure.get_figheight()
    figure.text(.02, 1 - .12 / height, title, fontsize=12.5, fontweight='bold', va='top')
    figure.text(.02, 1 - .37 / height, subtitle, fontsize=9.5, color=FAINT, va='top')
    if names:
        handles = [pyplot.Line2D([], [], linestyle='', marker=style(name)[1], color=style(name)[0], markersize=6.5)
                   for name in names]
        labels = [MEANING.get(name, name) for name in names] if len(names) <= 4 else names
        figure.legend(handles, labels, loc='upper left', ncol=len(names), bbox_to_anchor=(.01, 1 - .56 / height),
                      frameon=False, handletextpad=.2, columnspacing=1.6, borderaxespad=0)
    figure.subplots_adjust(top=1 - top / height)


def label_sides(values, logarithmic):
    """How the number of each dot is aligned: neighbours that are close lean away from each other."""
    sides = dict.fromkeys(values, 'center')
    order = sorted(values, key=values.get)
    for left, right in zip(order, order[1:]):
        if logarithmic and values[right] / values[left] < 1.15:
            sides[left], sides[right] = 'right', 'left'
    return sides


def dots(axes, rows, values, names, logarithmic, labelled={}):
    """A line of dots for each row. values[row][name]; labelled: names whose numbers are written above their dots."""
    for y, row in enumerate(rows):
        present = [values[row][name] for name in names if values[row].get(name) is not None]
        if present:
            axes.plot([min(present), max(present)], [y, y], color=LINE, linewidth=1.4, zorder=1, solid_capstyle='round')
        sides = label_sides({name: values[row][name] for name in labelled if values[row].get(name)}, logarithmic)
        for name in reversed(names):
            value = values[row].get(name)
            if value is None:
                continue
            colour, marker = style(name)
            axes.plot(value, y, linestyle='', marker=marker, color=colour, markersize=6.5, zorder=3,
                      markeredgecolor='white', markeredgewidth=.6)
            if name in labelled:
                axes.annotate(labelled[name] % value, (value, y), ({'left': -4, 'right': 4}.get(sides[name], 0), 5.5),
                              textcoords='offset points', ha=sides[name], fontsize=8.5, color=colour)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - .5, -.65)
    axes.tick_params(axis='y', length=0)
    axes.spines['left'].set_visible(False)
    axes.grid(axis='x', color='#ececec', linewidth=.8, zorder=0)
    axes.set_axisbelow(True)
    if logarithmic:
        axes.set_xscale('log')
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(plain))
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())


def draw_replay(tables, out, everything):
    rows = [row for table in tables for row in table if row['touch'] == 'none']
    traces = list(dict.fromkeys(row['trace'] for row in rows))
    measured = list(dict.fromkeys(row['allocator'] for row in rows))
    names = [name for name in measured if name != 'null' and
             (everything or name in ('ta_pool', 'malloc', 'p2', 'exact') or name not in STYLES)]

    def table_of(column):
        return {trace: {row['allocator']: number(row[column]) for row in rows if row['trace'] == trace}
                for trace in traces}

    for column, file, title, subtitle, log, label in (
            ('steady_ns_per_pair', 'replay_time.svg', 'What an allocation and its free cost, in a step that repeats',
             'ns of CPU time per pair, median of the steady passes; nothing is touched; the scale is logarithmic',
             True, {'ta_pool': '%.0f', 'malloc': '%.0f'}),
            ('reserved_over_live', 'replay_memory.svg', 'Memory taken from the system / most that was live at one time',
             'reserved / peak live (requested): 1 is the least there is. What malloc reserves is not known',
             True, {'ta_pool': '%.2f', 'p2': '%.2f'})):
        values = table_of(column)
        shown = [name for name in names if any(values[trace].get(name) is not None for trace in traces)]
        if not shown:
            continue
        top = .95
        figure, axes = pyplot.subplots(figsize=(8.2, top + .36 * len(traces) + .5))
        dots(axes, traces, values, shown, log, label)
        if column == 'reserved_over_live':
            most = max(value for trace in traces for value in values[trace].values() if value is not None)
            axes.set_xlim(.96, most * 1.08)
            ticks = [tick for tick in (1, 1.25, 1.5, 2, 3, 4, 6, 8, 12) if tick < most * 1.08]
            axes.set_xticks(ticks, ['%g x' % tick for tick in ticks])
            axes.xaxis.set_minor_locator(ticker.NullLocator())
        else:
            axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 3)))
            axes.set_xlabel('ns per pair')
        figure.subplots_adjust(left=.235, right=.975, bottom=.5 / figure.get_figheight())
        head(figure, title, subtitle, shown, top)
        save(figure, out / file)


def lines(axes, points, names):
    """points[name]: {size: ns}"""
    for name in names:
        if name in points:
            colour, marker = style(name)
            sizes = sorted(points[name])
            axes.plot(sizes, [points[name][size] for size in sizes], color=colour, marker=marker, markersize=5,
                      linewidth=1.5, markeredgecolor='white', markeredgewidth=.5)
    axes.set_xscale('log', base=2)
    axes.set_yscale('log')
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 3)))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(plain))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: size_text(value)))
    axes.xaxis.set_major_locator(ticker.LogLocator(base=2, numticks=5))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.grid(color='#ececec', linewidth=.8)
    axes.set_axisbelow(True)


def draw_sizes(table, out, file, title, panel_of, skip):
    """Time against size, a panel for each panel_of(row)."""
    panels = list(dict.fromkeys(panel_of(row) for row in table))
    names = [name for name in dict.fromkeys(row['allocator'] for row in table) if name not in skip]
    columns = min(3, len(panels))
    count = -(-len(panels) // columns)
    top = 1.2
    figure, grid = pyplot.subplots(count, columns, figsize=(max(3.4 * columns, 8.2), top + 2.5 * count + .1),
                                   sharey=True, squeeze=False)
    for axes, panel in zip(grid.flat, panels):
        points = {}
        for row in table:
            if panel_of(row) == panel:
                points.setdefault(row['allocator'], {})[number(row['size'])] = number(row['ns_per_pair'])
        lines(axes, points, names)
        axes.set_title(panel, fontsize=10, loc='left')
    for axes in list(grid.flat)[len(panels):]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel('ns per pair')
    figure.subplots_adjust(left=.095, right=.97, bottom=.4 / figure.get_figheight(), hspace=.35, wspace=.13)
    head(figure, title, 'ns per allocation and free, median; both scales are logarithmic', names, top)
    save(figure, out / file)


def draw_panels(table, out, file, title, subtitle, axis, panel_of, row_of, series_of, value_of, names, log):
    """Dots, a panel for each panel_of(row)."""
    panels = list(dict.fromkeys(panel_of(row) for row in table))
    rows = list(dict.fromkeys(row_of(row) for row in table))
    columns = min(3, len(panels))
    count = -(-len(panels) // columns)
    top = 1.2 if len(names) > 1 else .95
    shown = [value for value in map(value_of, table) if value]
    spread = max(shown) / min(shown) if log and shown else 1
    height = top + count * (.2 * len(rows) + .62) + .2
    figure, grid = pyplot.subplots(count, columns, figsize=(9.4, height), sharex=True, sharey=True, squeeze=False)
    for axes, panel in zip(grid.flat, panels):
        values = {row: {} for row in rows}
        for row in table:
            if panel_of(row) == panel:
                values[row_of(row)][series_of(row)] = value_of(row)
        dots(axes, rows, values, names, log)
        axes.set_title(panel, fontsize=10, loc='left', pad=4)
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1,) if spread > 100 else (1, 3)))
    for index, axes in enumerate(grid.flat):
        axes.set_visible(index < len(panels))
        if index + columns >= len(panels):  # the last of its column
            axes.tick_params(labelbottom=True)
            axes.set_xlabel(axis)
    figure.subplots_adjust(left=.2, right=.98, bottom=.55 / figure.get_figheight(), hspace=.3, wspace=.08)
    head(figure, title, subtitle, names if len(names) > 1 else [], top)
    save(figure, out / file)


def draw_predict(table, out):
    def waste(row):
        return 1 + number(row['waste_percent']) / 100

    draw_panels(table, out, 'predict.svg', 'Capacity held / bytes used, by policy',
                'sizes that change from use to use; 1 is exact, which pays with a resize at every change',
                'capacity / used', lambda row: '%s, %s' % (row['workload'], row['stream']), lambda row: row['policy'],
                lambda row: 'waste', waste, ['waste'], True)


def draw_growth(table, out):
    table = [row for row in table if row['touch'] == 'page'] or table
    draw_panels(table, out, 'growth.svg', 'What it costs to let a buffer grow',
                'ns of CPU time per byte grown by, median; each new page is written once; logarithmic', 'ns per byte',
                lambda row: '%s buffer%s, %s' % (row['buffers'], 's' if row['buffers'] != '1' else '', row['growth']),
                lambda row: row['row'], lambda row: row['state'], lambda row: number(row['ns_per_byte']),
                ['cold', 'warm'], True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('files', nargs='*', type=pathlib.Path, metavar='FILE.csv')
    parser.add_argument('--out', type=pathlib.Path, default=RESULTS)
    parser.add_argument('--all', action='store_true', help='every row of replay')
    given = parser.parse_args()
    replays = []
    for path in given.files or sorted(RESULTS.glob('*.csv'), reverse=True):
        table = read(path)
        columns = set(table[0]) if table else set()
        if 'steady_ns_per_pair' in columns:
            replays.append(table)
        elif {'pattern', 'ns_per_pair'} <= columns:
            draw_sizes(table, given.out, 'micro.svg', 'One thread: an allocation and its free, by size',
                       lambda row: row['pattern'] + (', touched' if row['touch'] != 'none' else ''), ('null', 'exact'))
        elif {'mode', 'threads'} <= columns:
            draw_sizes(table, given.out, 'threads.svg', 'Threads: an allocation and its free, by size',
                       lambda row: '%s, %s thread%s' % (row['mode'].replace('_', '/'), row['threads'],
                                                        's' if row['threads'] != '1' else ''), ())
        elif 'waste_percent' in columns:
            draw_predict(table, given.out)
        elif {'growth', 'ns_per_byte'} <= columns:
            draw_growth(table, given.out)
        else:
            print('%s: skipped, its columns are of no bench that is drawn' % path, file=sys.stderr)
    if replays:
        draw_replay(replays, given.out, given.all)


if __name__ == '__main__':
    main()
