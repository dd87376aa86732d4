; The kernel under the random cases: runs each in a known environment and logs how it ended.
;
; differential.py loads this flat binary at 1 MiB, with descriptor tables, page tables and cases around it (the
; addresses below are layout.py's), and starts it in flat 32-bit protected mode, on the project's machine and on QEMU.
; For each case it restores the tables and data from their pristine copies, loads the registers of the case's record
; and enters it by IRET: at rings 0-3 or in virtual-8086 mode. Whatever vector ends the case, it is logged and the
; next one starts. Only the entry stubs and `trap` run on a stack that a case chose.
;
; Build: nasm -Wall -f bin -o kernel.bin kernel.asm   (the committed kernel.bin is this)

        bits 32
        org 0x100000

KCODE   equ 0x08
KDATA   equ 0x10
MAINTSS equ 0x20

KSTACK  equ 0x103f80            ; ESP0 of the main TSS
LIVE    equ 0x110000            ; GDT, LDTs, TSSs, IDT, page directory, window page table
PRISTINE equ 0x118000
TABLES  equ 0x4000              ; bytes of them
PAGEDIR equ 0x112000
WINDOW  equ 0x113000            ; the window's page table
DATA    equ 0x120000            ; data pages, then stacks
DATA0   equ 0x128000
DATALEN equ 0x8000
RING0ESP equ 0x124f00
LOG     equ 0x130000
ENTRY   equ 192                 ; bytes of a log entry
CASES   equ 0x140000
RECORD  equ 128                 ; bytes of a case's record

; Control registers between cases: PE, ET, NE, WP, PG; PSE.
CR0BASE equ 0x80010031
CR4BASE equ 0x10

; A case's record.
R_FRAME equ 0                   ; EIP CS EFLAGS ESP SS ES DS FS GS
R_REGS  equ 36                  ; EDI ESI EBP - EBX EDX ECX EAX
R_DS    equ 68
R_ES    equ 72
R_FS    equ 76
R_GS    equ 80
R_CR0   equ 84
R_CR4   equ 88
R_LDT   equ 92
R_DR7   equ 96
R_DR0   equ 100

; A log entry.
L_CASE  equ 0
L_STACK equ 4                   ; GS FS ES DS, EDI..EAX, the vector, 16 dwords of frame: 29 dwords
L_SS    equ 120
L_ESP   equ 124
L_CR2   equ 128
L_TR    equ 132                 ; TR, and LDTR above it
L_CR0   equ 136
L_DR6   equ 140
L_TABLES equ 144                ; checksums
L_DATA  equ 148
L_NESTED equ 152                ; the vector of a fault in `trap`, with bit 31
L_CR3   equ 156
L_ACCESSED equ 160
L_PAGES equ 164

start:  jmp strict near init
        align 8
        dd stubs, done, df_entry, ncases        ; read by layout.py
ncases: dd 0                    ; set by differential.py
gdtr:   dw 64*8-1
        dd LIVE
idtr:   dw 256*8-1
        dd LIVE+0x1000
        align 8

init:   cli
        cld
        mov al, 0xff
        out 0x21, al
        out 0xa1, al
        mov eax, 0x11           ; no paging: page tables may be stale from a program before
        mov cr0, eax
        mov esp, KSTACK         ; segments are flat here: the loader's, or the program's before
        call restore
        lgdt [gdtr]
        mov ax, KDATA
        mov ds, ax
        mov es, ax
        mov ss, ax
        jmp KCODE:.here
.here:  mov edi, LOG
        mov ecx, 0x10000/4
        xor eax, eax
        rep stosd
        mov dword [case], -1
        mov dword [incase], 0
        mov eax, PAGEDIR
        mov cr3, eax
        mov eax, CR4BASE
        mov cr4, eax
        mov eax, CR0BASE
        mov cr0, eax
        lidt [idtr]
        xor edx, edx            ; SYSENTER
        mov eax, KCODE
        mov ecx, 0x174
        wrmsr
        mov eax, KSTACK
        inc ecx
        wrmsr
        mov eax, stubs + 0x5f*10
        inc ecx
        wrmsr
        jmp next

; Tables and data as they were at first.
restore:
        mov esi, PRISTINE
        mov edi, LIVE
        mov ecx, TABLES/4
        rep movsd
        mov esi, DATA0
        mov edi, DATA
        mov ecx, DATALEN/4
        rep movsd
        ret

; The next case. Reached at ring 0 in flat code, with DS and ES flat.
next:   cli
        cld
        mov ax, KDATA
        mov ss, ax
        mov esp, KSTACK
        push dword 2            ; NT off, among others
        popfd
        mov eax, 0x400
        mov dr7, eax
        inc dword [case]
        mov eax, [case]
        cmp eax, [ncases]
        jae finished            ; tables and data as the last case left them
        mov eax, CR4BASE        ; PGE off: global entries go too
        mov cr4, eax
        mov eax, CR0BASE
        mov cr0, eax
        call restore
        mov eax, PAGEDIR
        mov cr3, eax
        lgdt [gdtr]
        lidt [idtr]
        mov ax, MAINTSS
        ltr ax
        xor eax, eax
        mov fs, ax
        mov gs, ax
        mov cr2, eax
        mov dr1, eax
        mov dr2, eax
        mov dr3, eax
        mov eax, 0xffff0ff0
        mov dr6, eax
        imul ebp, [case], RECORD
        add ebp, CASES
        mov dword [incase], 1
        mov ax, [ebp+R_LDT]
        lldt ax
        mov esp, RING0ESP
        mov ecx, 9
.frame: push dword [ebp+R_FRAME+ecx*4-4]
        loop .frame
        mov ecx, 8
.regs:  push dword [ebp+R_REGS+ecx*4-4]
        loop .regs
        mov eax, [ebp+R_DR0]
        mov dr0, eax
        mov ax, [ebp+R_ES]
        mov es, ax
        mov ax, [ebp+R_FS]
        mov fs, ax
        mov ax, [ebp+R_GS]
        mov gs, ax
        mov eax, [ebp+R_CR4]
        mov cr4, eax
        mov eax, [ebp+R_CR0]
        mov cr0, eax
        mov eax, [ebp+R_DR7]
        mov dr7, eax
        mov ax, [ebp+R_DS]
        mov ds, ax
        popad
        iretd

finished:
        mov ax, KDATA
        mov ds, ax
        xor eax, eax
        jmp done

; A vector ended the case. Stack: GS FS ES DS, PUSHAD, the vector, what the processor pushed.
trap:   jmp KCODE:.flat
.flat:  pushad
        push ds
        push es
        push fs
        push gs
        mov ax, KDATA
        mov ds, ax
        mov es, ax
        cld
        xor eax, eax            ; a data breakpoint must not hit here
        mov dr7, eax
        mov bx, ss
        mov edx, esp
        lar ecx, bx
        test ecx, 1<<22         ; SS.B
        jnz .wide
        movzx edx, dx
.wide:  imul edi, [case], ENTRY
        add edi, LOG
        cmp dword [incase], 1
        jne nested
        mov dword [incase], 2
        mov eax, [case]
        mov [edi+L_CASE], eax
        mov [edi+L_SS], bx
        mov [edi+L_ESP], esp
        call system
        lea esi, [edi+L_STACK]
        mov ecx, 29
.stack: mov eax, [ss:edx]
        mov [esi], eax
        add edx, 4
        add esi, 4
        loop .stack
        jmp next

; System registers and checksums into the entry at EDI. CR0 is that of the kernel afterwards.
system:
        mov eax, cr2
        mov [edi+L_CR2], eax
        str [edi+L_TR]
        sldt [edi+L_TR+2]
        mov eax, cr0
        mov [edi+L_CR0], eax
        mov eax, cr3
        mov [edi+L_CR3], eax
        mov eax, dr6
        mov [edi+L_DR6], eax
        mov eax, CR0BASE        ; a case may have written anything
        mov cr0, eax
        push edx
        xor ebx, ebx            ; GDT and LDTs, with the accessed bits as they are
        mov esi, LIVE
        mov ecx, 0x400/4
        call sum
        mov [edi+L_ACCESSED], ebx
        xor ebx, ebx            ; GDT and LDTs as if every segment had been accessed
        mov esi, LIVE
        mov ecx, 0x400/8
.descriptor:
        mov eax, [esi+4]
        test ah, 0x10
        jz .system
        or ah, 1
.system:
        rol ebx, 1
        add ebx, eax
        add ebx, [esi]
        add esi, 8
        dec ecx
        jnz .descriptor
        mov ecx, 0xc00/4        ; TSSs
        call sum
        mov [edi+L_TABLES], ebx
        xor ebx, ebx            ; page tables
        mov esi, PAGEDIR+4
        mov ecx, 7
        call sum
        mov esi, WINDOW
        mov ecx, 64
        call sum
        mov [edi+L_PAGES], ebx
        xor ebx, ebx
        mov esi, DATA
        mov ecx, 0x4000/4
        call sum
        mov esi, DATA+0x5000
        mov ecx, 0x3000/4
        call sum
        mov [edi+L_DATA], ebx
        pop edx
        ret

; EBX: checksum of ECX doublewords at ESI, continued.
sum:    rol ebx, 1
        add ebx, [esi]
        add esi, 4
        dec ecx
        jnz sum
        ret

; A fault while a case was being logged, most likely at the end of its stack segment.
nested: cmp dword [incase], 2
        jne lost
        mov dword [incase], 3
        mov eax, [ss:edx+48]
        or eax, 0x80000000
        mov [edi+L_NESTED], eax
        jmp next

; Fault upon fault: the program ends here, and its log says so.
lost:   mov dword [edi+L_NESTED], 0xdeaddead
        jmp finished

; The double-fault task.
df_entry:
        mov ax, KDATA
        mov ds, ax
        mov es, ax
        xor eax, eax
        mov dr7, eax
        imul edi, [case], ENTRY
        add edi, LOG
        cmp dword [incase], 1
        jne .again
        mov dword [incase], 2
        mov eax, [case]
        mov [edi+L_CASE], eax
        pop eax
        mov [edi+L_STACK+13*4], eax     ; the error code
        mov dword [edi+L_STACK+12*4], 8 ; the vector
        call system
        jmp next
.again: mov dword [incase], 3
        mov dword [edi+L_NESTED], 0x800000df
        jmp next

        align 16
stubs:
%assign v 0
%rep 256
        push strict dword v
        jmp strict near trap
%assign v v+1
%endrep

        times 0x2000-($-$$) db 0xf4
case:   dd 0
incase: dd 0

        times 0x6000-($-$$) db 0
done:   out 0xf4, al            ; the debugger's breakpoint
.halt:  cli
        hlt
        jmp .halt
