; diskext.asm - INT 13h extensions: sectors by number, described in a packet at DS:SI of the caller.

PACKET_SIZE     equ 0           ; byte
PACKET_COUNT    equ 2           ; word
PACKET_OFFSET   equ 4           ; word
PACKET_SEGMENT  equ 6           ; word
PACKET_LBA      equ 8           ; qword

ext_check:                      ; AH=41h, BX=55AAh
        cmp word [bp+F_BX], 0x55AA
        jne disk_bad
        mov word [bp+F_BX], 0xAA55
        mov word [bp+F_CX], 0x0001      ; packet access
        pop ax                          ; the version goes where the status would: return by hand
        mov byte [BDA_HD_STATUS], DISK_OK
        mov byte [bp+F_AH], 0x21        ; version 1.1
        CLEAR_CARRY
        LEAVE_SERVICE

ext_read:
        mov dl, ATA_READ
        jmp ext_transfer
ext_write:
        mov dl, ATA_WRITE
        jmp ext_transfer
ext_verify:
        mov dl, ATA_VERIFY
        jmp ext_transfer
ext_seek:
        mov dl, 0

ext_transfer:
        mov es, [bp+F_DS]
        mov di, [bp+F_SI]
        cmp byte [es:di+PACKET_SIZE], 16
        jb disk_bad
        cmp dword [es:di+PACKET_LBA+4], 0
        jne .beyond
        mov eax, [es:di+PACKET_LBA]
        cmp eax, [fs:si+DRV_TOTAL]
        jae .beyond
        test dl, dl
        jz disk_ok
        mov cx, [es:di+PACKET_COUNT]
        cmp cx, 128
        ja disk_bad
        les di, [es:di+PACKET_OFFSET]
        call ata_transfer
        mov es, [bp+F_DS]       ; the packet's count becomes what was done
        mov di, [bp+F_SI]
        mov [es:di+PACKET_COUNT], bx
        ret
.beyond:
        mov ah, DISK_NOT_FOUND
        ret

; AH=48h: the disk's own geometry and size, in the caller's buffer of at least 26 bytes.
ext_parameters:
        mov es, [bp+F_DS]
        mov di, [bp+F_SI]
        cmp word [es:di], 26
        jb disk_bad
        mov word [es:di], 26
        mov word [es:di+2], 0x0002      ; the geometry is valid
        movzx eax, word [fs:si+DRV_PCYLS]
        mov [es:di+4], eax
        movzx eax, word [fs:si+DRV_PHEADS]
        mov [es:di+8], eax
        movzx eax, word [fs:si+DRV_PSPT]
        mov [es:di+12], eax
        mov eax, [fs:si+DRV_TOTAL]
        mov [es:di+16], eax
        mov dword [es:di+20], 0
        mov word [es:di+24], 512
        jmp disk_ok
