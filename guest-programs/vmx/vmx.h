/* The parts of the hypervisor, and what each offers to the others. */
#ifndef VMX_H
#define VMX_H
#include "../lib/vmx.h"

enum { CR0_NE = 1 << 5, CR4_TSD = 1 << 2, CR4_PSE = 1 << 4, CR4_VMXE = 1 << 13 };
enum { V_UD = 6, V_DF = 8, V_GP = 13, V_PF = 14 };
enum { MOST = 16 << 20 };                       /* of the guest's memory */

/* The guest's general registers, in PUSHAD's order. The VMCS has none of them but ESP. */
struct registers { uint32_t edi, esi, ebp, esp, ebx, edx, ecx, eax; };

/* main.c */
extern int nested;                              /* EPT translates, instead of shadow page tables */
void give_up(const char *sentence) __attribute__((noreturn));
uint8_t *guest_frame(uint32_t physical);        /* the page's address in our memory; null without one */
uint8_t *needed_frame(uint32_t physical);       /* the same, but that is the end of a guest without one */
/* vmcs.c */
extern struct registers guest;
void vmcs_init(uint32_t entry, uint32_t multiboot);
void vm_enter(int first);                       /* runs the guest until a VM exit */
uint32_t guest_cr0(void);                       /* as the guest reads it */
/* exits.c */
extern int status;                              /* what the guest ended with; -1 before it does */
extern uint32_t hidden_faults;                  /* page faults that the guest never sees */
void prepare_entry(void);
void handle_exit(void);
void inject(uint32_t vector, uint32_t has_code, uint32_t code);
void inject_page_fault(uint32_t linear, uint32_t code);
void print_exits(void);
/* devices.c: the ports and the interrupt controller that the guest sees */
uint32_t port_in(uint16_t port, unsigned size);
void port_out(uint16_t port, unsigned size, uint32_t value);
void raise_interrupt(void);                     /* the machine's timer ticked */
int interrupt_waits(void);
uint32_t take_interrupt(void);                  /* acknowledges it, and gives its vector */
/* shadow.c */
extern uint32_t shadowed_cr3;                   /* what the guest believes CR3 to be */
void shadow_init(void);                         /* empty tables; the processor's CR3 points at them */
void shadow_drop(uint32_t linear);              /* INVLPG */
void shadow_fault(uint32_t linear, uint32_t code);
uint8_t *guest_byte(uint32_t linear);           /* in our memory; null if the guest got a page fault for it */
/* ept.c */
void ept_init(void);
void ept_violation(void);

#endif
