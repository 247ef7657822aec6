/* SPDX-License-Identifier: BSD-3-Clause */
// A program that serves a core of itself by TFTP (RFC 1350, with the option blksize of RFC 2348): for a
// device without a disk to put it on.
//
//   cc tftpd.c $(pkg-config --cflags --libs libcoresnap) -o tftpd
//   ./tftpd 6969 &
//   tftp 127.0.0.1 6969 -m binary -c get core        # or core.zst, or core.gz
//
// The snapshot is taken when the request comes; the program goes on while it is sent. TFTP has no
// passwords, and a core has every secret of the program: it listens on the loopback address unless
// another is given. One transfer at a time. The number of a block begins again at 0 after 65535, which
// most clients follow, and which allows for more than 32 MiB.
#include <arpa/inet.h>
#include <coresnap.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ = 1, DATA = 3, ACK = 4, ERROR = 5, OPTIONS = 6 };
enum { NOT_FOUND = 1, ILLEGAL = 4 };

#define USUAL_BLOCK 512
#define LEAST_BLOCK 8
#define MOST_BLOCK  1468 // fits an Ethernet frame
#define TRIES       5
#define WAIT_MS     1000

struct packet {
	uint8_t bytes[4 + MOST_BLOCK];
	size_t size;
};

static const struct {
	const char *name;
	int compression;
} files[] = {
	{ "core", CORESNAP_COMPRESS_NONE },
	{ "core.zst", CORESNAP_COMPRESS_ZSTD },
	{ "core.gz", CORESNAP_COMPRESS_GZIP },
};

static void put16(uint8_t *at, unsigned int value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static unsigned int get16(const uint8_t *at)
{
	return (unsigned int)at[0] << 8 | at[1];
}

static void send_error(int client, unsigned int code, const char *text)
{
	struct packet packet;

	put16(packet.bytes, ERROR);
	put16(packet.bytes + 2, code);
	packet.size = 4 + (size_t)snprintf((char *)packet.bytes + 4, 400, "%s", text) + 1;
	(void)send(client, packet.bytes, packet.size, 0);
}

// Sends a packet until it is acknowledged.
static bool deliver(int client, const struct packet *packet, unsigned int block)
{
	for (unsigned int i = 0; i < TRIES; i++) {
		uint8_t answer[64];
		struct pollfd poll_fd = { .fd = client, .events = POLLIN };

		if (send(client, packet->bytes, packet->size, 0) < 0)
			return false;
		// What acknowledges an earlier block is a duplicate: answering it would double all
		// that follows.
		while (poll(&poll_fd, 1, WAIT_MS) > 0) {
			const ssize_t n = recv(client, answer, sizeof(answer), 0);

			if (n < 4 || get16(answer) == ERROR)
				return false;
			if (get16(answer) == ACK && get16(answer + 2) == (block & 0xffff))
				return true;
		}
	}
	return false;
}

// Fills a block; fewer bytes only at the end.
static size_t fill(int core, uint8_t *at, size_t size)
{
	size_t got = 0;

	while (got < size) {
		const ssize_t n = read(core, at + got, size - got);

		if (n <= 0)
			break;
		got += (size_t)n;
	}
	return got;
}

static void send_core(int client, int core, size_t block_size)
{
	struct packet packet;
	size_t size = block_size;

	for (unsigned int block = 1; size == block_size; block++) {
		size = fill(core, packet.bytes + 4, block_size);
		put16(packet.bytes, DATA);
		put16(packet.bytes + 2, block & 0xffff);
		packet.size = 4 + size;
		if (!deliver(client, &packet, block))
			return;
	}
}

// The strings of a request: name, mode, then pairs of options. NULL when there is no other.
static const char *next_string(const char **at, const char *end)
{
	const char *const text = *at;
	const char *const nul = text < end ? memchr(text, 0, (size_t)(end - text)) : NULL;

	if (!nul)
		return NULL;
	*at = nul + 1;
	return text;
}

static bool accept_options(int client, const char *at, const char *end, size_t *block_size)
{
	struct packet packet;
	const char *name;

	while ((name = next_string(&at, end))) {
		const char *const value = next_string(&at, end);

		if (!value)
			break;
		const unsigned long wanted = strtoul(value, NULL, 10);

		if (strcasecmp(name, "blksize") != 0 || wanted < LEAST_BLOCK)
			continue;
		*block_size = wanted < MOST_BLOCK ? wanted : MOST_BLOCK;
		put16(packet.bytes, OPTIONS);
		memcpy(packet.bytes + 2, "blksize", 8);
		packet.size = 10 +
			      (size_t)snprintf((char *)packet.bytes + 10, 16, "%zu", *block_size) +
			      1;
		return deliver(client, &packet, 0);
	}
	return true;
}

static void answer(int client, const char *request, size_t size)
{
	const char *const end = request + size;
	const char *at = request + 2;
	const char *const name =
		size > 2 && get16((const uint8_t *)request) == READ ? next_string(&at, end) : NULL;
	const char *const mode = name ? next_string(&at, end) : NULL;
	size_t block_size = USUAL_BLOCK;
	int core = -1;

	if (!mode || strcasecmp(mode, "octet") != 0) {
		send_error(client, ILLEGAL, "only reading, in binary mode");
		return;
	}
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		const struct coresnap_options options = { .size = sizeof(options),
							  .compression = files[i].compression };
		struct coresnap_error error;

		if (strcmp(name, files[i].name) != 0)
			continue;
		if (coresnap_open_self(&core, &options, NULL, &error) != CORESNAP_OK) {
			send_error(client, 0, error.what);
			return;
		}
	}
	if (core < 0) {
		send_error(client, NOT_FOUND, "there are core, core.zst and core.gz");
		return;
	}
	if (accept_options(client, at, end, &block_size))
		send_core(client, core, block_size);
	close(core);
}

static int listen_at(const char *address, const char *port)
{
	struct sockaddr_in own = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };
	socklen_t length = sizeof(own);
	const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (inet_pton(AF_INET, address, &own.sin_addr) != 1 || fd < 0 ||
	    bind(fd, (struct sockaddr *)&own, sizeof(own)) ||
	    getsockname(fd, (struct sockaddr *)&own, &length)) {
		fprintf(stderr, "tftpd: cannot listen at %s, port %s: %s\n", address, port,
			strerror(errno));
		exit(1);
	}
	printf("%d\n", ntohs(own.sin_port));
	fflush(stdout);
	return fd;
}

int main(int argc, char **argv)
{
	if (argc > 3) {
		fprintf(stderr, "usage: tftpd [PORT [ADDRESS]]\n");
		return 2;
	}
	const int server = listen_at(argc > 2 ? argv[2] : "127.0.0.1", argc > 1 ? argv[1] : "6969");

	for (;;) {
		struct sockaddr_in from;
		socklen_t length = sizeof(from);
		char request[516];
		const ssize_t n = recvfrom(server, request, sizeof(request), 0,
					   (struct sockaddr *)&from, &length);
		const int client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

		// A socket of its own for each transfer, as the protocol says.
		if (n > 0 && client >= 0 && connect(client, (struct sockaddr *)&from, length) == 0)
			answer(client, request, (size_t)n);
		if (client >= 0)
			close(client);
	}
}
