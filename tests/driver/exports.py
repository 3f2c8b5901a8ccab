#!/usr/bin/env python3
"""Writes the version script of one library: it exports the functions that a driver of that version has, and tafake_*.

    exports.py cuda_functions.h tafake.h 11020 libcuda-11.2.map
"""

import re
import sys


def main():
    functions, side_channel, version, out = sys.argv[1:]
    names = [name for name, since in re.findall(r'^    F\((\w+), (\d+),', open(functions).read(), re.MULTILINE)
             if int(since) <= int(version)]
    names += re.findall(r'^    X\([^,]+, (tafake_\w+),', open(side_channel).read(), re.MULTILINE)
    with open(out, 'w') as script:
        script.write('{ global: %s local: *; };\n' % ' '.join(name + ';' for name in names))


if __name__ == '__main__':
    main()
