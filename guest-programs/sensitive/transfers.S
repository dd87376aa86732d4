/* Far transfers, interrupts and returns. See transfers.h. */
.intel_syntax noprefix
#include "../lib/selectors.h"
#define CONFORMING_CS 0x40
#define GATE          0x48

.section .text
.globl far_call
far_call:
    lcall KERNEL_CS, offset gate_target
    ret

.globl gate_call
gate_call:
    lcall GATE, 0               /* the gate has the offset; this one is ignored */
    ret

.globl gate_target
gate_target:
    movzx eax, word ptr [esp + 4]
    lret

.globl far_return
far_return:
    push KERNEL_CS
    push offset 1f
    lret
1:  mov eax, cs
    ret

.globl far_jump
far_jump:
    ljmp CONFORMING_CS, offset 1f
1:  mov eax, cs
    ljmp KERNEL_CS, offset 2f
2:  ret

.globl iret_with
iret_with:
    mov eax, [esp + 4]
    push eax
    push cs
    push offset 1f
    iretd
1:  pushfd
    pop eax
    ret

.globl int_interrupt_gate
int_interrupt_gate:
    int 0x90
    ret

.globl int_trap_gate
int_trap_gate:
    int 0x91
    ret

.globl int_user_gate
int_user_gate:
    int 0x92
    ret

.globl look_at_frame
look_at_frame:
    push eax
    pushfd
    pop eax
    mov ss:[seen_inside], eax
    mov eax, [esp + 8]
    movzx eax, ax
    mov ss:[seen_cs], eax
    mov eax, [esp + 12]
    mov ss:[seen_eflags], eax
    pop eax
    iretd

.section .bss
.globl seen_cs, seen_eflags, seen_inside
.align 4
seen_cs: .skip 4
seen_eflags: .skip 4
seen_inside: .skip 4

.section .note.GNU-stack, "", @progbits
