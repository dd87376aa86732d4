/* The loops of the nanobenchmarks. See ops.h. */
.intel_syntax noprefix
#include "../lib/selectors.h"
#include "ops.h"

.section .text
.globl op_in
op_in:
    mov ecx, [esp + 4]
1:  in al, PORT
    dec ecx
    jnz 1b
    ret

.globl op_crwr
op_crwr:
    mov ecx, [esp + 4]
    mov eax, cr0
1:  mov cr0, eax
    dec ecx
    jnz 1b
    ret

.globl op_callret
op_callret:
    mov ecx, [esp + 4]
1:  call 2f
    dec ecx
    jnz 1b
2:  ret                         /* the target of the calls, and our own way out */

.globl op_divzero
op_divzero:
    push ebx
    mov ebx, [esp + 8]
    xor ecx, ecx
1:  div ecx                     /* #DE; the handler adds DIV_LENGTH to EIP */
    dec ebx
    jnz 1b
    pop ebx
    ret

/* ---- ring 3 ---- */

.globl run_user_count
run_user_count:                 /* (entry, count, stack): as run_user, with the count where the entry finds it */
    mov eax, [esp + 8]
    mov [user_count], eax
    push dword ptr [esp + 12]
    push dword ptr [esp + 8]
    call run_user
    add esp, 8
    ret

.globl op_syscall
op_syscall:
    mov ecx, [user_count]
1:  int 0x80
    dec ecx
    jnz 1b
    int 0x81

.globl op_sysenter
op_sysenter:
    mov ebx, [user_count]
1:  mov ecx, esp
    mov edx, offset 2f
    sysenter
2:  dec ebx
    jnz 1b
    int 0x81

/* ---- SYSENTER's ring-0 side: straight back ---- */

.globl op_init
op_init:
    mov ecx, 0x174              /* IA32_SYSENTER_CS, ESP, EIP */
    mov eax, KERNEL_CS
    xor edx, edx
    wrmsr
    inc ecx
    mov eax, offset sysenter_stack_top
    wrmsr
    inc ecx
    mov eax, offset sysenter_back
    wrmsr
    ret

sysenter_back:
    sysexit

.section .bss
.align 4
user_count: .skip 4
    .skip 64
sysenter_stack_top:

.section .note.GNU-stack, "", @progbits
