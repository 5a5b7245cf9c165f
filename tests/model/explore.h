/* SPDX-License-Identifier: MIT */
#ifndef TESTS_MODEL_EXPLORE_H
#define TESTS_MODEL_EXPLORE_H

/*
 * Explores every state that a small world can get into, breadth first, so that what is found wrong
 * comes with a shortest story of how it came about. Then it asks of each state whether the world
 * can still come to a good end from there: where it cannot, somebody hangs or goes in circles.
 *
 * A state is a struct without padding, compared byte by byte.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXPLORE_STORY_MAX 128

struct explore_world {
	size_t state_size;
	unsigned int actions;
	void *ctx;
	/* Does an action in a state, changing it; false when it is not possible there. */
	bool (*act)(void *ctx, void *state, unsigned int action);
	/* What is wrong with a state, or NULL. */
	const char *(*wrong)(void *ctx, const void *state);
	/* Is everything done that there was to do? */
	bool (*finished)(void *ctx, const void *state);
};

struct explore_result {
	size_t states;
	size_t edges;
	size_t finished;
	const char *wrong; /* NULL: nothing is */
	size_t story_len;
	unsigned int story[EXPLORE_STORY_MAX]; /* the actions that led there */
};

/* What wrong says of a state from which no good end can be reached. */
extern const char explore_no_end[];

/* Stops at the first wrong state. Returns 0 or -ENOMEM. */
int explore(const struct explore_world *world, const void *start, struct explore_result *result);

#endif
