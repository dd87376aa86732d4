; irq.asm - vectors that nobody claimed, and the hardware interrupts that need only a few lines.

int_ignore:                     ; software interrupts, exceptions
        iret

irq_master:                     ; IRQ 0-7 without an owner
        push ax
        mov al, EOI
        out PIC1, al
        pop ax
        iret

irq_slave:                      ; IRQ 8-15 without an owner: both controllers wait for the end
        push ax
        mov al, EOI
        out PIC2, al
        out PIC1, al
        pop ax
        iret

irq_floppy:                     ; INT 0Eh: tell the waiting service
        push ax
        push ds
        push word BDA_SEG
        pop ds
        or byte [BDA_FD_IRQ], 0x80
        mov al, EOI
        out PIC1, al
        pop ds
        pop ax
        iret

irq_ata:                        ; INT 76h, 77h: the services poll, but programs that drive the disk may look at the flag
        push ax
        push ds
        push word BDA_SEG
        pop ds
        mov byte [BDA_HD_IRQ], 0xFF
        mov al, EOI
        out PIC2, al
        out PIC1, al
        pop ds
        pop ax
        iret

irq_numeric:                    ; INT 75h: an x87 error; programs look for it at the NMI's vector, as on a PC
        push ax
        xor al, al
        out NUMERIC_CLEAR, al   ; until the error is cleared, the processor ignores it
        mov al, EOI
        out PIC2, al
        out PIC1, al
        pop ax
        int 0x02
        iret

irq_rtc:                        ; INT 70h: an alarm calls INT 4Ah
        push ax
        mov al, RTC_C           ; reading register C lets the next interrupt through
        call cmos_read
        mov ah, al
        mov al, RTC_B
        call cmos_read
        and al, ah              ; wanted and happened
        push ax
        mov al, EOI
        out PIC2, al
        out PIC1, al
        pop ax
        test al, 0x20
        jz .end
        int 0x4A
.end:   pop ax
        iret
