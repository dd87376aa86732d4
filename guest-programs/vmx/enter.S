/* VM entry and exit. The processor switches what the VMCS has: EIP, ESP, EFLAGS, segments, control
   registers. The seven other general registers are switched here. */
.intel_syntax noprefix

.section .text
/* int enter(int first): 0 after a VM exit; 1 and 2 when the entry failed, without and with an error number */
.globl enter
enter:
    mov eax, [esp + 4]
    pushad
    mov [host_esp], esp
    test eax, eax               /* MOV and POPAD leave the flags alone */
    mov esp, offset guest
    popad
    jz 1f
    vmlaunch                    /* the first time */
    jmp 2f
1:  vmresume
2:  mov esp, [host_esp]         /* still here: no entry. CF is VMfailInvalid, ZF is VMfailValid (30.2) */
    mov eax, 1
    jc 3f
    inc eax
    jmp 3f
.globl exited
exited:                         /* the VMCS's host RIP; its host RSP is the end of `guest` */
    pushad
    mov esp, [host_esp]
    xor eax, eax
3:  mov [esp + 28], eax         /* where POPAD takes EAX from */
    popad
    cld
    ret

.section .bss
.align 4
host_esp: .skip 4

.section .note.GNU-stack, "", @progbits
