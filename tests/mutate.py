#!/usr/bin/env python3
"""Faults planted in the header, one at a time: does a test see them? Each fault (a mutant) changes one operator, constant,
condition, return code or statement of the implementation. A sample of them, drawn by a seed, is compiled into the header
at once: a function with mutants has its body several times, and the environment chooses one. Of each test case is noted
which mutants it reaches; a mutant then meets the cases that reach it, those that compare the most first, then the quickest,
until one fails.

    mutate.py [--seed N] [--count N] [--jobs N] [--cc 'COMPILER'] [--only REGEX]     ends with "N passed, N failed, N skipped":
                    mutants killed, mutants that survived, mutants that no case reaches or whose survival has a reason;
                    status 0 if at least SCORE % of those that are not equivalent were killed
    mutate.py --check                        whether the header still has the lines of tests/mutants.txt
    mutate.py --times                        the time of every case, without mutants

The seed is that of the header's text unless given. tests/mutants.txt lists survivors with their reasons: "equivalent" ones
behave like the header and do not count, "open" ones count. Not mutated: other systems' code, invariants that are asserted,
case labels, what sizeof only takes a type from; a yes (return 1) becomes no, but no other yes; a < b ? a : b does not
become a <= b ? a : b; names of memory orders and the taking of locks, which TSan and the explorer watch (tests/explorer.c); what only
AddressSanitizer is told (tests/test_hidden.c). Leaks are found where the compiler has LeakSanitizer.
"""

import argparse
import bisect
import concurrent.futures
import os
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import zlib

import misuse
from common import HEADER, ROOT, Checks, Workplace, run, split
from lint import Header

KNOWN = ROOT / 'tests' / 'mutants.txt'
HISTORY = ROOT / 'build' / 'mutation.txt'  # a line for each run
GOAL = 90         # percent of the mutants that are not equivalent
SCORE = 67        # less is a failure: what is reached (79 over four samples), less three times their spread of 4
SUBSET_S = 3.0    # of test cases for one mutant
COUNT = 120
STRONG = {'golden', 'golden_checked'}  # they compare all that can be seen: a mutant meets their cases first
CONTROLS = 4      # runs without a mutant, which must survive
LEAKS = 23        # status of a program that leaks
SPARE = 1.15      # as many are drawn, since some do not compile and some are not reached

# Mutants meet tests/test_NAME.c, but for these: tests of the harness, of what other programs and compilers see, of calls that
# are made to fail one after the other for half a minute.
LEFT_OUT = {'selftest', 'windows', 'hidden', 'cuda_abi', 'cuda_create', 'cuda_torch', 'cuda_faults'}
# Cases that are left out because they are long, by a part of their names.
LONG = {
    'model': ['pool_single', 'pool_segments', 'pool_without', 'pool_spec', 'pool_small', 'pool_slack', 'pool_zeroed',
              'pool_observed', 'pool_short', 'arena_zeroed', 'arena_short'],
    'oom': ['address_space', 'pool_trims_and', 'zeroed_pool', 'pool_with_a_cap'],
    'threads': ['threads_exit_while', 'everything_at', 'favour_is', 'churn_in_an_arena', 'own_churn_in'],
    'fork': ['child_of_several'],
    'checked': ['double_free'],
    'regressions': ['exiting_thread'],
    'dynamic': ['random_programs_keep', 'threads_with_tensors', 'many_tensors_need_few_mappings'],  # LeakSanitizer maps too
    'dynamic_faults': ['address_space', 'two_faults', 'giving_back', 'the_system_fails', 'records_run_out'],
    'contract': ['fails_once_at'],
    'cuda_contract': ['backend_fails', 'absurd_alignments'],
    'cuda_order': ['random_programs'],
}
PROGRAMS = ['corpus'] + sorted({path.stem[5:] for path in (ROOT / 'tests').glob('test_*.c')} - LEFT_OUT)
COMPILE = ['-O0', '-w', '-std=gnu99']
CONFIGURATIONS = [[], ['-DTENSORALLOC_CUDA'], ['-DTENSORALLOC_CHECKED=2', '-DTENSORALLOC_CUDA']]  # of the programs

# ---- mutants
BINARY = {
    '<': ['<=', '>='], '<=': ['<', '>'], '>': ['>=', '<='], '>=': ['>', '<'], '==': ['!='], '!=': ['=='],
    '&&': ['||'], '||': ['&&'], '+': ['-'], '-': ['+'], '*': ['/'], '/': ['*'], '%': ['/'], '&': ['|'], '|': ['&'],
    '^': ['&'], '<<': ['>>'], '>>': ['<<'], '+=': ['-='], '-=': ['+='], '*=': ['/='], '/=': ['*='], '|=': ['&='],
    '&=': ['|='], '<<=': ['>>='], '>>=': ['<<='], '^=': ['=']
}
# Operators stand between spaces, which tells them from those with one operand and from declarations of pointers.
OPERATOR = re.compile(r'(?<=\s)(%s)(?=\s|$)' % '|'.join(re.escape(word) for word in sorted(BINARY, key=len, reverse=True)))
NUMBER = re.compile(r'(?<![\w.])(0x[0-9A-Fa-f]+|\d+)([uUlL]*)(?![\w.])')
STEP = re.compile(r'\+\+|--')
CONDITION = re.compile(r'\b(if|while) \(')
CODE = re.compile(r'\breturn (TA_OK|TA_ERROR_\w+);')
STATEMENT = re.compile(r'[ ]+(\(void\))?(?!return\b|break\b|continue\b|goto\b|case\b|default\b|else\b|do\b|typedef\b|static\b|const\b|struct\b|enum\b)'
                       r'[(*&]*\w+((\.|->)\w+|\[[^=;]*?\]|\))*( ([-+*/|&^]|<<|>>)?= .*|\(.*\)|\+\+|--);$')
NOT_MUTATED = re.compile(r'\bTAI_(ASSERT|INVARIANT|FULL_CHECK|NEVER)\b|^\s*#')
LABEL = re.compile(r'\s*(case\b[^:]*|default):')
TYPE_ONLY = re.compile(r'\bsizeof \(?[\w.>\-]+(\[\w+\])+')  # an index that only names a type
ARRAY = re.compile(r'\s*(static |const )*\w+ \*?\w+\[\w+\]')  # declared: how much room there is
NOT_DELETED = re.compile(r'\btai_gate_enter(_hot)?\b|\bTAI_(LOCK_ACQUIRE|WAIT_A_MOMENT|HIDE|SHOW)\b|TENSORALLOC_COMPILER_BARRIER')


class Mutant:
    """One line of one function, changed. The key names it in a header that has changed elsewhere."""

    def __init__(self, function, line, column, old, new, place):
        self.function, self.line, self.column = function, line, column
        self.old, self.new = old.strip(), new.strip()
        self.text = new
        self.key = '%s%s\n- %s\n+ %s' % (function.name, ' #%d' % place if place > 1 else '', self.old, self.new)
        self.number = 0
        self.fate = ''


class Function:
    def __init__(self, name, first, brace, last, signature):
        self.name, self.first, self.brace, self.last = name, first, brace, last
        self.void = re.search(r'\bvoid %s\(' % re.escape(name), signature) is not None
        self.truth = re.search(r'\bint %s\(' % re.escape(name), signature) is not None


class Source:
    """The header as lines, its functions, and all mutants of what is compiled in the configurations of the tests."""

    def __init__(self):
        header = Header()
        self.lines = header.lines
        # Comments, then texts and characters blanked: columns stay.
        blank = re.sub(r'"(\\.|[^"\\\n])*"|\'(\\.|[^\'\\\n])*\'', lambda t: '"' + '_' * (len(t.group()) - 2) + '"',
                       '\n'.join(header.bare))
        self.bare = blank.splitlines()
        self.functions = []
        for name, _, first, last in header.functions():
            if first > header.guard_end and name != 'tai_gate_enter_slow': # how long it spins, and who is next
                brace = next(i for i in range(first, last) if self.bare[i].rstrip() == '{')
                self.functions.append(Function(name, first, brace, last, ' '.join(self.bare[first:brace])))

    def mutants(self, compiled):
        """All of them, in the order of the header; compiled: line numbers, or None for all."""
        for function in self.functions:
            seen = {}
            for i in range(function.brace + 1, function.last):
                line, bare = self.lines[i], self.bare[i]
                place = seen[line.strip()] = seen.get(line.strip(), 0) + 1
                if (compiled is None or i + 1 in compiled) and not NOT_MUTATED.search(bare):
                    for column, new in changes(line, bare.rstrip(), function.truth):
                        yield Mutant(function, i, column, line, new, place)


def is_twin(found, other):
    return found.group() + '=' == other or found.group() == other + '='


def chooses(bare, found):
    """Whether it is the one of `a < b ? a : b`: where they are equal it does not matter which is chosen."""
    left = re.search(r'([\w.>\[\]-]+) $', bare[:found.start()])
    right = re.match(r' ([\w.>\[\]-]+) \? ([\w.>\[\]-]+) : ([\w.>\[\]-]+)(?=[;,) ])', bare[found.end():])
    return bool(left and right) and sorted(right.group(2, 3)) == sorted([left.group(1), right.group(1)])


def changes(line, bare, truth=False):
    """(column, changed line) of every mutant of a line; truth: its function answers 0 for no, anything else for yes."""
    def with_(start, end, text):
        return start, line[:start] + text + line[end:]
    label = LABEL.match(bare)
    if label:
        bare = ' ' * label.end() + bare[label.end():]
    for found in OPERATOR.finditer(bare):
        for other in BINARY[found.group()]:
            if is_twin(found, other) and chooses(bare, found):
                continue
            yield with_(found.start(), found.end(), other)
    types = [found.span() for found in TYPE_ONLY.finditer(bare)]
    for found in NUMBER.finditer(bare) if not ARRAY.match(bare) else []:
        value = int(found.group(1), 0)
        if any(first <= found.start() < last for first, last in types):
            continue
        if truth and bare.strip() == 'return 1;':
            yield with_(found.start(), found.end(), '0')
            continue
        for other in [value + 1] + ([value - 1] if value > 0 else []):
            yield with_(found.start(), found.end(), (hex(other) if 'x' in found.group() else str(other)) + found.group(2))
    for found in STEP.finditer(bare):
        yield with_(found.start(), found.end(), '--' if found.group() == '++' else '++')
    for found in CONDITION.finditer(bare):
        end, depth = found.end(), 1
        while end < len(bare) and depth:
            depth += {'(': 1, ')': -1}.get(bare[end], 0)
            end += 1
        if depth == 0:
            yield found.end(), line[:found.end()] + '!(' + line[found.end():end - 1] + ')' + line[end - 1:]
    for found in CODE.finditer(bare):
        yield with_(found.start(1), found.end(1), 'TA_ERROR_INVALID' if found.group(1) == 'TA_OK' else 'TA_OK')
    if STATEMENT.match(bare) and not NOT_DELETED.search(bare) and bare.count('(') == bare.count(')'):
        start = len(bare) - len(bare.lstrip())
        yield start, line[:start] + ';'


def compiled_lines(cc):
    """Numbers of the header's lines that reach the compiler in one of the configurations."""
    lines = set()
    for defines in CONFIGURATIONS:
        done = run([*cc, '-E', '-x', 'c', '-DTENSORALLOC_IMPLEMENTATION', *defines, HEADER])
        here, number = False, 0
        for line in done.stdout.splitlines():
            mark = re.match(r'# (\d+) "(.*?)"', line)
            if mark:
                here, number = mark.group(2).endswith('tensoralloc.h'), int(mark.group(1))
            else:
                if here and line.strip():
                    lines.add(number)
                number += 1
    return lines


def statements(source, function):
    """[(line, column)] of where the statements of a function begin, in order: what is put there runs before them."""
    starts, depth, before, stack = [], 0, '{', []
    for i in range(function.brace + 1, function.last):
        if source.bare[i].lstrip().startswith('#'):
            continue
        label = LABEL.match(source.bare[i])
        for token in re.finditer(r'\w+|==|[<>!]=|\S', source.bare[i]):
            word = token.group()
            if label and token.start() < label.end():
                before = ';'
                continue
            if depth == 0 and before in ('{', '}', ';') and word not in '{};':
                starts.append((i, token.start(), word))
            if word in '([':
                depth += 1
            elif word in ')]':
                depth -= 1
            elif word == '{':  # of a value, or of a block
                stack.append(before in ('=', ',') or depth > 0)
                depth += stack[-1]
            elif word == '}' and stack:
                value = stack.pop()
                depth -= value
                word = 'value' if value else '}'
            before = word
    return starts


def probe_at(source, starts, mutant):
    """(line, column, text) of a probe that runs when the mutant's statement does; None where there is no such place."""
    at = bisect.bisect([start[:2] for start in starts], (mutant.line, mutant.column)) - 1
    if at < 0:
        return None
    line, column, word = starts[at]
    if word in ('else', 'while'):
        begin = re.match(r'(else if|while) \(', source.bare[line][column:])
        return (line, column + begin.end(), 'TAM_SEEN(%d), ') if begin else None
    return line, column, 'TAM_SEEN(%d); '


LINES_EACH = 100000  # line numbers given to the body of mutant n begin at n * this


def schemata(source, mutants):
    """The text of the header with all mutants in it."""
    inserts, lines = {}, list(source.lines)
    of = {}
    for mutant in mutants:
        of.setdefault(mutant.function.first, []).append(mutant)
    for some in of.values():
        function = some[0].function
        starts = statements(source, function)
        for mutant in some:
            probe = probe_at(source, starts, mutant)
            if probe:
                inserts.setdefault(probe[0], []).append((probe[1], probe[2] % mutant.number))
    for i, texts in inserts.items():
        for column, text in sorted(texts, reverse=True):
            lines[i] = lines[i][:column].ljust(column) + text + lines[i][column:]
    for some in of.values():
        function, bodies = some[0].function, []
        for mutant in some:
            body = list(source.lines[function.brace:function.last + 1])
            body[mutant.line - function.brace] = mutant.text
            bodies += ['if (TAM(%d))' % mutant.number, '#line %d' % (mutant.number * LINES_EACH), *body]
            bodies += ['if (TAM(%d)) { return; }' % mutant.number] if function.void else []
        lines[function.brace] = '\n'.join(['{', *bodies, '#line %d' % (function.brace + 2)])
    return ('extern int tam_now;\nextern unsigned char *tam_seen;\n'
            '#define TAM(n) (tam_now == (n))\n#define TAM_SEEN(n) ((void)(tam_seen[n] = 1))\n#line 1\n' + '\n'.join(lines) + '\n')


# ---- programs
HARNESS = r'''
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
int tam_now;                     /* the mutant that runs; 0: none */
unsigned char *tam_seen;         /* those that were reached; children of fork share it */
static const char *tam_log;
static double tam_before;
static double tam_cpu(void)
{
    struct rusage a, b;
    getrusage(RUSAGE_SELF, &a);
    getrusage(RUSAGE_CHILDREN, &b);
    return (double)(a.ru_utime.tv_sec + a.ru_stime.tv_sec + b.ru_utime.tv_sec + b.ru_stime.tv_sec) +
           1e-6 * (double)(a.ru_utime.tv_usec + a.ru_stime.tv_usec + b.ru_utime.tv_usec + b.ru_stime.tv_usec);
}
void tam_case(const char *name)
{
    FILE *file = tam_log != NULL ? fopen(tam_log, "a") : NULL;
    if (file != NULL) {
        double now = tam_cpu();
        int i;
        fprintf(file, "%s %.6f", name, now - tam_before);
        for (i = 0; i < TAM_COUNT; i++) {
            if (tam_seen[i]) {
                fprintf(file, " %d", i);
            }
        }
        fputc('\n', file);
        fclose(file);
        memset(tam_seen, 0, TAM_COUNT);
        tam_before = tam_cpu();
    }
}
void tam_failed(void) { _exit(1); }
static void __attribute__((destructor)) tam_close(void) { if (getenv("TAM_WHOLE") != NULL) { tam_case("whole"); } }
static void __attribute__((constructor(101))) tam_open(void)
{
    const char *now = getenv("TAM_NOW");
    tam_now = now != NULL ? atoi(now) : 0;
    tam_log = getenv("TAM_LOG");
    tam_seen = mmap(NULL, TAM_COUNT, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}
'''
# The programs of tests/misuse as cases of one program, each in a child; built with the checks of TENSORALLOC_CHECKED.
CORPUS = r'''
#include <sys/wait.h>
#include <unistd.h>
static int corpus_want, corpus_also, corpus_answers, corpus_wrong, corpus_reports;
static void corpus_told(int result)
{
    corpus_reports += result == corpus_want;
    corpus_wrong += result != corpus_want && result != corpus_also;
}
static void corpus_answer(int result) { corpus_answers++; corpus_wrong += result != corpus_want; }
#define TENSORALLOC_CHECKED 2
#define TENSORALLOC_CUDA
#define TENSORALLOC_LOG(result, text) corpus_told((int)(result))
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"
#include "test.h"
#include "misuse/device.h"
const int misuse_checked = 1;
#undef BUG
#define BUG(call) corpus_answer((int)(call))
static void corpus_run(int (*program)(void), int want, int also)
{
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
        corpus_want = want;
        corpus_also = also;
        status = program();
        _exit(status == 0 && corpus_answers == 1 && corpus_reports > 0 && !corpus_wrong ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}
'''


def corpus():
    """Its source."""
    programs = [misuse.Program(path) for path in sorted(misuse.FOLDER.glob('*.c')) if path.stem != 'impl']
    parts = [CORPUS]
    for one in programs:
        parts.append('#define main main_%s\n#include "misuse/%s.c"\n#undef main\n'
                     'static void case_%s(void) { corpus_run(main_%s, %s, %s); }'
                     % (one.name, one.name, one.name, one.name, one.expected, one.also or one.expected))
    parts.append('TEST_MAIN(%s)\n' % ', '.join('TEST_CASE(case_%s)' % one.name for one in programs))
    return '\n'.join(parts)


PRELUDE = '''#define TEST_CASE_ENDS(name) tam_case(name)
#define TEST_CHECK_FAILED() tam_failed()
void tam_case(const char *name);
void tam_failed(void);
'''


class Programs:
    """The test programs on the header with mutants, and the software driver."""

    def __init__(self, cc, folder, jobs):
        self.cc, self.folder, self.jobs = cc, folder, jobs
        self.environment = dict(os.environ, TAFAKE_LIBRARY=str(folder / 'libcuda.so.1'), LD_LIBRARY_PATH=str(folder))
        self.leaks = []     # flags for what tells of leaks at the end of a program
        self.leaky = set()  # programs whose tests leak something of their own: they are not asked
        self.cases = []  # (seconds, program, case, numbers of the mutants it reaches)

    def invalid(self, source, mutants):
        """Numbers of the mutants that do not compile."""
        bad = set()
        (self.folder / 'tensoralloc.h').write_text(schemata(source, mutants))
        for defines in CONFIGURATIONS[1:]:
            done = run([*self.cc, '-x', 'c', '-fsyntax-only', '-fmax-errors=0', *COMPILE, '-DTENSORALLOC_IMPLEMENTATION',
                        '-DTENSORALLOC_DEBUG=2', *defines, self.folder / 'tensoralloc.h'])
            numbers = {int(n) // LINES_EACH for n in re.findall(r'tensoralloc\.h:(\d+):\d+: error', done.stdout)}
            if 0 in numbers or done.returncode != 0 and not numbers:
                sys.exit('the header with mutants does not compile:\n' + done.stdout[:3000])
            bad |= numbers
        return bad

    def build(self, source, mutants, names):
        folder = self.folder
        (folder / 'tensoralloc.h').write_text(schemata(source, mutants))
        (folder / 'prelude.h').write_text(PRELUDE)
        (folder / 'probe.c').write_text('int main(void) { return 0; }\n')
        if run([*self.cc, '-fsanitize=leak', folder / 'probe.c', '-o', folder / 'probe']).returncode == 0:
            if run([folder / 'probe']).returncode == 0:
                self.leaks = ['-fsanitize=leak']
        (folder / 'harness.c').write_text(HARNESS)
        commands = [('harness.o', [*self.cc, '-O1', '-DTAM_COUNT=%d' % (max([m.number for m in mutants], default=0) + 1),
                                   '-c', folder / 'harness.c', '-o', folder / 'harness.o'])]
        driver = ROOT / 'tests' / 'driver'
        commands.append(('driver', [*self.cc, '-O1', '-w', '-DNDEBUG', '-DDRIVER_VERSION=13000', '-fPIC', '-shared',
                                    '-Wl,-soname,libcuda.so.1', '-Wl,-Bsymbolic', '-o', folder / 'libcuda.so.1', '-pthread',
                                    *[path for path in sorted(driver.glob('*.c'))
                                      if not path.name.startswith(('test_', 'abi_'))]]))
        (folder / 'corpus.c').write_text(corpus())
        for name in names:
            file = folder / 'corpus.c' if name == 'corpus' else ROOT / 'tests' / ('test_%s.c' % name)
            commands.append((name, [*self.cc, *COMPILE, *self.leaks, '-include', folder / 'prelude.h', '-I', folder,
                                    '-I', ROOT / 'tests', '-I', ROOT, '-DTRACES="%s"' % (ROOT / 'bench/traces'),
                                    '-c', file, '-o', folder / (name + '.o')]))
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            for (what, _), done in zip(commands, pool.map(lambda one: run(one[1]), commands)):
                if done.returncode != 0:
                    sys.exit('%s is not built:\n%s' % (what, done.stdout[:3000]))
        for name in names:
            done = run([*self.cc, *self.leaks, folder / (name + '.o'), folder / 'harness.o', '-o', folder / name, '-pthread', '-ldl', '-lm'])
            if done.returncode != 0:
                sys.exit('%s is not linked:\n%s' % (name, done.stdout[:3000]))

    def start(self, name, cases, **environment):
        """The cases of a program with limits; status, and what was printed; None for the status: it hangs."""
        wall, cpu = environment.pop('wall'), environment.pop('cpu')
        environment['LSAN_OPTIONS'] = 'detect_leaks=%d' % (name not in self.leaky)

        def limits():
            resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 2))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        output = self.folder / ('out-%d' % threading.get_ident())
        with open(output, 'wb') as file:
            process = subprocess.Popen([self.folder / name, *['=' + case for case in cases]], stdin=subprocess.DEVNULL,
                                       stdout=file, stderr=subprocess.STDOUT, start_new_session=True, cwd=self.folder,
                                       env=dict(self.environment, **environment), preexec_fn=limits)
            status = watch(process, wall)
        return status, output.read_bytes()[-4000:].decode(errors='replace')

    def measure(self, names):
        """Runs all cases without a mutant; what fails then is an error."""
        def one(name):
            left_out = LONG.get(name, [])
            log = self.folder / (name + '.log')
            listed = run([self.folder / name, '--list'], env=self.environment).stdout.split()
            chosen = [case for case in listed if not any(part in case for part in left_out)]
            unused = [part for part in left_out if not any(part in case for case in listed)]
            if unused:
                return name, 'has no case %s' % unused, []
            status, said = self.start(name, chosen, TAM_LOG=str(log), wall=600, cpu=120)
            if status == LEAKS:
                self.leaky.add(name)
                log.unlink()
                status, said = self.start(name, chosen, TAM_LOG=str(log), wall=600, cpu=120)
            rows = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
            return name, '' if status in (0, 77) else 'status %s\n%s' % (status, said), rows
        failed = []
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            for name, wrong, rows in pool.map(one, names):
                if wrong:
                    failed.append(name)
                    print('%s fails without a mutant: %s' % (name, wrong), flush=True)
                self.cases += [(float(row[1]), name, row[0], frozenset(map(int, row[2:]))) for row in rows]
        if failed:
            sys.exit('nothing can be said of mutants: these fail without one: ' + ' '.join(failed))
        self.cases.sort(key=lambda case: (case[1] not in STRONG, *case[:3]))

    def subset(self, number):
        """[(program, its cases, their seconds)] of the cases that reach a mutant, at most SUBSET_S of them, in
        that order. One case is always there."""
        chosen, spent = {}, 0.0
        for seconds, program, case, reached in self.cases:
            if number in reached:
                if chosen and spent + seconds > SUBSET_S:
                    break
                spent += seconds
                chosen.setdefault(program, []).append((case, seconds))
        return sorted(((program, [case for case, _ in some], sum(s for _, s in some)) for program, some in chosen.items()),
                      key=lambda one: one[2])

    def meet(self, number, now):
        """'killed by ...' or 'survived ...': the cases that reach a mutant, while the header runs with the mutant now."""
        subset = self.subset(number)
        for program, cases, seconds in subset:
            status, said = self.start(program, cases, TAM_NOW=str(now), wall=30 + 30 * seconds, cpu=5 + int(5 * seconds))
            if status != 0 and status != 77:
                why = 'it hangs' if status is None or status == -signal.SIGXCPU else 'status %d' % status
                last = [line for line in said.splitlines() if line.strip()]
                return 'killed by %s: %s: %s' % (program, why, last[-1][:160] if last else '')
        return 'survived %d cases' % sum(len(cases) for _, cases, _ in subset)


def group_ticks(leader):
    """CPU time of the processes of a session, in ticks."""
    ticks = 0
    for entry in os.listdir('/proc'):
        if entry.isdigit():
            try:
                with open('/proc/%s/stat' % entry) as file:
                    fields = file.read().rsplit(')', 1)[1].split()
            except OSError:
                continue
            if int(fields[3]) == leader:
                ticks += int(fields[11]) + int(fields[12])
    return ticks


def watch(process, wall):
    """Its status, or None where it had to be ended: nothing moved for 6 seconds, or too long."""
    begin, last, moved = time.monotonic(), -1, time.monotonic()
    status = None
    while status is None:
        try:
            status = process.wait(0.02 if time.monotonic() - begin < 0.5 else 0.2)
        except subprocess.TimeoutExpired:
            now = time.monotonic()
            if now - moved > 1:
                ticks = group_ticks(process.pid)
                if ticks != last:
                    last, moved = ticks, now
            if now - moved > 6 or now - begin > wall:
                break
    try:
        os.killpg(process.pid, signal.SIGKILL)  # its children too
    except ProcessLookupError:
        pass
    process.wait()
    return status


# ---- survivors with a reason
def known_survivors():
    """{key: (kind, reason)} of tests/mutants.txt."""
    known = {}
    for block in re.split(r'\n\n+', KNOWN.read_text()) if KNOWN.exists() else []:
        lines = [line for line in block.splitlines() if not line.startswith('#')]
        if lines:
            reason = re.match(r'  (equivalent|open): (.+)', '\n'.join(lines[3:]), re.DOTALL)
            if len(lines) < 4 or not reason or not lines[1].startswith('- ') or not lines[2].startswith('+ '):
                sys.exit('tests/mutants.txt: not a function, a line, its mutant and a reason:\n' + block)
            known['\n'.join(lines[:3])] = reason.groups()
    return known


def check(checks):
    """Every entry names a mutant that the header has."""
    known = known_survivors()
    there = {mutant.key for mutant in Source().mutants(None)}
    checks.check(len(there) > 10000, 'the header has mutants', str(len(there)))
    for key in known:
        checks.check(key in there, 'tests/mutants.txt names a mutant of the header', key + '\nis none: remove or adapt it')
    print('%d mutants, %d of them survive for a reason: %d equivalent, %d open' % (
        len(there), len(known), *[sum(kind == one for one, _ in known.values()) for kind in ('equivalent', 'open')]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cc', default='cc')
    parser.add_argument('--seed', type=int, default=zlib.crc32(HEADER.read_bytes()))
    parser.add_argument('--count', type=int, default=COUNT)
    parser.add_argument('--jobs', type=int, default=2)
    parser.add_argument('--only', default='', help='of functions whose names match')
    parser.add_argument('--programs', nargs='+', default=PROGRAMS, choices=PROGRAMS)
    parser.add_argument('--check', action='store_true')
    parser.add_argument('--times', action='store_true')
    options = parser.parse_args()
    if options.check:
        checks = Checks()
        check(checks)
        checks.close()
    with Workplace() as workplace:
        sys.exit(mutate(options, workplace))


def mutate(options, workplace):
    start = time.monotonic()
    cc = split(options.cc)
    source, programs = Source(), Programs(cc, workplace, options.jobs)
    known = known_survivors()
    every = [one for one in source.mutants(compiled_lines(cc)) if re.search(options.only, one.function.name)]
    drawn = random.Random(options.seed).sample(every, 0 if options.times else min(len(every), int(options.count * SPARE)))
    for number, mutant in enumerate(drawn, 1):
        mutant.number = number
    bad = programs.invalid(source, drawn)
    mutants = [mutant for mutant in drawn if mutant.number not in bad]
    programs.build(source, mutants, options.programs)
    print('seed %d: %d of %d mutants; %d do not compile; %d programs built after %.0f s'
          % (options.seed, len(drawn), len(every), len(bad), len(options.programs), time.monotonic() - start), flush=True)
    programs.measure(options.programs)
    if options.times:
        for seconds, program, case, _ in programs.cases:
            print('%8.3f %s %s' % (seconds, program, case))
        return 0
    print('%d cases, %.1f s, run after %.0f s' % (len(programs.cases), sum(case[0] for case in programs.cases),
                                                 time.monotonic() - start), flush=True)
    reached = set().union(*[case[3] for case in programs.cases])
    unreached = [mutant for mutant in mutants if mutant.number not in reached]
    mutants = [mutant for mutant in mutants if mutant.number in reached][:options.count]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        fates = list(pool.map(lambda mutant: programs.meet(mutant.number, mutant.number), mutants))
        controls = list(pool.map(lambda mutant: programs.meet(mutant.number, 0), mutants[:CONTROLS]))
    return report(options.seed, mutants, unreached, fates, controls, known, time.monotonic() - start)


def report(seed, mutants, unreached, fates, controls, known, seconds):
    """Prints what became of each; the status."""
    killed = survived = equivalent = 0
    for mutant, fate in zip(mutants, fates):
        kind, reason = known.get(mutant.key, ('', ''))
        dead = fate.startswith('killed')
        killed += dead
        equivalent += not dead and kind == 'equivalent'
        survived += not dead and kind != 'equivalent'
        print('\ntensoralloc.h:%d: %s' % (mutant.line + 1, fate))
        print(mutant.key + ('\n  %s: %s' % (kind, reason) if kind else ''))
        if dead and kind == 'equivalent':
            print('  is not equivalent: take it out of tests/mutants.txt')
    print('\n%d reached by no case:%s' % (len(unreached), ''.join(
        '\ntensoralloc.h:%d: %s' % (mutant.line + 1, mutant.key.replace('\n', '\n    ')) for mutant in unreached)))
    broken = [fate for fate in controls if fate.startswith('killed')]
    print('\n'.join('FAILED without a mutant: ' + fate for fate in broken))
    score = 100 * killed / max(1, killed + survived)
    line = '%d mutants: %d killed, %d survived, %d equivalent; score %.1f %% (goal %d); %.0f s' % (
        len(mutants), killed, survived, equivalent, score, GOAL, seconds)
    print(line)
    HISTORY.parent.mkdir(exist_ok=True)
    with open(HISTORY, 'a') as file:
        file.write('seed %d: %s\n' % (seed, line))
    print('%d passed, %d failed, %d skipped' % (killed, len(broken) + (score < SCORE), equivalent + survived))
    return 0 if score >= SCORE and not broken and mutants else 1


if __name__ == '__main__':
    main()
