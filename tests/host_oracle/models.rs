//! Where the manual leaves something to the processor's model, and Intel's processors do otherwise than AMD's, after which the
//! expectations of these forms were written. On a host of Intel's such a form is listed with what it does, and is no failure.

/// Names of forms, by how they begin and end, and what Intel's processors do there.
const OF_INTEL: [(&[&str], &str, &str); 8] = [
    (
        &["PUSH CS", "PUSH DS", "PUSH ES", "PUSH SS"],
        "/32",
        "two bytes of the four are written (SDM vol. 2, PUSH: a 16-bit move)",
    ),
    (&["SHLD rm,r", "SHRD rm,r"], "/16", "counts above 16 leave everything undefined (SDM vol. 2, SHLD)"),
    (&["BOUND"], "", "the lower bound is held against before the upper one is read"),
    (
        &["CALL near", "CALL rm"],
        "/32",
        "the return address is written before the target is held against the limit",
    ),
    (
        &["FST m", "FSTP m", "FIST m", "FISTP m", "FBSTP"],
        "/8",
        "an unmasked exception comes before the page fault of the store, which may leave its first bytes",
    ),
    (&["FSCALE", "FPREM"], "/8", "a denormal number that stays as it is raises no unmasked underflow"),
    (&["MOVD mem,mm", "MOVQ mem,mm"], "/64", "a store that faults leaves TOP as it was"),
    (&["FSIN"], "/8", "a result just below the smallest normal number may be rounded up to that"),
];

/// What the host does otherwise with the form `name`, if that is left to its model.
pub fn differs(name: &str) -> Option<&'static str> {
    if !is_intel() {
        return None;
    }
    let name = name.split_once(' ').map_or(name, |(_, form)| form);
    let found = |(starts, end, _): &&(&[&str], &str, &str)| {
        starts.iter().any(|start| name.starts_with(start)) && name.ends_with(end)
    };
    OF_INTEL.iter().find(found).map(|(_, _, what)| *what)
}

fn is_intel() -> bool {
    let id = std::arch::x86_64::__cpuid(0);
    [id.ebx, id.edx, id.ecx].map(u32::to_le_bytes).concat() == b"GenuineIntel"
}
