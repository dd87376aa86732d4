#include "phase.h"
#include "io.h"

enum { PHASE_PORT = 0xec };

/* One place in the code for all marks: what it costs to reach it the first time is the calibration's. */
__attribute__((noinline)) void phase_mark(struct phase *phase) { outl(PHASE_PORT, (uint32_t)phase); }

void phase_calibrate(void)
{
    static struct phase empty = PHASE("(empty)");
    for (int i = 0; i < 4; i++) phase_mark(&empty);
}
