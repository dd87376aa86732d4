/* Into the guest and back: VM entry with the guest's general registers, and where VM exits arrive. */
.intel_syntax noprefix

#define HOST_RSP 0x6C14

.section .text
/* int enter(struct registers *guest, int resume): 0 after a VM exit, 1 after VMfailInvalid, 2 after
   VMfailValid */
.globl enter
enter:
    push ebp
    push ebx
    push esi
    push edi
    push [esp + 20]             /* the guest's registers, for the exit */
    mov eax, HOST_RSP
    vmwrite eax, esp
    cmp dword ptr [esp + 28], 0
    mov eax, [esp]
    mov ecx, [eax + 4]
    mov edx, [eax + 8]
    mov ebx, [eax + 12]
    mov ebp, [eax + 16]
    mov esi, [eax + 20]
    mov edi, [eax + 24]
    mov eax, [eax]
    jne 1f
    vmlaunch
    jmp failed
1:  vmresume
failed:
    mov eax, 1
    jc back
    inc eax
    jmp back

.globl exited
exited:                         /* the host's RIP: ESP is as it was at the entry */
    push eax
    mov eax, [esp + 4]
    pop dword ptr [eax]
    mov [eax + 4], ecx
    mov [eax + 8], edx
    mov [eax + 12], ebx
    mov [eax + 16], ebp
    mov [eax + 20], esi
    mov [eax + 24], edi
    xor eax, eax
back:
    add esp, 4
    pop edi
    pop esi
    pop ebx
    pop ebp
    cld
    ret

/* int shadowed_launch(void): VMLAUNCH right after MOV SS, which blocks it */
.globl shadowed_launch
shadowed_launch:
    mov eax, ss
    mov ss, eax
    vmlaunch
    mov eax, 1
    jc 1f
    inc eax
1:  ret

/* int caught(void (*f)(void)): calls f; the vector of the exception that f caused, or -1 */
.globl caught
caught:
    push ebp
    push ebx
    push esi
    push edi
    mov [recovery_stack], esp
    call [esp + 20]
    mov eax, -1
    jmp 1f
.globl recover
recover:                        /* trap() sends us here */
    mov esp, [recovery_stack]
    mov eax, [caught_vector]
1:  mov dword ptr [recovery_stack], 0
    pop edi
    pop esi
    pop ebx
    pop ebp
    ret

.section .bss
.globl recovery_stack
.align 4
recovery_stack: .skip 4

.section .text
/* The guest's handlers: each tells its vector by a VMCALL, with the frame below it on the stack. */
.macro stub number
    push \number
    vmcall
    .balign 8
.endm
.altmacro
.balign 8
.globl guest_stubs
guest_stubs:
.set n, 0
.rept 0x40
    stub %n
    .set n, n + 1
.endr
.globl guest_stubs_end
guest_stubs_end:

.section .note.GNU-stack, "", @progbits
