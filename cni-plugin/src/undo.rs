//! What ADD did so far and takes back where it fails.

/// Steps back, the last one first, unless all went well.
#[derive(Default)]
pub(crate) struct Undo<'a>(Vec<Box<dyn FnOnce() + 'a>>);

impl<'a> Undo<'a> {
    /// Remembers how to take back what was just done. Its own failure is told on standard error: the call's error is another one.
    pub(crate) fn push(&mut self, step: impl FnOnce() -> Result<(), crate::error::CniError> + 'a) {
        self.0.push(Box::new(|| {
            if let Err(error) = step() {
                eprintln!("netcell-cni: after a failed ADD: {error}");
            }
        }));
    }

    /// All went well.
    pub(crate) fn forget(mut self) {
        self.0.clear();
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        while let Some(step) = self.0.pop() {
            step();
        }
    }
}
