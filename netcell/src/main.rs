//! The command `netcell`: thin over the library.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    netcell::cli::main()
}
