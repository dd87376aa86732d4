/* The IDT. The entries themselves are in traps.S. */
#include "traps.h"
#include "cpu.h"
#include "segments.h"

uint64_t idt[256];
extern void (*const trap_stubs[0x30])(void);
extern void trap_syscall(void), trap_leave(void);

void set_gate(unsigned vector, void (*handler)(void), uint8_t access)
{
    uint32_t offset = (uint32_t)handler;
    uint32_t high = (offset & 0xFFFF0000) | access << 8, low = (uint32_t)KERNEL_CS << 16 | (offset & 0xFFFF);
    idt[vector] = (uint64_t)high << 32 | low;
}

void traps_init(void)
{
    for (unsigned v = 0; v < 0x30; v++) set_gate(v, trap_stubs[v], GATE_INTERRUPT);
    set_gate(VECTOR_BP, trap_stubs[VECTOR_BP], GATE_INTERRUPT | GATE_DPL3);
    set_gate(VECTOR_OF, trap_stubs[VECTOR_OF], GATE_INTERRUPT | GATE_DPL3);
    set_gate(VECTOR_SYSCALL, trap_syscall, GATE_INTERRUPT | GATE_DPL3);
    set_gate(VECTOR_LEAVE, trap_leave, GATE_INTERRUPT | GATE_DPL3);
    struct table_register r = { sizeof idt - 1, (uint32_t)idt };
    lidt(&r);
}

const char *exception_name(unsigned vector)
{
    static const char *const names[] = {
        "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "?9", "#TS", "#NP", "#SS", "#GP", "#PF",
    };
    return vector < sizeof names / sizeof *names ? names[vector] : "?";
}
