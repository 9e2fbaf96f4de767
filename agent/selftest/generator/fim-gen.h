/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fim-gen: generates file events that are known in advance.
 *
 * It reads a script from stdin, one system call a line, runs it at the line
 * "go", and reports on stdout, as JSON Lines, what the kernel returned for each
 * line. Then it waits for the next script; end of file ends it. After its
 * first message it accesses no file except by a line of a script, so that a
 * monitor which watches only this process must count exactly these calls.
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
 *	witness on
 *	beside
 *		program first 1000 1000
 *			open /proc/self/fd/%{0} O_RDONLY
 *		end
 *	end
 *	go
 *
 * Words are separated by blanks and may contain C escapes. In a loop %d is the
 * number of the iteration, from 0, %{3} is the value of $3, and %% is a percent
 * sign.
 * The word "" is the empty text, @null a null pointer, @bad an invalid one.
 *
 * A program is a child process with a process group of its own. It is killed
 * with everything that it started when its block ends, or after PROGRAM_S
 * seconds. "beside" starts the programs in it together and waits for all.
 *
 * With "witness on" each report has the kernel's data about the call's objects
 * before the call; see witness.c. The line "look PATH" makes no call: it only
 * reports these data.
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

#define PROGRAM_S   20
#define MAX_BESIDE  64
#define PATH_ROOM   8192 /* an expanded %d may exceed PATH_MAX: the kernel refuses it */
#define REPORT_SIZE 98304

#define NO_VAR (-1)

/* The kind of argument that a word of a line becomes. */
enum arg_kind {
	ARG_NUMBER,
	ARG_VAR,
	ARG_TEXT,
	ARG_POINTER,
};

struct arg {
	enum arg_kind kind;
	bool indexed; /* the text contains %d, %{0} or %% */
	long number;  /* the value, the variable's index, or the pointer */
	const char *text;
	size_t len;
};

struct op;

#define RING_SETXATTR 42 /* IORING_OP_SETXATTR, from 5.19: some headers lack it */

/*
 * One word of the script language. @spec has a letter for each argument:
 * p a path, D the directory descriptor of the path after it, F a descriptor,
 * x another text, n a number or names joined by '|', t a time in seconds or
 * "now", r "N/s", f "for", s "Ns"; words after '?' are optional.
 * The other letters take no word: l adds the length of the text before it, c
 * adds AT_FDCWD, d AT_REMOVEDIR; h, m and a fold the 3, 4 and 3 values before
 * them into the structures of openat2, mount_setattr and setxattrat; R marks
 * a call that returns a descriptor. @nr is the system call, unless @run is set.
 */
#define SILENT "?lhcdmaR"

struct call {
	const char *name;
	long nr;
	const char *spec;
	long (*run)(const struct op *op);
	bool block; /* its lines run up to the matching "end" */
};

/* The results of one line so far: a line in a loop runs often. */
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
	unsigned long long late_ns; /* of a rate: the latest call, behind its deadline */
};

struct op {
	int line;
	int end;  /* of a block: the index after its last line */
	int into; /* variable for the result */
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

/* table.c */
const struct call *call_find(const char *name);

/* calls.c */
const long *call_values(const struct op *op);
long call_make(const struct op *op);
long value_of(const struct arg *arg);
const char *text_of(const struct arg *arg, char *room, size_t *len);
void var_set(int var, long value);
long run_comm(const struct op *op);
long run_handle(const struct op *op);
long run_mapwrite(const struct op *op);
long run_cpu(const struct op *op);
long run_caps(const struct op *op);
long run_rlimit(const struct op *op);

/* names.c */
bool name_value(const char *name, size_t len, long *value);

/* run.c */
void run_ops(int from, int to);
void run_only(const struct op *block) __attribute__((noreturn));
int first_of(const struct op *block);
long run_repeat(const struct op *op);
long run_rate(const struct op *op);
long run_fork(const struct op *op);
long run_thread(const struct op *op);
long run_wait(const struct op *op);
long run_stopped(const struct op *op);
long run_resume(const struct op *op);
long turn_now(void);
unsigned long long now_ns(void);

/* program.c */
extern const char *program_name;
extern bool program_deferred;
long run_program(const struct op *op);
long run_beside(const struct op *op);
long run_exec(const struct op *op);
long run_execveat(const struct op *op);

/* compat.c */
long run_compat(const struct op *op);
long run_chattr32(const struct op *op);

/* ring.c */
long run_ring_features(const struct op *op);
long run_ring(const struct op *op);

/* descriptors.c */
long run_splice(const struct op *op);
long run_open_handle(const struct op *op);
long run_pair(const struct op *op);
long run_send_fd(const struct op *op);
long run_recv_fd(const struct op *op);
long run_pass(const struct op *op);
long run_fsconfig(const struct op *op);
long run_chattr(const struct op *op);
long run_chattr_untouched(const struct op *op);
long run_fssetxattr(const struct op *op);
long run_file_setattr(const struct op *op);
long run_bind(const struct op *op);

/* witness.c */
extern bool witness_on;
void witness_open(void);
void witness_forget(void);
void witness_before(const struct op *op);
void witness_after(const struct op *op);
long run_witness(const struct op *op);
long run_look(const struct op *op);

/* report.c */
struct line {
	size_t len;
	char text[REPORT_SIZE];
};

void line_add(struct line *line, const char *format, ...) __attribute__((format(printf, 2, 3)));
void line_add_path(struct line *line, const char *path);
void line_add_number(struct line *line, const char *before, unsigned long long number);
void witness_add(struct line *line);
void report_hello(void);
void report_op(struct op *op);
void report_success(const struct op *op);
long run_mute(const struct op *op);
void report_done(void);
void fail(int line, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));

#endif
