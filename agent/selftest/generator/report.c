// SPDX-License-Identifier: Apache-2.0
/* What happened, as JSON Lines: a line is one write, so that those of several processes do not mix. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fim-gen.h"

#define LINE_SIZE 4096 /* PIPE_BUF: longer writes may be torn */

struct line {
	char text[LINE_SIZE];
	size_t len;
};

static void __attribute__((format(printf, 2, 3))) add(struct line *line, const char *format, ...)
{
	size_t room = sizeof(line->text) - line->len;
	va_list args;
	int wrote;

	va_start(args, format);
	wrote = vsnprintf(line->text + line->len, room, format, args);
	va_end(args);
	if (wrote > 0 && (size_t)wrote < room)
		line->len += wrote;
}

static void add_string(struct line *line, const char *text)
{
	add(line, "\"");
	for (; *text; text++) {
		unsigned char byte = *text;

		if (byte < ' ' || byte > '~' || byte == '"' || byte == '\\')
			add(line, "\\u%04x", byte);
		else
			add(line, "%c", byte);
	}
	add(line, "\"");
}

static void send_line(struct line *line)
{
	size_t sent = 0;

	add(line, "\n");
	while (sent < line->len) {
		ssize_t wrote = write(STDOUT_FILENO, line->text + sent, line->len - sent);

		if (wrote <= 0)
			_exit(3); /* nobody listens: there is nobody to tell */
		sent += wrote;
	}
}

static void add_identity(struct line *line)
{
	add(line, "\"pid\":%d,\"tid\":%ld,\"ppid\":%d,\"uid\":%d,\"gid\":%d", getpid(), syscall(SYS_gettid),
	    getppid(), getuid(), getgid());
}

void report_hello(void)
{
	struct line line = { .len = 0 };

	add(&line, "{\"hello\":1,");
	add_identity(&line);
	add(&line, "}");
	send_line(&line);
}

static void add_tally(struct line *line, const struct tally *tally)
{
	const char *comma = "";

	add(line, ",\"ok\":%lu,\"failed\":%lu,\"errors\":{", tally->ok, tally->failed);
	for (size_t i = 0; i < MAX_ERRNOS && tally->errors[i].count; i++) {
		add(line, "%s\"%d\":%lu", comma, tally->errors[i].error, tally->errors[i].count);
		comma = ",";
	}
	add(line, "},\"ret\":%ld,\"status\":%d,\"first_ns\":%llu,\"last_ns\":%llu,\"late_ns\":%llu",
	    tally->ret, tally->status, tally->first_ns, tally->last_ns, tally->late_ns);
}

/* Tells what came of a line and forgets it: the line may run again. */
void report_op(struct op *op)
{
	struct line line = { .len = 0 };

	if (!op->tally.ok && !op->tally.failed)
		return;
	add(&line, "{\"line\":%d,\"call\":", op->line);
	add_string(&line, op->call->name);
	add(&line, ",");
	add_identity(&line);
	add_tally(&line, &op->tally);
	add(&line, "}");
	send_line(&line);
	memset(&op->tally, 0, sizeof(op->tally));
}

/* Tells of a call that does not return if it succeeds. */
void report_success(const struct op *op)
{
	struct op told = *op;

	told.tally.ok = 1;
	report_op(&told);
}

void report_done(void)
{
	struct line line = { .len = 0 };

	add(&line, "{\"done\":%d}", script.ops);
	send_line(&line);
}

/* A script that is wrong ends the program: half a workload would be counted as a whole one. */
void fail(int number, const char *format, ...)
{
	struct line line = { .len = 0 };
	char why[256];
	va_list args;

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	add(&line, "{\"error\":");
	add_string(&line, why);
	add(&line, ",\"line\":%d}", number);
	send_line(&line);
	_exit(2);
}
