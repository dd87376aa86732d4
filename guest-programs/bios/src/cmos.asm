; cmos.asm - the battery-backed memory behind ports 70h and 71h, and what it says about the size of memory.

cmos_read:                      ; AL = register -> AL = value
        out CMOS_ADDR, al
        in al, CMOS_DATA
        ret

cmos_write:                     ; AL = register, AH = value
        out CMOS_ADDR, al
        xchg al, ah
        out CMOS_DATA, al
        xchg al, ah
        ret

cmos_word:                      ; AL = register -> AX = that and the next one
        push bx
        mov bl, al
        inc al
        call cmos_read
        mov bh, al
        mov al, bl
        call cmos_read
        mov ah, bh
        pop bx
        ret

; EAX = KiB of memory above 1 MiB and below 4 GiB. Memories over 16 MiB count in 64 KiB blocks in a second place.
memory_above_1m:
        mov al, CMOS_HIGH_LO
        call cmos_word
        movzx eax, ax
        test eax, eax
        jz .small
        shl eax, 6
        add eax, 15*1024
        ret
.small: mov al, CMOS_EXT_LO
        call cmos_word
        movzx eax, ax
        ret

; The clock: 32768 Hz time base, 24 hours, BCD; no interrupts. Then the tick counter gets the time of day.
init_rtc:
        mov ax, (0x26 << 8) | RTC_A
        call cmos_write
        mov ax, (0x02 << 8) | RTC_B
        call cmos_write
        mov al, RTC_C           ; reading clears what is pending
        call cmos_read
        mov al, RTC_D
        call cmos_read
        mov al, RTC_HOUR
        call cmos_bcd
        imul ecx, eax, 3600
        mov al, RTC_MIN
        call cmos_bcd
        imul eax, 60
        add ecx, eax
        mov al, RTC_SEC
        call cmos_bcd
        add eax, ecx            ; seconds since midnight
        mov ecx, 1193182        ; ticks = seconds * 1193182 / 65536
        mul ecx
        shrd eax, edx, 16
        mov [BDA_TICKS], eax
        ret

cmos_bcd:                       ; AL = register -> EAX = its two BCD digits as a number
        call cmos_read
        mov ah, al
        shr ah, 4
        and al, 15
        aad
        movzx eax, ax
        ret
