//! One tiny guest for each usual mistake.

use super::guest::{CODE, DIRECTORY, GDT, Guest, HANDLER, IDT, STACK, TABLE, TSS};

const UD2: [u8; 2] = [0x0f, 0x0b];

#[test]
fn no_idt() {
    Guest::flat().segments().run(&UD2).dies_of("idt-not-loaded", "no IDT was loaded");
}

#[test]
fn idt_limit_0() {
    Guest::flat().idtr(IDT, 0).start().run(&UD2).dies_of("idt-limit-zero", "the IDT limit is 0x0");
}

#[test]
fn idt_limit_0_in_real_mode() {
    let mut g = Guest::real();
    g.idtr(0, 0).run(&[0x0f, 0x01, 0x1e, 0x08, 0x05]).run(&UD2).dies_of("idt-limit-zero", "limit is 0x0");
}

#[test]
fn idt_limit_in_gates() {
    let mut g = Guest::flat();
    g.idtr(IDT, 256).start().run(&[0xcd, 0x80]).dies_of("idt-limit-entries", "the number of gates");
}

#[test]
fn idt_limit_as_size() {
    // Room for 6 gates, and the size itself as limit: #UD is the seventh.
    let mut g = Guest::flat();
    g.idtr(IDT, 0x30).start().run(&UD2).dies_of("idt-limit-size", "not the size minus 1");
}

#[test]
fn idt_too_short() {
    let mut g = Guest::flat();
    g.idtr(IDT, 0x2f).start().run(&UD2).dies_of("idt-limit-short", "the IDT ends before #UD");
}

#[test]
fn gate_never_set() {
    Guest::flat().start().run(&UD2).dies_of("gate-empty", "the IDT gate of #UD, vector 0x06 is empty");
}

#[test]
fn gate_of_another_type() {
    let mut g = Guest::flat();
    g.gate(6, 8, HANDLER, 0x8c).start().run(&UD2).dies_of("gate-type", "has type 0xc");
}

#[test]
fn gate_not_present() {
    let mut g = Guest::flat();
    g.gate(6, 8, HANDLER, 0x0e).start().run(&UD2).dies_of("gate-not-present", "flags are 0x0e, where 0x8e");
}

#[test]
fn gate_without_selector() {
    let mut g = Guest::flat();
    g.gate(6, 0, HANDLER, 0x8e).start().run(&UD2).dies_of("gate-selector-null", "is 0");
}

#[test]
fn gate_with_the_data_segment() {
    let mut g = Guest::flat();
    g.gate(6, 0x10, HANDLER, 0x8e).start().run(&UD2);
    g.dies_of("gate-selector-data", "the gate's selector is the data segment");
}

#[test]
fn gate_with_a_selector_of_the_loaders_gdt() {
    let mut g = Guest::flat();
    g.gate(6, 0x60, HANDLER, 0x8e).start().run(&UD2);
    g.dies_of("gate-selector-beyond", "0x60 in the IDT gate of #UD, vector 0x06 is beyond the GDT");
}

#[test]
fn gate_before_lgdt() {
    let mut g = Guest::flat();
    g.gate(6, 8, HANDLER, 0x8e).lidt().run(&UD2).dies_of("gate-selector-beyond", "no GDT was loaded");
}

#[test]
fn gate_to_an_absent_code_segment() {
    let mut g = Guest::flat();
    g.descriptor(0x18, 0x00cf_1a00_0000_ffff).gate(6, 0x18, HANDLER, 0x8e).start().run(&UD2);
    g.dies_of("gate-code-not-present", "the code segment 0x18");
}

#[test]
fn gate_beyond_the_code_segment() {
    let mut g = Guest::flat();
    g.descriptor(0x18, 0x0040_9a00_0000_ffff).gate(6, 0x18, HANDLER, 0x8e).start().run(&UD2);
    g.dies_of("gate-offset", "beyond the limit of code segment 0x18");
}

#[test]
fn gate_of_16_bits() {
    let mut g = Guest::flat();
    g.gate(6, 8, HANDLER, 0x86).start().run(&UD2).dies_of("gate-16", "cut to 16 bits");
}

#[test]
fn no_far_jump() {
    // CLI; LGDT; MOV CR0 with PE; UD2
    let mut g = Guest::real();
    g.run(&[0xfa, 0x0f, 0x01, 0x16, 0x00, 0x05, 0x0f, 0x20, 0xc0, 0x0c, 1, 0x0f, 0x22, 0xc0]).run(&UD2);
    g.dies_of("forgot-far-jump", "no far jump after PE was set");
}

/// CLI; LGDT; MOV CR0 with PE; JMP FAR 8:7C20, and `code` there.
fn into_protected_mode(code: &[u8]) -> Guest {
    let mut g = Guest::real();
    g.run(&[0xfa, 0x0f, 0x01, 0x16, 0x00, 0x05, 0x0f, 0x20, 0xc0, 0x0c, 1, 0x0f, 0x22, 0xc0]);
    g.run(&[0x66, 0xea, 0x20, 0x7c, 0, 0, 8, 0]).run(&[0x90; 10]).run(code);
    g
}

#[test]
fn code_descriptor_of_16_bits() {
    // MOV EAX, 12345678h; UD2
    let mut g = into_protected_mode(&[0xb8, 0x78, 0x56, 0x34, 0x12, 0x0f, 0x0b]);
    g.descriptor(8, 0x008f_9a00_0000_ffff);
    g.dies_of("code-segment-16", "D bit of the GDT descriptor of CS (0008) is clear");
}

#[test]
fn data_segments_of_real_mode() {
    // MOV BYTE [B8000h], 41h
    let g = into_protected_mode(&[0xc6, 0x05, 0x00, 0x80, 0x0b, 0x00, 0x41]);
    g.dies_of("segments-not-reloaded", "DS still holds what real mode left in it");
}

#[test]
fn a20_shut() {
    // Port 92h bit 1 off, then a jump to the code at 1 MiB, where the first page of memory is seen.
    let mut g = into_protected_mode(&[0xe4, 0x92, 0x24, 0xfd, 0xe6, 0x92, 0xb8, 0, 0, 0x10, 0, 0xff, 0xe0]);
    g.put(CODE, &[0xfa, 0xf4]);
    g.dies_of("a20-closed", "the A20 gate is closed");
}

#[test]
fn null_selector_in_es() {
    // XOR EAX, EAX; MOV ES, AX; MOV [ES:0], AL
    let mut g = Guest::flat();
    g.start().run(&[0x31, 0xc0, 0x8e, 0xc0, 0x26, 0xa2, 0, 0, 0, 0]).dies_of("null-segment", "through ES");
}

#[test]
fn limit_in_bytes() {
    // A data segment with limit FFFFF and G clear; MOV DS; MOV AL, [200000h]
    let mut g = Guest::flat();
    g.descriptor(0x18, 0x004f_9200_0000_ffff).start();
    g.run(&[0x66, 0xb8, 0x18, 0, 0x8e, 0xd8, 0xa0, 0, 0, 0x20, 0]);
    g.dies_of("segment-limit", "G bit is clear");
}

#[test]
fn segments_without_lgdt() {
    // MOV AX, 10h; MOV DS, AX: what worked in the loader.
    let mut g = Guest::flat();
    g.run(&[0x66, 0xb8, 0x10, 0, 0x8e, 0xd8]).dies_of("gdt-not-loaded", "selector 0x10 was used and no GDT");
}

#[test]
fn gdt_limit_short() {
    let mut g = Guest::flat();
    g.gdtr(GDT, 0xf).segments().dies_of("selector-beyond-gdt", "selector 0x10 is beyond the GDT");
}

#[test]
fn gdt_base_wrong() {
    Guest::flat().gdtr(0x6000, 0x2f).segments().dies_of("descriptor-empty", "selector 0x8 names an empty");
}

#[test]
fn code_segment_absent() {
    let mut g = Guest::flat();
    g.descriptor(8, 0x00cf_1a00_0000_ffff).segments();
    g.dies_of("segment-not-present", "its access byte is 0x1a");
}

#[test]
fn far_jump_to_data() {
    let mut g = Guest::flat();
    g.start().run(&[0xea, 0, 0, 0x10, 0, 0x10, 0]).dies_of("jump-to-data-segment", "which is a data segment");
}

#[test]
fn code_selector_in_ss() {
    // MOV AX, 8; MOV SS, AX
    let mut g = Guest::flat();
    g.start().run(&[0x66, 0xb8, 8, 0, 0x8e, 0xd0]).dies_of("code-in-ss", "selector 0x8 is a code segment");
}

#[test]
fn user_selector_without_rpl() {
    Guest::flat().start().user(0x18, &UD2).dies_of("selector-rpl", "RPL 0, and that descriptor's DPL is 3");
}

#[test]
fn system_call_gate_of_ring_0() {
    let mut g = Guest::flat();
    g.handler(0x80, &[0xcf]).start().task().user(0x1b, &[0xcd, 0x80]);
    g.dies_of("int-gate-dpl", "ring 3 ran INT 0x80, and the gate's DPL is 0");
}

#[test]
fn user_code_halts() {
    Guest::flat().start().task().user(0x1b, &[0xf4]).dies_of("privileged-in-user", "ring 3 ran HLT");
}

#[test]
fn user_code_uses_ports() {
    Guest::flat().start().task().user(0x1b, &[0xe6, 0x80]).dies_of("io-in-user", "IOPL 0");
}

#[test]
fn sse_code() {
    // MOVAPS XMM0, XMM1
    Guest::flat().start().run(&[0x0f, 0x28, 0xc1]).dies_of("unbuilt-instruction", "no MOVAPS");
}

#[test]
fn no_ltr() {
    let mut g = Guest::flat();
    g.handler(6, &[0xcf]).start().user(0x1b, &UD2).dies_of("no-task-register", "no TSS was loaded");
}

#[test]
fn esp0_never_set() {
    let mut g = Guest::flat();
    g.dword(TSS + 4, 0).tables(7).handler(6, &[0xcf]).start().task().paging().user(0x1b, &UD2);
    g.dies_of("esp0-zero", "ESP0 in the TSS is 0");
}

#[test]
fn ss0_never_set() {
    let mut g = Guest::flat();
    g.dword(TSS + 8, 0).handler(6, &[0xcf]).start().task().user(0x1b, &UD2);
    g.dies_of("ss0-bad", "SS0 in the TSS is 0x0: the null selector");
}

#[test]
fn cr3_with_a_linear_address() {
    let mut g = Guest::flat();
    g.tables(3).start().paging_at(0xc000_4000).dies_of("cr3-linear", "CR3 points at a linear address");
}

#[test]
fn directory_never_filled() {
    Guest::flat().start().paging().dies_of("page-directory-empty", "0x00004000) is empty");
}

#[test]
fn large_pages_without_pse() {
    let mut g = Guest::flat();
    g.dword(DIRECTORY, 0x83).start().paging().dies_of("large-page-without-pse", "CR4.PSE is clear");
}

#[test]
fn directory_entry_with_a_linear_address() {
    let mut g = Guest::flat();
    g.dword(DIRECTORY, 0xc000_5003).start().paging();
    g.dies_of("page-table-outside-ram", "physical address of the table");
}

#[test]
fn only_the_higher_half_is_mapped() {
    let mut g = Guest::flat();
    g.tables(3).dword(DIRECTORY, 0).dword(DIRECTORY + 0xc00, TABLE | 3).start().paging();
    g.dies_of("paging-not-identity", "paging was turned on by code that the page tables do not map");
}

#[test]
fn gdt_page_not_mapped() {
    // MOV DS, AX with AX = 10h
    let mut g = Guest::flat();
    g.tables(3).pte(GDT, 0).start().paging().run(&[0x66, 0xb8, 0x10, 0, 0x8e, 0xd8]);
    g.dies_of("gdt-unmapped", "the GDT is in a page that is not mapped");
}

#[test]
fn idt_page_not_mapped() {
    let mut g = Guest::flat();
    g.tables(3).pte(IDT, 0).start().paging().run(&UD2);
    g.dies_of("idt-unmapped", "the IDT is in a page that is not mapped");
}

#[test]
fn endless_recursion() {
    // f: CALL f, with the page below the stack not mapped.
    let mut g = Guest::flat();
    g.tables(3).pte(STACK - 0x2000, 0).start().paging().run(&[0xe8, 0xfb, 0xff, 0xff, 0xff]);
    g.dies_of("stack-overflow", "the stack overflowed into the unmapped page at 0x0008e000");
}

#[test]
fn stack_of_before_paging() {
    // MOV ESP, 500000h; PUSH EAX
    let mut g = Guest::flat();
    g.tables(3).start().paging().run(&[0xbc, 0, 0, 0x50, 0, 0x50]);
    g.dies_of("stack-unmapped", "ESP is 0x00500000");
}

#[test]
fn null_pointer() {
    // MOV EAX, [8]
    let mut g = Guest::flat();
    g.tables(3).pte(0, 0).start().paging().run(&[0xa1, 8, 0, 0, 0]);
    g.dies_of("null-pointer", "the access is at 0x8");
}

#[test]
fn user_page_of_the_kernel() {
    let mut g = Guest::flat();
    g.tables(3).start().task().paging().user(0x1b, &UD2).dies_of("pte-not-user", "present but not user");
}

#[test]
fn user_directory_of_the_kernel() {
    let mut g = Guest::flat();
    g.tables(7).dword(DIRECTORY, TABLE | 3).start().task().paging().user(0x1b, &UD2);
    g.dies_of("pde-not-user", "in the directory's entry too");
}

#[test]
fn user_writes_a_read_only_page() {
    // MOV [110000h], EAX
    let mut g = Guest::flat();
    g.tables(7).pte(0x11_0000, 0x11_0005).start().task().paging();
    g.user(0x1b, &[0x66, 0xb8, 0x23, 0, 0x8e, 0xd8, 0xa3, 0, 0, 0x11, 0])
        .dies_of("page-read-only", "R/W (bit 1) of its PTE is clear");
}

#[test]
fn large_page_at_an_odd_place() {
    // CR4.PSE on, and a 4 MiB page whose base is no multiple of its size.
    let mut g = Guest::flat();
    g.dword(DIRECTORY, 0x1083).start().run(&[0x0f, 0x20, 0xe0, 0x0c, 0x10, 0x0f, 0x22, 0xe0]).paging();
    g.dies_of("page-reserved-bit", "a reserved bit set");
}

/// MOV EAX, CR4; OR AL, 20h; MOV CR4, EAX
const PAE_ON: [u8; 8] = [0x0f, 0x20, 0xe0, 0x0c, 0x20, 0x0f, 0x22, 0xe0];

#[test]
fn pae_with_an_empty_pointer_table() {
    Guest::flat()
        .start()
        .run(&PAE_ON)
        .paging()
        .dies_of("page-directory-empty", "page-directory-pointer table at CR3");
}

#[test]
fn pae_with_execute_disable() {
    let mut g = Guest::flat();
    g.dword(DIRECTORY, 0x6001).dword(0x6000, 0x83).dword(0x6004, 0x8000_0000).start().run(&PAE_ON).paging();
    g.dies_of("page-reserved-bit", "(8000000000000083) has a reserved bit set");
}

#[test]
fn timer_at_vector_8() {
    // A fast timer, let through; STI; JMP $
    let mut g = Guest::flat();
    g.start().run(&[0xb0, 0x34, 0xe6, 0x43, 0xb0, 4, 0xe6, 0x40, 0xe6, 0x40]);
    g.run(&[0xb0, 0xfe, 0xe6, 0x21, 0xfb, 0xeb, 0xfe]);
    g.dies_of("pic-not-remapped", "IRQ0 arrives at vector 8, which looks like a double fault");
}

#[test]
fn no_end_of_interrupt() {
    // The handler only returns. STI; HLT; JMP back to HLT
    let mut g = Guest::flat();
    g.handler(0x20, &[0xcf]).start().timer().run(&[0xfb, 0xf4, 0xeb, 0xfd]);
    g.dies_of("no-eoi", "interrupt with no EOI: IRQ0 is still in service");
}

#[test]
fn all_interrupts_masked() {
    // OUT 21h, FFh; STI; HLT; JMP back
    let mut g = Guest::flat();
    g.start().timer().run(&[0xb0, 0xff, 0xe6, 0x21, 0xfb, 0xf4, 0xeb, 0xfd]);
    g.dies_of("irqs-masked", "masks all of them");
}

#[test]
fn handler_ends_in_ret() {
    // EOI, then RET. STI; HLT; HLT
    let mut g = Guest::flat();
    g.handler(0x20, &[0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xc3]).start().timer().run(&[0xfb, 0xf4, 0xf4]);
    g.dies_of("ret-instead-of-iret", "returned with RET instead of IRET");
}

#[test]
fn error_code_left_on_the_stack() {
    // #GP by a bad selector; the handler is a bare IRET.
    let mut g = Guest::flat();
    g.handler(13, &[0xcf]).start().run(&[0x66, 0xb8, 0x58, 0, 0x8e, 0xd8]);
    g.dies_of("error-code-not-popped", "did not pop the error code");
}

#[test]
fn handler_returns_to_the_fault() {
    let mut g = Guest::flat();
    g.handler(6, &[0xcf]).start().run(&UD2).dies_of("exception-repeats", "#UD at 0x00100024 comes again");
}

#[test]
fn stack_where_no_memory_is() {
    // MOV ESP, E0000000h; CALL next; next: RET
    let mut g = Guest::flat();
    g.start().run(&[0xbc, 0, 0, 0, 0xe0, 0xe8, 0, 0, 0, 0, 0xc3]);
    g.dies_of("stack-in-nothing", "the stack is where this machine has no memory");
}

#[test]
fn jump_out_of_memory() {
    // MOV EAX, 40000000h; JMP EAX
    let mut g = Guest::flat();
    g.start().run(&[0xb8, 0, 0, 0, 0x40, 0xff, 0xe0]);
    g.dies_of("jump-outside-memory", "EIP is 0x40000000, where this machine has no memory");
}

#[test]
fn call_of_a_null_pointer() {
    // XOR EAX, EAX; CALL EAX, with something undefined at 0.
    let mut g = Guest::flat();
    g.put(0, &UD2).start().run(&[0x31, 0xc0, 0xff, 0xd0]).dies_of("jump-to-null", "a null pointer");
}

#[test]
fn code_that_runs_out() {
    // EAX names no memory that matters; zeros follow, up to the end of memory.
    let mut g = Guest::flat();
    g.start()
        .run(&[0xb8, 0, 0, 0x20, 0])
        .dies_of("jump-outside-memory", "ran through zeros to the end of memory");
}

#[test]
fn zeros_that_fault() {
    // MOV EAX, 500000h, not mapped, and no code after it.
    let mut g = Guest::flat();
    g.tables(3).start().paging().run(&[0xb8, 0, 0, 0x50, 0]).dies_of("ran-into-zeros", "only zeros");
}

#[test]
fn spin_with_interrupts_off() {
    Guest::flat().start().run(&[0xfa, 0xeb, 0xfe]).dies_of("spin", "jumps to itself at 0x00100025 for ever");
}

#[test]
fn halt_with_interrupts_off() {
    Guest::flat().start().run(&[0xfa, 0xf4]).dies_of("halted", "HLT ran with interrupts off");
}
