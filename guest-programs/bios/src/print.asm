; print.asm - the banner: what POST tells the user, all through INT 10h AH=0Eh.

print:                          ; CS:SI = text that ends in a zero
        cs lodsb
        test al, al
        jz .end
        call putc
        jmp print
.end:   ret

putc:
        pusha
        mov ah, 0x0E
        mov bx, 0x0007
        int 0x10
        popa
        ret

print_number:                   ; EAX, decimal
        pushad
        xor cx, cx
        mov ebx, 10
.digit: xor edx, edx
        div ebx
        push dx
        inc cx
        test eax, eax
        jnz .digit
.out:   pop ax
        add al, '0'
        call putc
        loop .out
        popad
        ret

print_banner:
        mov si, .name
        call print
        movzx eax, word [BDA_MEMSIZE]
        call print_number
        mov si, .conventional
        call print
        call memory_above_1m
        call print_number
        mov si, .extended
        jmp print
.name:          db 'subring BIOS', 13, 10, 'Memory: ', 0
.conventional:  db ' KiB conventional, ', 0
.extended:      db ' KiB above 1 MiB', 13, 10, 0

print_disks:
        mov al, CMOS_FLOPPY
        call cmos_read
        test al, 0xF0
        jz .hard
        mov si, .floppy
        call print
.hard:  mov ax, EBDA_SEG
        mov fs, ax
        mov di, EBDA_DRIVES
        xor cx, cx
.next:  cmp cl, [BDA_HD_COUNT]
        jae .end
        mov si, .disk
        call print
        mov al, '0'
        add al, cl
        call putc
        mov si, .colon
        call print
        mov eax, [fs:di+DRV_TOTAL]
        call print_number
        mov si, .sectors
        call print
        add di, DRV_SIZE
        inc cx
        jmp .next
.end:   ret
.floppy:        db 'Floppy drive A', 13, 10, 0
.disk:          db 'Disk 8', 0
.colon:         db 'h: ', 0
.sectors:       db ' sectors', 13, 10, 0
