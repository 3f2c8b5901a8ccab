#!/bin/sh
# Runs everything that can run on a machine with an NVIDIA driver, in one call and under ten minutes:
#     sh tests/gpu/run.sh [FOLDER]        default $OUT, else build-gpu
# Needs a C compiler and python3; no network, no CUDA toolkit, no Meson. Writes to FOLDER
#     env.txt        the machine: GPU, driver, system, compiler
#     probes.txt     what the driver answers to the open questions P1 to P14 of tests/conformance
#     summary.txt    one line for each program, and the totals; what this script prints at its end
#     cuda.csv       bench/cuda.c: one line for each number
#     logs/          what each program printed
# Status: 0 nothing failed, 1 something failed, 77 skipped, for there is no GPU here.
#   CC, CFLAGS  the compiler, default cc, and more flags for it
#   JOBS        programs built and run at once; default: the processors
#   LIMIT       seconds for all of it; default 570. What has not begun by then is reported as not run
#   TAFAKE_LIBRARY, LD_LIBRARY_PATH   a driver to use in place of the system's: the software driver, to try this script
#   TAFAKE_PLAIN=1   that software driver without its side channel, as any other: what needs it is skipped
#   ONLY        a pattern of grep: programs whose names do not match it are left out
set -u
cd "$(dirname "$0")/../.." || exit 1
out=${1:-${OUT:-build-gpu}}
CC=${CC:-cc}
LIMIT=${LIMIT:-570}
begin=$(date +%s)

command -v python3 >/dev/null 2>&1 || { echo "skipped: python3 is missing"; exit 77; }
command -v "$CC" >/dev/null 2>&1 || { echo "skipped: there is no C compiler ($CC)"; exit 77; }
device=$(python3 - <<'END'
import ctypes, os, sys
try:
    driver = ctypes.CDLL(os.environ.get("TAFAKE_LIBRARY") or "libcuda.so.1")
except OSError as error:
    sys.exit("there is no NVIDIA driver: %s" % error)
number, name, handle = ctypes.c_int(), ctypes.create_string_buffer(100), ctypes.c_int()
code = driver.cuInit(0)
if code or driver.cuDeviceGetCount(ctypes.byref(number)) or number.value == 0:
    sys.exit("the driver has no device (cuInit answers %d)" % code)
driver.cuDeviceGet(ctypes.byref(handle), 0)
driver.cuDeviceGetName(name, 100, handle)
driver.cuDriverGetVersion(ctypes.byref(number))
print("%s; driver interface %d.%d" % (name.value.decode(), number.value // 1000, number.value % 1000 // 10), end="")
if hasattr(driver, "tafake_reset"):
    print("; the software driver of this repository", end="")
END
) 2>"${TMPDIR:-/tmp}/gpu-run.$$"
found=$?
why=$(tail -n 1 "${TMPDIR:-/tmp}/gpu-run.$$")
rm -f "${TMPDIR:-/tmp}/gpu-run.$$"
if [ $found != 0 ]; then
    echo "skipped: no GPU here: $why"
    exit 77
fi
JOBS=${JOBS:-$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)}
mkdir -p "$out/logs" "$out/bin" || exit 1
out=$(cd "$out" && pwd)
rm -f "$out"/logs/* "$out"/*.txt "$out"/*.csv "$out"/results

{
    echo "device: $device"
    nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap,persistence_mode --format=csv 2>/dev/null
    uname -a
    "$CC" --version | head -n 1
    grep -m 1 'model name' /proc/cpuinfo
    echo "processors: $(getconf _NPROCESSORS_ONLN)"
    git log -1 --format='commit: %H' 2>/dev/null || true
    date -u '+date: %Y-%m-%d %H:%M UTC'
} >"$out/env.txt"
echo "$device"

# NAME SECONDS SOURCES FLAGS COMMAND: what is built and run. GPU programs run one after the other, the others beside them.
traces=$PWD/bench/traces
programs() {
    for name in memory streams capture; do
        echo "conformance-$name|gpu|120|tests/conformance/$name.c||"
    done
    for name in cuda_order graph_driver graph graph_use graph_seen graph_order graph_random graph_faults \
        cuda_contract cuda_ladder cuda_table cuda_torch_calls cuda_faults cuda; do
        echo "$name|gpu|240|tests/test_$name.c|-DTRACES=\"$traces\"|"
    done
    echo "example_graph|gpu|120|tests/example_graph.c||"
    echo "cuda_abi|cpu|60|tests/test_cuda_abi.c tests/driver/abi_theirs.c||"
    echo "cuda_create|gpu|60|tests/test_cuda_create.c|-DTENSORALLOC_CUDA|$number"
    echo "cuda_off|cpu|60|tests/test_cuda_create.c||compiled"
    echo "copies|cpu|120|tests/link/copies.c tests/link/copy_a.c tests/link/copy_b.c||"
    for file in tests/test_*.c; do
        name=${file#tests/test_}
        name=${name%.c}
        case $name in cuda*|graph*|windows|selftest) continue ;; esac
        echo "$name|cpu|300|$file||"
    done
    replayed=$(echo "$traces"/*.trace)
    case $device in *"software driver"*) replayed="--smoke $traces/decode_kv.trace" ;; esac # times say nothing there
    echo "bench-cuda|bench|150|bench/cuda.c|-O2 -DNDEBUG|--csv $replayed"
    for name in micro replay threads growth; do
        echo "bench-$name|bench|60|bench/$name.c|-O2 -DNDEBUG|--smoke"
    done
}
number=$(echo "$device" | sed 's/.*interface \([0-9]*\)\.\([0-9]*\).*/\1 \2/' | awk '{print $1 * 1000 + $2 * 10}')
programs | grep -E "^(${ONLY:-.*})\|" >"$out/programs"

build_one() { # LINE
    name=$(echo "$1" | cut -d'|' -f1) sources=$(echo "$1" | cut -d'|' -f4) flags=$(echo "$1" | cut -d'|' -f5)
    # shellcheck disable=SC2086
    $CC -std=gnu11 -O1 -g -w -I. -Itests -Itests/driver $flags ${CFLAGS:-} -o "$out/bin/$name" $sources -pthread -ldl -lm \
        >"$out/logs/$name.build.txt" 2>&1 || rm -f "$out/bin/$name"
    [ -s "$out/logs/$name.build.txt" ] || rm -f "$out/logs/$name.build.txt"
}

run_one() { # LINE
    name=$(echo "$1" | cut -d'|' -f1) seconds=$(echo "$1" | cut -d'|' -f3) arguments=$(echo "$1" | cut -d'|' -f6)
    left=$((begin + LIMIT - $(date +%s)))
    start=$(date +%s)
    if [ ! -x "$out/bin/$name" ]; then
        verdict="FAILED to build"
    elif [ $left -le 5 ]; then
        verdict="not run, out of time"
    else
        [ "$seconds" -le $left ] || seconds=$left
        # shellcheck disable=SC2086
        timeout -k 5 "$seconds" "$out/bin/$name" $arguments >"$out/logs/$name.txt" 2>&1 </dev/null
        status=$?
        case $status in
            0) verdict=passed ;;
            77) verdict=skipped ;;
            124|137) verdict="FAILED: longer than $seconds s" ;;
            *) verdict="FAILED with status $status" ;;
        esac
        skips=$(grep -c '\.\.\. skipped' "$out/logs/$name.txt")
        oks=$(grep -c '\.\.\. .*ok, \|^ok, ' "$out/logs/$name.txt")
        [ "$oks$skips" = 00 ] || verdict="$verdict; cases: $oks ran, $skips skipped"
    fi
    printf '%-24s %5s s  %s\n' "$name" $(($(date +%s) - start)) "$verdict" >>"$out/results"
}

group() { # KIND JOBS: builds and runs the programs of a kind
    grep "|$1|" "$out/programs" >"$out/group.$1" || return 0
    running=0
    while IFS= read -r line; do
        run_one "$line" &
        running=$((running + 1))
        [ $running -lt "$2" ] || { wait; running=0; }
    done <"$out/group.$1"
    wait
    rm -f "$out/group.$1"
}

running=0
while IFS= read -r line; do
    build_one "$line" &
    running=$((running + 1))
    [ $running -lt "$JOBS" ] || { wait; running=0; }
done <"$out/programs"
wait
echo "built after $(($(date +%s) - begin)) s"

# Benches alone; before the tests that load the processors, since those may run out of time.
group bench 1
echo "benches done after $(($(date +%s) - begin)) s"
group gpu 1 &
gpu=$!
group cpu $((JOBS > 1 ? JOBS - 1 : 1))
wait $gpu

[ ! -f "$out/logs/bench-cuda.txt" ] || cp "$out/logs/bench-cuda.txt" "$out/cuda.csv"
sed -n 's/.*PROBE //p' "$out"/logs/conformance-*.txt 2>/dev/null | sort -V >"$out/probes.txt"
failed=$(grep -c ' s  FAILED' "$out/results")
{
    cat "$out/env.txt"
    echo
    sort "$out/results"
    echo
    sed 's/^/    /' "$out/probes.txt"
    echo
    echo "$(grep -c ' s  passed' "$out/results") passed, $failed failed, $(grep -c ' s  skipped' "$out/results")" \
        "skipped, $(grep -c ' s  not run' "$out/results") not run, in $(($(date +%s) - begin)) s; all of it: $out"
} >"$out/summary.txt"
rm -f "$out/programs" "$out/results"
rm -rf "$out/bin"
cat "$out/summary.txt"
[ "$failed" = 0 ]
