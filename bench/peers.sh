#!/bin/sh
# peers.sh - ta_pool against the mallocs of this machine: glibc (default and tuned), jemalloc, mimalloc, tcmalloc.
#
#   bench/peers.sh [-s D] [-b LIST] [file.trace ...]        without files: bench/traces/*.trace
#
#   -s D      where memory is touched, divide sizes above 64 KiB by D (traces larger than the machine)
#   -b LIST   only these benches, e.g. growth,micro; default replay,threads,micro,growth
#
# Builds the benches (CC, CFLAGS from the environment, if set), runs them once for each malloc, which is preloaded in
# place of the C library's, and divides: the malloc row by the ta_pool row of the same run; for growth, realloc by
# ta_dynamic. What is not installed is named and left out. Takes about twenty minutes with the traces of bench/traces.
# Nothing outside a temporary folder is written.
set -eu

die() {
    printf 'peers.sh: %s\n' "$*" >&2
    exit 2
}

say() {
    printf 'peers.sh: %s\n' "$*" >&2
}

scale=1
benches=replay,threads,micro,growth
while getopts s:b: option; do
    case $option in
    s) scale=$OPTARG ;;
    b) benches=$OPTARG ;;
    *) die "usage: bench/peers.sh [-s D] [-b LIST] [file.trace ...]" ;;
    esac
done
for bench in $(printf '%s' "$benches" | tr , ' '); do
    case $bench in
    replay | threads | micro | growth) ;;
    *) die "no bench is called $bench" ;;
    esac
done
shift $((OPTIND - 1))

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
if [ $# -eq 0 ]; then
    set -- "$root"/bench/traces/*.trace
    [ -e "$1" ] || die "no traces in $root/bench/traces; name some"
fi
for trace in "$@"; do
    [ -r "$trace" ] || die "cannot read $trace"
done

work=$(mktemp -d "${TMPDIR:-/tmp}/peers.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
for bench in replay threads micro growth; do
    # shellcheck disable=SC2086  # CFLAGS may be several words
    ${CC:-cc} ${CFLAGS:--O2 -DNDEBUG} -I "$root" "$root/bench/$bench.c" -o "$work/$bench" -pthread ||
        die "bench/$bench.c does not build"
done

# The first of the given library names that is installed and can be preloaded here.
find_library() {
    for name in "$@"; do
        # shellcheck disable=SC2231  # names are patterns
        for found in /usr/lib/*/$name /usr/lib/$name /usr/lib64/$name /lib/*/$name /usr/local/lib/$name; do
            if [ -e "$found" ] && [ -z "$(env LD_PRELOAD="$found" "$work/replay" --help 2>&1 >/dev/null)" ]; then
                printf '%s\n' "$found"
                return
            fi
        done
    done
}

# One line for each malloc: name, then what to set in the environment.
peers=$work/peers
if getconf GNU_LIBC_VERSION >/dev/null 2>&1; then
    {
        echo 'glibc'
        echo 'glibc_tuned GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776'
    } >"$peers"
else
    say "the C library is not glibc: its malloc is called libc, and there is no tuned one"
    echo 'libc' >"$peers"
fi
add_peer() { # name, package, library names
    peer=$1
    package=$2
    shift 2
    library=$(find_library "$@")
    if [ -n "$library" ]; then
        echo "$peer LD_PRELOAD=$library" >>"$peers"
        say "$peer is $library"
    else
        say "$peer is not installed (Debian: apt-get install $package)"
    fi
}
add_peer jemalloc libjemalloc2 libjemalloc.so.2 libjemalloc.so
add_peer mimalloc libmimalloc2.0 'libmimalloc.so.[0-9]*' libmimalloc.so
add_peer tcmalloc libtcmalloc-minimal4 'libtcmalloc_minimal.so.[0-9]*' libtcmalloc_minimal.so

# Runs a bench under the malloc at hand.
run() {
    if [ -n "$setting" ]; then
        env "$setting" "$@"
    else
        "$@"
    fi
}

wanted() { # bench
    case ,$benches, in
    *",$1,"*) return 0 ;;
    *) return 1 ;;
    esac
}

# results: measure|case|peer|ns of ta_pool (growth: of ta_dynamic)|ns of the peer
results=$work/results
: >"$results"
note_replay() { # measure, column of ns, row, peer; CSV on stdin
    awk -F, -v OFS='|' -v measure="$1" -v column="$2" -v row="$3" -v peer="$4" '
        $2 == "ta_pool" { ours = $column }
        $2 == row { theirs = $column; name = $1 }
        END { if (ours > 0 && theirs > 0) print measure, name, peer, ours, theirs }' >>"$results"
}
note_threads() { # row, peer; CSV on stdin
    awk -F, -v OFS='|' -v row="$1" -v peer="$2" '
        $4 == "ta_pool" { ours[$1 "," $2 "," $3] = $5 }
        $4 == row { theirs[$1 "," $2 "," $3] = $5; order[++count] = $1 "," $2 "," $3 }
        END {
            for (i = 1; i <= count; i++) {
                split(order[i], part, ",")
                bytes = part[3] + 0
                size = bytes >= 1048576 ? bytes / 1048576 " MiB" : bytes >= 1024 ? bytes / 1024 " KiB" : bytes " B"
                what = part[1] ", " part[2] " thread" (part[2] > 1 ? "s" : "")
                print what, size, peer, ours[order[i]], theirs[order[i]]
            }
        }' >>"$results"
}

note_micro() { # row, peer; CSV on stdin
    awk -F, -v OFS='|' -v row="$1" -v peer="$2" '
        $3 == "ta_pool" { ours[$1 "," $2] = $5 }
        $3 == row { theirs[$1 "," $2] = $5; order[++count] = $1 "," $2 }
        END {
            for (i = 1; i <= count; i++) {
                split(order[i], part, ",")
                bytes = part[2] + 0
                size = bytes >= 1048576 ? bytes / 1048576 " MiB" : bytes >= 1024 ? bytes / 1024 " KiB" : bytes " B"
                if (ours[order[i]] > 0) print "one size, " part[1], size, peer, ours[order[i]], theirs[order[i]]
            }
        }' >>"$results"
}
note_growth() { # row, state, peer; CSV on stdin: ns per step
    awk -F, -v OFS='|' -v row="$1" -v state="$2" -v peer="$3" '
        $7 == state && $6 == "ta_dynamic" { ours[$1 "," $2 "," $5] = $11 }
        $7 == state && $6 == row { theirs[$1 "," $2 "," $5] = $11; order[++count] = $1 "," $2 "," $5 }
        END {
            for (i = 1; i <= count; i++) {
                split(order[i], part, ",")
                what = "growth, " state (part[3] == "page" ? ", touched" : ", not touched")
                size = part[1] " buffer" (part[1] > 1 ? "s" : "") ", " part[2]
                if (ours[order[i]] > 0) print what, size, peer, ours[order[i]], theirs[order[i]]
            }
        }' >>"$results"
}

steady=6
cold=5
while read -r peer setting; do
    for trace in "$@"; do
        wanted replay || break
        say "$peer: $(basename "$trace")"
        if run "$work/replay" --csv --rows ta_pool,malloc,p2 "$trace" >"$work/csv"; then
            note_replay 'steady, not touched' $steady malloc "$peer" <"$work/csv"
            note_replay 'steady, not touched' $steady p2 p2 <"$work/csv"
        fi
        if run "$work/replay" --csv --touch page --scale "$scale" --rows ta_pool,malloc "$trace" \
            >"$work/csv"; then
            note_replay 'steady, pages touched' $steady malloc "$peer" <"$work/csv"
            note_replay 'cold, pages touched' $cold malloc "$peer" <"$work/csv"
        fi
    done
    if wanted threads && say "$peer: threads" && run "$work/threads" --csv --threads 2 >"$work/csv"; then
        note_threads malloc "$peer" <"$work/csv"
        note_threads p2_tls p2 <"$work/csv"
    fi
    if wanted micro && say "$peer: micro" && run "$work/micro" --csv >"$work/csv"; then
        note_micro malloc "$peer" <"$work/csv"
        note_micro p2 p2 <"$work/csv"
    fi
    if wanted growth && say "$peer: growth" &&
        run "$work/growth" --csv --rounds 3 --rows ta_dynamic,realloc >"$work/csv"; then
        for state in warm cold; do
            note_growth realloc $state "$peer" <"$work/csv"
        done
    fi
done <"$peers"
for trace in "$@"; do
    wanted replay || break
    say "exact with huge pages: $(basename "$trace")"
    if "$work/replay" --csv --thp --touch page --scale "$scale" --rows ta_pool,exact "$trace" >"$work/csv"; then
        note_replay 'steady, pages touched' $steady exact exact_huge <"$work/csv"
        note_replay 'cold, pages touched' $cold exact exact_huge <"$work/csv"
    fi
done

printf '\nHow many times as long as ta_pool the others take for one allocation and its free (growth: realloc, as long\n'
printf 'as ta_dynamic, for one step), each in one run with ours. Below 1: they are faster. p2 and exact_huge are no\n'
printf 'mallocs but floors: stacks of free blocks per power of two (for each thread its own, under threads), and per\n'
printf 'exact size on huge pages.\n'
if [ "$scale" != 1 ]; then
    printf 'Where pages are touched, sizes above 64 KiB are divided by %s.\n' "$scale"
fi
printf '\n'
awk -F'|' '
    function median_of(list,   n, v, i, j, x) {
        n = split(list, v, " ")
        for (i = 2; i <= n; i++) {
            x = v[i] + 0
            for (j = i - 1; j >= 1 && v[j] + 0 > x; j--) v[j + 1] = v[j]
            v[j + 1] = x
        }
        return n % 2 ? v[(n + 1) / 2] + 0 : (v[n / 2] + v[n / 2 + 1]) / 2
    }
    function short(x) {
        return x >= 9999.5 ? sprintf("%.3gk", x / 1000) : x >= 99.5 ? sprintf("%.0f", x) : sprintf("%.3g", x)
    }
    {
        if (!($1 in measure_seen)) { measure_seen[$1] = 1; measures[++measure_count] = $1 }
        if (!(($1, $2) in case_seen)) { case_seen[$1, $2] = 1; cases[$1, ++case_count[$1]] = $2 }
        if (!($3 in peer_seen)) { peer_seen[$3] = 1; if ($3 != "p2" && $3 != "exact_huge") peers[++peer_count] = $3 }
        ours[$1, $2] = ours[$1, $2] " " $4
        ratio[$1, $2, $3] = ratio[$1, $2, $3] " " $5 / $4
    }
    END {
        peers[++peer_count] = "p2"
        peers[++peer_count] = "exact_huge"
        for (m = 1; m <= measure_count; m++) {
            what = measures[m]
            printf "%-30s %11s", what, "ours, ns"
            for (p = 1; p <= peer_count; p++) printf " %11s", peers[p]
            printf "\n"
            for (p = 1; p <= peer_count; p++) { sum[p] = 0; n[p] = 0 }
            for (c = 1; c <= case_count[what]; c++) {
                name = cases[what, c]
                printf "  %-28s %11s", name, short(median_of(ours[what, name]))
                for (p = 1; p <= peer_count; p++) {
                    if ((what, name, peers[p]) in ratio) {
                        r = median_of(ratio[what, name, peers[p]])
                        printf " %11s", short(r)
                        sum[p] += log(r)
                        n[p]++
                    } else {
                        printf " %11s", "-"
                    }
                }
                printf "\n"
            }
            printf "  %-28s %11s", "geometric mean", ""
            for (p = 1; p <= peer_count; p++) printf " %11s", (n[p] > 0 ? short(exp(sum[p] / n[p])) : "-")
            printf "\n\n"
        }
    }' "$results"
