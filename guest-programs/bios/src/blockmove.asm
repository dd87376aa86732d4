; blockmove.asm - INT 15h AH=87h: copy CX words anywhere in memory, through protected mode.
; The caller's table at ES:SI has six descriptors: null, the table itself, source, destination, this ROM's code, the
; stack. The caller fills source and destination; the rest is filled here. The table's own descriptor happens to have the
; form that LGDT wants: limit, then a 24-bit base.

GDT_SELF        equ 0x08
GDT_SOURCE      equ 0x10
GDT_DEST        equ 0x18
GDT_CODE        equ 0x20
GDT_STACK       equ 0x28

block_move:
        mov si, [bp+F_SI]
        mov es, [bp+F_ES]
        smsw ax
        test al, 1              ; someone runs us in virtual-8086 mode: then they must provide this service
        mov ah, 3
        jnz .refuse
        cmp cx, 0x8000
        ja .too_long
        test cx, cx
        jz .nothing
        mov dx, cx
        add dx, dx
        dec dx                  ; last byte
        cmp [es:si+GDT_SOURCE], dx
        jb .too_long
        cmp [es:si+GDT_DEST], dx
        jb .too_long

        mov eax, es             ; GDT at ES:SI
        movzx eax, ax
        shl eax, 4
        movzx edx, si
        add eax, edx
        mov di, GDT_SELF
        mov dx, 0x2F
        mov bl, 0x93
        call .describe
        mov eax, BIOS_SEG*16
        mov di, GDT_CODE
        mov dx, 0xFFFF
        mov bl, 0x9B
        call .describe
        mov ax, ss
        movzx eax, ax
        shl eax, 4
        mov di, GDT_STACK
        mov bl, 0x93
        call .describe

        cli
        in al, FAST_A20         ; open the gate, and put it back later
        push ax
        or al, 2
        and al, 0xFE
        out FAST_A20, al
        mov bx, ss
        lgdt [es:si+GDT_SELF]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp GDT_CODE:.protected
.protected:
        mov ax, GDT_STACK       ; same place, but now as a descriptor
        mov ss, ax
        mov ax, GDT_SOURCE
        mov ds, ax
        mov ax, GDT_DEST
        mov es, ax
        xor si, si
        xor di, di
        rep movsw
        mov ax, GDT_STACK       ; back to 64 KiB limits, as real mode needs them
        mov ds, ax
        mov es, ax
        mov eax, cr0
        and al, 0xFE
        mov cr0, eax
        jmp BIOS_SEG:.real
.real:  mov ss, bx
        mov ax, BDA_SEG
        mov ds, ax
        mov es, ax
        pop ax
        and al, 0xFE
        out FAST_A20, al
.nothing:
        mov byte [bp+F_AH], 0
        or byte [bp+F_FLAGS], ZF_BIT
        CLEAR_CARRY
        clc
        ret
.too_long:
        mov ah, 2               ; would have been an exception in protected mode
.refuse:
        mov [bp+F_AH], ah
        and byte [bp+F_FLAGS], ~ZF_BIT
        SET_CARRY
        clc
        ret

.describe:                      ; EAX = base, DX = limit, BL = access -> descriptor DI of the table ES:SI
        push si
        add si, di
        mov [es:si], dx
        mov [es:si+2], eax
        mov [es:si+5], bl
        mov word [es:si+6], 0
        pop si
        ret
