/* SPDX-License-Identifier: Apache-2.0 */
/* h2_frames: what the library does not look at in the frames of a client: frames for streams that
 * are over, and PRIORITY frames that depend on themselves (RFC 9113 5.1, 5.3.1 of RFC 7540).
 *
 * A frame for a stream that the client ended itself is its fault; one for a stream that we reset
 * may have been on its way.  The last H2_PAST streams are remembered with who ended them; what is
 * older is let pass.  Inside proto/ only.  Threads: any. */
#ifndef FB_PROTO_H2_FRAMES_H
#define FB_PROTO_H2_FRAMES_H
#include "base/span.h"

#define H2_PAST 64

enum h2_frame_verdict { H2_FRAME_OK, H2_FRAME_NEVER_OPENED, H2_FRAME_CLOSED };

struct h2_past {
    int32_t ids[H2_PAST]; /* the low bit is not needed for odd numbers: 0 means that we ended it */
    uint32_t at;
    int32_t forgotten; /* the highest that is not remembered any more */
    int32_t highest;   /* that the client opened */
};
void h2_past_add(struct h2_past *p, int32_t id, bool is_ours); /* once for each */
/* The client resets <id>: from now on it knows that it is over. */
void h2_past_reset(struct h2_past *p, int32_t id);
/* A frame for <id>, which is not open.  Also notes a new one. */
enum h2_frame_verdict h2_past_judge(struct h2_past *p, int32_t id);

struct h2_scan {
    uint32_t skip;    /* bytes of the present frame, or of the preface */
    uint8_t head[13]; /* of a frame, and what a PRIORITY frame depends on */
    uint8_t got;
    bool is_last;  /* the DATA frame ends its stream */
    bool is_stale; /* a stream was ended by what was looked at since its owner set this false */
    int32_t id;
};
enum h2_scan_step {
    H2_SCAN_END,     /* all bytes were looked at */
    H2_SCAN_DATA,    /* behind the head of a DATA frame of stream <id> */
    H2_SCAN_PRIORITY /* a PRIORITY frame depends on its own stream */
};
/* Ready for the first byte of a connection. */
void h2_scan_begin(struct h2_scan *s);
/* Goes on from bytes[*at]. */
enum h2_scan_step h2_scan_next(struct h2_scan *s, struct span bytes, size_t *at);
#endif
