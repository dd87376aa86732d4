; floppy.asm - INT 13h for floppy drives A and B. fdc.asm talks to the controller.

; POST: the set-up record (CMOS 10h) says which drives there are.
init_floppies:
        mov al, CMOS_FLOPPY
        call cmos_read
        mov ah, al
        shr al, 4
        jz .end                 ; no drive A: no floppies
        mov bx, 0x0001          ; equipment: bit 0 = floppies, bits 6-7 = how many less one
        test ah, 15
        jz .one
        or bl, 0x40
.one:   or [BDA_EQUIPMENT], bx
        push word EBDA_SEG
        pop fs
        call fdc_reset
.end:   ret

; DL = drive -> AL = type, 1-5. Carry set: no such drive.
floppy_drive_type:
        mov al, CMOS_FLOPPY
        call cmos_read
        cmp dl, 1
        ja .none
        je .b
        shr al, 4
.b:     and al, 15
        jz .none
        cmp al, 5
        ja .none
        clc
        ret
.none:  stc
        ret

; One line per type: cylinders, sectors per track, data rate; then the parameter table that AH=08h shows.
%macro FLOPPY 4                 ; cylinders, sectors, rate, gap
        db %1, %2, %3
        db 0xAF, 0x02, 0x25, 0x02, %2, %4, 0xFF, 0x6C, 0xF6, 0x0F, 0x08
%endmacro
FLOPPY_TYPE_SIZE equ 14
floppy_types:
        FLOPPY 40,  9, 2, 0x2A  ; 1: 360 KB
        FLOPPY 80, 15, 0, 0x1B  ; 2: 1.2 MB
        FLOPPY 80,  9, 2, 0x2A  ; 3: 720 KB
        FLOPPY 80, 18, 0, 0x1B  ; 4: 1.44 MB
        FLOPPY 80, 36, 3, 0x1B  ; 5: 2.88 MB

; INT 1Eh: step rate and head unload, head load and DMA, motor ticks, 512 bytes, last sector, gap, data length,
; format gap, format byte, head settle, motor start.
diskette_parameters:
        db 0xAF, 0x02, 0x25, 0x02, 18, 0x1B, 0xFF, 0x6C, 0xF6, 0x0F, 0x08

floppy_type_entry:              ; AL = type -> DI = its line
        movzx di, al
        dec di
        imul di, FLOPPY_TYPE_SIZE
        add di, floppy_types
        ret

floppy_reset:
        push word EBDA_SEG
        pop fs
        call fdc_reset
        mov ah, DISK_OK
        jnc .end
        mov ah, DISK_CONTROLLER
.end:   ret

floppy_status:
        mov ah, [BDA_FD_STATUS]
        ret

floppy_read:
        mov bx, 0x4666          ; DMA: single, to memory, channel 2; READ DATA, MFM, skip deleted
        mov ah, 0
        jmp floppy_transfer
floppy_write:
        mov bx, 0x4A45          ; DMA: from memory; WRITE DATA, MFM
        mov ah, 0
        jmp floppy_transfer
floppy_verify:                  ; reads each sector to nowhere in particular
        mov bx, 0x4666
        mov ah, 1

; AL = sectors, CH = cylinder, CL = sector, DH = head, DL = drive, buffer in the frame.
floppy_transfer:
        push word EBDA_SEG
        pop fs
        mov [fs:FD_COMMAND], bl
        mov [fs:FD_DMA], bh
        mov [fs:FD_VERIFY], ah
        mov [fs:FD_LEFT], al
        mov [fs:FD_CYL], ch
        mov [fs:FD_SECTOR], cl
        mov [fs:FD_HEAD], dh
        mov [fs:FD_DRIVE], dl
        movzx eax, word [bp+F_ES]
        shl eax, 4
        movzx ebx, word [bp+F_BX]
        add eax, ebx
        mov [fs:FD_ADDRESS], eax
        call floppy_drive_type
        jc .none
        call floppy_type_entry
        mov al, [cs:di+1]
        mov [fs:FD_SPT], al
        cmp byte [fs:FD_LEFT], 0
        je disk_bad
        cmp dh, 1
        ja disk_bad
        cmp cl, 0
        je disk_bad
        call fdc_motor
.next:  call floppy_chunk       ; one side of one track at a time
        jc .end
        mov al, [fs:FD_CHUNK]
        sub [fs:FD_LEFT], al
        jz .done
        movzx edx, al
        shl edx, 9
        add [fs:FD_ADDRESS], edx
        add al, [fs:FD_SECTOR]
        mov [fs:FD_SECTOR], al
        cmp al, [fs:FD_SPT]
        jbe .next
        mov byte [fs:FD_SECTOR], 1
        xor byte [fs:FD_HEAD], 1
        jnz .next               ; from side 0 to side 1, from side 1 to the next cylinder
        inc byte [fs:FD_CYL]
        jmp .next
.done:  mov ah, DISK_OK
.end:   mov byte [BDA_FD_TIMEOUT], 37   ; two seconds until the motor stops
        mov al, [bp+F_AL]
        sub al, [fs:FD_LEFT]
        mov [bp+F_AL], al
        ret
.none:  mov byte [bp+F_AL], 0
        mov ah, DISK_TIMEOUT
        ret

; As many sectors as are left on this side. Carry set: AH = status.
floppy_chunk:
        mov al, [fs:FD_LEFT]
        cmp byte [fs:FD_VERIFY], 0
        je .data
        mov al, 1
        mov dword [fs:FD_ADDRESS], EBDA_SEG*16 + EBDA_SECTOR
        jmp .sized
.data:  mov ah, [fs:FD_SPT]
        sub ah, [fs:FD_SECTOR]
        jb .sized               ; a sector past the usual ones: the caller knows more about this disk
        inc ah
        cmp al, ah
        jbe .sized
        mov al, ah
.sized: mov [fs:FD_CHUNK], al
        movzx edx, al
        shl edx, 9
        movzx eax, word [fs:FD_ADDRESS]
        add edx, eax
        cmp edx, 0x10000        ; the DMA page register does not count on
        ja .boundary
        cmp byte [fs:FD_ADDRESS+3], 0
        jne .boundary
        movzx bx, byte [fs:FD_DRIVE]
        test byte [bx+BDA_FD_MEDIA], 0x10
        jnz .try                ; this disk has been read: its rate is known
        mov al, [cs:di+2]       ; otherwise begin with the drive's own rate, then try the others
        shl al, 6
        mov [bx+BDA_FD_MEDIA], al
.try:   mov cx, 4
.rate:  call fdc_transfer
        jnc .good
        cmp ah, DISK_NO_MARK    ; the wrong rate shows as "no address mark"
        je .other
        cmp ah, DISK_NOT_FOUND
        jne .fail
        test byte [bx+BDA_FD_MEDIA], 0x10
        jnz .fail
.other: and byte [bx+BDA_FD_MEDIA], ~0x10
        add byte [bx+BDA_FD_MEDIA], 0x40
        loop .rate
.fail:  stc
        ret
.good:  or byte [bx+BDA_FD_MEDIA], 0x10
        clc
        ret
.boundary:
        mov ah, DISK_BOUNDARY
        stc
        ret

; AH=08h
floppy_parameters:
        call floppy_drive_type
        jc .none
        call floppy_type_entry
        mov [bp+F_BL], al
        mov byte [bp+F_BH], 0
        mov ah, [cs:di]
        dec ah
        mov [bp+F_CH], ah
        mov ah, [cs:di+1]
        mov [bp+F_CL], ah
        mov byte [bp+F_DH], 1
        add di, 3
        mov [bp+F_DI], di
        mov word [bp+F_ES], BIOS_SEG
        mov al, CMOS_FLOPPY     ; how many drives
        call cmos_read
        mov dl, 1
        test al, 15
        jz .one
        inc dl
.one:   mov [bp+F_DL], dl
        mov byte [bp+F_AL], 0
        jmp disk_ok
.none:  xor ax, ax              ; no such drive: everything zero, and no error
        mov [bp+F_AX], ax
        mov [bp+F_BX], ax
        mov [bp+F_CX], ax
        mov [bp+F_DX], ax
        mov [bp+F_DI], ax
        mov [bp+F_ES], ax
        ret

; AH=15h: 0 = no drive, 1 = a drive that can't tell that its disk was changed
floppy_type:
        call floppy_drive_type
        mov ax, 1
        jnc .end
        mov al, 0
.end:   ret

; AH=16h: was the disk changed? With no change line the answer is "perhaps" where the drive exists.
floppy_change:
        call floppy_drive_type
        mov ah, DISK_TIMEOUT
        jc .end
        mov ah, 0x06
.end:   ret

; AH=17h, 18h: set the media type before formatting. The rate is found by trying, so there is nothing to note down.
floppy_set_type:
        call floppy_drive_type
        jc disk_bad
        jmp disk_ok

floppy_set_media:
        call floppy_drive_type
        jc disk_bad
        call floppy_type_entry
        mov ah, cl
        and ah, 0x3F
        cmp ah, [cs:di+1]
        mov ah, 0x0C            ; that type is not known
        jne .end
        add di, 3
        mov [bp+F_DI], di
        mov word [bp+F_ES], BIOS_SEG
        mov ah, DISK_OK
.end:   ret
