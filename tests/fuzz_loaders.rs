//! Random and damaged files through the loaders, and random text through the parsers of the command line.

#[path = "fuzz/bytes.rs"]
mod bytes;
#[path = "fuzz/loaders.rs"]
mod loaders;
#[path = "common/seed.rs"]
mod seed;
#[path = "fuzz/text.rs"]
mod text;

#[test]
fn no_file_harms_the_loaders() {
    seed::each(4000, 600, loaders::run);
}

#[test]
fn no_argument_harms_the_command_line() {
    seed::each(20_000, 40, text::run);
}
