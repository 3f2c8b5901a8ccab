/* schedule.c - operations, what they wait for, and who runs them when.

   An operation is runnable when all that it depends on is done: the one before it in its stream, the records of
   events that its stream waits for, the legacy stream, its predecessors in a graph. Which runnable one runs next is
   the scheduler's choice:
     LAZY     nothing runs until the host waits for it, and then only what it needs; polling makes one step each time
     EAGER    everything runs as soon as it is enqueued, inside the call
     RANDOM   each call runs a few of those that may run, chosen by a seed; waits run others too
     THREADS  worker threads take them, after random delays; the host really waits */
#define _GNU_SOURCE
#include "driver.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WORKERS_MAX = 32 };

static struct op *oldest, *newest;
static uint64_t pending_count, visit_count;
static struct op **ready;
static uint32_t ready_count, ready_capacity;
static pthread_t workers[WORKERS_MAX];
static int worker_count, workers_idle, workers_stop;
static uint64_t random_state;

static void ready_add(struct op *op)
{
    ready = array_grow(ready, ready_count, &ready_capacity, sizeof *ready);
    op->ready_index = ready_count;
    ready[ready_count++] = op;
}

static void ready_remove(struct op *op)
{
    struct op *last = ready[--ready_count];
    ready[op->ready_index] = last;
    last->ready_index = op->ready_index;
}

struct op *op_new(struct context *context, struct stream *stream, const struct work *work)
{
    struct op *op = need(calloc(1, sizeof *op));
    op->references = 1;
    op->context = context;
    op->device = context->device;
    op->stream = stream;
    op->work = *work;
    op->sequence = driver.sequence;
    return op;
}

struct op *op_keep(struct op *op)
{
    op->references++;
    return op;
}

void op_drop(struct op *op)
{
    if (op != NULL && --op->references == 0) {
        free(op->work.staging);
        free(op->deps);
        free(op->dependents);
        free(op);
    }
}

int op_done(const struct op *op)
{
    return op == NULL || op->state == OP_DONE;
}

void op_depend(struct op *op, struct op *on)
{
    if (op_done(on)) {
        return;
    }
    op->deps = array_grow(op->deps, op->dep_count, &op->dep_capacity, sizeof(struct op *));
    op->deps[op->dep_count++] = op_keep(on);
    on->dependents = array_grow(on->dependents, on->dependent_count, &on->dependent_capacity, sizeof(struct op *));
    on->dependents[on->dependent_count++] = op;
    op->waiting++;
}

static int worker_start(void);

void op_submit(struct op *op)
{
    op->previous = newest;
    if (newest != NULL) {
        newest->next = op;
    } else {
        oldest = op;
    }
    newest = op;
    pending_count++;
    if (op->waiting == 0) {
        ready_add(op);
    }
}

static void finish(struct op *op)
{
    uint32_t i;
    op->state = OP_DONE;
    op->done_ns = now_ns();
    *(op->previous != NULL ? &op->previous->next : &oldest) = op->next;
    *(op->next != NULL ? &op->next->previous : &newest) = op->previous;
    pending_count--;
    for (i = 0; i < op->dependent_count; i++) {
        if (--op->dependents[i]->waiting == 0) {
            ready_add(op->dependents[i]);
        }
    }
    op->dependent_count = 0;
    for (i = 0; i < op->dep_count; i++) {
        op_drop(op->deps[i]);
    }
    op->dep_count = 0;
    op_drop(op);
    pthread_cond_broadcast(&driver.changed);
}

void schedule_unlocked(CUhostFn function, void *data)
{
    struct thread *thread = thread_now();
    const int before = thread->in_callback;
    thread->in_callback = 1;
    pthread_mutex_unlock(&driver.lock);
    function(data);
    pthread_mutex_lock(&driver.lock);
    thread->in_callback = before;
}

static void sleep_ns(void *ns)
{
    const uint64_t time = *(const uint64_t *)ns;
    const struct timespec wait = {(time_t)(time / 1000000000u), (long)(time % 1000000000u)};
    nanosleep(&wait, NULL);
}

/* A context that is lost runs nothing more, but what the driver has to tidy up; so does a reset, since the memory
   that work was given may be gone. */
static void execute(struct op *op)
{
    struct work *work = &op->work;
    CUresult result;
    ready_remove(op);
    op->state = OP_RUNNING;
    if (work->kind == WORK_EXEC_END) {
        exec_finished(work->object);
    } else if (op->context->lost == CUDA_SUCCESS && !driver.in_reset) {
        if (work->kind == WORK_HOST) {
            schedule_unlocked(work->host, work->host_data);
        } else if (work->kind == WORK_KERNEL && work->kernel->run == NULL) {
            if (driver.config.scheduler == SCHEDULER_THREADS) { /* elsewhere time does not pass */
                schedule_unlocked(sleep_ns, &work->arguments[0]);
            }
        } else {
            result = work_run(work, op->device);
            if (result != CUDA_SUCCESS) {
                op->context->lost = result;
            }
        }
    }
    finish(op);
}

/* A runnable one among those that `op` needs, itself included; null when they are all being run by others. */
static struct op *find_needed(struct op *op)
{
    static struct op **stack;
    static uint32_t capacity;
    uint32_t count = 0, i;
    visit_count++;
    stack = array_grow(stack, 0, &capacity, sizeof *stack);
    stack[count++] = op;
    op->visit = visit_count;
    while (count != 0) {
        struct op *at = stack[--count];
        if (at->state == OP_PENDING && at->waiting == 0) {
            return at;
        }
        for (i = 0; i < at->dep_count; i++) {
            if (at->deps[i]->state != OP_DONE && at->deps[i]->visit != visit_count) {
                at->deps[i]->visit = visit_count;
                stack = array_grow(stack, count, &capacity, sizeof *stack);
                stack[count++] = at->deps[i];
            }
        }
    }
    return NULL;
}

/* Runs what `op` needs and op itself, depth first; 0 when something needed is being run by another thread. */
static int run_needed(struct op *op)
{
    struct op **stack = NULL;
    uint32_t capacity = 0, count = 0, i;
    int stuck = 0;
    stack = array_grow(stack, count, &capacity, sizeof *stack);
    stack[count++] = op_keep(op);
    while (count != 0) {
        struct op *at = stack[count - 1], *needed = NULL;
        if (at->state == OP_PENDING && at->waiting == 0 && !stuck) {
            execute(at);
        }
        stuck |= at->state == OP_RUNNING;
        if (op_done(at) || stuck) {
            op_drop(at);
            count--;
            continue;
        }
        for (i = 0; i < at->dep_count && needed == NULL; i++) {
            needed = op_done(at->deps[i]) ? NULL : at->deps[i];
        }
        stack = array_grow(stack, count, &capacity, sizeof *stack);
        stack[count++] = op_keep(needed);
    }
    free(stack);
    return !stuck;
}

static struct op *pick_random(void)
{
    return ready_count == 0 ? NULL : ready[random_next(&random_state) % ready_count];
}

void schedule_wait(struct op *op)
{
    if (op_done(op)) {
        return;
    }
    op_keep(op);
    while (!op_done(op)) {
        struct op *next = NULL;
        if (driver.config.scheduler == SCHEDULER_RANDOM) {
            next = pick_random();
        } else if (driver.config.scheduler != SCHEDULER_THREADS && run_needed(op)) {
            continue;
        }
        if (next != NULL) {
            execute(next);
        } else {
            schedule_pump();
            if (!op_done(op)) {
                pthread_cond_wait(&driver.changed, &driver.lock);
            }
        }
    }
    op_drop(op);
}

void schedule_poll(struct op *op)
{
    int i;
    op_keep(op);
    for (i = 0; i < driver.config.query_steps && driver.config.scheduler != SCHEDULER_THREADS && !op_done(op); i++) {
        struct op *next = find_needed(op);
        if (next == NULL) {
            break;
        }
        execute(next);
    }
    op_drop(op);
}

void schedule_progress(void)
{
    uint64_t steps;
    if (driver.config.scheduler == SCHEDULER_RANDOM && ready_count != 0) {
        for (steps = random_next(&random_state) % 4; steps > 0 && ready_count != 0; steps--) {
            execute(pick_random());
        }
    }
}

int schedule_step(const struct stream *stream)
{
    struct op *op;
    for (op = oldest; op != NULL; op = op->next) {
        if (op->state == OP_PENDING && op->waiting == 0 && (stream == NULL || op->stream == stream)) {
            execute(op);
            return 1;
        }
    }
    return 0;
}

void schedule_all(void)
{
    while (oldest != NULL) {
        schedule_wait(newest);
    }
}

uint64_t schedule_pending(void)
{
    return pending_count;
}

void schedule_pump(void)
{
    if (driver.config.scheduler == SCHEDULER_EAGER) {
        while (ready_count != 0) {
            execute(ready[0]);
        }
    } else if (driver.config.scheduler == SCHEDULER_THREADS && ready_count != 0) {
        if (workers_idle == 0 && worker_count < WORKERS_MAX && !workers_stop) {
            (void)worker_start();
        }
        pthread_cond_broadcast(&driver.changed);
    }
}

/* ---- threads */
static void delay(void)
{
    const uint64_t choice = random_next(&random_state) % 8;
    const struct timespec time = {0, (long)(choice * 4000)};
    pthread_mutex_unlock(&driver.lock);
    if (choice < 4) {
        sched_yield();
    } else {
        nanosleep(&time, NULL);
    }
    pthread_mutex_lock(&driver.lock);
}

static void *worker(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&driver.lock);
    while (!workers_stop) {
        if (ready_count == 0) {
            workers_idle++;
            pthread_cond_wait(&driver.changed, &driver.lock);
            workers_idle--;
            continue;
        }
        delay();
        if (ready_count != 0 && !workers_stop) {
            if (ready_count > 1) {
                schedule_pump(); /* more to do than one worker can */
            }
            execute(pick_random());
        }
    }
    pthread_mutex_unlock(&driver.lock);
    return NULL;
}

static int worker_start(void)
{
    if (pthread_create(&workers[worker_count], NULL, worker, NULL) != 0) {
        return 0;
    }
    worker_count++;
    return 1;
}

void schedule_start(void)
{
    random_state = driver.config.seed;
    workers_stop = 0;
    if (driver.config.scheduler == SCHEDULER_THREADS) {
        need(worker_start() ? &driver : NULL);
    }
}

/* Whatever is pending is finished first: a stopped driver has nothing in flight. */
void schedule_stop(void)
{
    int i;
    schedule_all();
    workers_stop = 1;
    pthread_cond_broadcast(&driver.changed);
    pthread_mutex_unlock(&driver.lock);
    for (i = 0; i < worker_count; i++) {
        pthread_join(workers[i], NULL);
    }
    pthread_mutex_lock(&driver.lock);
    worker_count = workers_idle = 0;
}
