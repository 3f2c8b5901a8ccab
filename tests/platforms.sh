#!/bin/sh
# Builds and runs the tests on platforms other than this machine's gcc: sh tests/platforms.sh [stage...]
#   windows   gcc for Windows (with winpthreads and with native threads), under Wine
#   tcc       no atomics, so the header chooses to be without threads
#   musl      dynamic and static
#   aarch64 armhf riscv64 ppc64el s390x   cross gcc, under qemu-user; s390x is big-endian, armhf has 32 bits
#   wasm      clang for WASI, under node: no address ranges, no threads
#   msan tsan clang's sanitizers of memory and of threads
# Installs what a stage needs where it may (root and apt-get); a stage that cannot be had is skipped and says why.
# Ends with a table and the line "N passed, N failed, N skipped". Logs: build/platforms/STAGE/TEST.log
#   JOBS=n  tests at a time; default: one for each processor
set -u
cd "$(dirname "$0")/.." || exit 1
here=build/platforms
strict='-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Wcast-align -Wundef -Wvla -Wformat=2
    -Wswitch-enum -Wdouble-promotion -Werror'

# ---- one test, in a process of its own: builds it with $CC and $FLAGS, runs it with $RUN, leaves its verdict in $DIR
if [ "${1:-}" = --one ]; then
    name=$2 arguments='' sources=tests/test_$2.c
    log=$DIR/$name.log program=$DIR/$name$EXT
    case $name in
    header-c99) set -- $CC -std=c99 $strict -Wstrict-prototypes -Wmissing-prototypes -c tests/config/impl.c ;;
    header-c++11) set -- $CXX -x c++ -std=c++11 $strict -c tests/config/impl.c ;;
    *)
        case $name in
        copies) sources='tests/link/copies.c tests/link/copy_a.c tests/link/copy_b.c' ;;
        smoke) sources="$SMOKE tests/config/smoke.c tests/config/impl.c" ;;
        model) arguments="--ops $OPS" ;;
        contract) arguments=$CONTRACT ;;
        esac
        set -- $CC $FLAGS $sources
        ;;
    esac
    # shellcheck disable=SC2086 # these hold several words
    {
        echo "$* -I. -o $program $LIBS"
        timeout 300 "$@" -I. -o "$program" $LIBS
        status=$?
        if [ $status != 0 ]; then
            echo "not built"
            status=1
        elif [ "${name#header-}" = "$name" ]; then
            timeout "$SECONDS_MAX" $RUN "$program" $arguments
            status=$?
        fi
    } >"$log" 2>&1 </dev/null
    case $status in
    0) echo passed ;;
    77) echo skipped ;;
    *) echo failed ;;
    esac >"$DIR/$name.verdict"
    if [ "$(cat "$DIR/$name.verdict")" = failed ]; then
        printf '%s: FAILED with status %s; the end of %s:\n' "$name" "$status" "$log"
        grep -v ' ok, ' "$log" | tail -n 30 | cut -c 1-300
    fi
    exit 0
fi

mkdir -p "$here"
table=$here/table.txt
: >"$table"
all_passed=0 all_failed=0 all_skipped=0
jobs=${JOBS:-$(nproc 2>/dev/null || echo 2)}
began=$(date +%s)

row() { # STAGE SECONDS PASSED FAILED SKIPPED [REMARK]
    all_passed=$((all_passed + $3)) all_failed=$((all_failed + $4)) all_skipped=$((all_skipped + $5))
    printf '%-16s %7s %7s %7s %8s  %s\n' "$1" "$2" "$3" "$4" "$5" "${6:-}" >>"$table"
}

skip() { # STAGE WHY
    echo "$1: skipped: $2"
    row "$1" - 0 0 1 "$2"
}

want() { # PACKAGE...: 0 if they are installed now
    for package; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || break
        shift
    done
    [ $# = 0 ] && return 0
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" </dev/null >"$here/apt.log" 2>&1 && return 0
    apt-get update -q </dev/null >>"$here/apt.log" 2>&1
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" </dev/null >>"$here/apt.log" 2>&1
}

# What a stage may set before it calls `tests`.
plain() {
    CC=gcc CXX='' FLAGS="-O1 -Wall -Wextra -Werror" LIBS=-pthread RUN='' EXT='' OPS=20000 SECONDS_MAX=300 SMOKE='' CONTRACT=''
    export CC CXX FLAGS LIBS RUN EXT OPS SECONDS_MAX SMOKE CONTRACT
}

tests() { # STAGE TEST...
    stage=$1
    shift
    DIR=$here/$stage
    export DIR
    rm -rf "$DIR"
    mkdir -p "$DIR"
    printf '\n==== %s: %s\n' "$stage" "$*"
    # The machine must run what the compiler makes, or the whole stage is skipped.
    echo 'int main(void) { return 0; }' >"$DIR/probe.c"
    # shellcheck disable=SC2086 # these hold several words
    if ! { $CC $FLAGS "$DIR/probe.c" -o "$DIR/probe$EXT" $LIBS && timeout 120 $RUN "$DIR/probe$EXT"; } >"$DIR/probe.log" 2>&1; then
        skip "$stage" "a program that does nothing cannot be built and run: $(tail -n 1 "$DIR/probe.log")"
        return
    fi
    start=$(date +%s)
    printf '%s\n' "$@" | xargs -P "$jobs" -n 1 sh tests/platforms.sh --one
    passed=$(cat "$DIR"/*.verdict | grep -c passed)
    skipped=$(cat "$DIR"/*.verdict | grep -c skipped)
    row "$stage" $(($(date +%s) - start)) "$passed" $(($# - passed - skipped)) "$skipped"
    echo "$passed passed, $(($# - passed - skipped)) failed, $skipped skipped"
}

single='header-c99 selftest contract pool arena tensor streams predict dynamic'
# Of the contract, all but a failure of each call in turn, which takes longer than everything else.
short_contract='counting alloc free cache dispose reserved align sizes flags resize remap trim limit cached zeroed device null
    pointers copies threads budget tables upstream'
threaded="$single model misuse checked threads regressions copies smoke"

on_windows() {
    want gcc-mingw-w64-x86-64 g++-mingw-w64-x86-64 wine64 || { skip windows 'no gcc-mingw-w64-x86-64, or no wine64' && return; }
    wine=$(command -v wine64 || echo /usr/lib/wine/wine64)
    export WINEDEBUG=-all WINEPREFIX="$PWD/$here/wine" WINEDLLOVERRIDES='mscoree,mshtml=' DISPLAY=
    plain
    CC=x86_64-w64-mingw32-gcc-posix CXX=x86_64-w64-mingw32-g++-posix RUN=$wine EXT=.exe OPS=3000 CONTRACT=$short_contract
    FLAGS="$FLAGS -static -DSLOWER=16"
    # shellcheck disable=SC2086 # a list
    tests windows $threaded header-c++11 windows
    CC=x86_64-w64-mingw32-gcc-win32 CXX=x86_64-w64-mingw32-g++-win32
    tests windows-native header-c99 header-c++11 threads regressions copies smoke windows
}

on_tcc() {
    want tcc libc6-dev || { skip tcc 'no package tcc' && return; }
    plain
    CC='tcc' FLAGS='' SMOKE=-DTENSORALLOC_NO_THREADS
    tests tcc selftest contract pool arena tensor streams smoke
}

on_musl() {
    want musl-tools || { skip musl 'no package musl-tools' && return; }
    plain
    CC=musl-gcc FLAGS="$FLAGS -DSLOWER=8"
    # shellcheck disable=SC2086 # a list
    tests musl $threaded
    FLAGS="$FLAGS -static"
    tests musl-static selftest pool threads fork copies smoke
}

emulated() { # STAGE TRIPLE QEMU PACKAGE PACKAGE TEST...
    want "$4" "$5" qemu-user || { skip "$1" "no $4, $5 or qemu-user" && return; }
    plain
    # The emulator goes through address ranges page by page, and gives programs of 32 bits less than 3 GiB in pieces.
    CC=$2-gcc RUN=qemu-$3 OPS=1000 CONTRACT=$short_contract
    FLAGS="$FLAGS -static -DSLOWER=32 -DTAI_RANGE_BITS=26 -DTAI_ROOM_TIMES=2 -DTAI_BLOCK_COUNT_DEFAULT=131072"
    stage=$1
    shift 5
    tests "$stage" "$@"
}

# Those of little-endian 64 bits, as here, run what differs most.
like_here='header-c99 contract model dynamic threads regressions smoke'
# shellcheck disable=SC2086 # lists
on_aarch64() { emulated aarch64 aarch64-linux-gnu aarch64 gcc-aarch64-linux-gnu libc6-dev-arm64-cross $like_here; }
on_armhf() { emulated armhf arm-linux-gnueabihf arm gcc-arm-linux-gnueabihf libc6-dev-armhf-cross $threaded; }
on_riscv64() { emulated riscv64 riscv64-linux-gnu riscv64 gcc-riscv64-linux-gnu libc6-dev-riscv64-cross $like_here; }
on_ppc64el() { emulated ppc64el powerpc64le-linux-gnu ppc64le gcc-powerpc64le-linux-gnu libc6-dev-ppc64el-cross $like_here; }
on_s390x() { emulated s390x s390x-linux-gnu s390x gcc-s390x-linux-gnu libc6-dev-s390x-cross $threaded; }

on_wasm() {
    want clang wasi-libc libclang-rt-dev-wasm32 lld nodejs || { skip wasm 'no clang, wasi-libc, libclang-rt-dev-wasm32, lld or nodejs' && return; }
    plain
    mkdir -p "$here/wasi"
    # There is no pthread.h; the tests' backends have locks.
    cat >"$here/wasi/pthread.h" <<'EOF'
typedef int pthread_mutex_t, pthread_t;
#define pthread_create(thread, attributes, body, argument) (*(thread) = 0, (void)(body)(argument), 0) /* at once */
#define pthread_join(thread, out) ((void)(thread), 0)
#define PTHREAD_MUTEX_INITIALIZER 0
#define pthread_mutex_init(lock, attributes) (*(lock) = 0)
#define pthread_mutex_lock(lock) ((void)(lock))
#define pthread_mutex_unlock(lock) ((void)(lock))
#define pthread_mutex_destroy(lock) ((void)(lock))
EOF
    cat >"$here/wasi/run.js" <<'EOF'
const { WASI } = require('wasi');
const wasi = new WASI({ version: 'preview1', args: process.argv.slice(2), returnOnExit: true });
WebAssembly.instantiate(require('fs').readFileSync(process.argv[2]), { wasi_snapshot_preview1: wasi.wasiImport })
    .then(made => { process.exitCode = wasi.start(made.instance); });
EOF
    # node 20 may crash when a program that has had much memory returns to it: then its own last line counts.
    cat >"$here/wasi/run.sh" <<'EOF'
node --no-warnings --experimental-wasi-unstable-preview1 "${0%.sh}.js" "$@" >"$1.out" 2>&1
status=$?
cat "$1.out"
if [ $status -gt 128 ] && tail -n 2 "$1.out" | grep -q '^[1-9][0-9]* passed, 0 failed$'; then
    echo "node ended with status $status, after the program"
    status=0
fi
exit $status
EOF
    CC='clang --target=wasm32-wasi' LIBS='' EXT=.wasm RUN="sh $here/wasi/run.sh"
    FLAGS="$FLAGS -isystem $here/wasi -DTAI_BLOCK_COUNT_DEFAULT=131072" SMOKE=-DTENSORALLOC_NO_THREADS
    tests wasm header-c99 contract pool arena tensor streams predict smoke
}

sanitizer() { # STAGE SANITIZER TEST...
    stage=$1 sanitizer=$2
    shift 2
    want clang libclang-rt-dev libc6-dev || { skip "$stage" 'no clang or libclang-rt-dev' && return; }
    plain
    CC=clang FLAGS="$FLAGS -g -fsanitize=$sanitizer -fno-omit-frame-pointer"
    RUN=$(setarch -R echo setarch -R 2>/dev/null) # addresses may be too random for their shadow memory
    tests "$stage" "$@"
}

on_msan() {
    sanitizer msan memory selftest contract pool arena tensor streams predict dynamic model misuse checked threads regressions copies smoke
}

on_tsan() {
    export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
    sanitizer tsan thread contract pool model threads dynamic checked regressions copies
}

[ $# = 0 ] && set -- windows tcc musl aarch64 armhf riscv64 ppc64el s390x wasm msan tsan
for stage_wanted; do
    case $stage_wanted in
    windows | tcc | musl | aarch64 | armhf | riscv64 | ppc64el | s390x | wasm | msan | tsan) "on_$stage_wanted" ;;
    *)
        echo "no such stage: $stage_wanted"
        exit 2
        ;;
    esac
done

printf '\n%-16s %7s %7s %7s %8s\n' platform seconds passed failed skipped
cat "$table"
echo "in all: $(($(date +%s) - began)) seconds"
echo "$all_passed passed, $all_failed failed, $all_skipped skipped"
[ "$all_failed" = 0 ]
