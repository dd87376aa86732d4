; acpi.asm - the PCI functions, set up as kernels expect them and as ACPI's tables say. The machine puts the tables into the unused part of the ROM,
; the RSDP first. Called by POST; does nothing where PCI mechanism 1 shows neither a PIIX3 nor a PIIX4.

PCI_ADDRESS     equ 0xCF8
PCI_DATA        equ 0xCFC
ELCR2           equ 0x4D1       ; edge or level of IRQ 8-15
PCI_HOST        equ 0x80000000  ; 00:00.0
PIIX_ISA        equ 0x80000800  ; 00:01.0
PIIX_IDE        equ 0x80000900  ; 00:01.1
PIIX_PM         equ 0x80000B00  ; 00:01.3
PM_PORTS        equ 0x600
IDE_PORTS       equ 0xC000

init_acpi:
        mov eax, PIIX_ISA
        call pci_read
        cmp eax, 0x70008086     ; 82371SB
        jne .power
        mov eax, PIIX_ISA + 0x60        ; PIRQ A and B to IRQ 10, C and D to IRQ 11, which are levels then
        mov ecx, 0x0B0B0A0A
        call pci_write
        mov dx, ELCR2
        mov al, 0x0C
        out dx, al
        mov eax, PIIX_IDE + 0x20        ; the bus master at its ports
        mov ecx, IDE_PORTS + 1
        call pci_write
        mov eax, PIIX_IDE + 4           ; and each function answers at its ports, errors reported
        mov ecx, 0x0103
        call pci_write
        mov eax, PIIX_ISA + 4
        mov ecx, 0x0107
        call pci_write
        mov eax, PCI_HOST + 4
        mov ecx, 0x0103
        call pci_write
.power: mov eax, PIIX_PM
        call pci_read
        cmp eax, 0x71138086     ; 82371AB
        jne .end
        mov eax, PIIX_PM + 0x40         ; power management at its ports
        mov ecx, PM_PORTS + 1
        call pci_write
        mov eax, PIIX_PM + 0x80
        mov ecx, 1
        call pci_write
        mov eax, PIIX_PM + 4
        mov ecx, 0x0103
        call pci_write
        cmp dword [cs:0], 'RSD '        ; the FACS is written to by software, so it cannot be in the ROM
        jne .end
        mov ax, EBDA_SEG
        mov es, ax
        mov dword [es:EBDA_FACS], 'FACS'
        mov byte [es:EBDA_FACS + 4], 64 ; its length; the rest is zero
.end:   ret

; EAX: a register's address; gives EAX. Spoils DX.
pci_read:
        mov dx, PCI_ADDRESS
        out dx, eax
        mov dx, PCI_DATA
        in eax, dx
        ret

; EAX: a register's address, ECX: what goes there. Spoils DX.
pci_write:
        mov dx, PCI_ADDRESS
        out dx, eax
        mov dx, PCI_DATA
        xchg eax, ecx
        out dx, eax
        ret
