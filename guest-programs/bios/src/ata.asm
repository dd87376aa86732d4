; ata.asm - hard disks by ATA programmed I/O. The services poll, with the disk's interrupt off while they work.

ATA_READ        equ 0x20        ; commands
ATA_WRITE       equ 0x30
ATA_VERIFY      equ 0x40
ATA_IDENTIFY    equ 0xEC
ATA_ERR         equ 0x01        ; status bits
ATA_DRQ         equ 0x08
ATA_DF          equ 0x20
ATA_BSY         equ 0x80

; FS:SI = disk, EAX = first sector, CX = count, ES:DI = buffer, DL = command -> AH = status, BX = sectors done.
ata_transfer:
        mov [fs:ATA_COMMAND], dl
        xor bx, bx
        jcxz .ok
        call ata_place
        jc .fail
.sector:
        cmp byte [fs:ATA_COMMAND], ATA_VERIFY
        je .verify
        call ata_wait_data
        jc .fail
        test di, di             ; keep the offset low, so that the sector doesn't wrap
        jns .low
        sub di, 0x8000
        mov dx, es
        add dx, 0x800
        mov es, dx
.low:   push cx
        mov cx, 256
        mov dx, [fs:si+DRV_BASE]
        cmp byte [fs:ATA_COMMAND], ATA_WRITE
        je .write
        rep insw
        jmp .moved
.write: push si
        mov si, di
        es rep outsw
        mov di, si
        pop si
.moved: pop cx
        inc bx
        loop .sector
        jmp .finish
.verify:
        mov bx, cx
.finish:
        call ata_wait_idle
        jc .failed
.ok:    mov ah, DISK_OK
        jmp .end
.failed:
        xor bx, bx
.fail:  mov ah, al
.end:   call ata_interrupts_on
        ret

; Writes the task file: EAX = sector, CX = count (1-128). Carry set: AL = status. CX, BX, DI stay.
ata_place:
        push bx
        push eax
        movzx edx, cx
        dec edx
        add edx, eax
        jc .beyond
        cmp edx, [fs:si+DRV_TOTAL]
        jae .beyond
        call ata_select
        pop eax
        jc .timeout
        mov dx, [fs:si+DRV_BASE]
        add dx, 2
        push eax
        mov al, cl
        out dx, al
        pop eax
        cmp byte [fs:si+DRV_LBA], 0
        je .chs
        mov ebx, eax
        shr ebx, 24
        or bl, 0x40             ; head register: LBA bits 24-27
        jmp .put
.chs:   xor edx, edx            ; an old disk: by its own geometry
        movzx ebx, word [fs:si+DRV_PSPT]
        div ebx
        push dx                 ; sector - 1
        xor edx, edx
        movzx ebx, word [fs:si+DRV_PHEADS]
        div ebx
        mov bl, dl              ; head
        shl eax, 8              ; cylinder above the sector, as LBA has it
        pop dx
        mov al, dl
        inc al
        mov dx, [fs:si+DRV_BASE]
        add dx, 2
.put:   inc dx                  ; 3: sector, or LBA 0-7
        out dx, al
        inc dx                  ; 4, 5: cylinder, or LBA 8-23
        shr eax, 8
        out dx, al
        inc dx
        mov al, ah
        out dx, al
        inc dx                  ; 6: drive and head
        mov al, [fs:si+DRV_SELECT]
        or al, bl
        out dx, al
        inc dx                  ; 7: go
        mov al, [fs:ATA_COMMAND]
        out dx, al
        call ata_pause
        pop bx
        clc
        ret
.beyond:
        pop eax
        pop bx
        mov al, DISK_NOT_FOUND
        stc
        ret
.timeout:
        pop bx
        mov al, DISK_TIMEOUT
        stc
        ret

; Selects the disk, its interrupt off, and waits until it is idle. Carry set: it is not there or does not answer.
ata_select:
        push dx
        mov dx, [fs:si+DRV_CTRL]
        mov al, 0x0A            ; nIEN
        out dx, al
        mov dx, [fs:si+DRV_BASE]
        add dx, 6
        mov al, [fs:si+DRV_SELECT]
        out dx, al
        call ata_pause
        pop dx
        jmp ata_wait_ready

ata_interrupts_on:
        push ax
        push dx
        mov dx, [fs:si+DRV_CTRL]
        mov al, 0x08
        out dx, al
        pop dx
        pop ax
        ret

ata_pause:                      ; the 400 ns a disk has to show BSY: four reads of the other status port
        push ax
        push dx
        mov dx, [fs:si+DRV_CTRL]
        in al, dx
        in al, dx
        in al, dx
        in al, dx
        pop dx
        pop ax
        ret

ata_wait_ready:                 ; until not busy; AL = status. Carry set: too late, or nothing there
        push ecx
        push dx
        mov dx, [fs:si+DRV_BASE]
        add dx, 7
        mov ecx, 0x400000
.wait:  in al, dx
        cmp al, 0xFF
        je .none
        test al, ATA_BSY
        jz .idle
        dec ecx
        jnz .wait
.none:  stc
        jmp .end
.idle:  clc
.end:   pop dx
        pop ecx
        ret

ata_wait_idle:                  ; the command is over. Carry set: AL = what INT 13h calls the error
        call ata_wait_ready
        jc ata_timed_out
        test al, ATA_ERR | ATA_DF
        jnz ata_error
        ret

ata_wait_data:                  ; until the disk wants to move a sector
        call ata_wait_ready
        jc ata_timed_out
        test al, ATA_ERR | ATA_DF
        jnz ata_error
        test al, ATA_DRQ
        jz ata_wait_data
        ret

ata_timed_out:
        mov al, DISK_TIMEOUT
        stc
        ret

ata_error:
        push dx
        mov dx, [fs:si+DRV_BASE]
        inc dx
        in al, dx
        pop dx
        mov ah, al
        mov al, DISK_NOT_FOUND
        test ah, 0x10           ; IDNF
        jnz .end
        mov al, DISK_CRC
        test ah, 0x40           ; UNC
        jnz .end
        mov al, DISK_BAD
        test ah, 0x04           ; ABRT
        jnz .end
        mov al, DISK_CONTROLLER
.end:   stc
        ret

; Software reset of the disk's channel.
ata_reset:
        push dx
        mov dx, [fs:si+DRV_CTRL]
        mov al, 0x0C
        out dx, al
        call ata_pause
        mov al, 0x08
        out dx, al
        call ata_pause
        pop dx
        jmp ata_wait_ready

; POST: whether something is at the place in the record FS:SI. Carry set: nothing. AX and DX change.
ata_probe:
        mov dx, [fs:si+DRV_BASE]
        add dx, 6
        mov al, [fs:si+DRV_SELECT]
        out dx, al
        call ata_pause
        sub dx, 4               ; registers 2 and 3 of a disk that is there keep what is written
        mov ax, 0xAA55
        out dx, al
        inc dx
        xchg al, ah
        out dx, al
        dec dx
        in al, dx
        cmp al, 0x55
        jne .none
        inc dx
        in al, dx
        cmp al, 0xAA
        jne .none
        clc
        ret
.none:  stc
        ret

; POST: the identification that command AL asks for, to EBDA_SECTOR. Carry set: refused. AX, CX, DX and ES change.
ata_ask_identity:
        push di
        push ax
        call ata_select
        pop bx
        jc .end
        mov dx, [fs:si+DRV_BASE]
        add dx, 7
        mov al, bl
        out dx, al
        call ata_pause
        in al, dx
        test al, al             ; 0: no such disk
        stc
        jz .end
        call ata_wait_data
        jc .end                 ; the other kind of device refuses
        push fs
        pop es
        mov di, EBDA_SECTOR
        mov dx, [fs:si+DRV_BASE]
        mov cx, 256
        rep insw
        clc
.end:   pushf
        call ata_interrupts_on
        popf
        pop di
        ret

; POST: fills the record FS:SI from the disk's IDENTIFY data. Carry set: no ATA disk there.
ata_identify:
        push di
        call ata_probe
        jc .none
        mov al, ATA_IDENTIFY
        call ata_ask_identity
        jc .none
        mov di, EBDA_SECTOR
        mov ax, [fs:di+1*2]
        mov [fs:si+DRV_PCYLS], ax
        mov ax, [fs:di+3*2]
        mov [fs:si+DRV_PHEADS], ax
        mov cx, [fs:di+6*2]
        mov [fs:si+DRV_PSPT], cx
        mul cx
        test dx, dx
        jnz .geometry
        test ax, ax
        jz .none                ; a disk without a geometry is none that INT 13h can show
.geometry:
        movzx ecx, word [fs:si+DRV_PHEADS]
        movzx eax, word [fs:si+DRV_PSPT]
        imul eax, ecx
        movzx ecx, word [fs:si+DRV_PCYLS]
        imul eax, ecx
        test byte [fs:di+49*2+1], 2     ; LBA: the size stands in words 60-61
        jz .size
        mov byte [fs:si+DRV_LBA], 1
        mov eax, [fs:di+60*2]
.size:  mov [fs:si+DRV_TOTAL], eax
        pop di
        clc
        ret
.none:  pop di
        stc
        ret
