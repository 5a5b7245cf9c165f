/* SPDX-License-Identifier: MIT */
/* The payload's image, made from payload/ by the build. */
#ifndef FAULTLINE_VMM_BOOT_H
#define FAULTLINE_VMM_BOOT_H

extern const unsigned char vmm_payload_image[];
extern const unsigned long vmm_payload_image_len;

#endif
