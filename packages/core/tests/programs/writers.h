/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef WRITERS_H
#define WRITERS_H

#include <stddef.h>
#include <stdint.h>

#define PAGE    4096u
#define SPROUTS 64u
#define AREAS   3u

// What a thread says that writes step by step: in step s to page hash(s) of each of its areas, in turn.
struct steps {
	volatile unsigned long step;         // said before it is done
	volatile unsigned long base;         // all pages were zero after this one
	volatile unsigned long areas[AREAS]; // their addresses; 0: there is none, or not just now
};

// What the threads say of themselves; each is written by one of them alone. The core has it as it was
// in the same instant.
struct ledger {
	volatile unsigned long step;
	volatile unsigned long tide;             // 4r+1: all pages are r; 4r+3: there is none
	volatile unsigned long nomad;            // its address, or 0 while it moves
	volatile unsigned long sprouts[SPROUTS]; // what is in them, or 0 while they are mapped
	struct steps giants, mirror, loan, wanderer, border;
};

extern struct ledger *ledger;

// Private memory of its own, or the end.
uint8_t *map(size_t size);

unsigned long page_of(unsigned long step);
void put(uint8_t *area, unsigned long page, unsigned long value);

// Each is a thread's work; begin_areas() is called before, with the letters of those that do not work.
void *giants(void *arg);
void *mirror(void *arg);
void *loan(void *arg);
void *wanderer(void *arg);
void *border(void *arg);
void begin_areas(const char *idle);

#endif
