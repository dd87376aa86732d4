/* Trap entries: each makes the same `struct frame` (traps.h), whatever the processor pushed, and calls trap(). */
.intel_syntax noprefix
#include "selectors.h"


.section .text
/* Some exceptions come with an error code; for the others we push a zero in its place (SDM volume 3, table 6-1). */
.altmacro
.macro stub number
trap_\number:
    .if !(((\number) == 8) | (((\number) >= 10) & ((\number) <= 14)) | ((\number) == 17))
    push 0
    .endif
    push \number
    jmp trap_common
.endm

.set n, 0
.rept 0x30
    stub %n
    .set n, n + 1
.endr

.globl trap_syscall
trap_syscall:
    push 0
    push 0x80
    jmp trap_common

.globl trap_leave
trap_leave:
    push 0
    push 0x81

.globl trap_common
trap_common:
#ifdef CLEAN
    push USER_DS                /* DS and ES never change: see segments.c */
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
    call trap                   /* struct frame *trap(struct frame *) */
    mov esp, eax

.globl trap_return
trap_return:                    /* ESP points at the frame to resume */
    popad
#ifdef CLEAN
    add esp, 16                 /* ES, DS, vector, error */
    test dword ptr [esp + 8], 0x200
    jz 1f
    sti                         /* IRET will set IF; a clean kernel also says so by an instruction that a monitor sees */
1:  iretd
#else
    pop es
    pop ds
    add esp, 8                  /* vector and error */
    iretd
#endif

/* void resume(struct frame *): leaves the kernel for the first time */
.globl resume
resume:
    mov esp, [esp + 4]
    jmp trap_return

/* uint32_t run_user(void (*entry)(void), void *stack) */
.globl run_user
run_user:
    mov eax, [esp + 4]
    mov edx, [esp + 8]
    push ebp
    push ebx
    push esi
    push edi
    mov [run_user_esp], esp
    mov [tss + 4], esp          /* tss.esp0: traps from ring 3 come to just below here */
#ifndef CLEAN
    mov ecx, USER_DS            /* IRET would null a DS that ring 3 may not use */
    mov ds, ecx
    mov es, ecx
#endif
    push USER_DS                /* SS */
    push edx                    /* ESP */
    push 0x2                    /* EFLAGS: interrupts off, IOPL 0 */
    push USER_CS
    push eax
    iretd

/* void leave_user(uint32_t value) */
.globl leave_user
leave_user:
    mov eax, [esp + 4]
    mov esp, [run_user_esp]
    pop edi
    pop esi
    pop ebx
    pop ebp
    ret

.section .rodata
.globl trap_stubs
.align 4
.macro entry number
    .long trap_\number
.endm
trap_stubs:
.set n, 0
.rept 0x30
    entry %n
    .set n, n + 1
.endr

.section .bss
.align 4
run_user_esp: .skip 4

.section .note.GNU-stack, "", @progbits
