//! What lies in a receive queue: bytes with their sender, its credentials, and files in flight.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sentry_abi::Errno;
use sentry_abi::socket::UCred;
use sentry_kernel::Result;
use sentry_kernel::file::FileDescription;

use super::address::Name;
use super::names::IN_FLIGHT_MAX;

thread_local! {
    /// Files whose queue died. They are dropped one by one: a file may be a socket whose own queue holds files, to any depth.
    static DYING: RefCell<Option<VecDeque<Arc<FileDescription>>>> = const { RefCell::new(None) };
}

/// Files on their way (SCM_RIGHTS). They count against a limit until they are received or their queue dies.
#[derive(Default)]
pub struct Rights {
    files: Vec<Arc<FileDescription>>,
    counter: Arc<AtomicUsize>,
}

impl Rights {
    /// Puts files in flight. Errors: ETOOMANYREFS.
    pub fn new(files: Vec<Arc<FileDescription>>, counter: &Arc<AtomicUsize>) -> Result<Rights> {
        let before = counter.fetch_add(files.len(), Ordering::Relaxed);
        // Counted first, so that dropping on the error path below takes them off again.
        let rights = Rights { files, counter: counter.clone() };
        if !rights.files.is_empty() && before + rights.files.len() > IN_FLIGHT_MAX {
            return Err(Errno::ETOOMANYREFS.into());
        }
        Ok(rights)
    }

    /// The files, which stay in flight (MSG_PEEK duplicates them).
    pub fn files(&self) -> &[Arc<FileDescription>] {
        &self.files
    }

    /// Lands the files.
    pub fn take(&mut self) -> Vec<Arc<FileDescription>> {
        let files = std::mem::take(&mut self.files);
        self.counter.fetch_sub(files.len(), Ordering::Relaxed);
        files
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        release(self.take());
    }
}

/// Drops files without recursion.
pub fn release(files: Vec<Arc<FileDescription>>) {
    if files.is_empty() {
        return;
    }
    let first = DYING.with_borrow_mut(|dying| match dying {
        Some(list) => {
            list.extend(files);
            false
        }
        None => {
            *dying = Some(files.into());
            true
        }
    });
    if !first {
        // Whoever came first on this thread drops these too.
        return;
    }
    let next = || {
        DYING.with_borrow_mut(|dying| {
            let next = dying.as_mut().and_then(VecDeque::pop_front);
            if next.is_none() {
                *dying = None;
            }
            next
        })
    };
    while let Some(file) = next() {
        drop(file);
    }
}

/// One message, or a run of a stream's bytes from one sender.
pub struct Message {
    /// The bytes.
    pub data: Vec<u8>,
    /// How many of them are consumed.
    pub taken: usize,
    /// Whether it is empty and was looked at (Linux's skb->peeked): the next look passes it.
    pub peeked: bool,
    /// Who sent it.
    pub from: Name,
    /// With which identity.
    pub cred: UCred,
    /// Files that come with the first byte.
    pub rights: Rights,
}

impl Message {
    /// What is left of the bytes.
    pub fn rest(&self) -> &[u8] {
        self.data.get(self.taken..).unwrap_or_default()
    }
}

/// A small write joins the last message of a stream up to this size, so that many small writes need little memory.
const JOIN_MAX: usize = 4096;
/// What a message costs beyond its bytes in the accounting of datagrams.
const OVERHEAD: usize = 768;

/// A receive queue.
#[derive(Default)]
pub struct Queue {
    messages: VecDeque<Message>,
    bytes: usize,
    /// A reader holds the first message outside the queue; it counts as being here.
    held: bool,
}

impl Queue {
    /// Unread bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Unread messages.
    pub fn len(&self) -> usize {
        self.messages.len() + usize::from(self.held)
    }

    /// Whether nothing is to be read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes with a share for each message's own cost.
    pub fn cost(&self) -> usize {
        self.bytes + self.len() * OVERHEAD
    }

    /// Length of the first message.
    pub fn first_len(&self) -> usize {
        self.messages.front().map_or(0, |m| m.rest().len())
    }

    /// Appends a datagram.
    pub fn push(&mut self, message: Message) {
        self.bytes += message.rest().len();
        self.messages.push_back(message);
    }

    /// Appends a stream's bytes, to the last message where nothing sets them apart.
    pub fn push_stream(&mut self, message: Message) {
        self.bytes += message.data.len();
        if let Some(last) = self.messages.back_mut()
            && message.rights.is_empty()
            && last.rights.is_empty()
            && last.cred == message.cred
            && last.data.len() + message.data.len() <= JOIN_MAX
        {
            last.data.extend_from_slice(&message.data);
        } else {
            self.messages.push_back(message);
        }
    }

    /// The message that a look from `offset` bytes on sees, and where in it the look begins (Linux's
    /// __skb_try_recv_from_queue).
    pub fn at_offset(&mut self, mut offset: usize) -> Option<(&Message, usize)> {
        for message in &mut self.messages {
            let len = message.rest().len();
            if offset >= len && (offset > 0 || message.peeked) {
                offset -= len;
                continue;
            }
            message.peeked |= len == 0;
            return Some((message, offset));
        }
        None
    }

    /// Looks at the message number `index`.
    pub fn get(&self, index: usize) -> Option<&Message> {
        self.messages.get(index)
    }

    /// Takes the first message out for a while; [`Self::finish`] must follow.
    pub fn hold(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.held = true;
        Some(message)
    }

    /// Ends a [`Self::hold`] in which `len` bytes were consumed; what remains comes back to the front.
    pub fn finish(&mut self, len: usize, rest: Option<Message>) {
        self.held = false;
        self.bytes = self.bytes.saturating_sub(len);
        if let Some(message) = rest {
            self.messages.push_front(message);
        }
    }

    /// Empties the queue; the caller drops the messages outside its locks.
    pub fn drain(&mut self) -> VecDeque<Message> {
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }
}
