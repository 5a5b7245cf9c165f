/* SPDX-License-Identifier: MIT */

/*
 * The switch. The pager serves from when the state is whole, because load() may touch guest memory; a
 * thread of its own calls it, and run() after GO. When the migration fails before GO, what load() waits
 * for will never come: its ranges are released, so that it ends, and what it says is not heard.
 */

#include "migrate/incoming.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/thread.h"

#include <errno.h>
#include <string.h>
#include <poll.h>
#include <sys/eventfd.h>

/* Of the VMM's calls; address space only. */
#define STACK_BYTES (2u << 20)

static int open_pager(struct fl_incoming *in, struct fl_error *err)
{
	struct fl_pager_parts parts = {in->memory.layout, in->table, in->trap, in->install,
				       &in->source.source};
	struct fl_pager_options options;
	struct fl_pager *pager;
	int code;

	fl_pager_options_init(&options);
	options.flags = FL_PAGER_RELEASE | FL_PAGER_NEAR;
	options.around_bytes = 0; /* what is not asked for by itself comes by filling */
	options.window_bytes = in->options.window_bytes;
	options.log = in->options.log;
	code = fl_pager_new(&pager, &parts, &options, err);
	if (!code)
		atomic_store_explicit(&in->pager, pager, memory_order_release);
	return code;
}

static void post(struct fl_incoming *in, bool *what, int *result, int value)
{
	(void)pthread_mutex_lock(&in->lock);
	*result = value;
	*what = true;
	(void)pthread_mutex_unlock(&in->lock);
	fl_incoming_kick(in);
}

static bool wait_for_go(struct fl_incoming *in)
{
	struct fl_incoming_guest *guest = &in->guest;
	bool go;

	(void)pthread_mutex_lock(&in->lock);
	while (!guest->go && !guest->leave)
		(void)pthread_cond_wait(&guest->word, &in->lock);
	go = guest->go;
	(void)pthread_mutex_unlock(&in->lock);
	return go;
}

static void *guest_main(void *arg)
{
	struct fl_incoming *in = arg;
	struct fl_incoming_guest *guest = &in->guest;
	int code;

	/* Threads of the library take no signals, but touching a page may be one, and vCPU threads that
	 * run() makes have the mask of this one. */
	(void)pthread_sigmask(SIG_SETMASK, &in->signals, NULL);
	code = in->calls.load(in->ctx, in->state.bytes, in->state.len, &guest->err);
	post(in, &guest->loaded, &guest->load_result, code);
	if (code >= 0 && wait_for_go(in)) {
		code = in->calls.run(in->ctx);
		post(in, &guest->ran, &guest->run_result, code);
	}
	(void)pthread_mutex_lock(&in->lock);
	guest->ended = true;
	(void)pthread_mutex_unlock(&in->lock);
	fl_incoming_kick(in);
	return NULL;
}

int fl_incoming_switch(struct fl_incoming *in)
{
	struct fl_error err = {0};
	int code = open_pager(in, &err);

	if (code)
		return fl_incoming_break(in, code, "%s", err.text);
	code = fl_thread_start(&in->guest.thread, STACK_BYTES, guest_main, in);
	if (code)
		return fl_incoming_break(in, code, "no thread for the machine: %s",
					 strerrordesc_np(-code));
	in->guest.running = true;
	in->stage = FL_STAGE_LOADING;
	fl_incoming_phase(in, FL_MIGRATE_SWITCHING);
	return 0;
}

static void loaded(struct fl_incoming *in, int result)
{
	struct fl_frame ready = {.type = FL_FRAME_READY};
	const struct fl_error *err = &in->guest.err;

	if (result < 0) {
		(void)fl_incoming_break(in, result, "the machine's state cannot be loaded: %s",
					err->code ? err->text : strerrordesc_np(-result));
		return;
	}
	in->stage = FL_STAGE_READY;
	fl_incoming_send(in, &ready);
}

static void ran(struct fl_incoming *in, int result)
{
	struct fl_frame running = {.type = FL_FRAME_RUNNING};

	if (result >= 0) {
		if (in->main.conn && in->again == FL_AGAIN_NOTHING)
			fl_incoming_send(in, &running);
		return;
	}
	/* It runs nowhere now. The other side has its memory still, and must hear it. */
	in->fatal = true;
	in->broken = (struct fl_error){0};
	(void)fl_incoming_break(in, result, "the machine cannot be run: %s",
				strerrordesc_np(-result));
}

void fl_incoming_guest_posted(struct fl_incoming *in)
{
	struct fl_incoming_guest *guest = &in->guest;
	bool is_loaded, has_run;

	if (!guest->running || in->broken.code)
		return;
	(void)pthread_mutex_lock(&in->lock);
	is_loaded = guest->loaded;
	has_run = guest->ran;
	(void)pthread_mutex_unlock(&in->lock);
	if (is_loaded && in->stage == FL_STAGE_LOADING)
		loaded(in, guest->load_result);
	if (has_run && !in->has_run) {
		in->has_run = true;
		ran(in, guest->run_result);
	}
}

void fl_incoming_go(struct fl_incoming *in)
{
	if (in->stage >= FL_STAGE_GONE)
		return; /* a recovery says it again */
	in->stage = FL_STAGE_GONE;
	fl_incoming_set(&in->count.go_ns, fl_clock_ns());
	(void)pthread_mutex_lock(&in->lock);
	in->guest.go = true;
	(void)pthread_cond_signal(&in->guest.word);
	(void)pthread_mutex_unlock(&in->lock);
	if (in->again == FL_AGAIN_NOTHING)
		fl_incoming_phase(in, FL_MIGRATE_FOLLOWING);
}

bool fl_incoming_guest_busy(struct fl_incoming *in)
{
	bool busy;

	if (!in->guest.running)
		return false;
	(void)pthread_mutex_lock(&in->lock);
	busy = !in->guest.ended && (!in->guest.loaded || in->guest.go);
	(void)pthread_mutex_unlock(&in->lock);
	return busy;
}

static void release_memory(struct fl_incoming *in)
{
	for (size_t i = 0; i < fl_layout_count(in->memory.layout); i++) {
		const struct fl_region *region = fl_layout_region(in->memory.layout, i);

		if (region->addr != FL_NOWHERE)
			(void)fl_trap_release(in->trap, region->addr, region->len_bytes);
	}
}

/* Memory that is given back waits for its event to be read, too. */
static void let_load_end(struct fl_incoming *in)
{
	struct pollfd polls[] = {{.fd = in->event_fd, .events = POLLIN},
				 {.fd = fl_trap_fd(in->trap), .events = POLLIN}};
	struct fl_event events[16];
	eventfd_t posted;

	release_memory(in);
	while (fl_incoming_guest_busy(in)) {
		(void)poll(polls, 2, -1);
		(void)eventfd_read(in->event_fd, &posted);
		(void)fl_trap_read(in->trap, events, sizeof(events) / sizeof(*events));
	}
}

void fl_incoming_guest_stop(struct fl_incoming *in)
{
	if (!in->guest.running)
		return;
	(void)pthread_mutex_lock(&in->lock);
	in->guest.leave = true;
	(void)pthread_cond_signal(&in->guest.word);
	(void)pthread_mutex_unlock(&in->lock);
	if (in->stage < FL_STAGE_READY)
		let_load_end(in);
	(void)pthread_join(in->guest.thread, NULL);
	in->guest.running = false;
}
