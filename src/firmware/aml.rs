//! A writer of ACPI machine language, as much as this machine's DSDT needs: names, numbers, packages, devices and
//! resource descriptors (ACPI 1.0b, chapter 16; descriptors: 6.4).

/// A piece of AML.
pub(super) type Aml = Vec<u8>;

const ZERO: u8 = 0x00;
const ONE: u8 = 0x01;
const NAME: u8 = 0x08;
const BYTE: u8 = 0x0a;
const WORD: u8 = 0x0b;
const DWORD: u8 = 0x0c;
const SCOPE: u8 = 0x10;
const BUFFER: u8 = 0x11;
const PACKAGE: u8 = 0x12;
const EXT: u8 = 0x5b;
const DEVICE: u8 = 0x82;
const PROCESSOR: u8 = 0x83;

/// Resource descriptors: small ones, with their lengths in the low bits, and large ones.
const IRQ: u8 = 0x22;
const IO_PORT: u8 = 0x47;
const END_TAG: [u8; 2] = [0x79, 0];
const DWORD_SPACE: u8 = 0x87;
const WORD_SPACE: u8 = 0x88;
const MEMORY_RANGE: u8 = 0;
const IO_RANGE: u8 = 1;
const BUS_RANGE: u8 = 2;
/// A bridge's range: it is passed on, decoded positively, both ends fixed.
const PRODUCED_FIXED: u8 = 0x0c;

/// A number, in the shortest form.
pub(super) fn number(n: u32) -> Aml {
    match n {
        0 => vec![ZERO],
        1 => vec![ONE],
        2..=0xff => vec![BYTE, n as u8],
        0x100..=0xffff => [&[WORD][..], &(n as u16).to_le_bytes()].concat(),
        _ => [&[DWORD][..], &n.to_le_bytes()].concat(),
    }
}

/// A name of up to four characters, filled up with `_`; a `\` before it stands for the root.
fn name_string(name: &str) -> Aml {
    let (root, segment) = name.strip_prefix('\\').map_or(("", name), |rest| ("\\", rest));
    format!("{root}{segment:_<4}").into_bytes()
}

/// `body` behind its length, which counts itself: one byte up to 63, else a nibble and up to three bytes.
fn sized(body: &[u8]) -> Aml {
    let bytes = match body.len() {
        0..63 => 1,
        63..0xffe => 2,
        0xffe..0xf_fffd => 3,
        _ => 4,
    };
    let total = body.len() + bytes;
    let mut out = match bytes {
        1 => vec![total as u8],
        _ => vec![(bytes as u8 - 1) << 6 | total as u8 & 0xf],
    };
    out.extend((1..bytes).map(|n| (total >> (8 * n - 4)) as u8));
    out.extend(body);
    out
}

/// `Name (name, value)`.
pub(super) fn name(name: &str, value: &[u8]) -> Aml {
    [&[NAME][..], &name_string(name), value].concat()
}

/// `Package () { items }`.
pub(super) fn package(items: &[Aml]) -> Aml {
    let body = [&[items.len() as u8][..], &items.concat()].concat();
    [&[PACKAGE][..], &sized(&body)].concat()
}

/// `Scope (name) { body }`.
pub(super) fn scope(name: &str, body: &[Aml]) -> Aml {
    [&[SCOPE][..], &sized(&[name_string(name), body.concat()].concat())].concat()
}

/// `Device (name) { body }`.
pub(super) fn device(name: &str, body: &[Aml]) -> Aml {
    [&[EXT, DEVICE][..], &sized(&[name_string(name), body.concat()].concat())].concat()
}

/// `Processor (name, id, 0, 0) {}`.
pub(super) fn processor(name: &str, id: u8) -> Aml {
    [&[EXT, PROCESSOR][..], &sized(&[&name_string(name)[..], &[id, 0, 0, 0, 0, 0]].concat())].concat()
}

/// `EisaId (id)`: three letters and four hexadecimal digits, as a compressed number.
pub(super) fn eisa_id(id: &str) -> Aml {
    let letters = id.bytes().take(3).fold(0, |n: u32, c| n << 5 | u32::from(c - b'@'));
    let digits = id.chars().skip(3).fold(0, |n: u32, c| n << 4 | c.to_digit(16).unwrap_or(0));
    number((letters << 16 | digits).swap_bytes())
}

/// `ResourceTemplate () { items }`.
pub(super) fn resources(items: &[Aml]) -> Aml {
    let bytes = [items.concat(), END_TAG.to_vec()].concat();
    let body = [number(bytes.len() as u32), bytes].concat();
    [&[BUFFER][..], &sized(&body)].concat()
}

/// `IO (Decode16, first, first, 1, ports)`.
pub(super) fn io(first: u16, ports: u8) -> Aml {
    let at = first.to_le_bytes();
    [&[IO_PORT, 1][..], &at, &at, &[1, ports]].concat()
}

/// `IRQNoFlags () { irq }`: edge triggered, active high.
pub(super) fn irq(irq: u8) -> Aml {
    [&[IRQ][..], &(1u16 << irq).to_le_bytes()].concat()
}

/// A range of bus numbers that a bridge passes on.
pub(super) fn bus_range(first: u16, last: u16) -> Aml {
    word_space(BUS_RANGE, 0, first, last)
}

/// A range of I/O ports that a bridge passes on.
pub(super) fn io_range(first: u16, last: u16) -> Aml {
    const WHOLE_RANGE: u8 = 3;
    word_space(IO_RANGE, WHOLE_RANGE, first, last)
}

fn word_space(kind: u8, flags: u8, first: u16, last: u16) -> Aml {
    let words = [0, first, last, 0, (last - first).wrapping_add(1)].map(u16::to_le_bytes).concat();
    let rest = [&[kind, PRODUCED_FIXED, flags][..], &words].concat();
    [&[WORD_SPACE][..], &(rest.len() as u16).to_le_bytes(), &rest].concat()
}

/// A range of memory that a bridge passes on, cacheable or not.
pub(super) fn memory_range(first: u32, last: u32, cacheable: bool) -> Aml {
    let flags = if cacheable { 3 } else { 1 };
    let dwords = [0, first, last, 0, last - first + 1].map(u32::to_le_bytes).concat();
    let rest = [&[MEMORY_RANGE, PRODUCED_FIXED, flags][..], &dwords].concat();
    [&[DWORD_SPACE][..], &(rest.len() as u16).to_le_bytes(), &rest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    // The expected bytes are those of the specification's encodings, and of what a disassembler reads back.

    #[test]
    fn numbers_take_their_shortest_form() {
        assert_eq!([number(0), number(1), number(2)].concat(), [0, 1, 0x0a, 2]);
        assert_eq!(number(0x1234), [0x0b, 0x34, 0x12]);
        assert_eq!(number(0x1_ffff), [0x0c, 0xff, 0xff, 1, 0]);
    }

    #[test]
    fn eisa_ids_are_compressed() {
        assert_eq!(eisa_id("PNP0A03"), [0x0c, 0x41, 0xd0, 0x0a, 0x03]);
        assert_eq!(eisa_id("PNP0501"), [0x0c, 0x41, 0xd0, 0x05, 0x01]);
    }

    #[test]
    fn lengths_count_themselves() {
        assert_eq!(sized(&[0; 62])[0], 63);
        assert_eq!(sized(&[0; 63])[..2], [0x41, 0x04], "65 bytes");
        assert_eq!(sized(&[0; 0xffd])[..2], [0x4f, 0xff], "4095 bytes");
        assert_eq!(sized(&[0; 0xffe])[..3], [0x81, 0x00, 0x01], "4097 bytes");
    }

    #[test]
    fn a_name_with_a_package() {
        let s5 = name("\\_S5", &package(&[number(0), number(0)]));
        assert_eq!(s5, [0x08, b'\\', b'_', b'S', b'5', b'_', 0x12, 4, 2, 0, 0]);
        assert_eq!(device("RTC", &[]), [0x5b, 0x82, 5, b'R', b'T', b'C', b'_']);
        assert_eq!(processor("CPU0", 0), [0x5b, 0x83, 11, b'C', b'P', b'U', b'0', 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn resources_end_with_their_tag() {
        let all = resources(&[io(0x70, 8), irq(8)]);
        assert_eq!(all, [0x11, 16, 0x0a, 13, 0x47, 1, 0x70, 0, 0x70, 0, 1, 8, 0x22, 0, 1, 0x79, 0]);
        let bus = bus_range(0, 0);
        assert_eq!(bus, [0x88, 13, 0, 2, 0x0c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        let memory = memory_range(0xa_0000, 0xb_ffff, true);
        assert_eq!(memory[..6], [0x87, 23, 0, 0, 0x0c, 3]);
        assert_eq!(memory[22..], [0, 0, 2, 0]);
    }
}
