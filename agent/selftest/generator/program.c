// SPDX-License-Identifier: Apache-2.0
/* Programs: child processes that end with everything that they started. */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fim-gen.h"

const char *program_name = "";
bool program_deferred; /* in a "beside": programs are not waited for one by one */

static struct {
	struct op *op;
	pid_t pid;
} started[MAX_BESIDE];
static int count;

static void become(const struct op *op)
{
	long uid = op->args > 1 ? value_of(&op->arg[1]) : 0;
	long gid = op->args > 2 ? value_of(&op->arg[2]) : uid;

	if (op->args < 2)
		return;
	/* The calls themselves: the library's would change the users of all threads, by signals. */
	if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, gid, gid, gid) < 0 ||
	    syscall(SYS_setresuid, uid, uid, uid) < 0)
		fail(op->line, "cannot become user %ld: %s", uid, strerror(errno));
}

static void run_program_child(const struct op *op)
{
	setpgid(0, 0);
	program_name = op->arg[0].text;
	program_deferred = false;
	prctl(PR_SET_NAME, program_name);
	become(op);
	alarm(PROGRAM_S);
	run_only(op);
}

/* Ends what the program left behind. It was re-parented to this process, the subreaper. */
static void reap(struct op *op, pid_t pid)
{
	while (waitpid(pid, &op->tally.status, 0) < 0 && errno == EINTR)
		;
	if (kill(-pid, SIGKILL) == 0) {
		while (waitpid(-pid, NULL, 0) > 0)
			;
	}
}

long run_program(const struct op *op)
{
	struct op *mine = &script.op[op - script.op];
	pid_t pid;

	if (program_deferred && count == MAX_BESIDE)
		return -EAGAIN;
	pid = fork();
	if (!pid)
		run_program_child(op);
	if (pid < 0)
		return -errno;
	if (program_deferred) {
		started[count].op = mine;
		started[count++].pid = pid;
	} else {
		reap(mine, pid);
	}
	return pid;
}

long run_beside(const struct op *op)
{
	int programs;

	program_deferred = true;
	count = 0;
	run_ops(first_of(op), op->end);
	program_deferred = false;
	for (int i = 0; i < count; i++) {
		reap(started[i].op, started[i].pid);
		started[i].op->tally.ret = started[i].pid;
		report_op(started[i].op);
	}
	programs = count;
	return programs;
}

static char *const environment[] = { NULL };

static void words_of(const struct op *op, int from, char **argv)
{
	for (int i = from; i < op->args; i++)
		*argv++ = (char *)op->arg[i].text;
	*argv = NULL;
}

/* The report of a success is sent before the call, which does not return then; that of a failure follows it.
 */
long run_exec(const struct op *op)
{
	static char room[PATH_ROOM];
	char *argv[MAX_ARGS + 1];
	const char *path;
	size_t len;

	path = text_of(&op->arg[0], room, &len);
	words_of(op, 0, argv);
	argv[0] = (char *)path;
	report_success(op);
	execve(path, argv, environment);
	return -errno;
}

/* execveat DIRECTORY PATH FLAGS WORD...: the words are the program's own, with its name. */
long run_execveat(const struct op *op)
{
	const long *v = call_values(op);
	char *argv[MAX_ARGS + 1];

	words_of(op, 3, argv);
	report_success(op);
	syscall(SYS_execveat, v[0], v[1], argv, environment, v[2]);
	return -errno;
}
