//! Measures what a platform costs: a system call's round trip, a map change, a fault, a new space.
//! `cargo run --release -p platform --example round_trip [NAME]`

use std::sync::Arc;
use std::time::Instant;

use platform::{
    AddressSpace, BackendOptions, CallSite, Context, Event, FileRange, PAGE_SIZE, Platform,
    PlatformError, Populate, Prot, Registers,
};

const CODE: u64 = 0x40_0000;
const DATA: u64 = 0x1000_0000;
/// `1: mov $39, %eax; syscall; jmp 1b`
const CALL: [u8; 9] = [0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];

struct Bench {
    platform: Arc<dyn Platform>,
    code: FileRange,
    data: FileRange,
}

impl Bench {
    fn space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        let space = self.platform.new_address_space()?;
        let prot = Prot::READ | Prot::EXEC;
        space.map_file(CODE, PAGE_SIZE, self.code.start, prot, Populate::Now)?;
        Ok(space)
    }

    fn run(
        &self,
        context: &mut dyn Context,
        space: &Arc<dyn AddressSpace>,
        rounds: u32,
        name: &str,
        mut step: impl FnMut(&Arc<dyn AddressSpace>, Event, &mut Registers) -> Result<(), PlatformError>,
    ) -> Result<(), PlatformError> {
        let mut regs = Registers { rbx: DATA, ..Registers::at_entry(CODE, 0) };
        let start = Instant::now();
        for _ in 0..rounds {
            let event = context.switch(space, &mut regs)?;
            step(space, event, &mut regs)?;
        }
        report(name, start, rounds);
        Ok(())
    }
}

fn report(name: &str, start: Instant, rounds: u32) {
    println!("{name:32} {:8} ns", start.elapsed().as_nanos() / u128::from(rounds.max(1)));
}

fn main() -> Result<(), PlatformError> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "ptrace".to_string());
    let Some(backend) = platform::by_name(&name) else {
        eprintln!("no platform is called {name}");
        std::process::exit(1);
    };
    let platform = (backend.start)(BackendOptions::default())?;
    let memory = platform.memory().clone();
    let code = memory.allocate(PAGE_SIZE, PAGE_SIZE)?;
    let data = memory.allocate(512 * PAGE_SIZE, 512 * PAGE_SIZE)?;
    let bench = Bench { platform, code, data };
    let space = bench.space()?;
    let mut context = bench.platform.new_context()?;
    memory.write_at(code.start, &CALL)?;
    for _ in 0..3 {
        bench.run(&mut *context, &space, 50_000, "getpid round trip", |_, _, regs| {
            regs.set_result(1);
            Ok(())
        })?;
    }
    // The same at a place where it can be patched.
    memory.write_at(code.start, &[&[0x90; 32][..], &CALL].concat())?;
    for _ in 0..3 {
        space.patch_call(CallSite { behind: CODE + 39, nr: 39 }, code.start);
        bench.run(&mut *context, &space, 50_000, "the same, patched", |_, _, regs| {
            regs.set_result(1);
            Ok(())
        })?;
    }
    memory.write_at(code.start, &[0x90; 64])?;
    space.map_file(CODE, PAGE_SIZE, code.start, Prot::READ | Prot::EXEC, Populate::Now)?;
    // mov [rbx], al, which faults each time: map a page, then go to the next one.
    memory.write_at(code.start, &[0x88, 0x03, 0xeb, 0xfc])?;
    let mut page = 0;
    bench.run(
        &mut *context,
        &space,
        10_000,
        "fault that maps one page",
        |space, event, regs| {
            if let Event::Fault { .. } = event {
                let file = bench.data.start + page % 512 * PAGE_SIZE;
                let at = DATA + page * PAGE_SIZE;
                page += 1;
                regs.rbx = DATA + page * PAGE_SIZE;
                let prot = Prot::READ | Prot::WRITE;
                space.map_file(at, PAGE_SIZE, file, prot, Populate::Lazy)?;
            }
            Ok(())
        },
    )?;
    let start = Instant::now();
    for _ in 0..10_000 {
        space.map_file(DATA, PAGE_SIZE, data.start, Prot::READ, Populate::Lazy)?;
    }
    report("map of one page", start, 10_000);
    let start = Instant::now();
    for _ in 0..500 {
        drop(bench.space()?);
    }
    report("new space with one page", start, 500);
    memory.write_at(code.start, &[0x0f, 0x05])?;
    let start = Instant::now();
    for _ in 0..500 {
        let mut context = bench.platform.new_context()?;
        context.switch(&space, &mut Registers::at_entry(CODE, 0))?;
    }
    report("new context with one call", start, 500);
    Ok(())
}
