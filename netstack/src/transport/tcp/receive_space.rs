//! The room of a receive buffer as the peer may use it: the buffer counts the memory that packets keep alive, the
//! window counts payload, and a measured ratio leads from one to the other (Linux's scaling_ratio).

/// The ratio before anything came, in 256ths: half of the memory is payload.
const RATIO_FIRST: u8 = 128;
/// The least TCP_WINDOW_CLAMP in bytes: half of Linux's SOCK_MIN_RCVBUF.
const CLAMP_MIN: usize = 1152;

/// The buffer's size and how far it is opened.
#[derive(Debug)]
pub struct Space {
    /// Bytes of memory that may be held (SO_RCVBUF as the kernel counts it).
    pub capacity: usize,
    /// How far the capacity grows by itself.
    pub capacity_max: usize,
    /// Whether the program set the capacity, which then stays.
    pub locked: bool,
    /// Whether the stack is short of memory: nothing grows, and the window stays small.
    pub pressed: bool,
    /// What the stack lets this connection hold for receiving.
    pub allowance: usize,
    ratio: u8,
    ssthresh: usize,
    clamp: usize,
    program_clamp: Option<usize>,
}

impl Space {
    /// A buffer of `capacity` bytes that may grow to `capacity_max`.
    pub fn new(capacity: usize, capacity_max: usize) -> Space {
        let capacity_max = capacity_max.max(capacity);
        Space {
            capacity,
            capacity_max,
            locked: false,
            pressed: false,
            allowance: usize::MAX,
            ratio: RATIO_FIRST,
            ssthresh: usize::MAX,
            clamp: usize::MAX,
            program_clamp: None,
        }
    }

    /// SO_RCVBUF: this size and no other.
    pub fn lock(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.capacity_max = capacity;
        self.locked = true;
        self.clamp = self.full();
    }

    /// The payload that fits in `memory` bytes.
    fn payload_of(&self, memory: usize) -> usize {
        ((memory as u128 * u128::from(self.ratio)) >> 8) as usize
    }

    /// The memory that `payload` bytes take.
    fn memory_of(&self, payload: usize) -> usize {
        let memory = ((payload as u128) << 8) / u128::from(self.ratio.max(1));
        usize::try_from(memory).unwrap_or(usize::MAX)
    }

    /// The payload that fits in the whole buffer.
    pub fn full(&self) -> usize {
        self.payload_of(self.capacity)
    }

    /// The payload that still fits beside what is held.
    pub fn free(&self, held: usize) -> usize {
        self.payload_of(self.capacity.saturating_sub(held))
    }

    /// How far the window is opened so far (Linux's rcv_ssthresh).
    pub fn ssthresh(&self) -> usize {
        self.ssthresh
    }

    /// The largest window that may be offered.
    pub fn most(&self) -> usize {
        let clamp = self.clamp.min(self.program_clamp.unwrap_or(usize::MAX));
        self.full().min(clamp)
    }

    /// The largest window that a growing buffer could offer: what the window's shift must reach.
    pub fn reachable(&self) -> usize {
        let most = if self.locked { self.full() } else { self.capacity_max.max(self.capacity) };
        most.min(self.program_clamp.unwrap_or(usize::MAX))
    }

    /// TCP_WINDOW_CLAMP; None for none. `window` is what is offered now.
    pub fn set_clamp(&mut self, clamp: Option<usize>, window: usize) {
        let clamp = clamp.map(|bytes| bytes.max(CLAMP_MIN));
        if clamp == self.program_clamp {
            return;
        }
        let before = self.most();
        self.program_clamp = clamp;
        let now = self.most();
        if self.ssthresh == usize::MAX {
            return;
        }
        self.ssthresh = match now < before {
            true => self.ssthresh.min(now),
            false => self.ssthresh.max(window.min(now)),
        };
    }

    /// TCP_WINDOW_CLAMP as it is read.
    pub fn clamp(&self) -> usize {
        self.program_clamp.unwrap_or(self.clamp)
    }

    /// The window of a SYN, in whole segments of `mss` bytes where one fits.
    pub fn first_window(&self, mss: usize) -> usize {
        let space = self
            .full()
            .min(self.program_clamp.unwrap_or(usize::MAX))
            .min(usize::from(u16::MAX) + 1);
        let whole = if space > mss { space / mss.max(1) * mss.max(1) } else { space };
        whole.min(usize::from(u16::MAX))
    }

    /// The handshake is over: the window begins with what was offered, and a segment's room is kept back.
    pub fn start(&mut self, window: usize, mss: usize) {
        let full = self.full();
        self.clamp = full;
        if full > 2 * mss {
            self.clamp = (full - mss).max(2 * mss);
        }
        self.ssthresh = window.min(self.most());
    }

    /// A segment of a new largest size came: `payload` bytes that keep `held` bytes alive.
    pub fn measure(&mut self, payload: usize, held: usize) {
        let ratio = ((payload as u128) << 8) / held.max(1) as u128;
        let ratio = ratio.clamp(1, 255) as u8;
        if ratio != self.ratio {
            self.ratio = ratio;
            self.clamp = self.full();
        }
    }

    /// Data came that keeps little more than itself alive: the window may open further, the wider the better the data
    /// is packed. Answers whether it did.
    pub fn open(&mut self, payload: usize, held: usize, mss: usize) -> bool {
        let room = self.most().saturating_sub(self.ssthresh);
        if room == 0 || self.pressed {
            return false;
        }
        let step = match self.payload_of(held) <= payload {
            true => 2 * mss,
            false => self.cautious_step(payload, held, mss),
        };
        if step == 0 {
            return false;
        }
        self.ssthresh += room.min(step.max(2 * payload));
        true
    }

    /// Poorly packed data opens the window only while it is small against what the buffer may become.
    fn cautious_step(&self, payload: usize, held: usize, mss: usize) -> usize {
        let mut cost = self.payload_of(held) / 2;
        let mut window = self.payload_of(self.capacity_max) / 2;
        while self.ssthresh <= window {
            if cost <= payload {
                return 2 * mss;
            }
            cost /= 2;
            window /= 2;
        }
        0
    }

    /// The buffer should let a window of `payload` bytes be used.
    pub fn grow(&mut self, payload: usize) {
        let wanted = self.memory_of(payload).min(self.capacity_max);
        if !self.locked && !self.pressed && wanted > self.capacity {
            self.capacity = wanted;
            self.clamp = self.full();
        }
    }

    /// More is held than fits: what the buffer may become by itself, it becomes.
    pub fn stretch(&mut self, held: usize, mss: usize) {
        if !self.locked && !self.pressed {
            self.capacity = self.capacity.max(held.min(self.capacity_max));
        }
        if held > self.capacity {
            self.ssthresh = self.ssthresh.min(2 * mss);
        }
    }

    /// What the stack lets this connection hold. Short of memory, the window stays within that, or within a few segments.
    pub fn allow(&mut self, bytes: usize, mss: usize) {
        self.allowance = bytes;
        self.pressed = bytes != usize::MAX;
        if self.pressed {
            self.ssthresh = self.ssthresh.min(self.payload_of(bytes).max(4 * mss));
        }
    }
}
