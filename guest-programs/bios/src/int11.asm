; int11.asm - INT 11h and INT 12h: two words that POST worked out.

int11:                          ; AX = equipment
        push ds
        push word BDA_SEG
        pop ds
        mov ax, [BDA_EQUIPMENT]
        pop ds
        iret

int12:                          ; AX = KiB of conventional memory
        push ds
        push word BDA_SEG
        pop ds
        mov ax, [BDA_MEMSIZE]
        pop ds
        iret
