#!/bin/sh
# Builds and runs the tests: sh tests/run.sh [arguments of meson test]
# Installs Meson first if it is missing, and says so. Ends with "N passed, N failed, N skipped" and status 0 if none failed.
#   BUILD=name     the directory under build/; default tests
#   SETUP=options  of meson setup, e.g. SETUP=-Db_sanitize=address; CC and CXX choose compilers
set -eu
cd "$(dirname "$0")/.."
build=build/${BUILD:-tests}

have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install_meson() {
    if have apt-get && { [ "$(id -u)" = 0 ] || have sudo; }; then
        echo "Meson or Ninja is missing: installing them with apt-get."
        as_root apt-get install -y -q meson ninja-build ||
            { as_root apt-get update -q && as_root apt-get install -y -q meson ninja-build; } && return 0
    fi
    echo "Meson or Ninja is missing: installing them with pip, into build/venv."
    python3 -m venv build/venv && build/venv/bin/pip install -q meson ninja && return 0
    echo "Neither worked: trying pip in your home directory."
    python3 -m pip install --user -q meson ninja
}

PATH=$PWD/build/venv/bin:${HOME:-/}/.local/bin:$PATH
export PATH
if ! have meson || ! have ninja; then
    install_meson || true
    hash -r
    if ! have meson || ! have ninja; then
        echo "Could not install Meson. Please install the packages meson and ninja-build, and run this again."
        exit 1
    fi
fi
if ! have "${CC:-cc}" && ! have gcc && ! have clang && [ -z "${CC:-}" ]; then
    echo "There is no C compiler. Please install one, e.g. the package gcc, and run this again."
    exit 1
fi

if [ ! -f "$build/build.ninja" ]; then
    # shellcheck disable=SC2086 # SETUP holds several words
    meson setup ${SETUP:-} "$build"
fi
rm -f "$build"/meson-logs/testlog*.json
status=0
meson test -C "$build" --print-errorlogs "$@" || status=$?

# One line of JSON for each test.
python3 - "$build" "$status" <<'PYTHON'
import glob, json, sys
results = [json.loads(line)['result'] for name in glob.glob(sys.argv[1] + '/meson-logs/testlog*.json')
           for line in open(name, errors='replace')]
passed = sum(result in ('OK', 'EXPECTEDFAIL') for result in results)
skipped = results.count('SKIP')
failed = len(results) - passed - skipped
if failed == 0 and (sys.argv[2] != '0' or not results):
    failed = 1
    print('The tests could not be built or did not start.')
print('%d passed, %d failed, %d skipped' % (passed, failed, skipped))
sys.exit(failed != 0)
PYTHON
