//! What capabilities keep for one call, by type: a counter of open listings, the job that runs.
//!
//! Empty for most calls, and then it costs nothing. Everything in it is dropped when the call ends.

use std::any::Any;

/// State of capabilities for one call.
#[derive(Default)]
pub(crate) struct CallState(Vec<Box<dyn Any + Send>>);

impl CallState {
    /// Keeps something, in place of what was kept of this type before.
    pub(crate) fn insert<T: Any + Send>(&mut self, value: T) {
        self.0.retain(|kept| !kept.is::<T>());
        self.0.push(Box::new(value));
    }

    /// What is kept of this type.
    pub(crate) fn get<T: Any + Send>(&self) -> Option<&T> {
        self.0.iter().find_map(|kept| kept.downcast_ref())
    }

    /// What is kept of this type, if anything is.
    pub(crate) fn get_mut<T: Any + Send>(&mut self) -> Option<&mut T> {
        self.0.iter_mut().find_map(|kept| kept.downcast_mut())
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_kept_once_and_until_the_end_of_the_call() {
        let mut state = CallState::default();
        state.insert(1_u32);
        state.insert("job");
        state.insert(2_u32);
        *state.get_mut::<u32>().unwrap() += 1;
        assert_eq!((state.get(), state.get()), (Some(&3_u32), Some(&"job")));
        state.clear();
        assert_eq!(state.get::<u32>(), None);
    }
}
