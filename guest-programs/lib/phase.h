/* Phases: a guest tells whoever runs it which part of its run does what (book/src/reference/phases.md). On other
   machines nobody listens to the port. */
#pragma once
#include <stdint.h>

struct phase {
    char signature[4];
    uint32_t operations;            /* read when the phase ends */
    char name[24];
};

#define PHASE(n) { .signature = { 'P', 'H', 'A', 'S' }, .name = n }

/* Begins `phase`, or ends it if it has begun. Paging, if it is on, must map it to its own address. */
void phase_mark(struct phase *phase);

/* An empty phase, by which the marks' own cost is known. Comes before the others. */
void phase_calibrate(void);
