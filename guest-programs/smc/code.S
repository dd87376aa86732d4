/* Self-modifying code, one way per function. See code.h. `mov eax, 0` is B8 and a dword: the patch goes to its byte 1. */
.intel_syntax noprefix
.section .text

.globl next_instruction
next_instruction:
    mov ecx, [esp + 4]
    mov [1f + 1], ecx
1:  mov eax, 0
    ret

.globl same_block
same_block:
    mov ecx, [esp + 4]
    mov [1f + 1], ecx
    xor edx, edx
    inc edx
    lea edx, [edx + 2 * ecx]
1:  mov eax, 0
    ret

.globl same_page, target
same_page:
    mov ecx, [esp + 4]
    mov [target + 1], ecx
    call target
    ret

target:
    mov eax, 0
    ret

.globl patch_target
patch_target:
    mov ecx, [esp + 4]
    mov [target + 1], ecx
    ret

.globl other_page
other_page:
    mov ecx, [esp + 4]
    mov [far_target + 1], ecx
    call far_target
    ret

/* ---- across two pages: see `crossing` below ---- */

.globl across_pages
across_pages:
    mov ecx, [esp + 4]
    mov [crossing + 1], ecx
    call crossing
    ret

/* The immediate's lowest byte lies in the first page, its highest in the second. The caller's values fit one byte. */
.globl across_first_byte
across_first_byte:
    mov dword ptr [crossing + 1], 0
    call crossing
    mov cl, [esp + 4]
    mov [crossing + 1], cl
    call crossing
    ret

.globl across_second_byte
across_second_byte:
    mov dword ptr [crossing + 1], 0
    call crossing
    mov cl, [esp + 4]
    mov [crossing + 4], cl
    call crossing
    shr eax, 24
    ret

/* ---- other ways to write ---- */

.globl by_push
by_push:                        /* the stack lies for a moment in the code; interrupts are off */
    mov ecx, [esp + 4]
    mov edx, esp
    mov esp, offset 1f + 5
    push ecx
1:  mov eax, 0
    mov esp, edx
    ret

.globl by_xchg
by_xchg:
    mov ecx, [esp + 4]
    xchg [1f + 1], ecx
1:  mov eax, 0
    ret

.globl by_cmpxchg
by_cmpxchg:
    mov ecx, [esp + 4]
    mov eax, [1f + 1]
    lock cmpxchg [1f + 1], ecx
1:  mov eax, 0
    ret

/* Copies `mov eax, value` over NOPs that follow the copying instruction itself, runs it, and puts the NOPs back. */
.globl by_rep_movs
by_rep_movs:
    push esi
    push edi
    mov ecx, [esp + 12]
    mov [patch_bytes + 1], ecx
    xor eax, eax
    mov esi, offset patch_bytes
    mov edi, offset 1f
    mov ecx, 5
    rep movsb
1:  .byte 0x90, 0x90, 0x90, 0x90, 0x90
    mov dword ptr [1b], 0x90909090
    mov byte ptr [1b + 4], 0x90
    pop edi
    pop esi
    ret

.globl by_rep_stos
by_rep_stos:
    push edi
    mov eax, [esp + 8]
    mov edi, offset 1f + 1
    mov ecx, 1
    rep stosd
1:  mov eax, 0
    pop edi
    ret

/* ---- loops ---- */

.globl own_immediate
own_immediate:
    mov ecx, [esp + 4]
    xor eax, eax
    mov dword ptr [1f + 1], 1
1:  .byte 0x05, 1, 0, 0, 0      /* add eax, 1: written out, so that the assembler takes the form with a dword */
    inc dword ptr [1b + 1]
    dec ecx
    jnz 1b
    ret

.globl add_to_sub
add_to_sub:
    mov ecx, [esp + 4]
    mov edx, ecx
    shr edx, 1
    xor eax, eax
    mov byte ptr [1f], 0x05
1:  .byte 0x05, 1, 0, 0, 0      /* add eax, 1; opcode 2D makes it sub */
    dec ecx
    cmp ecx, edx
    jne 2f
    mov byte ptr [1b], 0x2D
2:  test ecx, ecx
    jnz 1b
    ret

.globl own_jump
own_jump:
    xor eax, eax
    mov word ptr [1f], 0x02EB   /* `jmp 2f`, back in place after an earlier run */
3:  inc eax
    cmp eax, 10
    jne 1f
    mov word ptr [1f], 0x9090   /* two NOPs: the way out is open */
1:  .byte 0xEB, 0x02            /* jmp 2f */
    jmp 4f
2:  jmp 3b
4:  ret

/* First time round `add eax, 5` and NOP, second time INC, INC, NOP, NOP in the same four bytes. */
.globl shorter
shorter:
    xor eax, eax
    mov dword ptr [1f], 0x9005C083
1:  .byte 0x83, 0xC0, 0x05, 0x90
    mov dword ptr [1b], 0x90904040
    cmp eax, 5
    je 1b
    ret

.globl counter_beside_code
counter_beside_code:
    mov ecx, [esp + 4]
    mov dword ptr [2f], 0
1:  inc dword ptr [2f]
    dec ecx
    jnz 1b
    mov eax, [2f]
    ret
2:  .long 0

/* ---- targets elsewhere ---- */

.section .text.far, "ax"
.align 4096
far_target:
    mov eax, 0
    ret

.org 4096 - 3                   /* B8 and two bytes in this page, two bytes in the next */
crossing:
    mov eax, 0
    ret

.section .data
patch_bytes: .byte 0xB8, 0, 0, 0, 0

.section .note.GNU-stack, "", @progbits
