//! What a mount grants its plugin: one value for each capability, by the value's type.

use std::any::{Any, TypeId};
use std::fmt::Debug;
use std::sync::Arc;

/// What a mount grants of one capability. Each capability has a type of its own for it.
pub trait Grant: Any + Debug + Send + Sync {}

/// What a mount grants its plugin; nothing by default.
///
/// Cheap to clone. A lookup compares a few type ids: there are only as many entries as capabilities.
#[derive(Clone, Debug, Default)]
pub struct Grants(Vec<(TypeId, Arc<dyn Grant>)>);

impl Grants {
    /// Grants something, in place of what was granted of this type before.
    pub fn insert<G: Grant>(&mut self, grant: G) {
        self.0.retain(|(id, _)| *id != TypeId::of::<G>());
        self.0.push((TypeId::of::<G>(), Arc::new(grant)));
    }

    /// The same, for building.
    #[must_use]
    pub fn with<G: Grant>(mut self, grant: G) -> Self {
        self.insert(grant);
        self
    }

    /// What is granted of this type.
    pub fn get<G: Grant>(&self) -> Option<&G> {
        let (_, grant) = self.0.iter().find(|(id, _)| *id == TypeId::of::<G>())?;
        let grant: &dyn Any = &**grant;
        grant.downcast_ref()
    }

    /// Changes what is granted of this type, starting from its default if there is nothing yet.
    pub fn update<G: Grant + Clone + Default>(&mut self, change: impl FnOnce(&mut G)) {
        let mut grant = self.get::<G>().cloned().unwrap_or_default();
        change(&mut grant);
        self.insert(grant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, Default, PartialEq)]
    struct Names(Vec<&'static str>);
    impl Grant for Names {}

    #[derive(Debug)]
    struct Number(u32);
    impl Grant for Number {}

    #[test]
    fn each_type_is_granted_once() {
        let mut grants = Grants::default().with(Number(1)).with(Number(2));
        assert_eq!(grants.get::<Number>().map(|number| number.0), Some(2));
        assert_eq!(grants.get::<Names>(), None);
        grants.update::<Names>(|names| names.0.push("a"));
        let before = grants.clone();
        grants.update::<Names>(|names| names.0.push("b"));
        assert_eq!(grants.get(), Some(&Names(vec!["a", "b"])));
        assert_eq!(before.get(), Some(&Names(vec!["a"])), "a clone keeps what it had");
    }
}
