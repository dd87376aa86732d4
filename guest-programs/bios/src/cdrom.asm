; cdrom.asm - the CD-ROM drive: ATAPI packets by programmed I/O, booting by the El Torito specification without emulation,
; and INT 13h for drive E0h. FS:SI = the drive's record, EBDA_CDROM; its sectors are blocks of 2048 bytes.

ATA_PACKET      equ 0xA0        ; commands
ATA_IDENTIFY_PACKET equ 0xA1
CD_TEST_READY   equ 0x00        ; packets
CD_START_STOP   equ 0x1B
CD_LOCK         equ 0x1E
CD_CAPACITY     equ 0x25
CD_READ         equ 0x28

DISK_NOT_READY  equ 0xAA

CD_BUFFER       equ 0x8000      ; 0000:8000: descriptors are read to here, above the place of a boot sector

; POST: the first packet device on either channel becomes drive E0h.
init_cdrom:
        push word EBDA_SEG
        pop fs
        mov si, EBDA_CDROM
        mov di, init_disks.places
.next:  mov ax, [cs:di]
        test ax, ax
        jz .none
        mov [fs:si+DRV_BASE], ax
        mov ax, [cs:di+2]
        mov [fs:si+DRV_CTRL], ax
        mov al, [cs:di+4]
        mov [fs:si+DRV_SELECT], al
        add di, 5
        mov bx, EBDA_DRIVES     ; what answered IDENTIFY is a disk: asked for packets, it would keep ERR in its status
        movzx cx, byte [BDA_HD_COUNT]
        jcxz .probe
.disk:  mov ax, [fs:bx+DRV_BASE]
        cmp ax, [fs:si+DRV_BASE]
        jne .other
        mov al, [fs:bx+DRV_SELECT]
        cmp al, [fs:si+DRV_SELECT]
        je .next
.other: add bx, DRV_SIZE
        loop .disk
.probe: call ata_probe
        jc .next
        mov al, ATA_IDENTIFY_PACKET
        call ata_ask_identity
        jc .next
        mov al, [fs:EBDA_SECTOR+1]
        and al, 0x1F
        cmp al, 5               ; a CD-ROM drive, and no tape
        jne .next
        mov si, .found
        jmp print
.none:  mov word [fs:si+DRV_BASE], 0
        ret
.found: db 'CD-ROM drive', 13, 10, 0

; Sends the packet at FS:CD_PACKET, and stores what comes at ES:DI. Carry set: AL = what INT 13h calls the error.
; AX, CX, DX, DI and ES change.
cd_packet:
        call ata_select
        jc ata_timed_out
        mov dx, [fs:si+DRV_BASE]
        inc dx                  ; 1: by programmed I/O
        mov al, 0
        out dx, al
        add dx, 3               ; 4, 5: a block at a time
        out dx, al
        inc dx
        mov al, 2048 >> 8
        out dx, al
        add dx, 2               ; 7: go
        mov al, ATA_PACKET
        out dx, al
        call ata_pause
        call ata_wait_data
        jc cd_error
        push si
        mov dx, [fs:si+DRV_BASE]
        mov si, CD_PACKET
        mov cx, 6
        fs rep outsw
        pop si
.next:  call ata_pause
        call ata_wait_ready
        jc ata_timed_out
        test al, ATA_ERR | ATA_DF
        jnz cd_error
        test al, ATA_DRQ
        jz .done
        test di, di             ; keep the offset low, so that the block doesn't wrap
        jns .low
        sub di, 0x8000
        mov dx, es
        add dx, 0x800
        mov es, dx
.low:   mov dx, [fs:si+DRV_BASE]
        add dx, 4
        in al, dx               ; how many bytes
        mov cl, al
        inc dx
        in al, dx
        mov ch, al
        inc cx
        shr cx, 1
        mov dx, [fs:si+DRV_BASE]
        rep insw
        jmp .next
.done:  call ata_interrupts_on
        clc
        ret

cd_error:                       ; the sense key is in the upper half of the error register
        mov dx, [fs:si+DRV_BASE]
        inc dx
        in al, dx
        call ata_interrupts_on
        shr al, 4
        mov ah, al
        mov al, DISK_NOT_READY
        cmp ah, 2
        je .end
        cmp ah, 6               ; attention: it is told once, and then gone
        je .end
        mov al, DISK_CRC
        cmp ah, 3
        je .end
        mov al, DISK_NOT_FOUND
.end:   stc
        ret

; An empty packet with AL as its operation.
cd_new_packet:
        mov dword [fs:CD_PACKET], 0
        mov dword [fs:CD_PACKET+4], 0
        mov dword [fs:CD_PACKET+8], 0
        mov [fs:CD_PACKET], al
        ret

; EAX = first block, CX = count, ES:DI = buffer -> carry set: AL = error.
cd_read:
        push eax
        mov al, CD_READ
        call cd_new_packet
        pop eax
        call cd_swap
        mov [fs:CD_PACKET+2], eax
        mov [fs:CD_PACKET+7], ch
        mov [fs:CD_PACKET+8], cl
        jmp cd_packet

cd_swap:                        ; EAX from or to the other order of bytes
        xchg al, ah
        rol eax, 16
        xchg al, ah
        ret

; Waits for the drive, then FS:SI DRV_TOTAL = blocks. Carry set: no disc, or none that can be read.
cd_ready:
        mov cx, 5
.again: push cx
        mov al, CD_TEST_READY
        call cd_new_packet
        call cd_packet
        pop cx
        jnc .ready
        loop .again
        stc
        ret
.ready: mov al, CD_CAPACITY
        call cd_new_packet
        push es
        push di
        push fs
        pop es
        mov di, EBDA_SECTOR
        call cd_packet
        mov eax, [fs:EBDA_SECTOR]
        pop di
        pop es
        jc .end
        call cd_swap
        inc eax
        mov [fs:si+DRV_TOTAL], eax
        clc
.end:   ret

; INT 19h: loads what the boot catalog names and starts it. Returns when there is nothing to start.
cd_boot:
        push word EBDA_SEG
        pop fs
        mov si, EBDA_CDROM
        cmp word [fs:si+DRV_BASE], 0
        je .end
        call cd_ready
        jc .end
        xor ax, ax
        mov ds, ax
        mov es, ax
        mov eax, 17             ; the boot record volume descriptor
        call .block
        jc .end
        push si
        mov si, .identifier
        mov di, CD_BUFFER
        mov cx, .identifier_end-.identifier
        cs repe cmpsb
        pop si
        jne .end
        mov eax, [CD_BUFFER+0x47]
        call .block             ; the catalog
        jc .end
        cmp word [CD_BUFFER], 0x0001    ; a validation entry, for this kind of processor
        jne .end
        cmp word [CD_BUFFER+30], 0xAA55
        jne .end
        xor ax, ax              ; its words add up to zero
        mov di, CD_BUFFER
        mov cx, 16
.sum:   add ax, [di]
        add di, 2
        loop .sum
        test ax, ax
        jnz .end
        cmp byte [CD_BUFFER+32], 0x88   ; the initial entry: bootable
        jne .end
        test byte [CD_BUFFER+33], 0x0F
        jnz .emulates
        mov bx, [CD_BUFFER+34]  ; BX = segment, CX = blocks
        test bx, bx
        jnz .segment
        mov bx, 0x07C0
.segment:
        movzx ecx, word [CD_BUFFER+38]
        add ecx, 3              ; counted in 512 bytes
        shr ecx, 2
        jnz .count
        inc cx
.count: mov edx, ecx            ; it must end below the EBDA
        shl edx, 7
        movzx eax, bx
        add edx, eax
        cmp edx, EBDA_SEG
        ja .end
        push es
        push word EBDA_SEG
        pop es
        mov di, CD_SPEC         ; what INT 13h AH=4Bh tells
        mov ax, 0x0013          ; size; no emulation
        stosw
        mov al, CD_DRIVE
        stosb
        cmp word [fs:si+DRV_BASE], 0x1F0
        setne al
        stosb                   ; which channel
        mov eax, [CD_BUFFER+40]
        stosd
        push eax
        cmp byte [fs:si+DRV_SELECT], 0xA0
        setne al
        movzx ax, al
        stosw                   ; which device
        xor ax, ax
        stosw
        mov ax, bx
        stosw
        mov ax, [CD_BUFFER+38]
        stosw
        pop eax
        mov es, bx
        xor di, di
        call cd_read
        pop es
        jc .end
        mov si, .booting
        call print
        mov ax, bx              ; 07C0:0000 as 0000:7C00, and so on
        and ax, 0xF000
        shl bx, 4
        push ax
        push bx
        xor ax, ax
        mov ds, ax
        mov es, ax
        xor bx, bx
        xor cx, cx
        mov dx, CD_DRIVE
        retf
.emulates:
        mov si, .emulation
        call print
.end:   ret

.block: mov cx, 1               ; block EAX to the buffer. Its way to ES changes nothing for the caller
        push es
        push word 0
        pop es
        mov di, CD_BUFFER
        call cd_read
        pop es
        ret
.booting:       db 'Booting from CD-ROM', 13, 10, 0
.emulation:     db 'The CD-ROM wants a floppy or disk emulated, which this BIOS does not', 13, 10, 0
.identifier:    db 0, 'CD001', 1, 'EL TORITO SPECIFICATION'
.identifier_end:

; ---- INT 13h for drive E0h: by number, and nothing by cylinder ----
cd_service:
        cmp ah, 0x41
        jb .classic
        cmp ah, 0x4E
        ja disk_bad
        movzx bx, ah
        add bx, bx
        jmp [cs:bx+cd_table-0x41*2]
.classic:
        cmp ah, 0x00            ; reset
        je disk_ok
        cmp ah, 0x01
        je disk_status
        cmp ah, 0x0D
        je disk_ok
        cmp ah, 0x10
        je cd_is_ready
        mov al, 0               ; AH=15h takes this: no disk of the kinds that it knows
        jmp disk_bad

cd_table:
        dw ext_check            ; 41
        dw cd_ext_read          ; 42
        dw cd_protected         ; 43
        dw cd_ext_verify        ; 44
        dw cd_ext_lock          ; 45
        dw cd_ext_eject         ; 46
        dw cd_ext_verify        ; 47 seek: the place must exist
        dw cd_ext_parameters    ; 48
        dw disk_ok              ; 49 the disc has not been changed
        dw disk_bad             ; 4A start an emulation
        dw cd_emulation         ; 4B
        dw disk_bad             ; 4C
        dw disk_bad             ; 4D
        dw disk_ok              ; 4E hardware settings

cd_protected:
        mov ah, DISK_PROTECTED
        ret

cd_is_ready:
        call cd_ready
        mov ah, DISK_OK
        jnc .end
        mov ah, DISK_NOT_READY
.end:   ret

; The caller's packet at ES:DI. Carry clear: EAX = block, CX = count. Else AH = status.
cd_ext_place:
        cmp dword [fs:si+DRV_TOTAL], 0
        jne .known
        call cd_ready           ; another device was booted, so nobody has looked yet
.known:
        mov es, [bp+F_DS]
        mov di, [bp+F_SI]
        mov ah, DISK_BAD
        cmp byte [es:di+PACKET_SIZE], 16
        jb .bad
        mov cx, [es:di+PACKET_COUNT]
        cmp cx, 127
        ja .bad
        mov ah, DISK_NOT_FOUND
        cmp dword [es:di+PACKET_LBA+4], 0
        jne .bad
        movzx edx, cx
        add edx, [es:di+PACKET_LBA]
        jc .bad
        cmp edx, [fs:si+DRV_TOTAL]
        ja .bad
        mov eax, [es:di+PACKET_LBA]
        clc
        ret
.bad:   stc
        ret

cd_ext_verify:
        call cd_ext_place
        jc .end
        mov ah, DISK_OK
.end:   ret

cd_ext_read:
        call cd_ext_place
        jc .end
        jcxz .ok
        les di, [es:di+PACKET_OFFSET]
        call cd_read
        jnc .ok
        mov es, [bp+F_DS]       ; none done
        mov di, [bp+F_SI]
        mov word [es:di+PACKET_COUNT], 0
        mov ah, al
        ret
.ok:    mov ah, DISK_OK
.end:   ret

cd_ext_lock:                    ; AL = 0 lock, 1 unlock, 2 ask
        mov bl, [bp+F_AL]
        cmp bl, 1
        ja disk_bad
        mov al, CD_LOCK
        call cd_new_packet
        xor bl, 1
        mov [fs:CD_PACKET+4], bl
        jmp cd_simple

cd_ext_eject:
        mov al, CD_START_STOP
        call cd_new_packet
        mov byte [fs:CD_PACKET+4], 2
cd_simple:
        call cd_packet
        mov ah, DISK_OK
        jnc .end
        mov ah, al
.end:   ret

cd_ext_parameters:
        mov es, [bp+F_DS]
        mov di, [bp+F_SI]
        cmp word [es:di], 26
        jb disk_bad
        mov word [es:di], 26
        mov word [es:di+2], 0x0034      ; removable, tells of changes, can be locked
        mov eax, -1
        mov [es:di+4], eax              ; no geometry
        mov [es:di+8], eax
        mov [es:di+12], eax
        mov eax, [fs:si+DRV_TOTAL]
        mov [es:di+16], eax
        mov dword [es:di+20], 0
        mov word [es:di+24], 2048
        jmp disk_ok

; AH=4Bh: ends the emulation (AL=0; there is none) or just tells how the CD-ROM was booted.
cd_emulation:
        cmp byte [fs:CD_SPEC], 0
        je disk_bad             ; it was not
        cmp byte [bp+F_AL], 1
        ja disk_bad
        push si
        push ds
        mov es, [bp+F_DS]
        mov di, [bp+F_SI]
        push fs
        pop ds
        mov si, CD_SPEC
        mov cx, 0x13
        rep movsb
        pop ds
        pop si
        jmp disk_ok
