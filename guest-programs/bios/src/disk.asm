; disk.asm - hard disks by cylinder, head and sector, as INT 13h began. FS:SI = the disk's record.

disk_reset:
        call ata_reset
        mov ah, DISK_OK
        ret

disk_status:                    ; AH=01h: of the previous call
        mov ah, [BDA_HD_STATUS]
        ret

disk_seek:                      ; AH=0Ch: nothing to do in advance, but the place must exist
        mov al, 1
        call chs_to_lba
        jc disk_bad
        jmp disk_ok

disk_ready:                     ; AH=10h
        call ata_select
        mov ah, DISK_TIMEOUT
        jc .end
        mov ah, DISK_OK
.end:   ret

disk_read:
        mov bl, ATA_READ
        jmp disk_transfer
disk_write:
        mov bl, ATA_WRITE
        jmp disk_transfer
disk_verify:
        mov bl, ATA_VERIFY

disk_transfer:                  ; AL = sectors, CX, DH = where, ES:BX = buffer
        push ax
        dec al
        cmp al, 128             ; 1 to 128: no more fits into 64 KiB
        pop ax
        jae disk_bad
        push bx
        push ax
        call chs_to_lba
        pop cx
        pop dx                  ; DL = command
        jc disk_bad
        mov ch, 0
        mov di, [bp+F_BX]
        call ata_transfer
        mov [bp+F_AL], bl       ; sectors done
        ret

; CX, DH as INT 13h packs them -> EAX = sector number. Carry set: no such place.
chs_to_lba:
        mov bl, cl
        and bl, 0x3F            ; sector, from 1
        jz .bad
        mov al, ch              ; cylinder: low byte in CH, bits 8-9 in the top of CL
        mov ah, cl
        shr ah, 6
        cmp ax, [fs:si+DRV_CYLS]
        jae .bad
        movzx di, dh
        cmp di, [fs:si+DRV_HEADS]
        jae .bad
        movzx cx, bl
        cmp cx, [fs:si+DRV_SPT]
        ja .bad
        movzx eax, ax
        movzx ebx, word [fs:si+DRV_HEADS]
        mul ebx
        movzx edi, di
        add eax, edi
        movzx ebx, word [fs:si+DRV_SPT]
        mul ebx
        movzx ecx, cx
        lea eax, [eax+ecx-1]
        clc
        ret
.bad:   stc
        ret

; AH=08h: the geometry that callers must use.
disk_parameters:
        mov ax, [fs:si+DRV_CYLS]
        dec ax
        mov [bp+F_CH], al
        shl ah, 6
        or ah, [fs:si+DRV_SPT]
        mov [bp+F_CL], ah
        mov ax, [fs:si+DRV_HEADS]
        dec ax
        mov [bp+F_DH], al
        mov al, [BDA_HD_COUNT]
        mov [bp+F_DL], al
        mov byte [bp+F_AL], 0
        jmp disk_ok

; AH=15h: type 3, a fixed disk, with CX:DX sectors.
disk_type:
        mov ax, [fs:si+DRV_HEADS]
        mul word [fs:si+DRV_SPT]
        mul word [fs:si+DRV_CYLS]
        mov [bp+F_CX], dx
        mov [bp+F_DX], ax
        mov ax, 3
        ret

; POST: ask each place for an ATA disk and make its record.
init_disks:
        push word EBDA_SEG
        pop fs
        mov si, EBDA_DRIVES
        mov di, .places
.next:  mov ax, [cs:di]
        test ax, ax
        jz .tables
        mov [fs:si+DRV_BASE], ax
        mov ax, [cs:di+2]
        mov [fs:si+DRV_CTRL], ax
        mov al, [cs:di+4]
        mov [fs:si+DRV_SELECT], al
        add di, 5
        call ata_identify
        jc .next
        call disk_geometry
        inc byte [BDA_HD_COUNT]
        add si, DRV_SIZE
        jmp .next
.tables:                        ; INT 41h and INT 46h
        mov si, EBDA_DRIVES
        mov di, EBDA_FDPT0
        mov cl, [BDA_HD_COUNT]
        cmp cl, 2
        jbe .table
        mov cl, 2
.table: dec cl
        js .end
        mov ax, [fs:si+DRV_CYLS]
        mov [fs:di], ax
        mov [fs:di+12], ax      ; landing zone
        mov ax, [fs:si+DRV_HEADS]
        mov [fs:di+2], al
        mov word [fs:di+5], 0xFFFF      ; no write precompensation
        mov al, [fs:si+DRV_SPT]
        mov [fs:di+14], al
        mov byte [fs:di+8], 0xC8        ; no retries, more than 8 heads
        add si, DRV_SIZE
        mov di, EBDA_FDPT1
        jmp .table
.end:   ret
.places:
        dw 0x1F0, 0x3F6
        db 0xA0
        dw 0x1F0, 0x3F6
        db 0xB0
        dw 0x170, 0x376
        db 0xA0
        dw 0x170, 0x376
        db 0xB0
        dw 0

; INT 13h packs a cylinder into 10 bits. A disk with more is shown with more heads ("LBA assist").
disk_geometry:
        push edi
        mov ax, [fs:si+DRV_PCYLS]
        mov bx, [fs:si+DRV_PHEADS]
        mov cx, [fs:si+DRV_PSPT]
        cmp ax, 1024
        jbe .fits
        mov cx, 63
        mov bx, 16
.heads: movzx edi, bx
        imul edi, edi, 63
        mov eax, [fs:si+DRV_TOTAL]
        xor edx, edx
        div edi
        cmp eax, 1024
        jbe .fits
        add bx, bx
        cmp bx, 256
        jb .heads
        mov bx, 255             ; 256 heads break DOS
        mov eax, [fs:si+DRV_TOTAL]
        xor edx, edx
        mov edi, 255*63
        div edi
        cmp eax, 1024
        jbe .fits
        mov ax, 1024
.fits:  mov [fs:si+DRV_CYLS], ax
        mov [fs:si+DRV_HEADS], bx
        mov [fs:si+DRV_SPT], cx
        pop edi
        ret
