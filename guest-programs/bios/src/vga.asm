; vga.asm - sets the VGA text modes 0 to 3 and 7 by writing its registers, and loads the font into the character
; generator (plane 2). Called by INT 10h AH=00h and AH=11h.

MODE_MISC       equ 0           ; one mode's registers: miscellaneous output,
MODE_SEQ        equ 1           ; sequencer 1-4,
MODE_CRTC       equ 5           ; CRT controller 0-18h,
MODE_GC         equ 30          ; graphics controller 0-8,
MODE_ATTR       equ 39          ; attribute controller 0-13h

; AL = mode, already known to be one of 0-3, 7; DS = BIOS data area. All registers are lost but BP.
vga_set_mode:
        mov di, mode_80
        cmp al, 7
        jne .colour
        mov di, mode_mono
        jmp .misc
.colour:
        cmp al, 2
        jae .misc
        mov di, mode_40
.misc:  mov dx, 0x3C2
        mov al, [cs:di+MODE_MISC]
        out dx, al

        mov dx, 0x3C4           ; sequencer: hold in reset while the clock changes
        mov ax, 0x0100
        out dx, ax
        lea si, [di+MODE_SEQ]
        mov cx, 4
        mov al, 1
        call vga_indexed
        mov ax, 0x0300
        out dx, ax

        mov dx, [BDA_CRTC]
        mov ax, 0x0011          ; registers 0-7 are write protected by bit 7 of 11h
        out dx, ax
        lea si, [di+MODE_CRTC]
        mov cx, 25
        mov al, 0
        call vga_indexed

        mov dx, 0x3CE
        lea si, [di+MODE_GC]
        mov cx, 9
        mov al, 0
        call vga_indexed

        mov dx, [BDA_CRTC]      ; attribute controller: a read of the status port resets its index/data flip-flop
        add dx, 6
        in al, dx
        mov dx, 0x3C0
        lea si, [di+MODE_ATTR]
        xor bl, bl
.attr:  mov al, bl
        out dx, al
        cs lodsb
        out dx, al
        inc bl
        cmp bl, 20
        jb .attr
        mov al, 0x14
        out dx, al
        mov al, 0
        out dx, al
        mov al, 0x20            ; bit 5: give the palette back to the display
        out dx, al

; The DAC's first 64 colours: bits 0-2 of the index are blue, green, red at two thirds; bits 3-5 add a third.
        mov dx, 0x3C6
        mov al, 0xFF
        out dx, al
        mov dx, 0x3C8
        mov al, 0
        out dx, al
        inc dx
        xor bl, bl
.dac:   mov cl, 2               ; red, then green, then blue
.gun:   mov ah, bl
        shr ah, cl
        xor al, al
        test ah, 1
        jz .weak
        mov al, 0x2A
.weak:  test ah, 8
        jz .out
        add al, 0x15
.out:   out dx, al
        dec cl
        jns .gun
        inc bl
        cmp bl, 64
        jb .dac
        ; falls through: a mode begins with the font of the ROM

; The ROM's font becomes font 0 of the character generator. All registers are lost but BP.
vga_load_rom_font:
        xor bl, bl
.block: push ds
        push cs
        pop ds
        mov si, font
        mov cx, 256
        xor dx, dx
        mov bh, 16
        call vga_load_font
        pop ds
        ret

; DS:SI = CX glyphs of BH rows, DX = the first one's code, BL = which of the eight fonts. All registers are lost but BP.
; Each character has 32 bytes in plane 2, which the processor writes alone while the sequencer masks the others.
vga_load_font:
        push es
        push dx
        push cx
        mov dx, 0x3C4
        mov ax, 0x0402          ; map mask: plane 2
        out dx, ax
        mov ax, 0x0704          ; memory mode: bytes follow one another
        out dx, ax
        mov dx, 0x3CE
        mov ax, 0x0005          ; mode: neither odd/even
        out dx, ax
        mov ax, 0x0406          ; miscellaneous: 64 KiB at A0000h
        out dx, ax
        pop cx
        pop di
        shl di, 5
        mov al, bl              ; fonts 0-3 are 16 KiB apart, 4-7 lie between them
        and ax, 3
        shl ax, 14
        add di, ax
        test bl, 4
        jz .place
        add di, 0x2000
.place: mov ax, 0xA000
        mov es, ax
        jcxz .end
.next:  push cx
        push di
        movzx cx, bh
        rep movsb
        pop di
        pop cx
        add di, 32
        loop .next
.end:   mov ax, BDA_SEG
        mov ds, ax
        mov dx, 0x3C4           ; back to text: planes 0 and 1, odd/even
        mov ax, 0x0302
        out dx, ax
        mov ax, 0x0204
        out dx, ax
        mov dx, 0x3CE
        mov ax, 0x1005
        out dx, ax
        mov ax, 0x0E06
        cmp word [BDA_CRTC], 0x3D4
        je .window
        mov ah, 0x0A            ; monochrome: at B0000h
.window:
        out dx, ax
        pop es
        ret

vga_indexed:                    ; AL = first index, CX = count, CS:SI = values, DX = index port
        mov ah, [cs:si]
        out dx, ax
        inc si
        inc al
        loop vga_indexed
        ret

mode_80:
        db 0x67
        db 0x00, 0x03, 0x00, 0x02
        db 0x5F, 0x4F, 0x50, 0x82, 0x55, 0x81, 0xBF, 0x1F, 0x00, 0x4F, 0x0D, 0x0E
        db 0x00, 0x00, 0x00, 0x00, 0x9C, 0x8E, 0x8F, 0x28, 0x1F, 0x96, 0xB9, 0xA3, 0xFF
        db 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0E, 0x00, 0xFF
        db 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3A, 0x3B, 0x3C, 0x3D, 0x3E, 0x3F
        db 0x0C, 0x00, 0x0F, 0x08
mode_40:
        db 0x67
        db 0x08, 0x03, 0x00, 0x02
        db 0x2D, 0x27, 0x28, 0x90, 0x2B, 0xA0, 0xBF, 0x1F, 0x00, 0x4F, 0x0D, 0x0E
        db 0x00, 0x00, 0x00, 0x00, 0x9C, 0x8E, 0x8F, 0x14, 0x1F, 0x96, 0xB9, 0xA3, 0xFF
        db 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0E, 0x00, 0xFF
        db 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3A, 0x3B, 0x3C, 0x3D, 0x3E, 0x3F
        db 0x0C, 0x00, 0x0F, 0x08
mode_mono:
        db 0x66
        db 0x00, 0x03, 0x00, 0x02
        db 0x5F, 0x4F, 0x50, 0x82, 0x55, 0x81, 0xBF, 0x1F, 0x00, 0x4F, 0x0D, 0x0E
        db 0x00, 0x00, 0x00, 0x00, 0x9C, 0x8E, 0x8F, 0x28, 0x0F, 0x96, 0xB9, 0xA3, 0xFF
        db 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0A, 0x00, 0xFF
        db 0x00, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x10, 0x18, 0x18, 0x18, 0x18, 0x18, 0x18, 0x18
        db 0x0E, 0x00, 0x0F, 0x08

; INT 1Dh: CRTC values for the 6845 of older adapters (40, 80 columns, graphics, mono), then page sizes and columns.
video_parameters:
        db 0x38, 0x28, 0x2D, 0x0A, 0x1F, 0x06, 0x19, 0x1C, 0x02, 0x07, 0x06, 0x07, 0, 0, 0, 0
        db 0x71, 0x50, 0x5A, 0x0A, 0x1F, 0x06, 0x19, 0x1C, 0x02, 0x07, 0x06, 0x07, 0, 0, 0, 0
        db 0x38, 0x28, 0x2D, 0x0A, 0x7F, 0x06, 0x64, 0x70, 0x02, 0x01, 0x06, 0x07, 0, 0, 0, 0
        db 0x61, 0x50, 0x52, 0x0F, 0x19, 0x06, 0x19, 0x19, 0x02, 0x0D, 0x0B, 0x0C, 0, 0, 0, 0
        dw 0x0800, 0x1000, 0x4000, 0x4000
        db 40, 40, 80, 80, 40, 40, 80, 80
        db 0x2C, 0x28, 0x2D, 0x29, 0x2A, 0x2E, 0x1E, 0x29

; Where INT 1Fh and INT 10h AX=1130h point for fonts of other heights: one blank character.
no_font:
        times 16 db 0
