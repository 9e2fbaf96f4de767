// SPDX-License-Identifier: Apache-2.0
/* Runs the script that script.c has read: loops, rates, children, threads. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fim-gen.h"

#define SECOND 1000000000ULL
#define TICK   1000000ULL /* calls due in the same millisecond are made together: a sleep costs more */

static long turn;
static int loops; /* nesting depth of loops; lines in loops are reported at the end of the outermost one */

long turn_now(void)
{
	return turn;
}

unsigned long long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec * SECOND + now.tv_nsec;
}

static void count_error(struct tally *tally, int error)
{
	size_t last = MAX_ERRNOS - 1;

	tally->failed++;
	for (size_t i = 0; i < last; i++) {
		if (!tally->errors[i].count)
			tally->errors[i].error = error;
		if (tally->errors[i].error == error) {
			tally->errors[i].count++;
			return;
		}
	}
	tally->errors[last].count++;
}

static void run_op(struct op *op)
{
	long ret;

	if (witness_on && !loops)
		witness_before(op);
	if (!op->tally.first_ns)
		op->tally.first_ns = now_ns();
	ret = call_make(op);
	var_set(op->into, ret);
	op->tally.ret = ret;
	if (ret < 0)
		count_error(&op->tally, (int)-ret);
	else
		op->tally.ok++;
	if (loops || (program_deferred && op->call->run == run_program && ret > 0))
		return;
	op->tally.last_ns = now_ns();
	if (witness_on)
		witness_after(op);
	report_op(op);
}

void run_ops(int from, int to)
{
	while (from < to) {
		struct op *op = &script.op[from];

		run_op(op);
		from = op->end;
	}
}

int first_of(const struct op *block)
{
	return (int)(block - script.op) + 1;
}

static void report_range(int from, int to)
{
	for (int i = from; i < to; i++) {
		script.op[i].tally.last_ns = now_ns();
		report_op(&script.op[i]);
	}
}

static void leave_loop(const struct op *op)
{
	if (!--loops)
		report_range(first_of(op), op->end);
}

long run_repeat(const struct op *op)
{
	long count = value_of(&op->arg[0]);
	long outer = turn;

	loops++;
	for (turn = 0; turn < count; turn++)
		run_ops(first_of(op), op->end);
	turn = outer;
	leave_loop(op);
	return count;
}

/* Sleeps until @deadline; returns how much later it is already. */
static unsigned long long wait_for(unsigned long long deadline)
{
	struct timespec until = {
		.tv_sec = (time_t)(deadline / SECOND),
		.tv_nsec = (long)(deadline % SECOND),
	};
	unsigned long long now = now_ns();

	if (now >= deadline)
		return now - deadline;
	while (clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
	return 0;
}

/* Returns when a call is due, from the start, rounded up. */
static unsigned long long beat_ns(long beat, long rate)
{
	return (beat * SECOND / rate + TICK - 1) / TICK * TICK;
}

/* "rate 5000/s for 5s": each call has its own deadline, so that a late one does not delay the rest. */
long run_rate(const struct op *op)
{
	struct tally *tally = &script.op[op - script.op].tally;
	long outer = turn;
	long rate = value_of(&op->arg[0]);
	long beats = rate * value_of(&op->arg[1]);
	unsigned long long start = now_ns();

	loops++;
	for (turn = 0; turn < beats; turn++) {
		unsigned long long late = wait_for(start + beat_ns(turn, rate));

		if (late > tally->late_ns)
			tally->late_ns = late;
		run_ops(first_of(op), op->end);
	}
	turn = outer;
	leave_loop(op);
	return beats;
}

/* The life of a child: nothing but its block. */
void run_only(const struct op *op)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	loops = 0;
	witness_forget();
	for (int i = first_of(op); i < op->end; i++)
		memset(&script.op[i].tally, 0, sizeof(script.op[i].tally));
	run_ops(first_of(op), op->end);
	_exit(0);
}

long run_fork(const struct op *op)
{
	pid_t child = fork();

	if (!child)
		run_only(op);
	return child < 0 ? -errno : child;
}

static void *thread_main(void *block)
{
	const struct op *op = block;

	run_ops(first_of(op), op->end);
	return NULL;
}

/* Waits for the thread: a script is a sequence, also across threads. */
long run_thread(const struct op *op)
{
	pthread_t thread;
	int error = pthread_create(&thread, NULL, thread_main, (void *)op);

	if (error)
		return -error;
	return -pthread_join(thread, NULL);
}

long run_wait(const struct op *op)
{
	int *status = &script.op[op - script.op].tally.status;
	pid_t child = waitpid((pid_t)value_of(&op->arg[0]), status, 0);

	return child < 0 ? -errno : child;
}

/* Waits until a child has stopped itself. */
long run_stopped(const struct op *op)
{
	int status;
	pid_t child = waitpid((pid_t)value_of(&op->arg[0]), &status, WUNTRACED);

	if (child < 0)
		return -errno;
	return WIFSTOPPED(status) ? child : -ECHILD;
}

long run_resume(const struct op *op)
{
	return kill((pid_t)value_of(&op->arg[0]), SIGCONT) < 0 ? -errno : 0;
}
