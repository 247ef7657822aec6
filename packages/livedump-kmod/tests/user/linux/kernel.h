/* SPDX-License-Identifier: BSD-3-Clause */
// What the parser takes of the kernel's library, by its rules (lib/kstrtox.c): digits only, after a
// sign, with one newline at the end; -EINVAL for other text, -ERANGE for too large a number.
#ifndef USER_LINUX_KERNEL_H
#define USER_LINUX_KERNEL_H

#include <errno.h>
#include <limits.h>
#include <stdbool.h>

#define min_t(type, a, b) ((type)(a) < (type)(b) ? (type)(a) : (type)(b))

static inline int digits(const char *text, unsigned long long *value)
{
	unsigned long long number = 0;
	if (*text < '0' || *text > '9')
		return -EINVAL;
	bool fits = true;
	for (; *text >= '0' && *text <= '9'; text++) {
		unsigned int digit = (unsigned int)(*text - '0');
		fits = fits && number <= (ULLONG_MAX - digit) / 10;
		number = number * 10 + digit;
	}
	if (!fits)
		return -ERANGE;
	if (*text == '\n')
		text++;
	if (*text != '\0')
		return -EINVAL;
	*value = number;
	return 0;
}

static inline int kstrtoull(const char *text, unsigned int base, unsigned long long *value)
{
	(void)base; // always 10
	return digits(*text == '+' ? text + 1 : text, value);
}

static inline int kstrtoint(const char *text, unsigned int base, int *value)
{
	unsigned long long number;
	bool negative = *text == '-';
	int err = negative ? digits(text + 1, &number) : kstrtoull(text, base, &number);
	if (err)
		return err;
	if (number > (unsigned long long)INT_MAX + negative)
		return -ERANGE;
	*value = (int)(negative ? -(long long)number : (long long)number);
	return 0;
}

#endif
