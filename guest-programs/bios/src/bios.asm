; bios.asm - subring's PC BIOS: the map of the ROM.
; The image is 64 KiB. The chipset shows it at F0000h, and once more just below 4 GiB, where the processor starts:
; 16 bytes before the end. The code fills the last 12 KiB, all of it 16-bit code in segment F000h, the font 4 KiB before that. The machine puts
; its ACPI tables below the font.
; The ROM can't be written: whatever changes lives in the BIOS data area (40h:0) or in the EBDA (9FC0h:0).

        cpu 386
        bits 16
        org 0

%include "equ.inc"
%include "frame.inc"

FONT_START      equ 0xC000      ; where the machine finds the font
ROM_START       equ 0xD000

        times FONT_START db 0xFF

%include "font.asm"             ; characters of 8 by 16 dots

        times ROM_START-($-$$) db 0xFF

        db 'subring BIOS', 0

%include "post.asm"             ; power-on self test, in the order in which things happen
%include "chips.asm"            ; interrupt controllers, timer, DMA, keyboard controller
%include "lapic.asm"            ; local APIC: let the 8259A through
%include "acpi.asm"             ; PCI interrupts and power management, as the ACPI tables have them
%include "cmos.asm"             ; reading and writing CMOS, memory sizes
%include "print.asm"            ; text and numbers for the banner
%include "vga.asm"              ; mode setting by VGA registers
%include "irq.asm"              ; default handlers, hardware interrupts without a file of their own
%include "int08.asm"            ; timer tick
%include "int09.asm"            ; keyboard interrupt
%include "keymap.asm"           ; its tables
%include "int10.asm"            ; video services
%include "text.asm"             ; character cells: address, scroll, teletype
%include "int11.asm"            ; equipment word, memory size (INT 12h)
%include "int13.asm"            ; disk services: dispatch
%include "disk.asm"             ; hard disk services by cylinder, head, sector
%include "diskext.asm"          ; extensions: sectors by number
%include "ata.asm"              ; ATA programmed I/O
%include "cdrom.asm"            ; CD-ROM: packets, El Torito, drive E0h
%include "floppy.asm"           ; floppy services
%include "fdc.asm"              ; 82077 controller and DMA channel 2
%include "int14.asm"            ; serial ports, printers (INT 17h)
%include "int15.asm"            ; system services
%include "e820.asm"             ; the memory map
%include "blockmove.asm"        ; INT 15h AH=87h
%include "int16.asm"            ; keyboard services
%include "int19.asm"            ; boot, no boot (INT 18h)
%include "int1a.asm"            ; time of day

; ---- the reset vector and what PC software expects beside it ----
        times 0xFFF0-($-$$) db 0xFF
        jmp BIOS_SEG:post       ; the first instruction after reset
        db '01/01/26'           ; FFFF:0005 release date
        db 0                    ; FFFF:000D
        db 0xFC                 ; FFFF:000E model: PC/AT
        db 0                    ; pads to 64 KiB
