//! The VGA: sequencer, CRT controller, graphics and attribute controllers, DAC, and 256 KiB of video memory
//! in four planes (IBM PS/2 Hardware Interface Technical Reference, video subsystem).
//!
//! Registers and memory are whole, so that firmware and graphics software run; what is shown is the text
//! screen, [`Vga::text_screen`]. There is no Bochs display interface (ports 1CE and 1CF stay unclaimed). The
//! chip powers on in 80x25 text with a font in plane 2, where a PC without a video BIOS would show nothing.

use super::Device;
use crate::bus::{Clock, Ticks, Width};
use crate::console::cp437;
use serde::{Deserialize, Serialize};
use std::hash::{Hash, Hasher};

/// First byte of the largest memory window.
pub const WINDOW: u32 = 0xa_0000;

const MISC_COLOR: u8 = 0x01;
const MISC_RAM: u8 = 0x02;
const SEQ_MAP_MASK: usize = 2;
const SEQ_MEMORY: usize = 4;
const SEQ_NOT_ODD_EVEN: u8 = 0x04;
const SEQ_CHAIN4: u8 = 0x08;
const GC_SET_RESET: usize = 0;
const GC_ENABLE_SET_RESET: usize = 1;
const GC_COMPARE: usize = 2;
const GC_ROTATE: usize = 3;
const GC_READ_MAP: usize = 4;
const GC_MODE: usize = 5;
const GC_MODE_ODD_EVEN: u8 = 0x10;
const GC_MISC: usize = 6;
const GC_DONT_CARE: usize = 7;
const GC_BIT_MASK: usize = 8;
const CRTC_DISPLAY_END: usize = 0x01;
const CRTC_OVERFLOW: usize = 0x07;
const CRTC_MAX_SCAN: usize = 0x09;
const CRTC_CURSOR_START: usize = 0x0a;
const CRTC_CURSOR_END: usize = 0x0b;
const CRTC_START: usize = 0x0c;
const CRTC_CURSOR: usize = 0x0e;
const CRTC_PROTECT: usize = 0x11;
const CRTC_VERTICAL_END: usize = 0x12;
const CRTC_PITCH: usize = 0x13;
const CRTC_MODE: usize = 0x17;
const CRTC_BYTE_MODE: u8 = 0x40;
const ATTR_MODE: usize = 0x10;
const ATTR_BLINK: u8 = 0x08;
const ATTR_SHOW: u8 = 0x20;

/// Horizontal frequency, times ten, to tell the tenths of a line apart.
const TENTH_LINE_HZ: u64 = 314_690;
/// Lines of a 70 Hz frame, those displayed, and those of the vertical retrace.
const LINES: u64 = 449;
const DISPLAYED: u64 = 400;
const RETRACE: std::ops::Range<u64> = 412..414;

/// Mode 3 (80x25 colour text) as the IBM VGA BIOS programs it.
const MODE3_SEQ: [u8; 5] = [0x03, 0x00, 0x03, 0x00, 0x02];
const MODE3_CRTC: [u8; 25] = [
    0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00, 0x00, 0x00, 0x00, 0x9c,
    0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
];
const MODE3_GC: [u8; 9] = [0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x00, 0xff];
const MODE3_ATTR: [u8; 21] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x0c,
    0x00, 0x0f, 0x08, 0x00,
];

/// A character and its attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Code in the character generator (code page 437).
    pub code: u8,
    /// Foreground in bits 3-0, background in 6-4, blink (or bright background) in 7.
    pub attribute: u8,
}

/// What the text screen shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Rows from the top.
    pub rows: Vec<Vec<Cell>>,
    /// Row and column of the cursor, if it shows.
    pub cursor: Option<(usize, usize)>,
    /// Whether bit 7 of attributes blinks; else it brightens the background.
    pub blink: bool,
    /// Red, green and blue (8 bits each) of the sixteen colours.
    pub palette: [[u8; 3]; 16],
}

impl Screen {
    /// The rows as text, without trailing blanks.
    pub fn lines(&self) -> Vec<String> {
        let text = |row: &Vec<Cell>| row.iter().map(|c| cp437::to_char(c.code)).collect::<String>();
        self.rows.iter().map(|row| text(row).trim_end().to_owned()).collect()
    }
}

/// Addresses of each plane.
const CELLS: usize = 0x1_0000;

/// Our BIOS, and where in it the font is: 256 characters of 16 rows.
const BIOS: &[u8; 0x1_0000] = include_bytes!("../../guest-programs/bios/bios.bin");
const FONT: std::ops::Range<usize> = 0xc000..0xd000;
const GLYPH: usize = 16;
/// Addresses of plane 2 that each character has.
const GLYPH_ROOM: usize = 32;

/// Video memory at power-on: blanks in planes 0 and 1, the font in plane 2.
fn blank_memory() -> Vec<u32> {
    let mut memory = vec![0x0720; CELLS];
    for (code, glyph) in BIOS[FONT].chunks_exact(GLYPH).enumerate() {
        let room = &mut memory[code * GLYPH_ROOM..][..GLYPH];
        room.iter_mut().zip(glyph).for_each(|(cell, &row)| *cell |= u32::from(row) << 16);
    }
    memory
}

/// The adapter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Vga {
    clock: Clock,
    misc: u8,
    feature: u8,
    seq_index: u8,
    seq: [u8; 8],
    gc_index: u8,
    gc: [u8; 16],
    crtc_index: u8,
    crtc: [u8; 32],
    attr_index: u8,
    /// The flip-flop: whether the next write to 3C0 is data.
    attr_data: bool,
    attr: [u8; 32],
    #[serde(with = "crate::saved::array")]
    dac: [u8; 768],
    dac_mask: u8,
    dac_read: u16,
    dac_write: u16,
    dac_reading: bool,
    /// One byte of each plane per address, plane 0 lowest.
    memory: Vec<u32>,
    latch: u32,
    version: u64,
    /// Derived from the registers: the window, and whether a write just stores its byte in one plane.
    window: (u32, u32),
    plain_odd_even: bool,
}

/// `plane mask -> byte mask`.
const fn expand(planes: u8) -> u32 {
    let p = planes as u32;
    ((p & 1) * 0xff) | ((p >> 1 & 1) * 0xff00) | ((p >> 2 & 1) * 0xff_0000) | ((p >> 3 & 1) * 0xff00_0000)
}

impl Vga {
    /// An adapter that shows blanks in 80x25 text.
    pub fn new(clock: Clock) -> Self {
        let mut vga = Self {
            clock,
            misc: 0x67,
            feature: 0,
            seq_index: 0,
            seq: [0; 8],
            gc_index: 0,
            gc: [0; 16],
            crtc_index: 0,
            crtc: [0; 32],
            attr_index: ATTR_SHOW,
            attr_data: false,
            attr: [0; 32],
            dac: default_dac(),
            dac_mask: 0xff,
            dac_read: 0,
            dac_write: 0,
            dac_reading: false,
            memory: blank_memory(),
            latch: 0,
            version: 0,
            window: (0, 0),
            plain_odd_even: false,
        };
        vga.seq[..5].copy_from_slice(&MODE3_SEQ);
        vga.crtc[..25].copy_from_slice(&MODE3_CRTC);
        vga.gc[..9].copy_from_slice(&MODE3_GC);
        vga.attr[..21].copy_from_slice(&MODE3_ATTR);
        vga.derive();
        vga
    }

    /// Hashes what video memory holds, which is the same as long as [`Vga::version`] is.
    pub fn hash_memory(&self, h: &mut impl Hasher) {
        self.memory.hash(h);
    }

    /// Moves on whenever what is shown may have changed.
    pub fn version(&self) -> u64 {
        self.version
    }

    fn derive(&mut self) {
        self.window = match self.gc[GC_MISC] >> 2 & 3 {
            _ if self.misc & MISC_RAM == 0 => (0, 0),
            0 => (0, 0x2_0000),
            1 => (0, 0x1_0000),
            2 => (0x1_0000, 0x8000),
            _ => (0x1_8000, 0x8000),
        };
        self.plain_odd_even = self.seq[SEQ_MEMORY] & (SEQ_NOT_ODD_EVEN | SEQ_CHAIN4) == 0
            && self.gc[GC_MODE] & 3 == 0
            && self.gc[GC_ENABLE_SET_RESET] & 0xf == 0
            && self.gc[GC_ROTATE] & 0x1f == 0
            && self.gc[GC_BIT_MASK] == 0xff
            && self.seq[SEQ_MAP_MASK] & 0xf == 3;
    }

    /// The offset within the window of an address, which is at or above [`WINDOW`].
    #[inline]
    fn decode(&self, address: u32) -> Option<u32> {
        let offset = address.wrapping_sub(WINDOW).wrapping_sub(self.window.0);
        (offset < self.window.1).then_some(offset)
    }

    /// A byte that the processor writes at `address`.
    #[inline]
    pub fn write_memory(&mut self, address: u32, value: u8) {
        let Some(at) = self.decode(address) else { return };
        self.version += 1;
        if self.plain_odd_even {
            let shift = (at & 1) * 8;
            let cell = &mut self.memory[(at & 0xfffe) as usize];
            *cell = *cell & !(0xff << shift) | u32::from(value) << shift;
        } else {
            self.write_planes(at, value);
        }
    }

    fn write_planes(&mut self, at: u32, value: u8) {
        let mut planes = self.seq[SEQ_MAP_MASK] & 0xf;
        let mode = self.seq[SEQ_MEMORY];
        let address = if mode & SEQ_CHAIN4 != 0 {
            planes &= 1 << (at & 3);
            at & 0xfffc
        } else if mode & SEQ_NOT_ODD_EVEN == 0 {
            planes &= if at & 1 != 0 { 0b1010 } else { 0b0101 };
            at & 0xfffe
        } else {
            at & 0xffff
        };
        let new = self.graphics_data(value);
        let planes = expand(planes);
        let cell = &mut self.memory[address as usize];
        *cell = *cell & !planes | new & planes;
    }

    /// What the graphics controller makes of a written byte, for all four planes.
    fn graphics_data(&self, value: u8) -> u32 {
        let all = |byte: u8| u32::from(byte) * 0x0101_0101;
        let rotated = value.rotate_right(u32::from(self.gc[GC_ROTATE] & 7));
        let set_reset = expand(self.gc[GC_SET_RESET] & 0xf);
        let bit_mask = self.gc[GC_BIT_MASK];
        let (data, mask) = match self.gc[GC_MODE] & 3 {
            0 => {
                let enabled = expand(self.gc[GC_ENABLE_SET_RESET] & 0xf);
                (all(rotated) & !enabled | set_reset & enabled, bit_mask)
            }
            1 => return self.latch,
            2 => (expand(value & 0xf), bit_mask),
            _ => (set_reset, bit_mask & rotated),
        };
        let data = match self.gc[GC_ROTATE] >> 3 & 3 {
            0 => data,
            1 => data & self.latch,
            2 => data | self.latch,
            _ => data ^ self.latch,
        };
        data & all(mask) | self.latch & !all(mask)
    }

    /// The byte that the processor reads at `address`; it loads the latches.
    #[inline]
    pub fn read_memory(&mut self, address: u32) -> u8 {
        let Some((cell, plane)) = self.addressed(address) else { return 0xff };
        self.latch = self.memory[cell as usize];
        self.shown(self.latch, plane)
    }

    /// What a read would give, without loading the latches.
    pub fn peek_memory(&self, address: u32) -> u8 {
        self.addressed(address).map_or(0xff, |(cell, plane)| self.shown(self.memory[cell as usize], plane))
    }

    /// The cell of all four planes that a read at `address` loads, and the plane that it selects.
    fn addressed(&self, address: u32) -> Option<(u32, u32)> {
        let at = self.decode(address)?;
        Some(if self.seq[SEQ_MEMORY] & SEQ_CHAIN4 != 0 {
            (at & 0xfffc, at & 3)
        } else if self.gc[GC_MODE] & GC_MODE_ODD_EVEN != 0 {
            (at & 0xfffe, u32::from(self.gc[GC_READ_MAP] & 2) | at & 1)
        } else {
            (at & 0xffff, u32::from(self.gc[GC_READ_MAP] & 3))
        })
    }

    /// What a read gives when the latches hold `latch`, by the read mode.
    fn shown(&self, latch: u32, plane: u32) -> u8 {
        if self.gc[GC_MODE] & 0x08 == 0 { (latch >> (8 * plane)) as u8 } else { self.compare(latch) }
    }

    /// Read mode 1: a bit for each pixel whose planes match the colour, as far as they are cared for.
    fn compare(&self, latch: u32) -> u8 {
        let differs = (latch ^ expand(self.gc[GC_COMPARE] & 0xf)) & expand(self.gc[GC_DONT_CARE] & 0xf);
        let [a, b, c, d] = differs.to_le_bytes();
        !(a | b | c | d)
    }

    fn crtc_word(&self, high: usize) -> u32 {
        u32::from(self.crtc[high]) << 8 | u32::from(self.crtc[high + 1])
    }

    /// Whether a graphics mode is set, which [`Vga::text_screen`] cannot show.
    pub fn is_graphics(&self) -> bool {
        self.gc[GC_MISC] & 1 != 0
    }

    /// Rows and columns as the CRT controller has them.
    fn text_size(&self) -> (u32, u32) {
        let overflow = u32::from(self.crtc[CRTC_OVERFLOW]);
        let end =
            u32::from(self.crtc[CRTC_VERTICAL_END]) | (overflow >> 1 & 1) << 8 | (overflow >> 6 & 1) << 9;
        let max_scan = self.crtc[CRTC_MAX_SCAN];
        let height = (u32::from(max_scan & 0x1f) + 1) << (max_scan >> 7);
        (((end + 1) / height).clamp(1, 128), u32::from(self.crtc[CRTC_DISPLAY_END]) + 1)
    }

    /// The text screen; `None` in a graphics mode.
    pub fn text_screen(&self) -> Option<Screen> {
        if self.is_graphics() {
            return None;
        }
        let (rows, columns) = self.text_size();
        let start = self.crtc_word(CRTC_START);
        let pitch = u32::from(self.crtc[CRTC_PITCH]) * 2;
        let row = |r: u32| (0..columns).map(|c| self.cell(start + r * pitch + c)).collect();
        Some(Screen {
            rows: (0..rows).map(row).collect(),
            cursor: self.cursor(start, pitch, rows, columns),
            blink: self.attr[ATTR_MODE] & ATTR_BLINK != 0,
            palette: std::array::from_fn(|i| self.color(i)),
        })
    }

    /// The character at an address of the CRT controller, which counts characters.
    fn cell(&self, at: u32) -> Cell {
        let word_mode = self.crtc[CRTC_MODE] & CRTC_BYTE_MODE == 0;
        let address = if word_mode { at << 1 } else { at };
        let [code, attribute, ..] = self.memory[(address & 0xffff) as usize].to_le_bytes();
        Cell { code, attribute }
    }

    fn cursor(&self, start: u32, pitch: u32, rows: u32, columns: u32) -> Option<(usize, usize)> {
        let (first, last) = (self.crtc[CRTC_CURSOR_START], self.crtc[CRTC_CURSOR_END]);
        let offset = self.crtc_word(CRTC_CURSOR).checked_sub(start)?;
        let hidden = first & 0x20 != 0 || first & 0x1f > last & 0x1f;
        let (row, column) = (offset.checked_div(pitch)?, offset.checked_rem(pitch)?);
        (!hidden && row < rows && column < columns).then_some((row as usize, column as usize))
    }

    fn color(&self, attribute: usize) -> [u8; 3] {
        let entry = usize::from(self.attr[attribute] & 0x3f & self.dac_mask) * 3;
        std::array::from_fn(|i| {
            let six = self.dac[entry + i];
            six << 2 | six >> 4
        })
    }

    fn read_dac(&mut self) -> u8 {
        let value = self.dac[usize::from(self.dac_read)];
        self.dac_read = (self.dac_read + 1) % 768;
        value
    }

    fn write_dac(&mut self, value: u8) {
        self.dac[usize::from(self.dac_write)] = value & 0x3f;
        self.dac_write = (self.dac_write + 1) % 768;
    }

    fn write_attribute(&mut self, value: u8) {
        let data = self.attr_data;
        self.attr_data = !data;
        if !data {
            self.attr_index = value & 0x3f;
        } else if self.attr_index & 0x1f < 0x10 {
            self.attr[usize::from(self.attr_index & 0x1f)] = value & 0x3f;
        } else {
            self.attr[usize::from(self.attr_index & 0x1f)] = value;
        }
    }

    /// Bit 7 of the vertical retrace end protects registers 0-7, but for the line compare bit in 7.
    fn write_crtc(&mut self, value: u8) {
        let index = usize::from(self.crtc_index & 0x1f);
        if index <= CRTC_OVERFLOW && self.crtc[CRTC_PROTECT] & 0x80 != 0 {
            if index == CRTC_OVERFLOW {
                self.crtc[index] = self.crtc[index] & !0x10 | value & 0x10;
            }
            return;
        }
        self.crtc[index] = value;
    }

    /// Input status 1: the beam, derived from the clock; it resets the attribute flip-flop.
    fn read_status(&mut self, now: Ticks) -> u8 {
        self.attr_data = false;
        let tenths = self.clock.cycles(now, TENTH_LINE_HZ);
        let (line, across) = (tenths / 10 % LINES, tenths % 10);
        let blank = line >= DISPLAYED || across >= 8;
        u8::from(blank) | if RETRACE.contains(&line) { 0x08 } else { 0 }
    }

    /// Whether `port` is one of the CRT controller's at the base that is off: monochrome at 3Bx, colour at
    /// 3Dx.
    fn is_other_base(&self, port: u16) -> bool {
        let color = self.misc & MISC_COLOR != 0;
        matches!((port & 0xfff0, color), (0x3b0, true) | (0x3d0, false))
    }
}

/// The first 64 entries as the BIOS loads them: two bits per primary, the intensity bits above.
fn default_dac() -> [u8; 768] {
    let mut dac = [0; 768];
    for i in 0..64u8 {
        let level = |low: u8, high: u8| (i >> low & 1) * 0x2a + (i >> high & 1) * 0x15;
        let at = usize::from(i) * 3;
        dac[at..at + 3].copy_from_slice(&[level(2, 5), level(1, 4), level(0, 3)]);
    }
    dac
}

/// The registers; of video memory only its version, see [`Vga::hash_memory`].
impl Hash for Vga {
    fn hash<H: Hasher>(&self, h: &mut H) {
        let Self { clock, misc, feature, seq_index, seq, gc_index, gc, crtc_index, crtc, .. } = self;
        (clock, misc, feature, seq_index, seq, gc_index, gc, crtc_index, crtc).hash(h);
        let Self { attr_index, attr_data, attr, dac, dac_mask, dac_read, dac_write, dac_reading, .. } = self;
        (attr_index, attr_data, attr, dac, dac_mask, dac_read, dac_write, dac_reading).hash(h);
        (self.latch, self.version, self.window, self.plain_odd_even).hash(h);
    }
}

impl Device for Vga {
    fn read(&mut self, port: u16, _width: Width, now: Ticks) -> u32 {
        if self.is_other_base(port) {
            return 0xff;
        }
        let value = match port {
            0x3c0 => self.attr_index,
            0x3c1 => self.attr[usize::from(self.attr_index & 0x1f)],
            0x3c2 => 0x10,
            0x3c3 => 1,
            0x3c4 => self.seq_index,
            0x3c5 => self.seq[usize::from(self.seq_index & 7)],
            0x3c6 => self.dac_mask,
            0x3c7 => {
                if self.dac_reading {
                    3
                } else {
                    0
                }
            }
            0x3c8 => (self.dac_write / 3) as u8,
            0x3c9 => self.read_dac(),
            0x3ca => self.feature,
            0x3cc => self.misc,
            0x3ce => self.gc_index,
            0x3cf => self.gc[usize::from(self.gc_index & 0xf)],
            0x3b4 | 0x3d4 => self.crtc_index,
            0x3b5 | 0x3d5 => self.crtc[usize::from(self.crtc_index & 0x1f)],
            0x3ba | 0x3da => self.read_status(now),
            _ => 0xff,
        };
        value.into()
    }

    fn write(&mut self, port: u16, _width: Width, value: u32, _now: Ticks) {
        if self.is_other_base(port) {
            return;
        }
        let value = value as u8;
        match port {
            0x3c0 => self.write_attribute(value),
            0x3c2 => self.misc = value,
            0x3c4 => self.seq_index = value,
            0x3c5 => self.seq[usize::from(self.seq_index & 7)] = value,
            0x3c6 => self.dac_mask = value,
            0x3c7 => {
                self.dac_read = u16::from(value) * 3;
                self.dac_reading = true;
            }
            0x3c8 => {
                self.dac_write = u16::from(value) * 3;
                self.dac_reading = false;
            }
            0x3c9 => self.write_dac(value),
            0x3ce => self.gc_index = value,
            0x3cf => self.gc[usize::from(self.gc_index & 0xf)] = value,
            0x3b4 | 0x3d4 => self.crtc_index = value,
            0x3b5 | 0x3d5 => self.write_crtc(value),
            0x3ba | 0x3da => self.feature = value,
            _ => {}
        }
        self.version += 1;
        self.derive();
    }

    fn reset(&mut self) {
        *self = Self { version: self.version + 1, ..Self::new(self.clock) };
    }

    fn sensible(&self) -> bool {
        self.memory.len() == CELLS && self.dac_read < 768 && self.dac_write < 768
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vga() -> Vga {
        Vga::new(Clock::default())
    }

    fn indexed(vga: &mut Vga, port: u16, index: u8, value: u8) {
        vga.write(port, Width::Byte, index.into(), 0);
        vga.write(port + 1, Width::Byte, value.into(), 0);
    }

    /// Planar graphics at A0000, all planes writable.
    fn planar() -> Vga {
        let mut vga = vga();
        indexed(&mut vga, 0x3c4, 2, 0x0f);
        indexed(&mut vga, 0x3c4, 4, 0x06);
        indexed(&mut vga, 0x3ce, 5, 0x00);
        indexed(&mut vga, 0x3ce, 6, 0x05);
        vga
    }

    fn planes(vga: &mut Vga, at: u32) -> [u8; 4] {
        std::array::from_fn(|p| {
            indexed(vga, 0x3ce, 4, p as u8);
            vga.read_memory(at)
        })
    }

    #[test]
    fn text_written_at_b8000_shows_with_the_cursor() {
        let mut vga = vga();
        for (i, b) in b"H\x1fi\x2e".iter().enumerate() {
            vga.write_memory(0xb_8000 + 160 + i as u32, *b);
        }
        indexed(&mut vga, 0x3d4, 0x0f, 82);
        let screen = vga.text_screen().unwrap();
        assert_eq!((screen.rows.len(), screen.rows[0].len()), (25, 80));
        assert_eq!(screen.lines()[1], "Hi");
        assert_eq!(screen.rows[1][1], Cell { code: b'i', attribute: 0x2e });
        assert_eq!(screen.cursor, Some((1, 2)));
        assert_eq!(vga.read_memory(0xb_80a1), 0x1f);
        indexed(&mut vga, 0x3d4, 0x0a, 0x20);
        assert_eq!(vga.text_screen().unwrap().cursor, None);
    }

    #[test]
    fn the_start_address_scrolls() {
        let mut vga = vga();
        vga.write_memory(0xb_8000 + 160, b'x');
        indexed(&mut vga, 0x3d4, 0x0d, 80);
        assert_eq!(vga.text_screen().unwrap().lines()[0], "x");
    }

    #[test]
    fn memory_outside_the_window_reads_ones() {
        let mut vga = vga();
        vga.write_memory(0xa_0000, 1);
        assert_eq!(vga.read_memory(0xa_0000), 0xff);
        assert_eq!(vga.read_memory(0xb_8000), b' ');
    }

    #[test]
    fn write_mode_0_has_set_reset_rotate_function_and_bit_mask() {
        let mut vga = planar();
        vga.write_memory(0xa_0000, 0x0f);
        assert_eq!(planes(&mut vga, 0xa_0000), [0x0f; 4]);
        indexed(&mut vga, 0x3ce, 0, 0x04);
        indexed(&mut vga, 0x3ce, 1, 0x0c);
        indexed(&mut vga, 0x3ce, 3, 0x01);
        vga.write_memory(0xa_0001, 0x03);
        assert_eq!(planes(&mut vga, 0xa_0001), [0x81, 0x81, 0xff, 0x00]);
        indexed(&mut vga, 0x3ce, 1, 0);
        indexed(&mut vga, 0x3ce, 3, 0x18);
        indexed(&mut vga, 0x3ce, 8, 0x3c);
        vga.read_memory(0xa_0000);
        vga.write_memory(0xa_0000, 0xff);
        assert_eq!(planes(&mut vga, 0xa_0000), [0x33; 4], "xor within the bit mask");
    }

    #[test]
    fn write_modes_1_2_and_3() {
        let mut vga = planar();
        indexed(&mut vga, 0x3ce, 5, 2);
        vga.write_memory(0xa_0000, 0x0a);
        assert_eq!(planes(&mut vga, 0xa_0000), [0, 0xff, 0, 0xff]);
        indexed(&mut vga, 0x3ce, 5, 1);
        vga.read_memory(0xa_0000);
        vga.write_memory(0xa_0005, 0x55);
        assert_eq!(planes(&mut vga, 0xa_0005), [0, 0xff, 0, 0xff]);
        indexed(&mut vga, 0x3ce, 5, 3);
        indexed(&mut vga, 0x3ce, 0, 0x01);
        vga.read_memory(0xa_0000);
        vga.write_memory(0xa_0000, 0xf0);
        assert_eq!(planes(&mut vga, 0xa_0000), [0xf0, 0x0f, 0, 0x0f]);
    }

    #[test]
    fn read_mode_1_compares_colours() {
        let mut vga = planar();
        indexed(&mut vga, 0x3c4, 2, 0x02);
        vga.write_memory(0xa_0000, 0xf0);
        indexed(&mut vga, 0x3ce, 5, 0x08);
        indexed(&mut vga, 0x3ce, 2, 0x02);
        indexed(&mut vga, 0x3ce, 7, 0x02);
        assert_eq!(vga.read_memory(0xa_0000), 0xf0);
    }

    #[test]
    fn chain_4_spreads_bytes_over_the_planes() {
        let mut vga = planar();
        indexed(&mut vga, 0x3c4, 4, 0x0e);
        for i in 0..4 {
            vga.write_memory(0xa_0000 + i, i as u8 + 1);
        }
        assert_eq!(vga.read_memory(0xa_0002), 3);
        indexed(&mut vga, 0x3c4, 4, 0x06);
        assert_eq!(planes(&mut vga, 0xa_0000), [1, 2, 3, 4]);
    }

    #[test]
    fn fonts_load_into_plane_2() {
        let mut vga = vga();
        indexed(&mut vga, 0x3c4, 2, 0x04);
        indexed(&mut vga, 0x3c4, 4, 0x07);
        indexed(&mut vga, 0x3ce, 5, 0);
        indexed(&mut vga, 0x3ce, 6, 0x04);
        vga.write_memory(0xa_0001, 0x7e);
        assert_eq!(planes(&mut vga, 0xa_0001)[2], 0x7e);
    }

    #[test]
    fn the_attribute_flip_flop_resets_by_status_reads() {
        let mut vga = vga();
        vga.write(0x3c0, Width::Byte, 0x01, 0);
        vga.read(0x3da, Width::Byte, 0);
        vga.write(0x3c0, Width::Byte, 0x02, 0);
        vga.write(0x3c0, Width::Byte, 0x3f, 0);
        assert_eq!((vga.attr[1], vga.attr[2]), (1, 0x3f));
    }

    #[test]
    fn the_retrace_comes_seventy_times_a_second() {
        let mut vga = vga();
        let samples: Vec<bool> =
            (0..200_000).map(|i| vga.read(0x3da, Width::Byte, i * 500) & 8 != 0).collect();
        let rises = samples.windows(2).filter(|w| !w[0] && w[1]).count();
        assert_eq!(rises, 70);
    }

    #[test]
    fn the_dac_counts_through_its_entries() {
        let mut vga = vga();
        vga.write(0x3c8, Width::Byte, 5, 0);
        for v in [1, 2, 3] {
            vga.write(0x3c9, Width::Byte, v, 0);
        }
        vga.write(0x3c7, Width::Byte, 5, 0);
        let read: Vec<u32> = (0..3).map(|_| vga.read(0x3c9, Width::Byte, 0)).collect();
        assert_eq!(read, [1, 2, 3]);
    }
}
