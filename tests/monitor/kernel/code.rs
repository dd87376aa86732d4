//! Instructions on their way to memory.

use super::image::{USER_CODE_SELECTOR, USER_DATA, USER_STACK};

/// Code that will lie at `at`.
pub(crate) struct Code {
    /// So far.
    pub(crate) bytes: Vec<u8>,
    /// Where the first byte will be.
    pub(crate) at: u32,
}

impl Code {
    pub(crate) fn new(at: u32) -> Self {
        Self { bytes: Vec::new(), at }
    }
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }
    pub(crate) fn put32(&mut self, opcode: &[u8], operand: u32) {
        self.put(opcode);
        self.put(&operand.to_le_bytes());
    }
    pub(crate) fn here(&self) -> u32 {
        self.at + self.bytes.len() as u32
    }
    /// MOV DWORD [at], value.
    pub(crate) fn store(&mut self, at: u32, value: u32) {
        self.put32(&[0xc7, 0x05], at);
        self.put(&value.to_le_bytes());
    }
    /// MOV EDI, value.
    pub(crate) fn edi(&mut self, value: u32) {
        self.put32(&[0xbf], value);
    }
    pub(crate) fn load_cr3(&mut self, cr3: u32) {
        self.put32(&[0xb8], cr3); // MOV EAX, cr3
        self.put(&[0x0f, 0x22, 0xd8]); // MOV CR3, EAX
    }
    pub(crate) fn load_cr0(&mut self, cr0: u32) {
        self.put32(&[0xb8], cr0); // MOV EAX, cr0
        self.put(&[0x0f, 0x22, 0xc0]); // MOV CR0, EAX
    }
    /// These bits of CR4 the other way.
    pub(super) fn toggle_cr4(&mut self, bits: u32) {
        // MOV EAX, CR4; XOR EAX, bits; MOV CR4, EAX
        self.put32(&[0x0f, 0x20, 0xe0, 0x35], bits);
        self.put(&[0x0f, 0x22, 0xe0]);
    }
    /// MOV AX, selector and a load of each of these segment registers, by their numbers.
    pub(super) fn load_segments(&mut self, selector: u16, registers: &[u8]) {
        self.put(&[0x66, 0xb8]);
        self.put(&selector.to_le_bytes());
        for n in registers {
            self.put(&[0x8e, 0xc0 | n << 3]);
        }
    }
    /// `inner`, which may fault: the handlers go on at EBX.
    pub(super) fn guarded(&mut self, inner: impl FnOnce(&mut Self)) {
        self.put32(&[0xbb], 0); // MOV EBX, the address behind
        let operand = self.bytes.len() - 4;
        inner(self);
        let behind = self.here().to_le_bytes();
        self.bytes[operand..operand + 4].copy_from_slice(&behind);
    }
    /// ADD [EDI], EAX or ADD EAX, [EDI], which may fault.
    pub(super) fn touch(&mut self, write: bool) {
        self.guarded(|c| c.put(&[if write { 0x01 } else { 0x03 }, 0x07]));
    }
    /// IRET within a ring.
    pub(super) fn iret(&mut self, selector: u16, to: u32, flags: u32) {
        for value in [flags, selector.into(), to] {
            self.put32(&[0x68], value); // PUSH imm32
        }
        self.put(&[0xcf]);
    }
    /// IRET to user code at `to` with these flags beside IF; its INT 30h, or a fault, comes back behind.
    pub(super) fn in_user_mode(&mut self, to: u32, flags: u32) {
        self.in_user_code(USER_CODE_SELECTOR, to, flags);
    }
    /// The same with another code segment.
    pub(super) fn in_user_code(&mut self, selector: u16, to: u32, flags: u32) {
        self.return_to_user(selector, to, 0x202 | flags);
    }
    /// The same with all flags given.
    pub(super) fn return_to_user(&mut self, selector: u16, to: u32, flags: u32) {
        self.guarded(|c| {
            for value in [USER_DATA.into(), USER_STACK, flags, selector.into(), to] {
                c.put32(&[0x68], value); // PUSH imm32
            }
            c.put(&[0xfb, 0xcf]); // STI; IRET
        });
    }
}
