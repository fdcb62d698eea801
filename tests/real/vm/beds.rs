//! What a trial finds: machines to boot, and what they need around them.

use super::Vm;
use super::roots::{Root, Roots};
use super::run::Run;

/// The run's own things, shared by all trials.
pub struct Beds {
    run: Run,
    roots: Roots,
}

impl Beds {
    /// Sweeps what killed runs left, and makes what trials share.
    pub fn new(roots: Roots) -> Result<Self, String> {
        let run = Run::new()?;
        Ok(Self { run, roots })
    }

    /// A new machine, switched off.
    pub fn vm(&self, root: Root) -> Vm {
        Vm::new(&self.run, &self.roots, root)
    }

    /// The same with so many bytes free on its disk.
    pub fn vm_with_disk(&self, root: Root, bytes: u64) -> Vm {
        Vm::with_disk(&self.run, &self.roots, root, bytes)
    }
}
