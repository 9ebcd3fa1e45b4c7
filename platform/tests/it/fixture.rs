//! A guest program in one address space: code, data and stack pages, and a context.

use std::sync::Arc;

use platform::{
    AddressSpace, Context, Event, FileRange, PAGE_SIZE, Platform, Populate, Prot, Registers,
};

/// Where code is mapped, read and execute.
pub const CODE: u64 = 0x40_0000;
/// Where data is mapped, read and write: four pages.
pub const DATA: u64 = 0x50_0000;
pub const DATA_LEN: u64 = 4 * PAGE_SIZE;

/// `syscall`
pub const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// `jmp .`
pub const LOOP: [u8; 2] = [0xeb, 0xfe];

pub struct Guest {
    pub platform: Arc<dyn Platform>,
    pub space: Arc<dyn AddressSpace>,
    pub context: Box<dyn Context>,
    pub regs: Registers,
    pub code: FileRange,
    pub data: FileRange,
}

impl Guest {
    /// A guest whose next instruction is the first byte of `program`.
    pub fn new(platform: Arc<dyn Platform>, program: &[u8]) -> Guest {
        let memory = platform.memory().clone();
        let code = memory.allocate(PAGE_SIZE, PAGE_SIZE).unwrap();
        let data = memory.allocate(DATA_LEN, PAGE_SIZE).unwrap();
        memory.write_at(code.start, program).unwrap();
        let space = platform.new_address_space().unwrap();
        map_guest(&*space, code, data);
        let context = platform.new_context().unwrap();
        let regs = Registers::at_entry(CODE, DATA + DATA_LEN);
        Guest { platform, space, context, regs, code, data }
    }

    /// Runs to the next event.
    pub fn run(&mut self) -> Event {
        self.context.switch(&self.space, &mut self.regs).unwrap()
    }

    /// Runs to the next event, which must be a system call of that number.
    pub fn expect_syscall(&mut self, nr: u64) {
        assert_eq!(self.run(), Event::Syscall, "{:?}", self.regs);
        assert_eq!(self.regs.nr(), nr);
    }

    /// The data word at that offset.
    pub fn word(&self, offset: u64) -> u64 {
        let mut bytes = [0; 8];
        self.platform.memory().read_at(self.data.start + offset, &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }

    pub fn set_word(&self, offset: u64, value: u64) {
        self.platform.memory().write_at(self.data.start + offset, &value.to_le_bytes()).unwrap();
    }
}

/// Maps code and data at their usual places.
pub fn map_guest(space: &dyn AddressSpace, code: FileRange, data: FileRange) {
    space.map_file(CODE, code.len, code.start, Prot::READ | Prot::EXEC, Populate::Lazy).unwrap();
    space.map_file(DATA, data.len, data.start, Prot::READ | Prot::WRITE, Populate::Lazy).unwrap();
}

/// Starts the backend of that name.
pub fn start(name: &str) -> Arc<dyn Platform> {
    let backend = platform::by_name(name).expect("listed");
    let platform = (backend.start)(platform::BackendOptions::default());
    platform.unwrap_or_else(|error| panic!("{name} does not work here: {error}"))
}

/// Concatenates instructions.
pub fn program(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// `mov eax, value`
pub fn mov_eax(value: u32) -> Vec<u8> {
    [&[0xb8][..], &value.to_le_bytes()].concat()
}
