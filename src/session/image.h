/* SPDX-License-Identifier: MIT */
#ifndef FL_SESSION_IMAGE_H
#define FL_SESSION_IMAGE_H

#include <sys/types.h>
#include <faultline/source.h>

/*
 * The images that a daemon serves from. One that several sockets name, by whatever path and with
 * the same filters, is opened once. Owned by the main thread; sessions use the source only, which
 * is shared by design and outlives them.
 */
struct fl_image {
	struct fl_image *next;
	unsigned int refs;
	dev_t device;
	ino_t inode;
	char *path;
	char *filters; /* the specs, joined by spaces */
	struct fl_source *source;
	struct fl_source *stats; /* the last "stats" filter in it, or NULL */
};

struct fl_images {
	struct fl_image *first;
};

/*
 * Opens an image, or takes the one that is open. Filters are stacked in their order, the first one
 * next to the file, and bounded retries on top unless a "retry" is among them.
 */
int fl_image_get(struct fl_images *images, const char *path, const char *const *filters,
		 size_t count, struct fl_image **image, struct fl_error *err);

/* Lets it go; closed with the last one. NULL is fine. */
void fl_image_put(struct fl_images *images, struct fl_image *image);

#endif
