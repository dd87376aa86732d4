//! Words of the data that IDENTIFY and IDENTIFY PACKET return, as disks and packet devices share them
//! (ATA/ATAPI-5, 8.12 and 8.13).

/// Word 63 of IDENTIFY: modes 0 to 2 are there, and which one is selected.
pub(super) fn multiword_dma(mode: u8) -> u16 {
    0x0007 | 0x0100 << mode
}

/// ASCII as IDENTIFY has it: padded with blanks, the first character in the high byte.
pub(super) fn text(words: &mut [u16], s: &str) {
    let mut bytes = s.bytes().chain(std::iter::repeat(b' '));
    for word in words {
        *word = u16::from(bytes.next().unwrap_or(b' ')) << 8 | u16::from(bytes.next().unwrap_or(b' '));
    }
}
