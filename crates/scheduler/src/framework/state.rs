//! What plugins remember between the extension points of one cycle.

use std::any::{Any, TypeId};

use smallvec::SmallVec;

type Slot = (TypeId, Box<dyn Any + Send + Sync>);

/// One value per type: a plugin keeps a type of its own, so plugins cannot read each other's. Few values and looked up for
/// every node, hence a list.
#[derive(Default)]
pub struct CycleState {
    slots: SmallVec<[Slot; 8]>,
    /// Plugins whose Filter has nothing to say about the pod, a bit each by their number in the profile.
    pub(crate) skip_filter: u64,
    /// The same of Score.
    pub(crate) skip_score: u64,
}

impl CycleState {
    pub fn put<T: Any + Send + Sync>(&mut self, value: T) {
        let id = TypeId::of::<T>();
        self.slots.retain(|(other, _)| *other != id);
        self.slots.push((id, Box::new(value)));
    }

    #[inline]
    pub fn get<T: Any>(&self) -> Option<&T> {
        let id = TypeId::of::<T>();
        let (_, value) = self.slots.iter().find(|(other, _)| *other == id)?;
        value.downcast_ref()
    }

    pub fn take<T: Any>(&mut self) -> Option<T> {
        let id = TypeId::of::<T>();
        let at = self.slots.iter().position(|(other, _)| *other == id)?;
        let (_, value) = self.slots.swap_remove(at);
        value.downcast().ok().map(|value| *value)
    }

    pub fn get_mut<T: Any>(&mut self) -> Option<&mut T> {
        let id = TypeId::of::<T>();
        let (_, value) = self.slots.iter_mut().find(|(other, _)| *other == id)?;
        value.downcast_mut()
    }
}
