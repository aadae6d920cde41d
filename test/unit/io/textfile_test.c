/* SPDX-License-Identifier: Apache-2.0 */
#include "io/textfile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void the_first_line_comes_without_its_end(void **state)
{
    (void)state;
    static const struct {
        const char *says, *bytes, *want; /* want NULL: false */
    } rows[] = {{"a line", "token\n", "token"},
                {"no end", "token", "token"},
                {"an editor of another system", "token\r\n", "token"},
                {"more lines", "token\nsecond\n", "token"},
                {"cut to the room", "0123456789abcdef\n", "0123456789a"},
                {"an empty line", "\n", ""},
                {"an empty file", "", NULL}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[] = "/tmp/fb-textfile-XXXXXX", text[12] = "before";
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, rows[i].bytes, strlen(rows[i].bytes)), strlen(rows[i].bytes));
        close(fd);
        bool is_read = textfile_line(path, text, sizeof text);
        unlink(path);
        if (is_read != (rows[i].want != NULL) || strcmp(text, is_read ? rows[i].want : "") != 0)
            fail_msg("%s: got \"%s\"", rows[i].says, text);
    }
    char text[4] = "abc";
    assert_false(textfile_line("/nonexistent/file", text, sizeof text));
    assert_string_equal(text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_first_line_comes_without_its_end)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
