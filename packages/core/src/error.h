/* SPDX-License-Identifier: BSD-3-Clause */
// Errors as values: filled in the caller's struct, no allocation, usable while threads are stopped.
#ifndef CORESNAP_ERROR_H
#define CORESNAP_ERROR_H

#include "coresnap.h"

#define must_check __attribute__((warn_unused_result))

// Fills code, errno and the text (printf format; integers, strings and pointers only) and returns
// -os_errno, or -EIO when os_errno is 0. The first error wins: an err that is already set is kept.
int error_set(struct coresnap_error *err, enum coresnap_code code, int os_errno, const char *fmt,
	      ...) __attribute__((format(printf, 4, 5)));

// The caller's progress callback asked to stop.
int error_cancelled(struct coresnap_error *err);

// Adds what to do about it; returns nothing, keeps an earlier remedy.
void error_remedy(struct coresnap_error *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

// A size for people, rounded up: "17 bytes", "40 KiB", "3 MiB", "12 GiB". Returns buf.
const char *error_size(char *buf, size_t size, uint64_t bytes);

// The name of an errno, "ENOSPC"; async-signal-safe where strerror() is not. "errno N" if unknown.
const char *error_errno_name(int os_errno);

// snprintf for bounded messages; like it, but async-signal-safe by what it supports:
// %s %c %d %u %ld %lu %lld %llu %x %lx %llx %zu %p %%, widths and zero padding.
int error_format(char *buf, size_t size, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
