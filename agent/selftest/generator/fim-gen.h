/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fim-gen: makes file events that are known in advance.
 *
 * It reads a script from stdin, one system call a line, runs it when a line
 * says "go", and reports on stdout, as JSON Lines, what the kernel returned for
 * each line. Then it waits for the next script; end of file ends it. Between
 * its hello and its end it touches no file but by a line of a script, so that
 * a monitor which watches this process alone must count just these calls.
 *
 *	comm worker
 *	open /tmp/a\x20b O_RDWR|O_CREAT 0644 -> $0
 *	close $0
 *	repeat 1009
 *		unlink /tmp/%d
 *	end
 *	rate 5000/s for 5s
 *		mkdir /tmp/d%d 0755
 *	end
 *	fork -> $1
 *		setuid 1000
 *		unlink /tmp/x
 *	end
 *	wait $1
 *	go
 *
 * Words are separated by blanks and may hold C escapes. In a loop %d is the
 * number of the turn, from 0, and %% a percent sign.
 */
#ifndef FIM_GEN_H
#define FIM_GEN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define MAX_OPS	   4096
#define MAX_ARGS   8
#define MAX_VARS   32
#define MAX_DEPTH  8
#define MAX_ERRNOS 8
#define MAX_LINE   16384
#define MAX_TEXT   (1 << 20)

#define NO_VAR (-1)

/* What a word of a line becomes when the call is made. */
enum arg_kind {
	ARG_NUMBER,
	ARG_VAR,
	ARG_TEXT,
};

struct arg {
	enum arg_kind kind;
	bool indexed; /* the text holds %d or %% */
	long number;  /* the value, or the variable's index */
	const char *text;
	size_t len;
};

struct op;

#define RING_SETXATTR 42 /* IORING_OP_SETXATTR, from 5.19: younger than some headers */

/*
 * One word of the script language. @spec has a letter for each argument:
 * p text, n a number or names joined by '|', t a time in seconds or "now",
 * r "N/s", f "for", s "Ns"; what stands after '?' may be left out. Four letters
 * take no word: l adds the length of the text before it, h folds the three
 * numbers before it into openat2's structure, c adds AT_FDCWD and d
 * AT_REMOVEDIR. @nr is the system call, unless @run is set.
 */
struct call {
	const char *name;
	long nr;
	const char *spec;
	long (*run)(const struct op *op);
	bool block; /* its lines run up to the matching "end" */
};

/* What came of one line so far: a line in a loop runs often. */
struct tally {
	unsigned long ok;
	unsigned long failed;
	struct {
		int error; /* 0: every error beyond the others */
		unsigned long count;
	} errors[MAX_ERRNOS];
	long ret;
	int status; /* of wait: as wait4 gave it */
	unsigned long long first_ns;
	unsigned long long last_ns; /* in a loop: its end */
	unsigned long long late_ns; /* of a rate: the furthest behind its beat */
};

struct op {
	int line;
	int end;  /* of a block: the index behind its last line */
	int into; /* variable that takes the result */
	int args;
	const struct call *call;
	struct arg arg[MAX_ARGS];
	struct tally tally;
};

struct script {
	int ops;
	struct op op[MAX_OPS];
};

extern struct script script;

/* script.c */
bool script_read(void);

/* calls.c */
const struct call *call_find(const char *name);
long call_make(const struct op *op);
long value_of(const struct arg *arg);
void var_set(int var, long value);

/* names.c */
bool name_value(const char *name, size_t len, long *value);

/* run.c */
void run_ops(int from, int to);
long run_repeat(const struct op *op);
long run_rate(const struct op *op);
long run_fork(const struct op *op);
long run_thread(const struct op *op);
long run_wait(const struct op *op);
long run_stopped(const struct op *op);
long run_resume(const struct op *op);
long turn_now(void);
unsigned long long now_ns(void);

/* doors.c */
long run_compat(const struct op *op);
long run_ring_features(const struct op *op);
long run_ring(const struct op *op);
long run_splice(const struct op *op);
long run_open_handle(const struct op *op);

/* report.c */
void report_hello(void);
void report_op(struct op *op);
void report_success(const struct op *op);
void report_done(void);
void fail(int line, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));

#endif
