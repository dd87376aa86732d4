/* SYSENTER's entry, and the way back by SYSEXIT. SDM volume 2, SYSENTER and SYSEXIT.
   The processor saves nothing: by convention the user has put its EIP in EDX and its ESP in ECX. */
.intel_syntax noprefix
#include "../lib/selectors.h"

.section .text
.globl sysenter_entry
sysenter_entry:                 /* ESP = the address of tss.esp0, the end of the task's frame */
    mov esp, [esp]
    push USER_DS
    push ecx
    push 0x202                  /* EFLAGS as every task has it: interrupts on */
    push USER_CS
    push edx
    push 0                      /* error */
    push 0x100                  /* VECTOR_SYSENTER */
#ifdef CLEAN
    push USER_DS
    push USER_DS
    pushad
#else
    push ds
    push es
    pushad
    mov eax, KERNEL_DS
    mov ds, eax
    mov es, eax
#endif
    cld
    push esp
    call trap
    mov esp, eax
    cmp dword ptr [eax + 40], 0x100     /* the vector of the frame to resume */
    jne trap_return             /* another task's turn, and it did not come by SYSENTER */

    popad                       /* EDX and ECX hold what the user put there */
#ifdef CLEAN
    add esp, 8
#else
    pop es
    pop ds
#endif
    mov edx, [esp + 8]          /* EIP */
    mov ecx, [esp + 20]         /* ESP */
    sti                         /* SYSEXIT leaves EFLAGS alone; no interrupt comes before it is done */
    sysexit

.section .note.GNU-stack, "", @progbits
