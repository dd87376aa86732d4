//! The `subring` program: everything is in [`subring::cli`].

fn main() -> std::process::ExitCode {
    subring::cli::main(std::env::args_os())
}
