; fdc.asm - the 82077 floppy controller and channel 2 of the 8237 DMA controller. FS = EBDA, DS = BDA.
; Interrupts must be on: the waits count timer ticks.

; Carry set: there is no controller.
fdc_reset:
        mov byte [BDA_FD_IRQ], 0
        mov dx, FDC_DOR
        mov al, 0x08            ; reset, with DMA and interrupts on
        out dx, al
        mov al, 0x0C
        out dx, al
        and byte [BDA_FD_MOTOR], 0xF0
        call fdc_wait_irq
        jc .end
        mov cx, 4               ; the reset raised a status change for each of four drives
.sense: mov al, 0x08
        call fdc_out
        jc .end
        call fdc_results
        loop .sense
        mov al, 0x03            ; SPECIFY: step rate and head times from the usual table, DMA
        call fdc_out
        mov al, 0xAF
        call fdc_out
        mov al, 0x02
        call fdc_out
        mov word [BDA_FD_MEDIA], 0
.end:   ret

; Starts the drive's motor. An emulated disk turns at once; a real one would need half a second.
fdc_motor:
        push cx
        mov byte [BDA_FD_TIMEOUT], 0xFF
        mov cl, [fs:FD_DRIVE]
        mov al, 0x10
        shl al, cl
        shr al, 4
        or [BDA_FD_MOTOR], al
        shl al, 4
        or al, 0x0C
        or al, cl
        mov dx, FDC_DOR
        out dx, al
        pop cx
        ret

; Seek, then one command with its data by DMA: FD_CHUNK sectors. Carry set: AH = status. BX, CX, DI stay.
fdc_transfer:
        pusha
        movzx bx, byte [fs:FD_DRIVE]
        mov al, [bx+BDA_FD_MEDIA]
        shr al, 6
        mov dx, FDC_RATE
        out dx, al
        call fdc_seek
        jc .timeout
        call fdc_dma
        mov byte [BDA_FD_IRQ], 0
        mov al, [fs:FD_COMMAND]
        call fdc_out
        jc .timeout
        call fdc_head_drive
        call fdc_out
        mov al, [fs:FD_CYL]
        call fdc_out
        mov al, [fs:FD_HEAD]
        call fdc_out
        mov al, [fs:FD_SECTOR]
        call fdc_out
        mov al, 2               ; 512 bytes
        call fdc_out
        mov al, [fs:FD_SECTOR]  ; the last sector of the transfer ends it
        add al, [fs:FD_CHUNK]
        dec al
        call fdc_out
        mov al, 0x1B
        call fdc_out
        mov al, 0xFF
        call fdc_out
        jc .timeout
        call fdc_wait_irq
        jc .timeout
        call fdc_results
        mov al, [BDA_FD_RESULT]         ; ST0: bits 7-6 zero is success
        test al, 0xC0
        jz .good
        mov al, [BDA_FD_RESULT+1]       ; ST1 says what went wrong
        mov si, .errors
.error: mov ah, [cs:si+1]
        test al, [cs:si]
        jnz .fail
        add si, 2
        cmp byte [cs:si], 0
        jne .error
        mov ah, DISK_CONTROLLER
        jmp .fail
.timeout:
        call fdc_reset
        mov ah, DISK_TIMEOUT
.fail:  mov bp, sp
        mov [bp+15], ah         ; AH in PUSHA's copy
        popa
        stc
        ret
.good:  popa
        clc
        ret
.errors:
        db 0x02, DISK_PROTECTED
        db 0x20, DISK_CRC
        db 0x01, DISK_NO_MARK
        db 0x04, DISK_NOT_FOUND
        db 0x80, DISK_NOT_FOUND
        db 0x10, 0x08           ; DMA too slow
        db 0

fdc_head_drive:                 ; AL = head and drive as commands have them
        mov al, [fs:FD_HEAD]
        shl al, 2
        or al, [fs:FD_DRIVE]
        ret

fdc_seek:
        mov byte [BDA_FD_IRQ], 0
        mov al, 0x0F
        call fdc_out
        jc .end
        call fdc_head_drive
        call fdc_out
        mov al, [fs:FD_CYL]
        call fdc_out
        call fdc_wait_irq
        jc .end
        mov al, 0x08            ; SENSE INTERRUPT STATUS ends the seek
        call fdc_out
        jc .end
        call fdc_results
        clc
.end:   ret

; DMA channel 2: FD_ADDRESS, FD_CHUNK sectors.
fdc_dma:
        mov al, 0x06            ; mask
        out 0x0A, al
        out 0x0C, al            ; the next byte is a low one
        mov al, [fs:FD_DMA]
        out 0x0B, al
        mov eax, [fs:FD_ADDRESS]
        out 0x04, al
        mov al, ah
        out 0x04, al
        shr eax, 16
        out 0x81, al            ; page
        movzx ax, byte [fs:FD_CHUNK]
        shl ax, 9
        dec ax
        out 0x05, al
        mov al, ah
        out 0x05, al
        mov al, 0x02            ; unmask
        out 0x0A, al
        ret

fdc_out:                        ; AL = command byte. Carry set: the controller does not take it
        push cx
        push dx
        push ax
        mov dx, FDC_MSR
        mov cx, 0xFFFF
.wait:  in al, dx
        and al, 0xC0
        cmp al, 0x80            ; ready, and for a byte from us
        loopne .wait
        pop ax
        stc
        jne .end
        inc dx
        out dx, al
        clc
.end:   pop dx
        pop cx
        ret

fdc_results:                    ; up to seven bytes to the BIOS data area
        pusha
        mov si, BDA_FD_RESULT
.next:  mov dx, FDC_MSR
        mov cx, 0xFFFF
.wait:  in al, dx
        test al, 0x80
        loopz .wait
        test al, 0x40           ; no byte for us: that was all
        jz .end
        inc dx
        in al, dx
        mov [si], al
        inc si
        cmp si, BDA_FD_RESULT+7
        jb .next
.end:   popa
        ret

fdc_wait_irq:                   ; carry set: no interrupt within two seconds
        push eax
        mov eax, [BDA_TICKS]
        add eax, 37
.wait:  test byte [BDA_FD_IRQ], 0x80
        jnz .came
        cmp [BDA_TICKS], eax
        jb .wait
        stc
        jmp .end
.came:  and byte [BDA_FD_IRQ], 0x7F
        clc
.end:   pop eax
        ret
