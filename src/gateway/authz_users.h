/* SPDX-License-Identifier: Apache-2.0 */
/* authz_users: one file of names and passwords, as a generation has it; between authz*.c.
 *
 * Threads: any. */
#ifndef FB_GATEWAY_AUTHZ_USERS_H
#define FB_GATEWAY_AUTHZ_USERS_H
#include "gateway/authz.h"

/* False: there is none that is good. */
bool authz_users_version(struct authz_users *u, uint64_t *version);
/* As htpasswd_find in that version; false: it is another by now. */
bool authz_users_find(struct authz_users *u, struct span user, uint64_t version,
                      char hash[HTPASSWD_HASH_BYTES_MAX], bool *is_known);
#endif
