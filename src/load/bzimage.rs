//! Linux kernels: the x86 boot protocol, 32-bit entry (Documentation/arch/x86/boot.rst; zero-page.rst).
//!
//! The protected-mode part goes to 1 MiB and the initial RAM disk as high as the kernel allows. The kernel's 16-bit
//! setup code is not run: its header, the memory map and the screen go into the boot parameters ("zero page").

use super::guest::Around;
use super::loader_state::LoaderState;
use super::memory_map::memory_map;
use super::part::{Part, check_parts, check_range, kib, writes_of};
use super::plan::{Entry, Plan};
use crate::error::{Error, Result};
use std::path::Path;

/// Offsets within the setup header, which is also their place in the boot parameters.
mod field {
    pub(super) const SETUP_SECTS: usize = 0x1f1;
    pub(super) const HEADER_LEN: usize = 0x201;
    pub(super) const MAGIC: usize = 0x202;
    pub(super) const VERSION: usize = 0x206;
    pub(super) const TYPE_OF_LOADER: usize = 0x210;
    pub(super) const LOADFLAGS: usize = 0x211;
    pub(super) const CODE32_START: usize = 0x214;
    pub(super) const RAMDISK_IMAGE: usize = 0x218;
    pub(super) const RAMDISK_SIZE: usize = 0x21c;
    pub(super) const CMD_LINE_PTR: usize = 0x228;
    pub(super) const INITRD_ADDR_MAX: usize = 0x22c;
    pub(super) const CMDLINE_SIZE: usize = 0x238;
    pub(super) const INIT_SIZE: usize = 0x260;
}

/// Offsets in the boot parameters outside the header.
mod params {
    pub(super) const ORIG_VIDEO_MODE: usize = 0x06;
    pub(super) const ORIG_VIDEO_COLS: usize = 0x07;
    pub(super) const ORIG_VIDEO_LINES: usize = 0x0e;
    pub(super) const ORIG_VIDEO_ISVGA: usize = 0x0f;
    pub(super) const ORIG_VIDEO_POINTS: usize = 0x10;
    pub(super) const ALT_MEM_K: usize = 0x1e0;
    pub(super) const E820_ENTRIES: usize = 0x1e8;
    pub(super) const E820_TABLE: usize = 0x2d0;
    pub(super) const SIZE: usize = 0x1000;
}

/// LOADFLAGS: the protected-mode part goes to 1 MiB.
const LOADED_HIGH: u8 = 1;
/// TYPE_OF_LOADER: a loader without a number of its own.
const LOADER_UNDEFINED: u8 = 0xff;
/// The first version with everything that is used here: `cmdline_size`.
const OLDEST: u16 = 0x206;
/// The first version with `init_size`.
const WITH_INIT_SIZE: u16 = 0x20a;

const GDT: u32 = 0x8000;
const PARAMS: u32 = 0x1_0000;
const CMDLINE: u32 = 0x2_0000;
const KERNEL: u32 = 0x10_0000;
/// Null, unused, __BOOT_CS (10h), __BOOT_DS (18h): flat, 32-bit, ring 0.
const DESCRIPTORS: [u64; 4] = [0, 0, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

/// Whether `head` is a kernel that speaks the boot protocol.
pub fn is_linux(head: &[u8]) -> bool {
    head.get(field::MAGIC..).is_some_and(|h| h.starts_with(b"HdrS")) && super::disk::has_signature(head)
}

/// A kernel image, taken apart.
struct Image<'a> {
    setup: &'a [u8],
    kernel: &'a [u8],
}

impl<'a> Image<'a> {
    fn parse(path: &Path, bytes: &'a [u8]) -> Result<Self> {
        let sectors = match bytes.get(field::SETUP_SECTS) {
            Some(0) => 4,
            Some(&n) => usize::from(n),
            None => 0,
        };
        let split = (sectors + 1) * 512;
        if bytes.len() <= split || split < field::INIT_SIZE + 4 {
            let reason = format!(
                "it is cut short: its header speaks of {split} bytes of setup code, and the file has {} in all",
                bytes.len()
            );
            return Err(Error::image(path, reason));
        }
        let image = Self { setup: &bytes[..split], kernel: &bytes[split..] };
        let version = image.word16(field::VERSION);
        if version < OLDEST {
            let reason = format!(
                "it speaks version {}.{:02} of the Linux boot protocol; 2.06 (Linux 2.6.22) or later is needed: boot it from a disk image",
                version >> 8,
                version & 0xff
            );
            return Err(Error::image(path, reason));
        }
        if image.setup[field::LOADFLAGS] & LOADED_HIGH == 0 {
            return Err(Error::image(path, "it is a zImage, which loads below 1 MiB: build a bzImage"));
        }
        if image.word(field::CODE32_START) == 0 {
            // iPXE: its protected-mode part is data to the setup code, and no entry.
            let reason = "it starts by its 16-bit setup code only (its header names no 32-bit entry), which needs a \
                          BIOS: boot it from a disk or CD image with a boot loader (SYSLINUX, GRUB)";
            return Err(Error::image(path, reason));
        }
        Ok(image)
    }

    fn word16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.setup[at], self.setup[at + 1]])
    }

    fn word(&self, at: usize) -> u32 {
        u32::from(self.word16(at)) | u32::from(self.word16(at + 2)) << 16
    }

    /// Memory that the kernel takes before it looks at the memory map.
    fn init_size(&self) -> u64 {
        let stated =
            if self.word16(field::VERSION) >= WITH_INIT_SIZE { self.word(field::INIT_SIZE) } else { 0 };
        u64::from(stated).max(self.kernel.len() as u64)
    }
}

/// Plans the start of a Linux kernel.
///
/// # Errors
/// [`Error::Image`] when it is damaged, too old, or does not fit into memory with its initial RAM disk.
pub fn plan(path: &Path, bytes: &[u8], around: &Around) -> Result<Plan> {
    let image = Image::parse(path, bytes)?;
    check_range(path, KERNEL, image.init_size(), around.mem)?;
    let cmdline = command_line(path, &image, around)?;
    let initrd = place_initrd(path, &image, around)?;
    let params = boot_params(&image, around, initrd);
    let gdt: Vec<u8> = DESCRIPTORS.iter().flat_map(|d| d.to_le_bytes()).collect();
    let part = |at, bytes| Part { at, mem: u32::try_from(<[u8]>::len(bytes)).unwrap_or(u32::MAX), bytes };
    let mut parts =
        vec![part(GDT, &gdt), part(PARAMS, &params), part(CMDLINE, &cmdline), part(KERNEL, image.kernel)];
    if let (Some(at), Some(bytes)) = (initrd, &around.initrd) {
        parts.push(part(at, bytes));
    }
    check_parts(path, &mut parts, around.mem)?;
    let entry = Entry::Linux { eip: KERNEL, esi: PARAMS, gdt: GDT };
    let mut plan = Plan::new(entry, writes_of(&parts));
    // The protocol asks for a GDT, which is there; the FPU is the loader's.
    plan.loader = (!around.strict).then_some(LoaderState { gdt: None });
    Ok(plan)
}

/// The command line with its terminating zero.
fn command_line(path: &Path, image: &Image<'_>, around: &Around) -> Result<Vec<u8>> {
    let mut text: Vec<u8> =
        around.cmdline.as_deref().unwrap_or_default().bytes().filter(|&b| b != 0).collect();
    let most = image.word(field::CMDLINE_SIZE) as usize;
    if text.len() > most.min(0xffff) {
        let reason = format!("its command line may have {most} bytes, and --append gives {}", text.len());
        return Err(Error::image(path, reason));
    }
    text.push(0);
    Ok(text)
}

/// Where the initial RAM disk goes: the highest page-aligned place that the kernel can reach, clear of the kernel.
fn place_initrd(path: &Path, image: &Image<'_>, around: &Around) -> Result<Option<u32>> {
    let Some(initrd) = &around.initrd else { return Ok(None) };
    let top = u64::from(around.mem).min(u64::from(image.word(field::INITRD_ADDR_MAX)) + 1);
    let lowest = u64::from(KERNEL) + image.init_size();
    match top.checked_sub(initrd.len() as u64).map(|at| at & !0xfff) {
        Some(at) if at >= lowest => Ok(Some(at as u32)),
        _ => Err(Error::image(
            path,
            format!(
                "the kernel ({} KiB) and an initial RAM disk of {} KiB do not fit into {} of memory: give a larger --mem",
                image.init_size() / 1024,
                initrd.len() / 1024,
                kib(around.mem)
            ),
        )),
    }
}

fn boot_params(image: &Image<'_>, around: &Around, initrd: Option<u32>) -> Vec<u8> {
    let mut p = vec![0u8; params::SIZE];
    let header_end =
        (field::MAGIC + usize::from(image.setup[field::HEADER_LEN])).min(params::E820_TABLE - 0x40);
    p[field::SETUP_SECTS..header_end].copy_from_slice(&image.setup[field::SETUP_SECTS..header_end]);
    p[field::TYPE_OF_LOADER] = LOADER_UNDEFINED;
    set(&mut p, field::CODE32_START, KERNEL);
    set(&mut p, field::CMD_LINE_PTR, CMDLINE);
    if let (Some(at), Some(bytes)) = (initrd, &around.initrd) {
        set(&mut p, field::RAMDISK_IMAGE, at);
        set(&mut p, field::RAMDISK_SIZE, bytes.len() as u32);
    }
    screen(&mut p);
    memory(&mut p, around.mem);
    p
}

/// The text mode that the adapter starts in: 80 by 25, 16 lines a character.
fn screen(p: &mut [u8]) {
    p[params::ORIG_VIDEO_MODE] = 3;
    p[params::ORIG_VIDEO_COLS] = 80;
    p[params::ORIG_VIDEO_LINES] = 25;
    p[params::ORIG_VIDEO_ISVGA] = 1;
    p[params::ORIG_VIDEO_POINTS] = 16;
}

fn memory(p: &mut [u8], mem: u32) {
    set(p, params::ALT_MEM_K, mem.saturating_sub(KERNEL) / 1024);
    let map = memory_map(mem);
    p[params::E820_ENTRIES] = map.len() as u8;
    for (n, range) in map.iter().enumerate() {
        let kind = if range.usable { 1 } else { 2 };
        for (i, word) in [range.base, 0, range.len, 0, kind].into_iter().enumerate() {
            set(p, params::E820_TABLE + 20 * n + 4 * i, word);
        }
    }
}

fn set(p: &mut [u8], at: usize, value: u32) {
    p[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel of `kernel` bytes behind one sector of setup.
    fn image(kernel: usize, version: u16) -> Vec<u8> {
        let mut bytes = vec![0u8; 1024 + kernel];
        bytes[field::SETUP_SECTS] = 1;
        bytes[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        bytes[field::HEADER_LEN] = 0x66;
        bytes[field::MAGIC..field::MAGIC + 4].copy_from_slice(b"HdrS");
        bytes[field::VERSION..field::VERSION + 2].copy_from_slice(&version.to_le_bytes());
        bytes[field::LOADFLAGS] = LOADED_HIGH;
        set(&mut bytes, field::CODE32_START, KERNEL);
        set(&mut bytes, field::INITRD_ADDR_MAX, 0x7fff_ffff);
        set(&mut bytes, field::CMDLINE_SIZE, 255);
        bytes
    }

    fn around(mem: u32) -> Around {
        Around {
            mem,
            cmdline: Some("console=ttyS0".into()),
            initrd: Some(vec![7; 5000]),
            ..Around::default()
        }
    }

    #[test]
    fn a_kernel_its_command_line_and_its_ram_disk_are_placed() {
        let plan = plan(Path::new("k"), &image(9000, 0x20f), &around(16 << 20)).unwrap();
        let at = |a: u32| plan.writes.iter().find(|w| w.0.0 == a).map(|w| w.1.as_slice()).unwrap();
        assert_eq!(at(CMDLINE), b"console=ttyS0\0");
        assert_eq!(at(KERNEL).len(), 9000);
        let params = at(PARAMS);
        let word = |o: usize| u32::from_le_bytes(params[o..o + 4].try_into().unwrap());
        assert_eq!(word(field::RAMDISK_IMAGE), (16 << 20) - 8192);
        assert_eq!(word(field::RAMDISK_SIZE), 5000);
        assert_eq!(at(word(field::RAMDISK_IMAGE)), [7; 5000]);
        assert_eq!(word(params::E820_TABLE + 3 * 20), KERNEL);
    }

    #[test]
    fn what_does_not_fit_is_too_old_or_has_no_entry_is_refused() {
        let refused = |bytes: &[u8], mem| plan(Path::new("k"), bytes, &around(mem)).unwrap_err().to_string();
        assert!(refused(&image(9000, 0x204), 16 << 20).contains("2.04"));
        assert!(refused(&image(9000, 0x20f)[..700], 16 << 20).contains("cut short"));
        let mut sixteen = image(9000, 0x207);
        set(&mut sixteen, field::CODE32_START, 0);
        assert!(refused(&sixteen, 16 << 20).contains("16-bit setup code only"));
        let mut greedy = image(9000, 0x20f);
        set(&mut greedy, field::INIT_SIZE, 64 << 20);
        assert!(refused(&greedy, 16 << 20).contains("--mem"));
        assert!(refused(&image(9000, 0x20f), (1 << 20) + 12288).contains("RAM disk"));
    }

    #[test]
    fn no_header_field_makes_it_panic() {
        for at in 0x1f1..0x268 {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = image(100, 0x20f);
                bytes[at] = value;
                let _ = plan(Path::new("k"), &bytes, &around(4 << 20));
            }
        }
    }
}
