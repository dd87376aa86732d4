; lapic.asm - a processor with a local APIC takes the 8259A's interrupts through its pin LINT0, which is masked after
; reset. "Virtual wire mode" (Intel SDM volume 3, APIC chapter) opens it. Called by POST; does nothing where CPUID
; shows no APIC.

LAPIC_SPURIOUS  equ 0xFEE000F0
LAPIC_LINT0     equ 0xFEE00350
LAPIC_LINT1     equ 0xFEE00360

init_lapic:
        pushfd                  ; CPUID exists if EFLAGS.ID can be changed
        pop eax
        mov ecx, eax
        xor eax, 1 << 21
        push eax
        popfd
        pushfd
        pop eax
        push ecx
        popfd
        xor eax, ecx
        test eax, 1 << 21
        jz .end
        mov eax, 1
        cpu 586
        cpuid
        cpu 386
        test dx, 1 << 9
        jz .end
        o32 lgdt [cs:.gdtr]         ; the registers lie near 4 GiB: borrow a 4 GiB limit for ES
        mov eax, cr0
        or al, 1
        mov cr0, eax
        mov bx, 0x08
        mov es, bx
        and al, 0xFE
        mov cr0, eax
        jmp .flat
.flat:  xor ax, ax
        mov es, ax              ; base 0; the limit stays
        mov edi, LAPIC_SPURIOUS
        mov dword [es:edi], 0x1FF       ; on, spurious vector FFh
        mov edi, LAPIC_LINT0
        mov dword [es:edi], 0x8700      ; ExtINT, level
        mov edi, LAPIC_LINT1
        mov dword [es:edi], 0x8400      ; NMI, level
        mov eax, cr0            ; and give the limit back: real mode has 64 KiB
        or al, 1
        mov cr0, eax
        mov bx, 0x10
        mov es, bx
        and al, 0xFE
        mov cr0, eax
        jmp .real
.real:  xor ax, ax
        mov es, ax
.end:   ret

.gdtr:  dw 3*8-1
        dd BIOS_SEG*16 + .gdt
        align 8
.gdt:   dq 0
        dq 0x00CF93000000FFFF   ; 08: data, base 0, 4 GiB
        dq 0x000093000000FFFF   ; 10: data, base 0, 64 KiB
