/* SPDX-License-Identifier: Apache-2.0 */
/* try: cmocka's includes in the order it wants, and numbers that may differ by a share. */
#ifndef FB_TEST_ANALYTICS_TRY_H
#define FB_TEST_ANALYTICS_TRY_H
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define assert_near(got, want, share)                                                              \
    do {                                                                                           \
        double got_ = (got), want_ = (want);                                                       \
        if (!(fabs(got_ - want_) <= (share)*fabs(want_) + 1e-12))                                  \
            fail_msg("%s is %.9g, wanted %.9g within %g", #got, got_, want_, (double)(share));     \
    } while (0)
#endif
