/* The guest's image, as build.sh has just built it. */
.section .rodata
.globl guest_image
.align 4
guest_image:
    .incbin "vmx/vmx-guest.elf"
.section .note.GNU-stack, "", @progbits
