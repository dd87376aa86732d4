//! Random and damaged files through the loaders, and random text through the parsers of the command line.

use crate::common::seed;
use crate::fuzz::loaders;
use crate::fuzz::text;
#[test]
fn no_file_harms_the_loaders() {
    seed::each(4000, 600, loaders::run);
}

#[test]
fn no_argument_harms_the_command_line() {
    seed::each(20_000, 40, text::run);
}
