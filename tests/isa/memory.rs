//! Physical memory as the harness keeps it (before a case, and as it expects it after), and the directives that
//! write to it. The same directives stand on both sides of a case.

use crate::descriptor;
use crate::layout::{self, number};
use std::collections::BTreeMap;

/// Memory below [`layout::STRICT`], whole; above it only the bytes that something mentions.
#[derive(Clone)]
pub struct Memory {
    pub low: Vec<u8>,
    pub high: BTreeMap<u32, u8>,
}

/// What directives need to know of the processor.
pub struct Context {
    /// Linear address of SS:ESP, for `stack16` and `stack32`.
    pub stack: u32,
    pub gdt: u32,
    pub ldt: u32,
    pub idt: u32,
}

impl Memory {
    pub fn new() -> Self {
        Self { low: vec![0; layout::STRICT as usize], high: BTreeMap::new() }
    }

    pub fn put(&mut self, at: u32, bytes: &[u8]) {
        for (n, &b) in bytes.iter().enumerate() {
            let at = at.wrapping_add(n as u32);
            match self.low.get_mut(at as usize) {
                Some(place) => *place = b,
                None => {
                    self.high.insert(at, b);
                }
            }
        }
    }

    pub fn get(&self, at: u32, len: u32) -> u64 {
        (0..len).fold(0, |v, n| v | u64::from(self.byte(at.wrapping_add(n))) << (8 * n))
    }

    fn byte(&self, at: u32) -> u8 {
        self.low.get(at as usize).or_else(|| self.high.get(&at)).copied().unwrap_or(0)
    }

    pub fn put32(&mut self, at: u32, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    /// The descriptor that `selector` names.
    pub fn descriptor(&self, selector: u32, ctx: &Context) -> u64 {
        self.get(descriptor_at(selector, ctx), 8)
    }

    /// Executes a memory directive; `Ok(false)` if `text` is none.
    pub fn directive(&mut self, text: &str, ctx: &Context) -> Result<bool, String> {
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        match word {
            "gdt" => self.table(rest, ctx.gdt, 1)?,
            "ldt" => self.table(rest, ctx.ldt, 1)?,
            "idt" => self.table(rest, ctx.idt, 8)?,
            "mem" => self.values(rest, 1)?,
            "mem16" => self.values(rest, 2)?,
            "mem32" => self.values(rest, 4)?,
            "stack16:" => self.words(ctx.stack, rest, 2)?,
            "stack32:" => self.words(ctx.stack, rest, 4)?,
            "tss32" => self.tss(rest, TSS32)?,
            "tss16" => self.tss(rest, TSS16)?,
            "pte" => self.page(rest, false)?,
            "pde" => self.page(rest, true)?,
            "pte64" => self.page64(rest, false)?,
            "pde64" => self.page64(rest, true)?,
            "accessed" => self.set_type_bit(rest, ctx, 1)?,
            "busy" => self.set_type_bit(rest, ctx, 2)?,
            "free" => self.clear_busy(rest, ctx)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// `0x28 = code32 dpl=3`: a descriptor into a table.
    fn table(&mut self, text: &str, base: u32, scale: u32) -> Result<(), String> {
        let (at, what) = text.split_once('=').ok_or("`=` is missing")?;
        let at = if scale == 1 { number(at.trim())? & !7 } else { number(at.trim())? * scale };
        self.put(base + at, &descriptor::parse(what)?.to_le_bytes());
        Ok(())
    }

    /// `0x1000: 41 42`: bytes in hexadecimal; words and dwords as numbers.
    fn values(&mut self, text: &str, size: usize) -> Result<(), String> {
        let (at, what) = text.split_once(':').ok_or("`:` is missing")?;
        self.words(number(at.trim())?, what, size)
    }

    fn words(&mut self, mut at: u32, text: &str, size: usize) -> Result<(), String> {
        for word in text.split_whitespace() {
            let value = if size == 1 {
                u32::from_str_radix(word, 16).map_err(|_| format!("`{word}` is not a byte"))?
            } else {
                number(word)?
            };
            self.put(at, &value.to_le_bytes()[..size]);
            at = at.wrapping_add(size as u32);
        }
        Ok(())
    }

    /// `0x5000: esp0=0xf000 ss0=0x10`: fields of a task-state segment.
    fn tss(&mut self, text: &str, fields: &[(&str, u32, u32)]) -> Result<(), String> {
        let (base, what) = text.split_once(':').ok_or("`:` is missing")?;
        let base = number(base.trim())?;
        for word in what.split_whitespace() {
            let (name, value) = word.split_once('=').ok_or_else(|| format!("`{word}` needs a value"))?;
            let field = fields.iter().find(|f| f.0 == name);
            let (_, offset, size) = field.ok_or_else(|| format!("a TSS has no field `{name}`"))?;
            self.put(base + offset, &number(value)?.to_le_bytes()[..*size as usize]);
        }
        Ok(())
    }

    /// `0x00402000 = 0x5000 p rw us`: the page-table (or page-directory) entry for a linear address. A table that is
    /// missing is made, present and open to all.
    fn page(&mut self, text: &str, directory: bool) -> Result<(), String> {
        let (linear, what) = text.split_once('=').ok_or("`=` is missing")?;
        let linear = number(linear.trim())?;
        let entry = page_entry(what)?;
        let index = linear >> 22;
        let pde = layout::PAGE_DIRECTORY + 4 * index;
        if directory {
            self.put32(pde, entry);
            return Ok(());
        }
        let mut table = self.get(pde, 4) as u32;
        if table & 1 == 0 {
            if index >= layout::PAGE_TABLE_COUNT {
                return Err("beyond 64 MiB a `pde` has to name the table".to_owned());
            }
            table = (layout::PAGE_TABLES + 0x1000 * index) | 0x27;
            self.put32(pde, table);
        }
        self.put32((table & 0xffff_f000) + 4 * ((linear >> 12) & 0x3ff), entry);
        Ok(())
    }

    /// The same with PAE, in the first GiB; `hi=` is the entry's upper half.
    fn page64(&mut self, text: &str, directory: bool) -> Result<(), String> {
        let (linear, what) = text.split_once('=').ok_or("`=` is missing")?;
        let linear = number(linear.trim())?;
        let (low, high) = match what.split_once("hi=") {
            Some((low, high)) => (page_entry(low)?, number(high.trim())?),
            None => (page_entry(what)?, 0),
        };
        let pde = layout::PAE_DIRECTORY + 8 * (linear >> 21);
        if linear >> 30 != 0 {
            return Err("only the first GiB has a directory".to_owned());
        }
        let at = match directory {
            true => pde,
            false => ((self.get(pde, 4) as u32) & 0xffff_f000) + 8 * (linear >> 12 & 0x1ff),
        };
        self.put32(at, low);
        self.put32(at + 4, high);
        Ok(())
    }

    /// `accessed 0x80`, `busy 0x80`: sets a bit of a descriptor's type.
    fn set_type_bit(&mut self, selectors: &str, ctx: &Context, bit: u8) -> Result<(), String> {
        for selector in selectors.split_whitespace() {
            let at = descriptor_at(number(selector)?, ctx) + 5;
            let byte = self.byte(at);
            self.put(at, &[byte | bit]);
        }
        Ok(())
    }

    fn clear_busy(&mut self, selector: &str, ctx: &Context) -> Result<(), String> {
        let at = descriptor_at(number(selector)?, ctx) + 5;
        let byte = self.byte(at);
        self.put(at, &[byte & !2]);
        Ok(())
    }
}

fn descriptor_at(selector: u32, ctx: &Context) -> u32 {
    let table = if selector & 4 != 0 { ctx.ldt } else { ctx.gdt };
    table.wrapping_add(selector & 0xfff8)
}

fn page_entry(text: &str) -> Result<u32, String> {
    let mut words = text.split_whitespace();
    let mut entry = number(words.next().ok_or("a frame is missing")?)?;
    for word in words {
        entry |= match word {
            "p" => 1,
            "rw" => 2,
            "us" => 4,
            "pwt" => 8,
            "pcd" => 0x10,
            "a" => 0x20,
            "d" => 0x40,
            "ps" => 0x80,
            "g" => 0x100,
            _ => return Err(format!("`{word}` is no bit of a page's entry")),
        };
    }
    Ok(entry)
}

/// Fields of the 32-bit TSS: name, offset, bytes (SDM vol. 3, figure 8-2).
#[rustfmt::skip]
const TSS32: &[(&str, u32, u32)] = &[
    ("link", 0, 2), ("esp0", 4, 4), ("ss0", 8, 2), ("esp1", 12, 4), ("ss1", 16, 2), ("esp2", 20, 4), ("ss2", 24, 2),
    ("cr3", 28, 4), ("eip", 32, 4), ("eflags", 36, 4), ("eax", 40, 4), ("ecx", 44, 4), ("edx", 48, 4),
    ("ebx", 52, 4), ("esp", 56, 4), ("ebp", 60, 4), ("esi", 64, 4), ("edi", 68, 4), ("es", 72, 2), ("cs", 76, 2),
    ("ss", 80, 2), ("ds", 84, 2), ("fs", 88, 2), ("gs", 92, 2), ("ldt", 96, 2), ("t", 100, 2), ("iomap", 102, 2),
];

/// Fields of the 16-bit TSS (SDM vol. 3, figure 8-10).
#[rustfmt::skip]
const TSS16: &[(&str, u32, u32)] = &[
    ("link", 0, 2), ("sp0", 2, 2), ("ss0", 4, 2), ("sp1", 6, 2), ("ss1", 8, 2), ("sp2", 10, 2), ("ss2", 12, 2),
    ("ip", 14, 2), ("flags", 16, 2), ("ax", 18, 2), ("cx", 20, 2), ("dx", 22, 2), ("bx", 24, 2), ("sp", 26, 2),
    ("bp", 28, 2), ("si", 30, 2), ("di", 32, 2), ("es", 34, 2), ("cs", 36, 2), ("ss", 38, 2), ("ds", 40, 2),
    ("ldt", 42, 2),
];
