; int1a.asm - INT 1Ah: ticks since midnight, and the MC146818 clock with date and alarm.

int1a:
        ENTER_SERVICE
        push word .return
        DISPATCH time_table, (time_table_end-time_table)/2, .bad
.bad:   SET_CARRY
        ret
.return:
        LEAVE_SERVICE

time_table:
        dw time_ticks           ; 00
        dw time_set_ticks       ; 01
        dw time_read            ; 02
        dw time_set             ; 03
        dw date_read            ; 04
        dw date_set             ; 05
        dw alarm_set            ; 06
        dw alarm_clear          ; 07
time_table_end:

time_ticks:                     ; CX:DX = ticks, AL = midnight has passed since the last call
        cli
        mov ax, [BDA_TICKS]
        mov [bp+F_DX], ax
        mov ax, [BDA_TICKS+2]
        mov [bp+F_CX], ax
        xor ax, ax
        xchg al, [BDA_MIDNIGHT]
        mov [bp+F_AX], ax
        CLEAR_CARRY
        ret

time_set_ticks:
        cli
        mov [BDA_TICKS], dx
        mov [BDA_TICKS+2], cx
        mov byte [BDA_MIDNIGHT], 0
        mov byte [bp+F_AH], 0
        CLEAR_CARRY
        ret

; Waits until the clock is not just about to change. Carry set: it does not run.
rtc_stable:
        push cx
        push ax
        mov cx, 0xFFFF
.wait:  mov al, RTC_A
        call cmos_read
        test al, 0x80
        jz .end                 ; TEST cleared the carry
        loop .wait
        stc
.end:   pop ax
        pop cx
        ret

time_read:                      ; CH, CL, DH = hours, minutes, seconds in BCD, DL = summer time
        call rtc_stable
        jc time_failed
        mov al, RTC_SEC
        call cmos_read
        mov [bp+F_DH], al
        mov al, RTC_MIN
        call cmos_read
        mov [bp+F_CL], al
        mov al, RTC_HOUR
        call cmos_read
        mov [bp+F_CH], al
        mov al, RTC_B
        call cmos_read
        and al, 1
        mov [bp+F_DL], al
        jmp time_done

time_set:
        call rtc_hold
        mov al, RTC_SEC
        mov ah, dh
        call cmos_write
        mov al, RTC_MIN
        mov ah, cl
        call cmos_write
        mov al, RTC_HOUR
        mov ah, ch
        call cmos_write
        mov al, RTC_B
        call cmos_read
        and al, 0x7E
        mov ah, dl
        and ah, 1
        or ah, al
        mov al, RTC_B
        call cmos_write
        jmp time_done

date_read:                      ; CH, CL, DH, DL = century, year, month, day in BCD
        call rtc_stable
        jc time_failed
        mov al, RTC_DAY
        call cmos_read
        mov [bp+F_DL], al
        mov al, RTC_MONTH
        call cmos_read
        mov [bp+F_DH], al
        mov al, RTC_YEAR
        call cmos_read
        mov [bp+F_CL], al
        mov al, CMOS_CENTURY
        call cmos_read
        mov [bp+F_CH], al
        jmp time_done

date_set:
        call rtc_hold
        mov al, RTC_DAY
        mov ah, dl
        call cmos_write
        mov al, RTC_MONTH
        mov ah, dh
        call cmos_write
        mov al, RTC_YEAR
        mov ah, cl
        call cmos_write
        mov al, CMOS_CENTURY
        mov ah, ch
        call cmos_write
        mov al, RTC_B
        call cmos_read
        and al, 0x7F
        mov ah, al
        mov al, RTC_B
        call cmos_write
        jmp time_done

rtc_hold:                       ; SET: the clock stops while it is being set
        mov al, RTC_B
        call cmos_read
        or al, 0x80
        mov ah, al
        mov al, RTC_B
        jmp cmos_write

alarm_set:                      ; CH, CL, DH = when, in BCD. Carry set: an alarm is set already
        mov al, RTC_B
        call cmos_read
        test al, 0x20
        jnz time_failed
        mov al, 0x01
        mov ah, dh
        call cmos_write
        mov al, 0x03
        mov ah, cl
        call cmos_write
        mov al, 0x05
        mov ah, ch
        call cmos_write
        in al, PIC2+1           ; let IRQ 8 through
        and al, 0xFE
        out PIC2+1, al
        mov al, RTC_B
        call cmos_read
        or al, 0x20
        mov ah, al
        mov al, RTC_B
        call cmos_write
        jmp time_done

alarm_clear:
        mov al, RTC_B
        call cmos_read
        and al, ~0x20 & 0xFF
        mov ah, al
        mov al, RTC_B
        call cmos_write

time_done:
        mov byte [bp+F_AH], 0
        CLEAR_CARRY
        ret

time_failed:
        SET_CARRY
        ret
