//! FPU and vector state as an XSAVE image in the standard (not compacted) format: its size on this
//! processor, its initial value, and the checks on an image that a program hands in.
//!
//! Layout: Intel SDM volume 1, chapter 13: 512 bytes of FXSAVE, 64 bytes of header, components.

use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::OnceLock;

/// The legacy area that FXSAVE writes.
pub const FXSAVE_SIZE: usize = 512;
/// The XSAVE header behind it: XSTATE_BV, XCOMP_BV, 48 reserved bytes.
const HEADER_SIZE: usize = 64;
const MXCSR_OFFSET: usize = 24;
const MXCSR_MASK_OFFSET: usize = 28;
const FEATURE_X87: u64 = 1;
const FEATURE_SSE: u64 = 2;
const FEATURE_YMM: u64 = 4;
/// AMX tile configuration and data: a program gets them only by a request that the kernel refuses,
/// so they are in no image (and need not be copied: they are 8 KiB).
const FEATURES_AMX: u64 = 3 << 17;
/// Supervisor components and PKRU never pass through a program's hands here.
const FEATURES_USER: u64 = 0b1110_0111;

/// What the processor and the host kernel offer.
#[derive(Clone, Copy, Debug)]
struct Support {
    /// What the host has enabled (XCR0).
    enabled: u64,
    /// The components that images carry: a part of those.
    features: u64,
    /// Bytes of an image.
    size: usize,
    /// The MXCSR bits that may be set.
    mxcsr_mask: u32,
}

fn support() -> Support {
    static SUPPORT: OnceLock<Support> = OnceLock::new();
    *SUPPORT.get_or_init(detect)
}

fn detect() -> Support {
    let mxcsr_mask = detect_mxcsr_mask();
    let osxsave = __cpuid(1).ecx & (1 << 27) != 0;
    if !osxsave || __cpuid(0).eax < 0xd {
        let features = FEATURE_X87 | FEATURE_SSE;
        return Support { enabled: features, features, size: FXSAVE_SIZE, mxcsr_mask };
    }
    // SAFETY: CPUID says that the operating system has enabled XGETBV (OSXSAVE).
    let enabled = unsafe { xcr0() };
    let features = enabled & FEATURES_USER & !FEATURES_AMX;
    let mut size = FXSAVE_SIZE + HEADER_SIZE;
    for component in 2..63 {
        if features & (1 << component) != 0 {
            let leaf = __cpuid_count(0xd, component);
            size = size.max((leaf.eax as usize).saturating_add(leaf.ebx as usize));
        }
    }
    Support { enabled, features, size, mxcsr_mask }
}

/// Reads the register that says which components are enabled.
///
/// # Safety
/// The processor must have OSXSAVE set in CPUID.
unsafe fn xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller guarantees that XGETBV exists; it reads a register and touches no memory.
    unsafe {
        std::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high,
            options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

fn detect_mxcsr_mask() -> u32 {
    #[repr(C, align(16))]
    struct Area([u8; FXSAVE_SIZE]);
    let mut area = Area([0; FXSAVE_SIZE]);
    // SAFETY: every x86-64 processor has FXSAVE, and the area is 512 bytes, 16-byte aligned.
    unsafe { std::arch::x86_64::_fxsave64(area.0.as_mut_ptr()) };
    // A zero means the default of processors before the mask existed (SDM 11.6.6).
    match read_u32(&area.0, MXCSR_MASK_OFFSET) {
        0 => 0xffbf,
        mask => mask,
    }
}

/// Bytes of an image on this processor.
pub fn image_size() -> usize {
    support().size
}

/// The component bits that an image can carry (XCR0 without what programs cannot get).
pub fn features() -> u64 {
    support().features
}

/// An image that a program handed in cannot be loaded: it has reserved bits set or is too short.
/// Linux ends the program with SIGSEGV then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the FPU image has reserved bits set or is too short")]
pub struct BadFpuImage;

/// The whole FPU and vector state of a thread: [`image_size`] bytes of XSAVE image, valid for the
/// host at all times.
#[derive(Clone, PartialEq, Eq)]
pub struct FpuState {
    image: Vec<u8>,
}

impl std::fmt::Debug for FpuState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FpuState({} bytes, xstate_bv {:#x})", self.image.len(), self.xstate_bv())
    }
}

impl FpuState {
    /// The state of a fresh program (execve): control word 0x37f, MXCSR 0x1f80, all else zero.
    pub fn initial() -> FpuState {
        let support = support();
        let mut image = vec![0; support.size];
        write_u16(&mut image, 0, 0x37f);
        write_u32(&mut image, MXCSR_OFFSET, 0x1f80);
        write_u32(&mut image, MXCSR_MASK_OFFSET, support.mxcsr_mask);
        let mut state = FpuState { image };
        state.set_xstate_bv(FEATURE_X87 | FEATURE_SSE);
        state
    }

    /// The image, [`image_size`] bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.image
    }

    /// Which components are not in their initial state.
    pub fn xstate_bv(&self) -> u64 {
        read_u64(&self.image, FXSAVE_SIZE)
    }

    fn set_xstate_bv(&mut self, value: u64) {
        write_u64(&mut self.image, FXSAVE_SIZE, value);
    }

    /// Takes an image from the host, which may be longer (components that programs cannot get).
    pub(crate) fn from_host(bytes: &[u8]) -> Result<FpuState, BadFpuImage> {
        let mut state = FpuState::initial();
        let image = bytes.get(..state.image.len()).ok_or(BadFpuImage)?;
        state.image.copy_from_slice(image);
        if state.image.len() > FXSAVE_SIZE {
            // The software bytes are the host's; XSTATE_BV keeps what the image holds.
            state.image[464..FXSAVE_SIZE].fill(0);
            let kept = state.xstate_bv() & features() | FEATURE_X87 | FEATURE_SSE;
            state.set_xstate_bv(kept);
        }
        Ok(state)
    }

    /// What a stub's thread has saved (an XSAVE image). One that its program has forged is the initial state.
    pub(crate) fn from_stub(image: &[u8]) -> FpuState {
        FpuState::from_user_xsave(image, u64::MAX).unwrap_or_else(|_| FpuState::initial())
    }

    /// Takes an XSAVE image from a program, of which the components in `wanted` are used and the
    /// rest become initial, as Linux does in rt_sigreturn. Refused as Linux refuses it: unknown
    /// components, the compacted format, reserved header or MXCSR bits.
    pub fn from_user_xsave(bytes: &[u8], wanted: u64) -> Result<FpuState, BadFpuImage> {
        let support = support();
        let mut state = FpuState::initial();
        if support.size == FXSAVE_SIZE {
            return FpuState::from_user_fxsave(bytes);
        }
        let length = state.image.len().min(bytes.len());
        let given = bytes.get(..length).ok_or(BadFpuImage)?;
        let header = given.get(FXSAVE_SIZE..FXSAVE_SIZE + HEADER_SIZE).ok_or(BadFpuImage)?;
        let xstate_bv = read_u64(header, 0);
        if xstate_bv & !support.enabled != 0 || header[8..].iter().any(|byte| *byte != 0) {
            return Err(BadFpuImage);
        }
        let used = xstate_bv & wanted & support.features;
        if length < size_of_components(used) {
            return Err(BadFpuImage);
        }
        // MXCSR belongs to both SSE and AVX (SDM 13.5.2, 13.5.3).
        let mxcsr = read_u32(given, MXCSR_OFFSET);
        let uses_mxcsr = wanted & (FEATURE_SSE | FEATURE_YMM) != 0;
        if uses_mxcsr && mxcsr & !support.mxcsr_mask != 0 {
            return Err(BadFpuImage);
        }
        let initial = state.image.clone();
        state.image[..length].copy_from_slice(given);
        if used & FEATURE_X87 == 0 {
            state.image[..24].copy_from_slice(&initial[..24]);
            state.image[32..160].copy_from_slice(&initial[32..160]);
        }
        if used & FEATURE_SSE == 0 {
            state.image[160..416].fill(0);
        }
        if !uses_mxcsr {
            write_u32(&mut state.image, MXCSR_OFFSET, 0x1f80);
        }
        state.image[416..FXSAVE_SIZE].fill(0);
        write_u32(&mut state.image, MXCSR_MASK_OFFSET, support.mxcsr_mask);
        state.set_xstate_bv(used | FEATURE_X87 | FEATURE_SSE);
        Ok(state)
    }

    /// Takes the 512 bytes of an FXSAVE image from a program: the vector components become initial
    /// and reserved MXCSR bits are dropped, as Linux does for frames without extended state.
    pub fn from_user_fxsave(bytes: &[u8]) -> Result<FpuState, BadFpuImage> {
        let mut state = FpuState::initial();
        let given = bytes.get(..FXSAVE_SIZE).ok_or(BadFpuImage)?;
        state.image[..416].copy_from_slice(&given[..416]);
        let mask = support().mxcsr_mask;
        let mxcsr = read_u32(given, MXCSR_OFFSET) & mask;
        write_u32(&mut state.image, MXCSR_OFFSET, mxcsr);
        write_u32(&mut state.image, MXCSR_MASK_OFFSET, mask);
        Ok(state)
    }
}

/// The bytes that an image needs to hold these components.
fn size_of_components(features: u64) -> usize {
    let mut size = FXSAVE_SIZE + HEADER_SIZE;
    for component in 2..63 {
        if features & (1 << component) != 0 {
            let leaf = __cpuid_count(0xd, component);
            size = size.max((leaf.eax as usize).saturating_add(leaf.ebx as usize));
        }
    }
    size
}

/// Reads a little-endian word; a buffer that is too short reads as zero.
fn read_u32(bytes: &[u8], offset: usize) -> u32 {
    let word = bytes.get(offset..offset.saturating_add(4));
    word.and_then(|word| word.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn read_u64(bytes: &[u8], offset: usize) -> u64 {
    let word = bytes.get(offset..offset.saturating_add(8));
    word.and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn write_u16(bytes: &mut [u8], offset: usize, value: u16) {
    write_bytes(bytes, offset, &value.to_le_bytes());
}

fn write_u32(bytes: &mut [u8], offset: usize, value: u32) {
    write_bytes(bytes, offset, &value.to_le_bytes());
}

fn write_u64(bytes: &mut [u8], offset: usize, value: u64) {
    write_bytes(bytes, offset, &value.to_le_bytes());
}

/// Writes inside the buffer; what does not fit (an image without a header) is not written.
fn write_bytes(bytes: &mut [u8], offset: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(offset..offset.saturating_add(value.len())) {
        place.copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_initial_state_is_accepted_back() {
        let state = FpuState::initial();
        assert_eq!(state.as_bytes().len(), image_size());
        assert_eq!(FpuState::from_user_xsave(state.as_bytes(), u64::MAX), Ok(state));
    }

    #[test]
    fn unknown_components_and_reserved_bits_are_refused() {
        let good = FpuState::initial();
        if image_size() == FXSAVE_SIZE {
            return;
        }
        for (offset, bit) in [(FXSAVE_SIZE + 7, 0x40), (FXSAVE_SIZE + 8, 1), (FXSAVE_SIZE + 40, 1)]
        {
            let mut bytes = good.as_bytes().to_vec();
            bytes[offset] |= bit;
            assert_eq!(FpuState::from_user_xsave(&bytes, u64::MAX), Err(BadFpuImage), "{offset}");
        }
        let mut bytes = good.as_bytes().to_vec();
        bytes[MXCSR_OFFSET + 3] = 0x80;
        assert_eq!(FpuState::from_user_xsave(&bytes, u64::MAX), Err(BadFpuImage));
        assert!(FpuState::from_user_xsave(&bytes[..100], u64::MAX).is_err());
    }

    #[test]
    fn components_that_the_program_does_not_want_become_initial() {
        let mut bytes = FpuState::initial().as_bytes().to_vec();
        bytes[160..176].fill(0xab);
        let kept = FpuState::from_user_xsave(&bytes, u64::MAX).unwrap();
        assert_eq!(&kept.as_bytes()[160..176], &[0xab; 16]);
        if image_size() > FXSAVE_SIZE {
            let dropped = FpuState::from_user_xsave(&bytes, FEATURE_X87).unwrap();
            assert_eq!(&dropped.as_bytes()[160..176], &[0; 16]);
        }
    }

    #[test]
    fn an_fxsave_image_loses_reserved_mxcsr_bits() {
        let mut bytes = [0u8; FXSAVE_SIZE];
        bytes[MXCSR_OFFSET..MXCSR_OFFSET + 4].fill(0xff);
        let state = FpuState::from_user_fxsave(&bytes).unwrap();
        assert_eq!(read_u32(state.as_bytes(), MXCSR_OFFSET) & !support().mxcsr_mask, 0);
    }
}
