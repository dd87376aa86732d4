//! Boot sectors, and disks that have them.

/// MOV AX,0301h; MOV CX,2; MOV DX,80h; XOR BX,BX; MOV ES,BX; MOV BX,7C00h; INT 13h; MOV AL,AH; OUT F4h,AL:
/// writes the boot sector over the next one, and ends with the status of INT 13h.
#[rustfmt::skip]
pub(crate) const COPIES_ITSELF: &[u8] = &[
    0xb8, 0x01, 0x03, 0xb9, 0x02, 0x00, 0xba, 0x80, 0x00, 0x31, 0xdb, 0x8e, 0xc3,
    0xbb, 0x00, 0x7c, 0xcd, 0x13, 0x88, 0xe0, 0xe6, 0xf4,
];

/// A disk of `sectors` whose boot sector is `code`.
pub(crate) fn disk(code: &[u8], sectors: usize) -> Vec<u8> {
    let mut image = vec![0; sectors * 512];
    image[..code.len()].copy_from_slice(code);
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    image
}
