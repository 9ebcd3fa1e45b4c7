//! The executable `netcell-cni`: thin over the library.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    netcell_cni::main()
}
