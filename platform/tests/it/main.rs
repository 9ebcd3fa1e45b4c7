//! The suite that every platform must pass: it is generic over the traits, and its programs are
//! hand-assembled bytes in pages of the memory file.

mod escape;
mod events;
mod fixture;
mod fpu;
mod hostile;
mod kicks;
mod lifecycle;
mod maps;
mod patched;

/// Makes a test of each function for each platform that runs real code.
#[macro_export]
macro_rules! platform_tests {
    ($($(#[$meta:meta])* $name:ident),+ $(,)?) => {
        mod ptrace {
            $(#[test] $(#[$meta])* fn $name() {
                super::$name($crate::fixture::start("ptrace"));
            })+
        }
        mod systrap {
            $(#[test] $(#[$meta])* fn $name() {
                super::$name($crate::fixture::start("systrap"));
            })+
        }
    };
}
