; int15.asm - INT 15h: system services. What is not here returns AH=86h with carry, the sign that callers look for.

int15:
        cmp ah, 0x4F            ; the keyboard hook: carry stays as INT 09h set it
        jne .service
        push bp
        mov bp, sp
        or byte [bp+6], CF_BIT
        pop bp
        iret
.service:
        ENTER_SERVICE
        mov si, .functions
.find:  cmp ah, [cs:si]
        je .found
        add si, 3
        cmp si, .functions_end
        jb .find
.bad:   mov byte [bp+F_AH], 0x86
        SET_CARRY
        LEAVE_SERVICE
.found: call [cs:si+1]
        jc .bad                 ; a handler refuses by carry; it sets AH itself otherwise
        LEAVE_SERVICE

%macro SYSTEM 2
        db %1
        dw %2
%endmacro
.functions:
        SYSTEM 0x24, system_a20
        SYSTEM 0x86, system_wait
        SYSTEM 0x87, block_move
        SYSTEM 0x88, system_extended
        SYSTEM 0xC0, system_config
        SYSTEM 0xE8, system_memory
.functions_end:

; AH=24h: the A20 gate, through port 92h.
system_a20:
        mov ah, al
        in al, FAST_A20
        cmp ah, 1
        jb .off
        je .on
        cmp ah, 3
        jb .state
        je .support
        stc
        ret
.off:   and al, 0xFC            ; bit 0 would reset the processor
        out FAST_A20, al
        jmp .done
.on:    or al, 2
        and al, 0xFE
        out FAST_A20, al
        jmp .done
.state: shr al, 1
        and al, 1
        mov [bp+F_AL], al
        jmp .done
.support:
        mov word [bp+F_BX], 2   ; port 92h
.done:  mov byte [bp+F_AH], 0
        CLEAR_CARRY
        clc
        ret

; AH=86h: wait CX:DX microseconds.
system_wait:
        sti
        movzx eax, cx
        shl eax, 16
        mov ax, dx
        mov ecx, eax
        call wait_us
        CLEAR_CARRY
        clc
        ret

; ECX = microseconds. Watches counter 0 of the timer, which goes round every 65536 counts.
wait_us:
        pushad
        cmp ecx, 0xD0000000     ; an hour; more would not fit into the product
        jb .fits
        mov ecx, 0xD0000000
.fits:  mov eax, 1193182
        mul ecx
        mov ecx, 1000000
        div ecx
        mov ecx, eax            ; timer counts to wait
        call .count
        mov bx, ax
.more:  call .count
        sub bx, ax              ; it counts down
        movzx edx, bx
        mov bx, ax
        sub ecx, edx
        ja .more
        popad
        ret
.count: pushf
        cli                     ; both halves of one latched count
        mov al, 0
        out PIT+3, al
        in al, PIT
        mov ah, al
        in al, PIT
        xchg al, ah
        popf
        ret

; AH=88h: KiB above 1 MiB, 63 MiB at most.
system_extended:
        call memory_above_1m
        cmp eax, 0xFC00
        jbe .fits
        mov eax, 0xFC00
.fits:  mov [bp+F_AX], ax
        CLEAR_CARRY
        clc
        ret

; AH=C0h: ES:BX = configuration table.
system_config:
        mov word [bp+F_ES], BIOS_SEG
        mov word [bp+F_BX], .table
        mov byte [bp+F_AH], 0
        CLEAR_CARRY
        clc
        ret
.table: dw 8
        db 0xFC, 0x01, 0x00     ; model, submodel, revision
        db 0x74                 ; second 8259A, RTC, keyboard hook, EBDA
        db 0, 0, 0, 0
