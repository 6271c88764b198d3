//! Named tensors on an engine.

use super::{cpu, gpu};
use crate::error::{Error, Result};
use crate::tensor::{NamedTensors, require_finite};
use crate::wait;

/// Named tensors that live on an engine, shared by the programs loaded with them: parameters,
/// optimizer moments, recurrent states.
///
/// On the CPU engine the programs of one store take turns: a run has its tensors for itself. Programs that are to run at
/// the same time, of an engine with few threads each, need stores of their own.
///
/// Of an ensemble it holds a tensor of each name for every member; [`Store::member`] is one member's.
#[derive(Clone)]
pub struct Store {
    pub(super) kind: StoreKind,
    /// The member whose tensors these are; none: all of them.
    member: Option<usize>,
}

#[derive(Clone)]
pub(super) enum StoreKind {
    /// A store a member.
    Cpu(Vec<cpu::CpuStore>),
    Gpu(gpu::GpuStore),
}

impl Store {
    pub(super) fn new(kind: StoreKind) -> Self {
        Store { kind, member: None }
    }

    fn members(&self) -> usize {
        match &self.kind {
            StoreKind::Cpu(stores) => stores.len(),
            StoreKind::Gpu(store) => store.members(),
        }
    }

    /// Whether it holds the tensors of an ensemble of so many members.
    pub(super) fn is_of(&self, members: usize) -> bool {
        self.members() == members && (self.member.is_none() || members == 1)
    }

    /// The tensors of one member of an ensemble: what is set here is that member's alone.
    ///
    /// # Errors
    /// There is no such member.
    pub fn member(&self, member: usize) -> Result<Self> {
        if member >= self.members() {
            let members = self.members();
            return Err(Error::invalid(format!("there is no member {member} of {members}")));
        }
        Ok(Store { kind: self.kind.clone(), member: Some(member) })
    }

    /// Sets a tensor, in every member; one of any name and size, as a store knows of no recording. Programs that are
    /// loaded see the new values if the size stayed the same. With another size they don't: on the CPU their next run is
    /// an error, on a GPU they keep the tensor that they were loaded with. A shape is not kept, so that a transposed matrix
    /// can't be told; [`load_recording`](crate::train::load_recording) compares shapes.
    ///
    /// # Errors
    /// A value that is NaN or infinite; too large for the device.
    pub fn set(&self, name: &str, value: &[f32]) -> Result<()> {
        require_finite(name, ndarray::ArrayView1::from(value).into_dyn())?;
        self.put(name, value)
    }

    /// The same, whatever the values are: states of a run that went astray among them.
    pub(crate) fn put(&self, name: &str, value: &[f32]) -> Result<()> {
        match &self.kind {
            StoreKind::Cpu(stores) => {
                for store in self.of_members(stores) {
                    store.set(name, value);
                }
                Ok(())
            }
            StoreKind::Gpu(store) => store.set(name, value, self.member),
        }
    }

    fn of_members<'a>(&self, stores: &'a [cpu::CpuStore]) -> &'a [cpu::CpuStore] {
        match self.member {
            Some(member) => &stores[member..member + 1],
            None => stores,
        }
    }

    /// Sets every tensor of a map; none of them where one can't be.
    ///
    /// # Errors
    /// A value that is NaN or infinite, by its tensor and place; too large for the device.
    pub fn set_all(&self, tensors: &NamedTensors) -> Result<()> {
        for (name, tensor) in tensors {
            require_finite(name, tensor.view())?;
        }
        for (name, tensor) in tensors {
            match tensor.as_slice() {
                Some(values) => self.put(name, values)?,
                None => self.put(name, &tensor.iter().copied().collect::<Vec<_>>())?,
            }
        }
        Ok(())
    }

    /// Copies a tensor to the host; of an ensemble, the members' one after another.
    ///
    /// # Errors
    /// There is none of that name, or the device failed.
    pub fn get(&self, name: &str) -> Result<Vec<f32>> {
        wait::here(self.get_async(name))
    }

    /// The same in a browser. Elsewhere this thread waits.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn get_async(&self, name: &str) -> Result<Vec<f32>> {
        let found = match &self.kind {
            StoreKind::Cpu(stores) => {
                let tensors = self.of_members(stores).iter();
                let tensors = tensors.map(|store| store.get(name));
                tensors.collect::<Option<Vec<_>>>().map(|tensors| tensors.concat())
            }
            StoreKind::Gpu(store) => store.get(name, self.member).await?,
        };
        found.ok_or_else(|| Error::Missing {
            tensor: name.to_string(),
            place: "the store".to_string(),
        })
    }

    /// All names, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = match &self.kind {
            StoreKind::Cpu(stores) => {
                self.of_members(stores).iter().flat_map(cpu::CpuStore::names).collect()
            }
            StoreKind::Gpu(store) => store.names(),
        };
        names.sort();
        names.dedup();
        names
    }

    /// The wgpu buffer of a tensor, on a GPU engine; of an ensemble, with the tensors of all members, each
    /// rounded up to 16 bytes.
    pub fn wgpu_buffer(&self, name: &str) -> Option<wgpu::Buffer> {
        match &self.kind {
            StoreKind::Cpu(_) => None,
            StoreKind::Gpu(store) => store.buffer(name),
        }
    }
}
