; A data breakpoint on an entry of the GDT that user code names: #DB after each access. EBX counts them; HLT with EBX.
        bits 32
        org 0x100000
        lgdt [gdtr]
        jmp 8:.c
.c:     mov eax, 0x10
        mov ds, eax
        mov es, eax
        mov ss, eax
        mov esp, 0x90000
        mov eax, db
        mov [idt+8], ax
        mov word [idt+10], 8
        mov word [idt+12], 0x8E00
        shr eax, 16
        mov [idt+14], ax
        mov eax, done
        mov [idt+24], ax
        mov word [idt+26], 8
        mov word [idt+28], 0xEE00
        shr eax, 16
        mov [idt+30], ax
        lidt [idtr]
        mov eax, tss
        mov [gdt+0x2A], ax
        shr eax, 16
        mov [gdt+0x2C], al
        mov eax, 0x28
        ltr ax
        xor ebx, ebx
        mov eax, gdt+0x30
        mov dr0, eax
        mov eax, 0x000F0402
        mov dr7, eax            ; reads and writes of four bytes
        push dword 0x23
        push dword 0x80000
        push dword 2
        push dword 0x1B
        push dword .u
        iretd
.u:     mov eax, 0x33
        push eax
        pop gs
        nop
        verr ax
        nop
        lsl ecx, eax
        nop
        lar ecx, eax
        nop
        int3
done:   cli
        hlt
db:     inc ebx
        iretd
        align 8
gdt:    dq 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x00CFFB000000FFFF, 0x00CFF3000000FFFF
        dq 0x0000890000000067, 0x00CFF3000000FFFF
gdtr:   dw 55
        dd gdt
idtr:   dw 31
        dd idt
        align 8
idt:    times 8 dd 0
tss:    dd 0, 0x90000, 0x10
        times 23 dd 0
