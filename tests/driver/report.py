#!/usr/bin/env python3
"""A program that knows nothing of the side channel gets its report when it ends: report.py PROGRAM CASE"""

import os
import subprocess
import sys


def main():
    environment = dict(os.environ, TAFAKE_CONFIG='report=1')
    done = subprocess.run(sys.argv[1:], env=environment, stderr=subprocess.PIPE, universal_newlines=True)
    sys.stderr.write(done.stderr)
    whole = 'software driver: 0 reports' in done.stderr and ' left: 0 allocations' in done.stderr
    sys.exit(done.returncode != 0 or not whole)


if __name__ == '__main__':
    main()
