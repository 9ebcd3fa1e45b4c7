//! Tests of whole stacks. Everything runs in virtual time from seeds that are printed.

mod floods;
mod scenarios;
mod tcp;
