/* SPDX-License-Identifier: Apache-2.0 */
/* run: `foldback run`, `replay`, `log`, reference pages: commands that need every stage. */
#ifndef FB_MAIN_RUN_H
#define FB_MAIN_RUN_H
#include "cli/cli.h"

int run_command(const struct cli_run_args *args);
int replay_command(const struct cli_replay_args *args);
int connector_check_command(const struct cli_connector_args *args);
int log_command(const struct cli_log_args *args);
int export_command(const struct cli_export_args *args);
int query_command(const struct cli_query_args *args);
int key_command(const struct cli_key_args *args);
int letters_command(const struct cli_letters_args *args);
int erase_command(const struct cli_erase_args *args);
bool reference_page(const char *page, struct buf *out);
#endif
