/* SPDX-License-Identifier: Apache-2.0 */
/* compress: bodies that clients want smaller: the filter before client_write.
 *
 * Threads: the worker of the request. */
#ifndef FB_GATEWAY_COMPRESS_H
#define FB_GATEWAY_COMPRESS_H
#include "gateway/gateway_int.h"

void compress_ask(struct request *req, const struct http1_head *head); /* what it wants */
void compress_answer(struct request *req, const struct answer_piece *piece);
void compress_end(struct request *req); /* gives its encoder back */
/* Would a 200 with these fields and that many bytes be compressed for this client? */
bool compress_would(const struct request *req, struct span fields, uint64_t bytes);
#endif
