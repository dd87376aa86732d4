; int13.asm - INT 13h: sorts calls to floppies (DL below 80h) and hard disks, and returns their status.
; A handler returns AH = status; 0 is success. It may write results into the frame; AH and the carry are set here.

DISK_OK         equ 0x00
DISK_BAD        equ 0x01        ; no such function, or a bad parameter
DISK_NO_MARK    equ 0x02
DISK_PROTECTED  equ 0x03
DISK_NOT_FOUND  equ 0x04        ; sector not found
DISK_BOUNDARY   equ 0x09        ; DMA can't cross a 64 KiB boundary
DISK_CRC        equ 0x10
DISK_CONTROLLER equ 0x20
DISK_SEEK       equ 0x40
DISK_TIMEOUT    equ 0x80

int13:
        ENTER_SERVICE
        sti
        test dl, dl
        js .hard
        push word .floppy_end
        DISPATCH floppy_table, (floppy_table_end-floppy_table)/2, disk_bad
.hard:  cmp dl, CD_DRIVE
        je .cdrom
        and dl, 0x7F
        cmp dl, [BDA_HD_COUNT]
        jae .none
        push word EBDA_SEG
        pop fs
        movzx si, dl            ; FS:SI = the disk's record
        shl si, 5
        add si, EBDA_DRIVES
        push word .hard_end
        cmp ah, 0x41
        jb .classic
        cmp ah, 0x49
        jae .classic
        movzx bx, ah
        add bx, bx
        jmp [cs:bx+extension_table-0x41*2]
.classic:
        DISPATCH disk_table, (disk_table_end-disk_table)/2, disk_bad
.cdrom: push word EBDA_SEG
        pop fs
        mov si, EBDA_CDROM
        cmp word [fs:si+DRV_BASE], 0
        je .none
        push word .hard_end
        jmp cd_service
.none:  cmp ah, 0x15            ; "which type" is the one question about a missing disk that succeeds
        jne .missing
        mov byte [bp+F_AH], 0
        CLEAR_CARRY
        jmp .leave
.missing:
        mov ah, DISK_BAD
.hard_end:
        mov [BDA_HD_STATUS], ah
        jmp .end
.floppy_end:
        mov [BDA_FD_STATUS], ah
.end:   cmp byte [bp+F_AH], 0x15
        je .type
        mov [bp+F_AH], ah
        CLEAR_CARRY
        test ah, ah
        jz .leave
        SET_CARRY
.leave: LEAVE_SERVICE
.type:  CLEAR_CARRY             ; AH=15h answers in AH and has stored it elsewhere
        mov [bp+F_AH], al
        jmp .leave

disk_bad:
        mov ah, DISK_BAD
        ret
disk_ok:
        mov ah, DISK_OK
        ret

disk_table:
        dw disk_reset           ; 00
        dw disk_status          ; 01
        dw disk_read            ; 02
        dw disk_write           ; 03
        dw disk_verify          ; 04
        dw disk_bad             ; 05 format track
        dw disk_bad             ; 06
        dw disk_bad             ; 07
        dw disk_parameters      ; 08
        dw disk_ok              ; 09 the disk knows its parameters
        dw disk_bad             ; 0A
        dw disk_bad             ; 0B
        dw disk_seek            ; 0C
        dw disk_reset           ; 0D
        dw disk_bad             ; 0E
        dw disk_bad             ; 0F
        dw disk_ready           ; 10
        dw disk_ok              ; 11 recalibrate
        dw disk_bad             ; 12
        dw disk_bad             ; 13
        dw disk_ok              ; 14 controller diagnostic
        dw disk_type            ; 15
disk_table_end:

extension_table:
        dw ext_check            ; 41
        dw ext_read             ; 42
        dw ext_write            ; 43
        dw ext_verify           ; 44
        dw disk_bad             ; 45 lock
        dw disk_bad             ; 46 eject
        dw ext_seek             ; 47
        dw ext_parameters       ; 48

floppy_table:
        dw floppy_reset         ; 00
        dw floppy_status        ; 01
        dw floppy_read          ; 02
        dw floppy_write         ; 03
        dw floppy_verify        ; 04
        dw disk_bad             ; 05 format track
        dw disk_bad             ; 06
        dw disk_bad             ; 07
        dw floppy_parameters    ; 08
        dw disk_bad             ; 09
        dw disk_bad             ; 0A
        dw disk_bad             ; 0B
        dw disk_bad             ; 0C
        dw disk_bad             ; 0D
        dw disk_bad             ; 0E
        dw disk_bad             ; 0F
        dw disk_bad             ; 10
        dw disk_bad             ; 11
        dw disk_bad             ; 12
        dw disk_bad             ; 13
        dw disk_bad             ; 14
        dw floppy_type          ; 15
        dw floppy_change        ; 16
        dw floppy_set_type      ; 17
        dw floppy_set_media     ; 18
floppy_table_end:
