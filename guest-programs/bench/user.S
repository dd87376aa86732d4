/* Ring 3 of the system-call bench: calls until user_rounds are done, then gives the checksum back. */
.intel_syntax noprefix
.section .text
.globl user_syscalls
user_syscalls:
    mov ebx, [user_rounds]
    xor eax, eax
1:  int 0x80                    /* EAX = EAX * 31 + EBX */
    dec ebx
    jnz 1b
    int 0x81

.section .note.GNU-stack, "", @progbits
