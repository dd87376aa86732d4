/* The Multiboot header, the first instructions and the boot stack.
   The loader enters _start in 32-bit protected mode, flat segments, paging and interrupts off (section 3.2). */
.intel_syntax noprefix

#define MAGIC 0x1BADB002
#define FLAGS 0x00000003        /* modules on page boundaries; tell us the memory map */

.section .multiboot, "a"
.align 4
    .long MAGIC
    .long FLAGS
    .long -(MAGIC + FLAGS)      /* the three add up to zero */

.section .text
.globl _start
_start:
    mov esp, offset boot_stack_top
    cld
    push ebx                    /* the Multiboot information */
    push eax                    /* the loader's magic */
    call console_init
    call kernel_main            /* int kernel_main(uint32_t magic, struct multiboot *info) */
    push eax
    call exit

.section .bss
.align 16
    .skip 16384
.globl boot_stack_top
boot_stack_top:

.section .note.GNU-stack, "", @progbits
