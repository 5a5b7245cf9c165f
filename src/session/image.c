/* SPDX-License-Identifier: MIT */
#include "session/image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "util/error.h"

/* A page that is read in vain this often, over about half a second, is poisoned. */
#define RETRY_DEFAULT "retry=5,first=20ms,max=200ms"

static char *join(const char *const *words, size_t count)
{
	size_t len = 1;
	char *text;
	char *end;

	for (size_t i = 0; i < count; i++)
		len += strlen(words[i]) + 1;
	text = malloc(len);
	if (!text)
		return NULL;
	end = text;
	*end = '\0';
	for (size_t i = 0; i < count; i++) {
		if (i)
			*end++ = ' ';
		end = stpcpy(end, words[i]);
	}
	return text;
}

static void free_image(struct fl_image *image)
{
	fl_source_close(image->source);
	free(image->path);
	free(image->filters);
	free(image);
}

static int stack_filters(struct fl_image *image, const char *const *filters, size_t count,
			 struct fl_error *err)
{
	bool retries = false;
	int rc = 0;

	for (size_t i = 0; i < count && !rc; i++) {
		rc = fl_filter_parse(&image->source, filters[i], err);
		if (!rc && strcmp(filters[i], "stats") == 0)
			image->stats = image->source;
		retries |= strncmp(filters[i], "retry", 5) == 0;
	}
	if (!rc && !retries)
		rc = fl_filter_parse(&image->source, RETRY_DEFAULT, err);
	return rc;
}

static int open_image(struct fl_image *image, const char *path, const char *const *filters,
		      size_t count, struct fl_error *err)
{
	int rc = fl_source_file_open(&image->source, path, 0, err);

	if (rc)
		return rc;
	rc = stack_filters(image, filters, count, err);
	if (rc)
		return rc;
	image->path = strdup(path);
	if (!image->path)
		return fl_error_set(err, -ENOMEM, "no memory");
	return 0;
}

static struct fl_image *find(const struct fl_images *images, const struct stat *file,
			     const char *filters)
{
	struct fl_image *image;

	for (image = images->first; image; image = image->next) {
		if (image->device == file->st_dev && image->inode == file->st_ino &&
		    strcmp(image->filters, filters) == 0)
			break;
	}
	return image;
}

int fl_image_get(struct fl_images *images, const char *path, const char *const *filters,
		 size_t count, struct fl_image **image, struct fl_error *err)
{
	struct stat file;
	char *joined;
	int rc;

	if (stat(path, &file) < 0) {
		rc = -errno;
		return fl_error_set(err, rc, "%s: %s", path, strerror(-rc));
	}
	joined = join(filters, count);
	if (!joined)
		return fl_error_set(err, -ENOMEM, "no memory");
	*image = find(images, &file, joined);
	if (*image) {
		free(joined);
		(*image)->refs++;
		return 0;
	}
	*image = calloc(1, sizeof(**image));
	if (!*image) {
		free(joined);
		return fl_error_set(err, -ENOMEM, "no memory");
	}
	**image = (struct fl_image){
		.refs = 1, .device = file.st_dev, .inode = file.st_ino, .filters = joined};
	rc = open_image(*image, path, filters, count, err);
	if (rc) {
		free_image(*image);
		*image = NULL;
		return rc;
	}
	(*image)->next = images->first;
	images->first = *image;
	return 0;
}

void fl_image_put(struct fl_images *images, struct fl_image *image)
{
	struct fl_image **at = &images->first;

	if (!image || --image->refs)
		return;
	while (*at != image)
		at = &(*at)->next;
	*at = image->next;
	free_image(image);
}
