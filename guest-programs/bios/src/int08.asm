; int08.asm - IRQ 0, the timer tick, 18.2 times a second: counts the day, stops idle floppy motors, calls INT 1Ch.

TICKS_PER_DAY   equ 0x1800B0

int08:
        push eax
        push dx
        push ds
        push word BDA_SEG
        pop ds
        mov eax, [BDA_TICKS]
        inc eax
        cmp eax, TICKS_PER_DAY
        jb .today
        xor eax, eax
        inc byte [BDA_MIDNIGHT]
.today: mov [BDA_TICKS], eax
        cmp byte [BDA_FD_TIMEOUT], 0
        je .tick
        dec byte [BDA_FD_TIMEOUT]
        jnz .tick
        and byte [BDA_FD_MOTOR], 0xF0
        mov dx, FDC_DOR
        mov al, 0x0C            ; motors off; not in reset, DMA on
        out dx, al
.tick:  int 0x1C
        cli                     ; the program's handler may have let interrupts in
        mov al, EOI
        out PIC1, al
        pop ds
        pop dx
        pop eax
        iret
