; e820.asm - INT 15h AX=E801h and AX=E820h: what memory there is.

system_memory:
        cmp al, 0x01
        je memory_e801
        cmp al, 0x20
        je memory_map
        stc
        ret

; AX=E801h: KiB between 1 and 16 MiB, 64 KiB blocks above; twice, in AX, BX and CX, DX.
memory_e801:
        call memory_above_1m
        xor edx, edx
        cmp eax, 15*1024
        jbe .small
        mov edx, eax
        sub edx, 15*1024
        shr edx, 6
        mov ax, 15*1024
.small: mov [bp+F_AX], ax
        mov [bp+F_CX], ax
        mov [bp+F_BX], dx
        mov [bp+F_DX], dx
        CLEAR_CARRY
        clc
        ret

; AX=E820h: EBX = number of the entry (0 first), ECX = room, EDX = 'SMAP', ES:DI = where. EBX = 0 afterwards: the last.
MAP_RAM         equ 1
MAP_RESERVED    equ 2

memory_map:
        cmp dword [bp+F_DX], 'PAMS'     ; 'SMAP' in a register's byte order
        jne .bad
        cmp dword [bp+F_CX], 20
        jb .bad
        mov ebx, [bp+F_BX]
        cmp ebx, 5
        ja .bad
        mov es, [bp+F_ES]
        mov di, [bp+F_DI]
        call memory_above_1m
        mov ecx, eax                    ; KiB
        call memory_above_4g
        mov edx, eax                    ; 64 KiB blocks
        cmp ebx, 3
        jne .place
        test ecx, ecx                   ; no memory above 1 MiB: no entry for it
        jnz .extended
        inc ebx
.place: cmp ebx, 5
        je .high
        mov si, bx
        shl si, 4
        mov eax, [cs:si+.fixed]
        stosd
        xor eax, eax
        stosd
        mov eax, [cs:si+.fixed+4]
        stosd
        xor eax, eax
        stosd
        mov eax, [cs:si+.fixed+8]
        stosd
        jmp .next
.extended:
        mov eax, 0x100000
        stosd
        xor eax, eax
        stosd
        mov eax, ecx
        shl eax, 10
        stosd
        xor eax, eax
        stosd
        mov al, MAP_RAM
        stosd
        jmp .next
.high:  test edx, edx
        jz .bad
        xor eax, eax
        stosd
        inc ax
        stosd                           ; base 4 GiB
        mov eax, edx
        shl eax, 16
        stosd
        mov eax, edx
        shr eax, 16
        stosd
        mov eax, MAP_RAM
        stosd
.next:  inc ebx
        cmp ebx, 5
        jb .more
        ja .last
        test edx, edx
        jnz .more
.last:  xor ebx, ebx
.more:  mov [bp+F_BX], ebx
        mov dword [bp+F_CX], 20
        mov dword [bp+F_AX], 'PAMS'
        CLEAR_CARRY
        clc
        ret
.bad:   stc
        ret

        align 4
.fixed: dd 0x00000000, EBDA_SEG*16, MAP_RAM, 0                  ; 0: conventional memory
        dd EBDA_SEG*16, 0xA0000-EBDA_SEG*16, MAP_RESERVED, 0    ; 1: EBDA
        dd 0x000F0000, 0x00010000, MAP_RESERVED, 0              ; 2: this ROM
        dd 0, 0, 0, 0                                           ; 3: computed: memory above 1 MiB
        dd 0xFFFF0000, 0x00010000, MAP_RESERVED, 0              ; 4: this ROM again, at the top

memory_above_4g:                        ; EAX = 64 KiB blocks
        push ebx
        mov al, CMOS_ABOVE4G+2
        call cmos_read
        movzx ebx, al
        shl ebx, 16
        mov al, CMOS_ABOVE4G
        call cmos_word
        movzx eax, ax
        or eax, ebx
        pop ebx
        ret
