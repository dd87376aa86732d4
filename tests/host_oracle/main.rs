//! The host-CPU oracle: the processor this runs on judges our interpreter, one generated instruction at a time.
//!
//! `cargo test --test host_oracle` runs 2,000 cases of every form, and one in four of them in translated code, too;
//! `SUBRING_ORACLE_CASES` sets another number, `SUBRING_FULL=1` translates all.
//! Arguments choose forms whose names contain them; `--list` names all forms; `--survey` prints how the host leaves
//! undefined flags. Seeds are fixed: the same number of cases is always the same cases. Forms are dealt out to one
//! process per host processor, since each [`host::HostCpu`] owns fixed addresses and the signal handlers.
//!
//! In reading order: `case` (the machine, a case, an outcome), `host` (the unsafe part), `generate` and `forms` (what
//! is run; `x87` for the floating-point ones, `mmx`), `compare`, `ours` (what is judged), `known`, `survey`.
#![allow(unreachable_pub, missing_docs)]

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod case;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod compare;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod forms;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod fsave;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod generate;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod host;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod known;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod mmx;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod models;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod ours;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod report;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod rng;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod survey;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod x87;

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn main() {
    println!(
        "*** SKIPPED: the host-CPU oracle needs an x86-64 Linux host, and this is not one. Nothing was compared. ***"
    );
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let filters: Vec<String> = args.iter().filter(|a| !a.starts_with('-')).cloned().collect();
    if args.iter().any(|a| a == "--list") {
        for form in forms::all(true) {
            println!("{}: test", form.name);
        }
        return std::process::ExitCode::SUCCESS;
    }
    if let Some(shard) = args.iter().find_map(|a| a.strip_prefix("--shard=")) {
        return report::run_shard(shard, &filters);
    }
    if args.iter().any(|a| a == "--survey") {
        return match host::HostCpu::new() {
            Ok((mut cpu, _)) => {
                print!("{}", survey::survey(&mut cpu, 20_000));
                std::process::ExitCode::SUCCESS
            }
            Err(why) => report::skipped(&why),
        };
    }
    report::run_all(&filters)
}
