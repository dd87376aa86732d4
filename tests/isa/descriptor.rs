//! Descriptors from words, and what a segment register holds after loading one (SDM vol. 3, 3.4.5 and 3.5). Written
//! anew here, so that a mistake in the processor's own reading of descriptors shows.

use crate::layout::number;

/// What is being described; the words after the first refine it.
struct Draft {
    kind: u32,
    segment: bool,
    dpl: u32,
    present: bool,
    base: u32,
    limit: u32,
    granular: bool,
    big: bool,
}

/// The descriptor that `words` describe, such as `code32 dpl=3 conforming base=0x10000 limit=0xfff` or
/// `callgate32 0x08:0x1234 params=2 dpl=3`. See the README for all words.
pub fn parse(words: &str) -> Result<u64, String> {
    let mut words = words.split_whitespace();
    let first = words.next().ok_or("a descriptor is missing")?;
    let rest: Vec<&str> = words.collect();
    match first {
        "raw" => rest.first().and_then(|w| u64::from_str_radix(w.trim_start_matches("0x"), 16).ok()),
        "int32" => return gate(14, &rest),
        "trap32" => return gate(15, &rest),
        "int16" => return gate(6, &rest),
        "trap16" => return gate(7, &rest),
        "callgate32" => return gate(12, &rest),
        "callgate16" => return gate(4, &rest),
        "taskgate" => return gate(5, &rest),
        _ => return segment(first, &rest),
    }
    .ok_or_else(|| "raw needs a number of 16 hexadecimal digits".to_owned())
}

fn gate(kind: u32, words: &[&str]) -> Result<u64, String> {
    let target = words.first().ok_or("a gate needs selector:offset")?;
    let (sel, offset) = target.split_once(':').unwrap_or((target, "0"));
    let (sel, offset) = (number(sel)?, number(offset)?);
    let (mut kind, mut dpl, mut present, mut params, mut s) = (kind, 0, 1, 0, 0);
    for word in &words[1..] {
        match word.split_once('=') {
            Some(("dpl", v)) => dpl = number(v)?,
            Some(("params", v)) => params = number(v)?,
            Some(("type", v)) => kind = number(v)?,
            None if *word == "np" => present = 0,
            None if *word == "s" => s = 1,
            _ => return Err(format!("`{word}` means nothing for a gate")),
        }
    }
    let low = (offset & 0xffff) | (sel << 16);
    let high = (offset & 0xffff_0000) | (present << 15) | (dpl << 13) | (s << 12) | (kind << 8) | params;
    Ok(u64::from(low) | (u64::from(high) << 32))
}

fn segment(first: &str, words: &[&str]) -> Result<u64, String> {
    let (kind, segment, big, limit) = match first {
        "code32" => (0xb, true, true, !0),
        "code16" => (0xb, true, false, 0xffff),
        "data32" => (0x3, true, true, !0),
        "data16" => (0x3, true, false, 0xffff),
        "tss32" => (0x9, false, false, 0x67),
        "tss16" => (0x1, false, false, 0x2b),
        "ldt" => (0x2, false, false, 0xff),
        "sys" => (0, false, false, 0),
        _ => return Err(format!("`{first}` is not a kind of descriptor")),
    };
    let mut d = Draft { kind, segment, dpl: 0, present: true, base: 0, limit, granular: false, big };
    for word in words {
        d.refine(word)?;
    }
    Ok(d.encode())
}

impl Draft {
    fn refine(&mut self, word: &str) -> Result<(), String> {
        match word.split_once('=') {
            Some(("dpl", v)) => self.dpl = number(v)?,
            Some(("base", v)) => self.base = number(v)?,
            Some(("limit", v)) => self.limit = number(v)?,
            Some(("type", v)) => self.kind = number(v)?,
            Some(_) => return Err(format!("`{word}` means nothing for a descriptor")),
            None => self.refine_by_name(word)?,
        }
        Ok(())
    }

    fn refine_by_name(&mut self, word: &str) -> Result<(), String> {
        match word {
            "np" => self.present = false,
            "conforming" | "down" => self.kind |= 4,
            "xonly" | "ro" => self.kind &= !2,
            "fresh" => self.kind &= !1,
            "busy" => self.kind |= 2,
            "g" => self.granular = true,
            _ => return Err(format!("`{word}` means nothing for a descriptor")),
        }
        Ok(())
    }

    fn encode(&self) -> u64 {
        let granular = self.granular || self.limit > 0xf_ffff;
        let limit = if granular { self.limit >> 12 } else { self.limit };
        let low = (limit & 0xffff) | (self.base << 16);
        let high = (self.base & 0xff00_0000)
            | (u32::from(granular) << 23)
            | (u32::from(self.big) << 22)
            | (limit & 0xf_0000)
            | (u32::from(self.present) << 15)
            | (self.dpl << 13)
            | (u32::from(self.segment) << 12)
            | (self.kind << 8)
            | ((self.base >> 16) & 0xff);
        u64::from(low) | (u64::from(high) << 32)
    }
}

/// What the hidden part of a register holds after loading `descriptor`: base, limit in bytes, attributes (the second
/// dword's bits 8-15 and, above them, 20-23).
pub fn hidden(descriptor: u64) -> (u32, u32, u32) {
    let (low, high) = (descriptor as u32, (descriptor >> 32) as u32);
    let base = (low >> 16) | ((high & 0xff) << 16) | (high & 0xff00_0000);
    let limit = (low & 0xffff) | (high & 0xf_0000);
    let limit = if high & (1 << 23) != 0 { (limit << 12) + 0xfff } else { limit };
    (base, limit, ((high >> 8) & 0xff) | (((high >> 20) & 0xf) << 8))
}
