/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <locale.h>
#include <ncurses.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/cli.h"

struct top_options {
	const char *control;
	uint64_t delay_s;
};

static int set_control(void *ctx, const char *value, struct fl_error *err)
{
	(void)err;
	((struct top_options *)ctx)->control = value;
	return 0;
}

static int set_delay(void *ctx, const char *value, struct fl_error *err)
{
	return cli_parse_number(value, 1, 3600, &((struct top_options *)ctx)->delay_s, err);
}

static const struct cli_option options[] = {
	{"control", 'c', "PATH", "the daemon's control socket", set_control},
	{"delay", 'd', "SECONDS", "time between two looks (default 1)", set_delay},
};

static const struct cli_usage usage = {
	.command = "faultline top",
	.synopsis = "[OPTION...]",
	.summary = "Shows what a daemon does, live. 'q' ends it; arrow keys scroll.",
	.options = options,
	.option_count = sizeof(options) / sizeof(*options),
};

/* The screen as it is being drawn. */
struct screen {
	int row;
	int skip; /* sessions that are scrolled away */
};

static void draw_line(void *ctx, const char *text)
{
	struct screen *screen = ctx;

	if (screen->row < LINES)
		(void)mvaddnstr(screen->row, 0, text, COLS);
	screen->row++;
}

static void draw_session_line(void *ctx, const char *text)
{
	struct screen *screen = ctx;

	/* The headings stay. */
	if (screen->skip < 0) {
		(void)attron(A_REVERSE);
		draw_line(ctx, text);
		(void)attroff(A_REVERSE);
		screen->skip = -screen->skip - 1;
	} else if (screen->skip > 0) {
		screen->skip--;
	} else {
		draw_line(ctx, text);
	}
}

static void draw(json_t *stat, int scrolled)
{
	struct screen screen = {.skip = -scrolled - 1};
	const struct cli_lines head = {.line = draw_line, .ctx = &screen};
	const struct cli_lines body = {.line = draw_session_line, .ctx = &screen};

	(void)erase();
	cli_show_daemon(stat, &head);
	draw_line(&screen, "");
	cli_show_sessions(stat, &body);
	(void)refresh();
}

/* false to end. */
static bool handle_key(int key, int sessions, int *scrolled)
{
	if (key == 'q' || key == 'Q')
		return false;
	if (key == KEY_DOWN && *scrolled < sessions - 1)
		(*scrolled)++;
	else if (key == KEY_UP && *scrolled > 0)
		(*scrolled)--;
	else if (key == KEY_NPAGE && *scrolled < sessions - LINES)
		*scrolled += LINES / 2;
	else if (key == KEY_PPAGE)
		*scrolled = *scrolled > LINES / 2 ? *scrolled - LINES / 2 : 0;
	return true;
}

static int show_until_quit(const struct top_options *o, struct fl_error *err)
{
	int scrolled = 0;
	int sessions;

	do {
		json_t *stat = cli_ask(o->control, "stat", err);

		if (!stat)
			return err->code;
		sessions = (int)json_array_size(json_object_get(stat, "sessions"));
		if (scrolled >= sessions)
			scrolled = sessions ? sessions - 1 : 0;
		draw(stat, scrolled);
		json_decref(stat);
	} while (handle_key(getch(), sessions, &scrolled));
	return 0;
}

int cmd_top(int argc, char **argv)
{
	struct top_options o = {.delay_s = 1};
	struct fl_error err;
	int status = cli_parse(&usage, argc, argv, &o, NULL);
	int rc;

	if (status >= 0)
		return status;
	if (!isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO)) {
		fprintf(stderr, "faultline top: needs a terminal; 'faultline stat' does not\n");
		return CLI_FAILED;
	}
	(void)setlocale(LC_CTYPE, "");
	if (!newterm(NULL, stdout, stdin)) {
		fprintf(stderr, "faultline top: this terminal is not known: is TERM right?\n");
		return CLI_FAILED;
	}
	(void)cbreak();
	(void)noecho();
	(void)curs_set(0);
	(void)keypad(stdscr, TRUE);
	timeout((int)o.delay_s * 1000);
	rc = show_until_quit(&o, &err);
	(void)endwin();
	if (rc)
		fprintf(stderr, "faultline top: %s\n", err.text);
	return rc ? CLI_FAILED : CLI_OK;
}
