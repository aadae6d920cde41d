/* SPDX-License-Identifier: Apache-2.0 */
/* sanitize: whether a sanitizer watches this build.  Free lists are off then: a piece that is used
 * after it was given back must be seen. */
#ifndef FB_BASE_SANITIZE_H
#define FB_BASE_SANITIZE_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FB_IS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define FB_IS_SANITIZED 1
#endif
#endif
#ifndef FB_IS_SANITIZED
#define FB_IS_SANITIZED 0
#endif

#endif
