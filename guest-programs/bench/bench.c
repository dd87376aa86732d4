/* bench: one image, its work chosen on the command line: `sieve=100 calls=50`, or `all=10`. A round is about a million
   instructions. It prints checksums only, no times: the same bytes on every machine. */
#include "../lib/console.h"
#include "../lib/options.h"
#include "../lib/phase.h"
#include "../lib/segments.h"
#include "../lib/traps.h"
#include "bench.h"

static struct { struct phase phase; uint32_t (*run)(uint32_t rounds); } benches[] = {
    { PHASE("sieve"),      sieve },
    { PHASE("mix"),        mix },
    { PHASE("copyloop"),   copy_loop },
    { PHASE("copyrep"),    copy_rep },
    { PHASE("chase"),      chase },
    { PHASE("calls"),      calls },
    { PHASE("indirect"),   indirect },
    { PHASE("syscalls"),   syscalls },
    { PHASE("pagefaults"), pagefaults },
    { PHASE("portio"),     portio },
};
enum { BENCHES = sizeof benches / sizeof *benches };

/* All work is done first and printed then: the console is no part of what is measured. */
static uint32_t sums[BENCHES];

static int is_bench(const char *name, unsigned length)
{
    for (unsigned i = 0; i < BENCHES; i++)
        if (is_name(name, length, benches[i].phase.name)) return 1;
    return is_name(name, length, "all");
}

static void refuse(const char *word)
{
    print("bench: no such option: ");
    for (unsigned i = 0; i < word_length(word); i++) put(word[i]);
    print("\ngive NAME=ROUNDS with one of: all");
    for (unsigned i = 0; i < BENCHES; i++) print(" %s", benches[i].phase.name);
    print("\n");
    exit(1);
}

static void measure(unsigned i, uint32_t rounds)
{
    phase_mark(&benches[i].phase);
    sums[i] = benches[i].run(rounds);
    benches[i].phase.operations = rounds;
    phase_mark(&benches[i].phase);
}

int kernel_main(uint32_t magic, const struct multiboot *info)
{
    const char *line = command_line(magic, info), *unknown = unknown_option(line, is_bench);
    uint32_t all = option(line, "all", -1), chosen = 0;
    if (unknown) refuse(unknown);
    segments_init();
    traps_init();
    for (unsigned i = 0; i < BENCHES; i++) chosen |= option(line, benches[i].phase.name, 0);
    if (all == -1u) all = chosen ? 0 : 1;
    phase_calibrate();
    for (unsigned i = 0; i < BENCHES; i++) {
        uint32_t rounds = option(line, benches[i].phase.name, all);
        if (rounds) measure(i, rounds);
    }
    for (unsigned i = 0; i < BENCHES; i++) {
        uint32_t rounds = option(line, benches[i].phase.name, all);
        if (rounds) print("%-10s %6u rounds  %08x\n", benches[i].phase.name, rounds, sums[i]);
    }
    return 0;
}
