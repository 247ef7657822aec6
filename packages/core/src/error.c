// SPDX-License-Identifier: BSD-3-Clause
// The formatter is our own because vsnprintf(3) is not async-signal-safe: it reads the locale and
// may allocate.
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct out {
	char *buf;
	size_t size;
	size_t len; // what would have been written, as snprintf counts
};

struct spec {
	bool left;
	bool zero;
	size_t width;
	bool has_precision;
	size_t precision;
	char length; // 0, 'l', 'L' (ll), 'z'
	char conversion;
};

static void put(struct out *out, char c)
{
	if (out->len + 1 < out->size)
		out->buf[out->len] = c;
	out->len++;
}

static void put_padded(struct out *out, const struct spec *spec, const char *text, size_t len)
{
	size_t pad = spec->width > len ? spec->width - len : 0;

	for (; !spec->left && pad; pad--)
		put(out, ' ');
	for (size_t i = 0; i < len; i++)
		put(out, text[i]);
	for (; pad; pad--)
		put(out, ' ');
}

static void put_number(struct out *out, const struct spec *spec, uint64_t value, unsigned int base,
		       const char *prefix)
{
	char digits[64];
	size_t n = 0;

	do
		digits[n++] = "0123456789abcdef"[value % base];
	while (value /= base);

	size_t len = n + strlen(prefix);
	size_t pad = spec->width > len ? spec->width - len : 0;

	for (; pad && !spec->left && !spec->zero; pad--)
		put(out, ' ');
	for (; *prefix; prefix++)
		put(out, *prefix);
	for (; pad && !spec->left; pad--)
		put(out, '0');
	while (n)
		put(out, digits[--n]);
	for (; pad; pad--)
		put(out, ' ');
}

static const char *parse_number(const char *fmt, size_t *ret)
{
	size_t n = 0;

	for (; *fmt >= '0' && *fmt <= '9'; fmt++)
		n = n * 10 + (size_t)(*fmt - '0');
	*ret = n < 512 ? n : 512;
	return fmt;
}

// Reads what follows a '%'; '*' is for the precision only.
static const char *parse_spec(const char *fmt, struct spec *spec, int star)
{
	*spec = (struct spec){ 0 };
	for (;; fmt++) {
		if (*fmt == '-')
			spec->left = true;
		else if (*fmt == '0')
			spec->zero = true;
		else
			break;
	}
	fmt = parse_number(fmt, &spec->width);
	if (fmt[0] == '.') {
		spec->has_precision = true;
		if (fmt[1] == '*') {
			spec->has_precision = star >= 0; // printf(3): negative means none
			spec->precision = star >= 0 ? (size_t)star : 0;
			fmt += 2;
		} else {
			fmt = parse_number(fmt + 1, &spec->precision);
		}
	}
	if (fmt[0] == 'l' && fmt[1] == 'l') {
		spec->length = 'L';
		fmt += 2;
	} else if (*fmt == 'l' || *fmt == 'z') {
		spec->length = *fmt++;
	}
	spec->conversion = *fmt;
	return *fmt ? fmt + 1 : fmt;
}

// Does the conversion after this '%' take its precision from an argument?
static bool has_star(const char *fmt)
{
	while (*fmt == '-' || (*fmt >= '0' && *fmt <= '9'))
		fmt++;
	return fmt[0] == '.' && fmt[1] == '*';
}

struct args {
	va_list list; // in a struct, since va_list may be an array type
};

static uint64_t next_unsigned(struct args *args, const struct spec *spec)
{
	switch (spec->length) {
	case 'L':
		return va_arg(args->list, unsigned long long);
	case 'l':
		return va_arg(args->list, unsigned long);
	case 'z':
		return va_arg(args->list, size_t);
	default:
		return va_arg(args->list, unsigned int);
	}
}

static int64_t next_signed(struct args *args, const struct spec *spec)
{
	switch (spec->length) {
	case 'L':
		return va_arg(args->list, long long);
	case 'l':
		return va_arg(args->list, long);
	case 'z':
		return va_arg(args->list, ptrdiff_t);
	default:
		return va_arg(args->list, int);
	}
}

static void put_string(struct out *out, const struct spec *spec, const char *text)
{
	size_t len = 0;

	if (!text)
		text = "(null)";
	while ((!spec->has_precision || len < spec->precision) && text[len])
		len++;
	put_padded(out, spec, text, len);
}

static void put_conversion(struct out *out, const struct spec *spec, struct args *args)
{
	int64_t value;
	char c;

	switch (spec->conversion) {
	case 's':
		put_string(out, spec, va_arg(args->list, const char *));
		break;
	case 'c':
		c = (char)va_arg(args->list, int);
		put_padded(out, spec, &c, 1);
		break;
	case 'd':
	case 'i':
		value = next_signed(args, spec);
		// Negated as unsigned: -INT64_MIN does not exist.
		put_number(out, spec, value < 0 ? 0 - (uint64_t)value : (uint64_t)value, 10,
			   value < 0 ? "-" : "");
		break;
	case 'u':
		put_number(out, spec, next_unsigned(args, spec), 10, "");
		break;
	case 'x':
		put_number(out, spec, next_unsigned(args, spec), 16, "");
		break;
	case 'o':
		put_number(out, spec, next_unsigned(args, spec), 8, "");
		break;
	case 'p':
		put_number(out, spec, (uintptr_t)va_arg(args->list, void *), 16, "0x");
		break;
	case '%':
		put(out, '%');
		break;
	default:
		put(out, '?'); // a programmer's error, which must not crash a handler
		break;
	}
}

static int vformat(char *buf, size_t size, const char *fmt, struct args *args)
{
	struct out out = { .buf = buf, .size = size };

	while (*fmt) {
		if (*fmt != '%') {
			put(&out, *fmt++);
			continue;
		}
		struct spec spec;
		int star = has_star(fmt + 1) ? va_arg(args->list, int) : -1;

		fmt = parse_spec(fmt + 1, &spec, star);
		put_conversion(&out, &spec, args);
	}
	if (size)
		buf[out.len < size ? out.len : size - 1] = '\0';
	return (int)out.len;
}

int error_format(char *buf, size_t size, const char *fmt, ...)
{
	struct args args;

	va_start(args.list, fmt);
	int len = vformat(buf, size, fmt, &args);
	va_end(args.list);
	return len;
}

// One line, as coresnap.h promises: file names and thread names may hold any byte. A text that did
// not fit says so.
static void set_text(char *buf, size_t size, const char *fmt, struct args *args)
{
	int len = vformat(buf, size, fmt, args);

	for (char *c = buf; *c; c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	}
	if ((size_t)len >= size)
		memcpy(buf + size - 4, "...", 4);
}

int error_set(struct coresnap_error *err, enum coresnap_code code, int os_errno, const char *fmt,
	      ...)
{
	int ret = os_errno ? -os_errno : -EIO;

	if (!err || err->code)
		return ret;
	err->code = (int)code;
	err->os_errno = os_errno;

	struct args args;

	va_start(args.list, fmt);
	set_text(err->what, sizeof(err->what), fmt, &args);
	va_end(args.list);
	return ret;
}

void error_remedy(struct coresnap_error *err, const char *fmt, ...)
{
	struct args args;

	if (!err || err->remedy[0])
		return;
	va_start(args.list, fmt);
	set_text(err->remedy, sizeof(err->remedy), fmt, &args);
	va_end(args.list);
	// A sentence of its own, whoever wrote it.
	if (err->remedy[0] >= 'a' && err->remedy[0] <= 'z')
		err->remedy[0] = (char)(err->remedy[0] - 'a' + 'A');
}

// Linux include/uapi/asm-generic/errno{-base,}.h. By macro, as the numbers differ between
// architectures; EWOULDBLOCK, EDEADLOCK and ENOTSUP are second names of numbers listed here.
#define NAME(name) [name] = #name
static const char *const errno_names[] = {
	NAME(EPERM),
	NAME(ENOENT),
	NAME(ESRCH),
	NAME(EINTR),
	NAME(EIO),
	NAME(ENXIO),
	NAME(E2BIG),
	NAME(ENOEXEC),
	NAME(EBADF),
	NAME(ECHILD),
	NAME(EAGAIN),
	NAME(ENOMEM),
	NAME(EACCES),
	NAME(EFAULT),
	NAME(ENOTBLK),
	NAME(EBUSY),
	NAME(EEXIST),
	NAME(EXDEV),
	NAME(ENODEV),
	NAME(ENOTDIR),
	NAME(EISDIR),
	NAME(EINVAL),
	NAME(ENFILE),
	NAME(EMFILE),
	NAME(ENOTTY),
	NAME(ETXTBSY),
	NAME(EFBIG),
	NAME(ENOSPC),
	NAME(ESPIPE),
	NAME(EROFS),
	NAME(EMLINK),
	NAME(EPIPE),
	NAME(EDOM),
	NAME(ERANGE),
	NAME(EDEADLK),
	NAME(ENAMETOOLONG),
	NAME(ENOLCK),
	NAME(ENOSYS),
	NAME(ENOTEMPTY),
	NAME(ELOOP),
	NAME(ENOMSG),
	NAME(EIDRM),
	NAME(ECHRNG),
	NAME(EL2NSYNC),
	NAME(EL3HLT),
	NAME(EL3RST),
	NAME(ELNRNG),
	NAME(EUNATCH),
	NAME(ENOCSI),
	NAME(EL2HLT),
	NAME(EBADE),
	NAME(EBADR),
	NAME(EXFULL),
	NAME(ENOANO),
	NAME(EBADRQC),
	NAME(EBADSLT),
	NAME(EBFONT),
	NAME(ENOSTR),
	NAME(ENODATA),
	NAME(ETIME),
	NAME(ENOSR),
	NAME(ENONET),
	NAME(ENOPKG),
	NAME(EREMOTE),
	NAME(ENOLINK),
	NAME(EADV),
	NAME(ESRMNT),
	NAME(ECOMM),
	NAME(EPROTO),
	NAME(EMULTIHOP),
	NAME(EDOTDOT),
	NAME(EBADMSG),
	NAME(EOVERFLOW),
	NAME(ENOTUNIQ),
	NAME(EBADFD),
	NAME(EREMCHG),
	NAME(ELIBACC),
	NAME(ELIBBAD),
	NAME(ELIBSCN),
	NAME(ELIBMAX),
	NAME(ELIBEXEC),
	NAME(EILSEQ),
	NAME(ERESTART),
	NAME(ESTRPIPE),
	NAME(EUSERS),
	NAME(ENOTSOCK),
	NAME(EDESTADDRREQ),
	NAME(EMSGSIZE),
	NAME(EPROTOTYPE),
	NAME(ENOPROTOOPT),
	NAME(EPROTONOSUPPORT),
	NAME(ESOCKTNOSUPPORT),
	NAME(EOPNOTSUPP),
	NAME(EPFNOSUPPORT),
	NAME(EAFNOSUPPORT),
	NAME(EADDRINUSE),
	NAME(EADDRNOTAVAIL),
	NAME(ENETDOWN),
	NAME(ENETUNREACH),
	NAME(ENETRESET),
	NAME(ECONNABORTED),
	NAME(ECONNRESET),
	NAME(ENOBUFS),
	NAME(EISCONN),
	NAME(ENOTCONN),
	NAME(ESHUTDOWN),
	NAME(ETOOMANYREFS),
	NAME(ETIMEDOUT),
	NAME(ECONNREFUSED),
	NAME(EHOSTDOWN),
	NAME(EHOSTUNREACH),
	NAME(EALREADY),
	NAME(EINPROGRESS),
	NAME(ESTALE),
	NAME(EUCLEAN),
	NAME(ENOTNAM),
	NAME(ENAVAIL),
	NAME(EISNAM),
	NAME(EREMOTEIO),
	NAME(EDQUOT),
	NAME(ENOMEDIUM),
	NAME(EMEDIUMTYPE),
	NAME(ECANCELED),
	NAME(ENOKEY),
	NAME(EKEYEXPIRED),
	NAME(EKEYREVOKED),
	NAME(EKEYREJECTED),
	NAME(EOWNERDEAD),
	NAME(ENOTRECOVERABLE),
	NAME(ERFKILL),
	NAME(EHWPOISON),
};
#undef NAME

#define N_NAMES (sizeof(errno_names) / sizeof(errno_names[0]))

// Linux include/linux/errno.h: never shown by a system call, but seen in a stopped thread's
// registers; ENOTSUPP does leak from some drivers.
#define FIRST_INTERNAL         512
#define INTERNAL(number, name) [(number)-FIRST_INTERNAL] = name
static const char *const internal_names[] = {
	INTERNAL(512, "ERESTARTSYS"),
	INTERNAL(513, "ERESTARTNOINTR"),
	INTERNAL(514, "ERESTARTNOHAND"),
	INTERNAL(515, "ENOIOCTLCMD"),
	INTERNAL(516, "ERESTART_RESTARTBLOCK"),
	INTERNAL(517, "EPROBE_DEFER"),
	INTERNAL(518, "EOPENSTALE"),
	INTERNAL(519, "ENOPARAM"),
	INTERNAL(524, "ENOTSUPP"),
};
#undef INTERNAL

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define MAX_ERRNO 4095 // Linux include/linux/err.h

// The text of a number without a name must outlive the call and needs no lock: a slot for each
// number, in which every writer writes the same bytes.
static const char *numbered(int os_errno)
{
	static char slots[MAX_ERRNO + 1][sizeof("errno 4095")];

	if (os_errno < 0 || os_errno > MAX_ERRNO)
		return "errno out of range";
	error_format(slots[os_errno], sizeof(slots[0]), "errno %d", os_errno);
	return slots[os_errno];
}

const char *error_errno_name(int os_errno)
{
	const char *name = NULL;

	if (os_errno >= 0 && (size_t)os_errno < COUNT(errno_names))
		name = errno_names[os_errno];
	else if (os_errno >= FIRST_INTERNAL &&
		 (size_t)os_errno - FIRST_INTERNAL < COUNT(internal_names))
		name = internal_names[os_errno - FIRST_INTERNAL];
	return name ? name : numbered(os_errno);
}

int error_cancelled(struct coresnap_error *err)
{
	return error_set(err, CORESNAP_E_CANCELLED, ECANCELED, "cancelled on request");
}

const char *error_size(char *buf, size_t size, uint64_t bytes)
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	unsigned int unit = 0;

	for (; unit < 4 && bytes >= 10240; unit++)
		bytes = (bytes + 1023) / 1024;
	error_format(buf, size, "%llu %s", (unsigned long long)bytes, units[unit]);
	return buf;
}
