/* SPDX-License-Identifier: MIT */
#include "explore.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

const char explore_no_end[] = "there is no way to a good end";

/* How a state was reached first. */
struct origin {
	uint32_t parent;
	uint32_t action;
};

struct edge {
	uint32_t from;
	uint32_t to;
};

struct search {
	const struct explore_world *world;
	size_t count;
	size_t room;
	unsigned char *states;
	struct origin *origins;
	size_t slots;   /* a power of two, at least twice count */
	uint32_t *slot; /* index of a state plus 1, or 0 */
	size_t edge_count;
	size_t edge_room;
	struct edge *edges;
};

static unsigned char *state_at(const struct search *search, size_t index)
{
	return search->states + index * search->world->state_size;
}

static uint64_t hash(const unsigned char *bytes, size_t len)
{
	uint64_t sum = 0xcbf29ce484222325ULL;

	while (len--)
		sum = (sum ^ *bytes++) * 0x100000001b3ULL;
	return sum ^ sum >> 29;
}

/* The slot that holds a state, or the free one where it belongs. */
static uint32_t *slot_of(const struct search *search, const void *state)
{
	size_t size = search->world->state_size;
	size_t at = hash(state, size) & (search->slots - 1);

	while (search->slot[at] && memcmp(state_at(search, search->slot[at] - 1), state, size) != 0)
		at = (at + 1) & (search->slots - 1);
	return &search->slot[at];
}

static bool grow(struct search *search)
{
	size_t room = search->room ? 2 * search->room : 1 << 12;
	void *states = realloc(search->states, room * search->world->state_size);
	void *origins = realloc(search->origins, room * sizeof(*search->origins));
	void *slot = realloc(search->slot, 2 * room * sizeof(*search->slot));

	search->states = states ? states : search->states;
	search->origins = origins ? origins : search->origins;
	search->slot = slot ? slot : search->slot;
	if (!states || !origins || !slot)
		return false;
	search->room = room;
	search->slots = 2 * room;
	memset(search->slot, 0, search->slots * sizeof(*search->slot));
	for (size_t i = 0; i < search->count; i++)
		*slot_of(search, state_at(search, i)) = (uint32_t)i + 1;
	return true;
}

/* Adds a state unless it is known; its index, or -1 without memory. */
static ssize_t add(struct search *search, const void *state, size_t parent, unsigned int action)
{
	uint32_t *slot;

	if (search->count == search->room && !grow(search))
		return -1;
	slot = slot_of(search, state);
	if (*slot)
		return *slot - 1;
	memcpy(state_at(search, search->count), state, search->world->state_size);
	search->origins[search->count] = (struct origin){(uint32_t)parent, action};
	*slot = (uint32_t)++search->count;
	return *slot - 1;
}

static bool add_edge(struct search *search, size_t from, size_t to)
{
	size_t room = search->edge_room ? 2 * search->edge_room : 1 << 14;

	if (search->edge_count == search->edge_room) {
		struct edge *edges = realloc(search->edges, room * sizeof(*edges));

		if (!edges)
			return false;
		search->edges = edges;
		search->edge_room = room;
	}
	search->edges[search->edge_count++] = (struct edge){(uint32_t)from, (uint32_t)to};
	return true;
}

static void tell(const struct search *search, size_t index, const char *wrong,
		 struct explore_result *result)
{
	size_t len = 0;

	for (size_t at = index; at; at = search->origins[at].parent)
		len++;
	result->wrong = wrong;
	result->story_len = len < EXPLORE_STORY_MAX ? len : EXPLORE_STORY_MAX;
	for (size_t at = index; at; at = search->origins[at].parent) {
		if (--len < EXPLORE_STORY_MAX)
			result->story[len] = search->origins[at].action;
	}
}

/* All that can follow on a state. */
static bool expand(struct search *search, size_t index, void *scratch)
{
	const struct explore_world *world = search->world;

	for (unsigned int action = 0; action < world->actions; action++) {
		ssize_t next;

		memcpy(scratch, state_at(search, index), world->state_size);
		if (!world->act(world->ctx, scratch, action))
			continue;
		next = add(search, scratch, index, action);
		if (next < 0 || !add_edge(search, index, (size_t)next))
			return false;
	}
	return true;
}

static bool search_all(struct search *search, void *scratch, struct explore_result *result)
{
	const struct explore_world *world = search->world;

	for (size_t i = 0; i < search->count; i++) {
		const char *wrong = world->wrong(world->ctx, state_at(search, i));

		if (wrong) {
			tell(search, i, wrong, result);
			return true;
		}
		if (!expand(search, i, scratch))
			return false;
	}
	return true;
}

/*
 * Marks the states with a way to a good end: backwards along the edges until nothing new is found.
 * Edges mostly lead from a lower index to a higher one, so few rounds are needed.
 */
static bool check_ends(const struct search *search, struct explore_result *result)
{
	const struct explore_world *world = search->world;
	bool *ends = calloc(search->room, sizeof(*ends));
	bool changed = true;

	if (!ends)
		return false;
	for (size_t i = 0; i < search->count; i++) {
		ends[i] = world->finished(world->ctx, state_at(search, i));
		result->finished += ends[i];
	}
	while (changed) {
		changed = false;
		for (size_t i = search->edge_count; i-- > 0;) {
			if (ends[search->edges[i].to] && !ends[search->edges[i].from])
				ends[search->edges[i].from] = changed = true;
		}
	}
	for (size_t i = 0; i < search->count && !result->wrong; i++) {
		if (!ends[i])
			tell(search, i, explore_no_end, result);
	}
	free(ends);
	return true;
}

int explore(const struct explore_world *world, const void *start, struct explore_result *result)
{
	struct search search = {.world = world};
	void *scratch = malloc(world->state_size);
	bool ok = scratch && add(&search, start, 0, 0) == 0;

	*result = (struct explore_result){0};
	ok = ok && search_all(&search, scratch, result);
	if (ok && !result->wrong)
		ok = check_ends(&search, result);
	result->states = search.count;
	result->edges = search.edge_count;
	free(scratch);
	free(search.states);
	free(search.origins);
	free(search.slot);
	free(search.edges);
	return ok ? 0 : -ENOMEM;
}
