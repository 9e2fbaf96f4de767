// SPDX-License-Identifier: Apache-2.0
/* Prints the results as JSON Lines. A line is one write, so that lines of several processes do not mix. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fim-gen.h"

void line_add(struct line *line, const char *format, ...)
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

/* Formatting each byte would be most of what a report costs. */
static void add_byte(struct line *line, char byte)
{
	if (line->len + 1 < sizeof(line->text))
		line->text[line->len++] = byte;
}

/* Adds a text and a number; vsnprintf takes ten times as long, and most of a report are numbers. */
void line_add_number(struct line *line, const char *before, unsigned long long number)
{
	char digits[20];
	size_t count = 0;

	for (; *before; before++)
		add_byte(line, *before);
	do {
		digits[count++] = '0' + number % 10;
		number /= 10;
	} while (number);
	while (count)
		add_byte(line, digits[--count]);
}

static void add_string(struct line *line, const char *text)
{
	line_add(line, "\"");
	for (; *text; text++) {
		unsigned char byte = *text;

		if (byte < ' ' || byte > '~' || byte == '"' || byte == '\\')
			line_add(line, "\\u%04x", byte);
		else
			add_byte(line, byte);
	}
	line_add(line, "\"");
}

/* Prints a path or another text of the kernel like the agent's matches: \xHH for unprintable bytes.
 */
void line_add_path(struct line *line, const char *path)
{
	line_add(line, "\"");
	for (; *path; path++) {
		unsigned char byte = *path;

		if (byte == '\\')
			line_add(line, "\\\\\\\\");
		else if (byte < ' ' || byte > '~' || byte == '"')
			line_add(line, "\\\\x%02x", byte);
		else
			add_byte(line, byte);
	}
	line_add(line, "\"");
}

/* Whether stdout is a pipe: writes of more than PIPE_BUF bytes to one are not atomic. */
static bool torn;

static void lock_pipe(short kind)
{
	struct flock lock = { .l_type = kind, .l_whence = SEEK_SET };

	while (torn && witness_on && fcntl(STDOUT_FILENO, F_SETLKW, &lock) < 0 && errno == EINTR)
		;
}

static void send_line(struct line *line)
{
	size_t sent = 0;

	line_add(line, "\n");
	lock_pipe(F_WRLCK);
	while (sent < line->len) {
		ssize_t wrote = write(STDOUT_FILENO, line->text + sent, line->len - sent);

		if (wrote <= 0)
			_exit(3); /* there is no reader */
		sent += wrote;
	}
	lock_pipe(F_UNLCK);
}

static void add_identity(struct line *line)
{
	line_add_number(line, "\"pid\":", getpid());
	line_add_number(line, ",\"tid\":", syscall(SYS_gettid));
	line_add_number(line, ",\"ppid\":", getppid());
	line_add_number(line, ",\"uid\":", getuid());
	line_add_number(line, ",\"gid\":", getgid());
}

void report_hello(void)
{
	struct stat st;
	struct line line;

	torn = fstat(STDOUT_FILENO, &st) == 0 && S_ISFIFO(st.st_mode);
	line.len = 0;
	line_add(&line, "{\"hello\":1,");
	add_identity(&line);
	line_add(&line, "}");
	send_line(&line);
}

static void add_tally(struct line *line, const struct tally *tally)
{
	const char *comma = "";

	line_add_number(line, ",\"ok\":", tally->ok);
	line_add_number(line, ",\"failed\":", tally->failed);
	line_add(line, ",\"errors\":{");
	for (size_t i = 0; i < MAX_ERRNOS && tally->errors[i].count; i++) {
		line_add(line, "%s\"%d\":%lu", comma, tally->errors[i].error, tally->errors[i].count);
		comma = ",";
	}
	line_add(line, "},\"ret\":%ld,\"status\":%d", tally->ret, tally->status);
	line_add_number(line, ",\"first_ns\":", tally->first_ns);
	line_add_number(line, ",\"last_ns\":", tally->last_ns);
	line_add_number(line, ",\"late_ns\":", tally->late_ns);
}

static bool muted;

/* A child that may outlive its script reports nothing: the next script has other lines. */
long run_mute(const struct op *op)
{
	(void)op;
	muted = true;
	return 0;
}

/* Prints the results of a line and clears them, because the line may run again. */
void report_op(struct op *op)
{
	struct line line;

	if (muted || (!op->tally.ok && !op->tally.failed))
		return;
	line.len = 0;
	line_add_number(&line, "{\"line\":", op->line);
	line_add(&line, ",\"call\":");
	add_string(&line, op->call->name);
	line_add(&line, ",");
	add_identity(&line);
	add_tally(&line, &op->tally);
	if (witness_on)
		witness_add(&line);
	line_add(&line, "}");
	send_line(&line);
	memset(&op->tally, 0, sizeof(op->tally));
}

/* Reports a call that does not return if it succeeds. */
void report_success(const struct op *op)
{
	struct op success = *op;

	success.tally.ok = 1;
	report_op(&success);
}

void report_done(void)
{
	struct line line;

	line.len = 0;
	line_add(&line, "{\"done\":%d}", script.ops);
	send_line(&line);
}

/* An invalid script ends the program, because half a workload would count as a whole one. */
void fail(int number, const char *format, ...)
{
	struct line line;
	char why[256];
	va_list args;

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	line.len = 0;
	line_add(&line, "{\"error\":");
	add_string(&line, why);
	line_add(&line, ",\"line\":%d}", number);
	send_line(&line);
	_exit(2);
}
