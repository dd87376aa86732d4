; Data breakpoints on entries of the GDT that the kernel loads: #DB after each load. EBX counts them; HLT with EBX.
        bits 32
        org 0x100000
        lgdt [gdtr]
        jmp 8:.c
.c:     mov eax, 0x10
        mov ds, eax
        mov es, eax
        mov ss, eax
        mov eax, db
        mov [idt+8], ax
        mov word [idt+10], 8
        mov word [idt+12], 0x8E00
        shr eax, 16
        mov [idt+14], ax
        lidt [idtr]
        mov dword [pointer+4], 0x18
        mov dword [pointer], 0
        mov eax, gdt+0x18
        mov dr0, eax            ; the first half of entry 18h
        mov eax, gdt+0x24
        mov dr1, eax            ; the second half of entry 20h
        xor ebx, ebx
        mov eax, 0x00FF040A
        mov dr7, eax            ; reads and writes of four bytes, both
        mov eax, 0x18
        mov gs, eax
        nop
        push eax
        pop fs
        nop
        lgs ecx, [pointer]
        nop
        mov eax, 0x10           ; an entry that nobody watches
        mov gs, eax
        nop
        jmp 0x20:.d
.d:     nop
        jmp 8:.e
.e:     xor eax, eax
        mov dr7, eax
        mov eax, 0x18
        mov gs, eax             ; no longer
        nop
        cli
        hlt
db:     inc ebx
        cmp ebx, 4              ; IRET reads the entry of CS, too
        jne .r
        xor eax, eax
        mov dr7, eax
.r:     iretd
        align 8
gdt:    dq 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x00CF93000000FFFF, 0x00CF9B000000FFFF
gdtr:   dw 39
        dd gdt
idtr:   dw 15
        dd idt
pointer:    dd 0, 0
        align 8
idt:    dd 0, 0, 0, 0
