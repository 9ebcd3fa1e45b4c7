//! Random bytes of the host (getrandom(2)).

use nix::errno::Errno;

/// Fills the buffer with random bytes.
pub fn fill(buffer: &mut [u8]) -> Result<(), Errno> {
    let mut done = 0;
    while done < buffer.len() {
        let rest = &mut buffer[done..];
        // SAFETY: the pointer and length are those of a live, writable slice.
        let read = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(read) {
            Ok(read) => done += read,
            Err(_) if Errno::last() == Errno::EINTR => continue,
            Err(_) => return Err(Errno::last()),
        }
    }
    Ok(())
}
