// SPDX-License-Identifier: Apache-2.0
/* Reads a script up to its "go". All of it is parsed before any of it runs. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "fim-gen.h"

struct script script;

static char text[MAX_TEXT]; /* the words of the script, unescaped */
static size_t text_used;
static int blocks[MAX_DEPTH]; /* the open blocks, by index of their op */
static int depth;

static int hex_digit(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	return -1;
}

/* Returns the byte of one escape, after its backslash, or -1. Advances @word past it. */
static int unescape(const char **word)
{
	static const char plain[] = "n\nt\tr\ra\ab\bf\fv\v\\\\\"\"";
	char letter = *(*word)++;

	if (letter == 'x') {
		int high = hex_digit((*word)[0]);
		int low = high < 0 ? -1 : hex_digit((*word)[1]);

		*word += 2;
		return low < 0 ? -1 : high * 16 + low;
	}
	for (size_t i = 0; plain[i]; i += 2) {
		if (letter && plain[i] == letter)
			return plain[i + 1];
	}
	return -1;
}

static void put_byte(int line, int byte)
{
	if (text_used == sizeof(text))
		fail(line, "the script has more than %d bytes of text", MAX_TEXT);
	text[text_used++] = (char)byte;
}

/* Words with a special meaning: a null pointer, a pointer that the kernel cannot read, the empty text. */
static bool read_special(struct arg *arg, const char *word)
{
	static const struct {
		const char *word;
		enum arg_kind kind;
		long pointer;
	} special[] = { { "@null", ARG_POINTER, 0 }, { "@bad", ARG_POINTER, 1 }, { "\"\"", ARG_TEXT, 0 } };

	for (size_t i = 0; i < ARRAY_SIZE(special); i++) {
		if (!strcmp(word, special[i].word)) {
			arg->kind = special[i].kind;
			arg->number = special[i].pointer;
			arg->text = "";
			return true;
		}
	}
	return false;
}

static void check_percent(const char *word, int line)
{
	int var, end = 0;

	if (*word == 'd' || *word == '%')
		return;
	if (sscanf(word, "{%d}%n", &var, &end) != 1 || !end || var < 0 || var >= MAX_VARS)
		fail(line, "invalid text after %% (use %%d, %%%% or %%{0} to %%{%d})", MAX_VARS - 1);
}

static void read_text(struct arg *arg, const char *word, int line)
{
	if (read_special(arg, word))
		return;
	arg->kind = ARG_TEXT;
	arg->text = text + text_used;
	while (*word) {
		int byte = (unsigned char)*word++;

		if (byte == '%') {
			arg->indexed = true;
			check_percent(word, line);
		}
		if (byte == '%')
			put_byte(line, byte), byte = *word++;
		else if (byte == '\\')
			byte = unescape(&word);
		if (byte <= 0)
			fail(line, "invalid escape (use \\xHH in lower case, not 00, or \\n \\t \\r \\\\)");
		put_byte(line, byte);
	}
	arg->len = text + text_used - arg->text;
	put_byte(line, '\0');
}

static bool read_var(const char *word, long *var)
{
	char rest;

	return sscanf(word, "$%ld%c", var, &rest) == 1 && *var >= 0 && *var < MAX_VARS;
}

static void read_number(struct arg *arg, const char *word, int line)
{
	if (*word == '$') {
		arg->kind = ARG_VAR;
		if (!read_var(word, &arg->number))
			fail(line, "invalid variable '%s' (use $0 to $%d)", word, MAX_VARS - 1);
	} else if (!name_value(word, strlen(word), &arg->number)) {
		fail(line, "'%s' is not a number or the name of a constant", word);
	}
}

/* A number with its unit, such as 5000/s. */
static void read_unit(struct arg *arg, char *word, const char *unit, int line)
{
	char *end = strstr(word, unit);

	if (!end || strcmp(end, unit))
		fail(line, "'%s' is not a number followed by '%s'", word, unit);
	*end = '\0';
	read_number(arg, word, line);
}

static char *next_word(char **rest)
{
	char *word;

	do {
		word = strsep(rest, " \t\r\n");
	} while (word && !*word);
	return word;
}

static void read_arrow(struct op *op, char *word, char **rest)
{
	long var = 0;

	if (strcmp(word, "->"))
		fail(op->line, "extra argument '%s' of %s (%s)", word, op->call->name, op->call->spec);
	word = next_word(rest);
	if (!word || !read_var(word, &var) || next_word(rest))
		fail(op->line, "write one variable after '->', $0 to $%d", MAX_VARS - 1);
	op->into = (int)var;
}

static void read_arg(struct op *op, char letter, char *word)
{
	struct arg *arg = &op->arg[op->args++];

	if (strchr("pxt", letter))
		read_text(arg, word, op->line);
	else if (letter == 'r')
		read_unit(arg, word, "/s", op->line);
	else if (letter == 's')
		read_unit(arg, word, "s", op->line);
	else
		read_number(arg, word, op->line);
}

static void read_args(struct op *op, char **rest)
{
	const char *spec = op->call->spec;
	bool optional = false;
	char *word = next_word(rest);

	for (; *spec; spec++) {
		if (*spec == '?')
			optional = true;
		if (strchr(SILENT, *spec))
			continue;
		if (!word || !strcmp(word, "->"))
			break;
		if (*spec != 'f')
			read_arg(op, *spec, word);
		else if (strcmp(word, "for"))
			fail(op->line, "'%s' instead of 'for'", word);
		word = next_word(rest);
	}
	if (*spec && *spec != 'R' && !optional)
		fail(op->line, "missing argument of %s (%s)", op->call->name, op->call->spec);
	if (word)
		read_arrow(op, word, rest);
}

static void close_block(int line)
{
	if (!depth)
		fail(line, "'end' without a block");
	script.op[blocks[--depth]].end = script.ops;
}

static void open_block(int line)
{
	if (depth == MAX_DEPTH)
		fail(line, "blocks are nested more than %d deep", MAX_DEPTH);
	blocks[depth++] = script.ops - 1;
}

static void read_op(const char *name, char **rest, int line)
{
	struct op *op = &script.op[script.ops];

	if (script.ops == MAX_OPS)
		fail(line, "a script has at most %d calls", MAX_OPS);
	memset(op, 0, sizeof(*op));
	op->line = line;
	op->into = NO_VAR;
	op->call = call_find(name);
	if (!op->call)
		fail(line, "unknown call '%s'", name);
	read_args(op, rest);
	op->end = ++script.ops;
	if (op->call->block)
		open_block(line);
}

/* Returns true when a complete script was read, false at end of file. */
bool script_read(void)
{
	static char buffer[MAX_LINE];
	int line = 0;

	script.ops = depth = 0;
	text_used = 0;
	while (fgets(buffer, sizeof(buffer), stdin)) {
		char *rest = buffer;
		char *word;

		line++;
		if (!strchr(buffer, '\n'))
			fail(line, "a line is at most %d bytes and ends in a newline", MAX_LINE - 2);
		word = next_word(&rest);
		if (!word || *word == '#')
			continue;
		if (!strcmp(word, "end"))
			close_block(line);
		else if (strcmp(word, "go"))
			read_op(word, &rest, line);
		else if (depth)
			fail(line, "%d blocks without 'end'", depth);
		else
			return true;
	}
	if (script.ops)
		fail(line, "the script ends without 'go'");
	return false;
}
