; post.asm - the power-on self test. Entered from the reset vector, and from Ctrl-Alt-Del.
; It ends in INT 19h. Each step writes its number to port 80h, so that a machine that hangs shows where.

post:
        cli
        cld
        mov al, CMOS_SHUTDOWN   ; a reset may be a 286's way out of protected mode: then go on where the program asked
        out CMOS_ADDR, al
        in al, CMOS_DATA
        mov bl, al
        test al, al
        jz .cold
        mov al, CMOS_SHUTDOWN   ; the code serves once
        out CMOS_ADDR, al
        mov al, 0
        out CMOS_DATA, al
        mov ax, BDA_SEG
        mov ds, ax
        cmp bl, 0x05            ; 5: end the interrupt, drop the keyboard byte, go on
        je .resume_eoi
        cmp bl, 0x0A            ; 0Ah: just go on
        je .resume
.cold:  mov al, 1
        out POST_CODE, al
        xor ax, ax
        mov ss, ax
        mov sp, 0x7C00
        in al, FAST_A20         ; memory above 1 MiB is there for everyone (bit 0 would reset the processor)
        or al, 2
        and al, 0xFE
        out FAST_A20, al
        call init_bda
        call init_vectors
        mov al, 2
        out POST_CODE, al
        call init_lapic
        call init_pics
        call init_acpi
        fninit                  ; a reset leaves the x87's exceptions unmasked
        call init_timer
        call init_dma
        mov al, 3
        out POST_CODE, al
        call init_video
        call init_rtc
        call init_serial
        mov al, 4
        out POST_CODE, al
        call init_keyboard
        sti                     ; from here on the disks may wait for interrupts and ticks
        call print_banner
        mov al, 5
        out POST_CODE, al
        call init_floppies
        call init_disks
        call print_disks
        call init_cdrom
        mov al, 6
        out POST_CODE, al
        int 0x19
        jmp $                   ; INT 19h does not return

.resume_eoi:
        mov al, EOI
        out PIC2, al
        out PIC1, al
        in al, KBC_DATA
.resume:
        jmp far [BDA_RESUME]

; The BIOS data area and the EBDA start as zeros with a few settings. The warm start flag survives.
init_bda:
        mov ax, BDA_SEG
        mov ds, ax
        mov es, ax
        mov dx, [BDA_WARM]
        xor ax, ax
        xor di, di
        mov cx, 128
        rep stosw
        mov [BDA_WARM], dx
        mov ax, EBDA_SEG
        mov [BDA_EBDA], ax
        mov es, ax
        xor ax, ax
        xor di, di
        mov cx, 512
        rep stosw
        mov byte [es:EBDA_SIZE], 1
        mov word [BDA_MEMSIZE], EBDA_SEG / 64
        mov ax, BDA_KBBUF
        mov [BDA_KBHEAD], ax
        mov [BDA_KBTAIL], ax
        mov [BDA_KBSTART], ax
        mov word [BDA_KBEND], BDA_KBBUF_END
        mov byte [BDA_KBFLAG3], 0x10    ; an enhanced (101-key) keyboard
        mov dword [BDA_COM_TIMEOUT], 0x01010101
        mov al, CMOS_EQUIP              ; the set-up record knows whether there is a coprocessor
        call cmos_read
        and al, 2
        or al, 0x20                     ; 80 columns, colour
        mov [BDA_EQUIPMENT], al
        ret

; All 256 vectors point at an IRET, the hardware interrupts at handlers that end the interrupt; then the table below.
init_vectors:
        push ds
        xor ax, ax
        mov es, ax
        mov ds, ax
        xor di, di
        mov cx, 256
        mov eax, (BIOS_SEG << 16)
        mov ax, int_ignore
        rep stosd
        mov ax, irq_master
        mov di, 0x08*4
        mov cx, 8
        rep stosd
        mov ax, irq_slave
        mov di, 0x70*4
        mov cx, 8
        rep stosd
        mov si, vectors
.next:  cs lodsb                        ; vector number
        movzx di, al
        shl di, 2
        cs lodsw                        ; offset of its handler
        stosw
        cmp si, vectors_end
        jb .next
        xor eax, eax                    ; 60h-66h belong to programs, which test for zero
        mov di, 0x60*4
        mov cx, 7
        rep stosd
        mov dword [0x41*4], (EBDA_SEG << 16) | EBDA_FDPT0
        mov dword [0x46*4], (EBDA_SEG << 16) | EBDA_FDPT1
        pop ds
        ret

%macro VECTOR 2
        db %1
        dw %2
%endmacro

vectors:
        VECTOR 0x08, int08
        VECTOR 0x09, int09
        VECTOR 0x0E, irq_floppy
        VECTOR 0x10, int10
        VECTOR 0x11, int11
        VECTOR 0x12, int12
        VECTOR 0x13, int13
        VECTOR 0x14, int14
        VECTOR 0x15, int15
        VECTOR 0x16, int16
        VECTOR 0x17, int17
        VECTOR 0x18, int18
        VECTOR 0x19, int19
        VECTOR 0x1A, int1a
        VECTOR 0x1D, video_parameters
        VECTOR 0x1E, diskette_parameters
        VECTOR 0x1F, no_font
        VECTOR 0x40, int13
        VECTOR 0x43, font
        VECTOR 0x70, irq_rtc
        VECTOR 0x75, irq_numeric
        VECTOR 0x76, irq_ata
        VECTOR 0x77, irq_ata
vectors_end:

; A display adapter with its own BIOS brings it as an option ROM at C0000h: 55h AAh, length in 512-byte units, and
; bytes that add up to zero. Then that ROM sets the mode and takes INT 10h; otherwise this BIOS does.
init_video:
        push ds
        mov ax, 0xC000
        mov ds, ax
        cmp word [0], 0xAA55
        jne .own
        movzx ecx, byte [2]
        jcxz .own
        shl ecx, 9
        xor esi, esi
        xor bl, bl
.sum:   mov ax, si                      ; a long ROM passes the end of a segment: advance by 16 bytes each time
        and ax, 15
        jnz .same
        mov edx, esi
        shr edx, 4
        add dx, 0xC000
        mov ds, dx
.same:  mov di, ax
        add bl, [di]
        inc esi
        cmp esi, ecx
        jb .sum
        test bl, bl
        jnz .own
        pop ds
        call 0xC000:0x0003
        mov ax, BDA_SEG
        mov ds, ax
        cli
        cld
        jmp .mode
.own:   pop ds
.mode:  mov ax, 0x0003                  ; by whoever has INT 10h now
        int 0x10
        cli
        ret
