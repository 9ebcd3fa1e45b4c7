//! Tests of the memory file: zeroes, reference counts, limits, copies and bounds.

use super::*;

fn file() -> MemoryFile {
    MemoryFile::new(MemoryOptions { size_bytes: 1 << 30, limit_bytes: 64 << 20 }).unwrap()
}

fn read(file: &MemoryFile, offset: u64, len: usize) -> Vec<u8> {
    let mut buffer = vec![0xee; len];
    file.read_at(offset, &mut buffer).unwrap();
    buffer
}

#[test]
fn freed_pages_read_as_zero_when_they_are_used_again() {
    let file = file();
    for len in [PAGE_SIZE, 40 * PAGE_SIZE] {
        let range = file.allocate(len, PAGE_SIZE).unwrap();
        file.write_at(range.start, &vec![7; len as usize]).unwrap();
        file.decref(range);
        let again = file.allocate(len, PAGE_SIZE).unwrap();
        assert_eq!(again, range, "the allocator uses freed pages again");
        assert!(read(&file, again.start, len as usize).iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_page_lives_until_its_last_reference_goes() {
    let file = file();
    let range = file.allocate(3 * PAGE_SIZE, PAGE_SIZE).unwrap();
    let middle = FileRange::new(range.start + PAGE_SIZE, PAGE_SIZE);
    file.incref(middle);
    file.decref(range);
    assert_eq!(file.used_bytes(), PAGE_SIZE);
    assert_eq!((file.refs(range.start), file.refs(middle.start)), (0, 1));
    file.decref(middle);
    assert_eq!((file.used_bytes(), file.refs(middle.start)), (0, 0));
}

#[test]
fn the_limit_refuses_and_frees_again() {
    let file = file();
    let all = file.allocate(64 << 20, 1 << 21).unwrap();
    assert_eq!(all.start % (1 << 21), 0);
    let limit_bytes = 64 << 20;
    assert_eq!(file.allocate(1, 1), Err(MemoryError::Limit { limit_bytes }));
    file.decref(all);
    assert!(file.allocate(1, 1).is_ok());
    file.set_limit_bytes(0);
    assert!(file.allocate(1, 1).is_err());
    assert!(matches!(file.allocate(u64::MAX, 1), Err(MemoryError::Full { .. })));
}

#[test]
fn overlapping_copies_behave_like_memmove() {
    let file = file();
    let base = file.allocate(PAGE_SIZE, PAGE_SIZE).unwrap().start;
    let data: Vec<u8> = (0..100).collect();
    for (src, dst) in [(0u64, 10u64), (10, 0), (0, 200), (5, 5)] {
        file.write_at(base + src, &data).unwrap();
        file.copy_within(base + src, base + dst, 100).unwrap();
        assert_eq!(read(&file, base + dst, 100), data, "{src} to {dst}");
    }
}

#[test]
fn what_is_outside_the_file_is_an_error_and_never_a_fault() {
    let file = file();
    let size = file.size();
    assert!(file.read_at(size, &mut [0]).is_err());
    assert!(file.read_at(size - 1, &mut [0; 2]).is_err());
    assert!(file.read_at(u64::MAX, &mut [0; 2]).is_err());
    assert!(file.write_at(size, &[0]).is_err());
    assert!(file.copy_within(0, size - 1, 2).is_err());
    assert!(file.copy_within(0, 8, u64::MAX).is_err());
    assert!(file.zero(FileRange::new(8, u64::MAX)).is_err());
    assert!(matches!(file.load_u32(2), Err(MemoryError::Misaligned { .. })));
    assert!(file.load_u32(size).is_err());
    assert!(file.read_at(size, &mut []).is_ok());
}

#[test]
fn futex_words_are_atomic() {
    let file = file();
    let word = file.allocate(PAGE_SIZE, PAGE_SIZE).unwrap().start + 8;
    file.store_u32(word, 5).unwrap();
    assert_eq!(file.compare_exchange_u32(word, 4, 9), Ok(Err(5)));
    assert_eq!(file.compare_exchange_u32(word, 5, 9), Ok(Ok(5)));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    file.atomic_u32(word).unwrap().fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(file.load_u32(word), Ok(4009));
}

#[test]
fn threads_allocate_disjoint_pages() {
    let file = file();
    let mut starts: Vec<u64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut kept = Vec::new();
                    for round in 0..200u64 {
                        let range = file.allocate((round % 3 + 1) * PAGE_SIZE, 1).unwrap();
                        assert_eq!(file.refs(range.start), 1);
                        if round % 2 == 0 { file.decref(range) } else { kept.push(range.start) }
                    }
                    kept
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let count = starts.len();
    starts.sort_unstable();
    starts.dedup();
    assert_eq!(starts.len(), count);
}

#[test]
fn host_files_are_read_into_pages_and_written_from_them() {
    let file = file();
    let page = file.allocate(PAGE_SIZE, 1).unwrap();
    let host = nix::sys::memfd::memfd_create(c"source", MFdFlags::MFD_CLOEXEC).unwrap();
    file.write_at(page.start, b"hello").unwrap();
    assert_eq!(file.write_to(host.as_fd(), 3, FileRange::new(page.start, 5)), Ok(5));
    file.zero(page).unwrap();
    assert_eq!(file.read_from(host.as_fd(), 0, page), Ok(8));
    assert_eq!(read(&file, page.start, 9), b"\0\0\0hello\0");
}
