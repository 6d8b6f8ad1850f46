//! Bodies in memory.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use crate::Failure;

/// Bytes that the host holds. Passing a body on costs nothing; its bytes enter the plugin only through
/// [`read`](Self::read).
#[derive(Debug)]
pub struct Body {
    rest: RefCell<Vec<u8>>,
    length: Option<u64>,
    /// The failure with which it breaks off, if it does.
    ends: Option<Failure>,
    /// Notified when it has been read to its end.
    watch: Option<Watch>,
}

/// Called when a body has been read to its end.
struct Watch(Box<dyn Fn()>);

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

impl Body {
    /// A body with bytes that the plugin holds.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self {
            rest: RefCell::new(bytes.to_vec()),
            length: Some(bytes.len() as u64),
            ends: None,
            watch: None,
        }
    }

    /// The length in bytes, if it is known before reading.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Reads the next chunk, which has at most `max` bytes and is never empty. Returns `None` at the end.
    pub fn read(&self, max: u32) -> Result<Option<Vec<u8>>, Failure> {
        let mut rest = self.rest.borrow_mut();
        if rest.is_empty() {
            return self.end().map(|()| None);
        }
        let length = rest.len().min(usize::try_from(max.max(1)).unwrap_or(1));
        Ok(Some(rest.drain(..length).collect()))
    }

    /// A body whose sender breaks off after these bytes, although it announced more.
    pub(crate) fn cut_short(bytes: &[u8], announced: u64) -> Self {
        Self::failing(bytes, Some(announced), Failure::Truncated)
    }

    /// A body that fails after these bytes.
    pub(crate) fn failing(bytes: &[u8], length: Option<u64>, ends: Failure) -> Self {
        Self { length, ends: Some(ends), ..Self::from_bytes(bytes) }
    }

    /// The same body; whether its length is known before reading is another matter.
    pub(crate) fn of_length(self, length: Option<u64>) -> Self {
        Self { length, ..self }
    }

    /// The failure with which it breaks off, if it does.
    pub(crate) fn ends_with(&self) -> Option<&Failure> {
        self.ends.as_ref()
    }

    /// The same body, and a sum of its bytes that is known when it has been read to its end.
    pub(crate) fn summed<T: Clone + 'static>(
        self,
        sum: impl FnOnce(&[u8]) -> T,
    ) -> (Rc<RefCell<Option<T>>>, Self) {
        let (known, sum) = (Rc::new(RefCell::new(None)), sum(&self.rest.borrow()));
        let (tell, before) = (known.clone(), self.watch);
        let watch = move || {
            *tell.borrow_mut() = Some(sum.clone());
            if let Some(Watch(before)) = &before {
                before();
            }
        };
        (known, Self { watch: Some(Watch(Box::new(watch))), ..self })
    }

    /// Transforms all its bytes into another body. A body that fails stays as it is.
    pub(crate) fn turned(self, length: Option<u64>, turn: impl FnOnce(Vec<u8>) -> Self) -> Self {
        match self.into_bytes() {
            Ok(bytes) => turn(bytes),
            Err(failure) => Self::failing(&[], length, failure),
        }
    }

    /// The rest of its bytes.
    pub(crate) fn into_bytes(self) -> Result<Vec<u8>, Failure> {
        self.end()?;
        Ok(self.rest.into_inner())
    }

    /// The bytes that a client gets, and the failure with which they break off.
    pub(crate) fn sent(self) -> (Vec<u8>, Option<Failure>) {
        let failure = self.end().err();
        (self.rest.into_inner(), failure)
    }

    fn end(&self) -> Result<(), Failure> {
        if let Some(failure) = &self.ends {
            return Err(failure.clone());
        }
        if let Some(Watch(watch)) = &self.watch {
            watch();
        }
        Ok(())
    }
}
